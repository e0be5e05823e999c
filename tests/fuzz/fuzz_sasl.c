/*
 * A login, line by line: the first octet says how, the rest are the client's lines, cut at line feeds.
 *
 *     bits 0, 1   the mechanism
 *     bit 2       the connection has channel bindings
 *     bit 3       the lines are base64 already, otherwise they are encoded here
 *     bit 4       AUTH came without an initial response
 *
 * The server's nonce is that of RFC 7677, so that the corpus can hold conversations that succeed. Nobody may
 * get in who is not in the file, or who does not know the password.
 */
#include "tests/fuzz/fuzz.h"

#include "gateway/sasl/sasl.h"
#include "proto/base64.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char users_text[] =
    "user:-:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n"
    "locked:-:-\n";

static void demand(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "not so: %s\n", what);
    abort();
}

static struct users *load_users(void)
{
    char path[64], error[256];
    struct users *users = NULL;
    int file = memfd_create("users", MFD_CLOEXEC);
    demand(file >= 0 && fchmod(file, 0600) == 0, "there is a file");
    demand(write(file, users_text, sizeof(users_text) - 1) == sizeof(users_text) - 1, "it can be written");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    demand(users_load(path, &users, error, sizeof(error)) == 0, "the file is right");
    close(file);
    return users;
}

/* Plays the hasher, without the work. */
static enum sasl_result check(struct sasl_exchange *exchange)
{
    struct hasher_job job;
    sasl_prepare_check(exchange, &job);
    bool is_user = strcmp(sasl_claimed_user(exchange), "user") == 0;
    demand(job.check.is_known == is_user, "only one user is known");
    bool matches = strcmp(job.password, "pencil") == 0;
    enum sasl_result result = sasl_password_checked(exchange, matches);
    demand((result == SASL_OK) == (is_user && matches), "who knows the password gets in, nobody else");
    return result;
}

static enum sasl_result step(struct sasl_exchange *exchange, const char *line, size_t size)
{
    char out[SASL_CHALLENGE_MAX], clear[SASL_CHALLENGE_MAX];
    size_t out_size = 0;
    enum sasl_result result = sasl_step(exchange, line, size, out, sizeof(out), &out_size);
    if (result == SASL_CHALLENGE)
        demand(smtp_base64_decode((struct smtp_slice){out, (uint32_t)out_size}, clear, sizeof(clear)) >= 0,
               "a challenge is base64");
    return result == SASL_CHECK_PASSWORD ? check(exchange) : result;
}

static enum sasl_result step_clear(struct sasl_exchange *exchange, const char *line, size_t size)
{
    size_t room = SMTP_BASE64_ENCODED_SIZE(size) + 1; /* never NULL, which means something else */
    char *text = malloc(room);
    demand(text != NULL, "there is memory");
    size_t text_size = smtp_base64_encode(line, size, text, room);
    enum sasl_result result = step(exchange, text, text_size);
    free(text);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct sasl_binding bindings[] = {{"tls-exporter", "0123456789abcdef0123456789abcdef", 32},
                                                   {"tls-unique", "0123456789ab", 12}};
    static const uint8_t secret[SASL_SECRET_SIZE] = "a secret of the fuzzer's own....";
    static struct users *users;
    struct sasl_exchange exchange;

    if (users == NULL)
        users = load_users();
    if (size == 0)
        return 0;
    enum sasl_mechanism mechanism = (enum sasl_mechanism)(data[0] & 3);
    bool is_bound = (data[0] & 4) != 0 || mechanism == SASL_SCRAM_SHA_256_PLUS;
    sasl_begin(&exchange, mechanism, users, bindings, is_bound ? 2 : 0, secret);
    if (mechanism >= SASL_SCRAM_SHA_256)
        strcpy(exchange.scram.server_nonce, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");

    const char *at = (const char *)data + 1;
    const char *end = (const char *)data + size;
    enum sasl_result result = SASL_CHALLENGE;
    if ((data[0] & 16) != 0)
        result = step(&exchange, NULL, 0);
    for (unsigned lines = 0; result == SASL_CHALLENGE && at <= end; lines++) {
        const char *feed = memchr(at, '\n', (size_t)(end - at));
        size_t line_size = (size_t)((feed != NULL ? feed : end) - at);
        result = (data[0] & 8) != 0 ? step(&exchange, at, line_size) : step_clear(&exchange, at, line_size);
        demand(lines < 4, "a login ends");
        at += line_size + 1;
    }
    if (result == SASL_OK)
        demand(strcmp(sasl_user(&exchange), "user") == 0, "only a user gets in");
    sasl_exchange_wipe(&exchange);
    return 0;
}
