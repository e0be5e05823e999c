#include "gateway/sasl/users.h"

#include "gateway/sasl/line_file.h"
#include "gateway/sasl/name_table.h"
#include "gateway/sasl/password.h"
#include "gateway/sasl/text.h"
#include "proto/base64.h"

#include <assert.h>
#include <errno.h>
#include <openssl/mem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct users {
    struct name_table names; /* name -> index into users */
    struct user *users;
    uint32_t *decoys;       /* indexes of the users that have a hash or keys */
    uint32_t *scram_decoys; /* indexes of those that have SCRAM keys */
    char *text;             /* the file; names, hashes and (decoded in place) salts lie in it */
    size_t text_size;
    uint32_t count;
    uint32_t capacity;
    uint32_t decoy_count;
    uint32_t scram_decoy_count;
};

static const char scram_prefix[] = "SCRAM-SHA-256$";

/* Cuts `text` at the first `delimiter`: the head is zero-terminated in place, the tail is returned. NULL:
   there is no delimiter. */
static char *cut(char *text, char delimiter)
{
    char *at = strchr(text, delimiter);
    if (at == NULL)
        return NULL;
    *at = '\0';
    return at + 1;
}

/* Decimal digits without sign or leading zero, within the bounds of iterations; 0: not so. */
static uint32_t parse_iterations(const char *text)
{
    size_t size = strlen(text);
    if (size == 0 || size > 7 || text[0] == '0' || strspn(text, "0123456789") != size)
        return 0;
    unsigned long value = strtoul(text, NULL, 10);
    return value >= SCRAM_ITERATIONS_MIN && value <= SCRAM_ITERATIONS_MAX ? (uint32_t)value : 0;
}

static bool parse_key(const char *text, uint8_t key[static SCRAM_KEY_SIZE])
{
    char octets[SCRAM_KEY_SIZE];
    struct smtp_slice slice = {text, (uint32_t)strlen(text)};
    if (smtp_base64_decode(slice, octets, sizeof(octets)) != SCRAM_KEY_SIZE)
        return false;
    memcpy(key, octets, sizeof(octets));
    return true;
}

/* What is wrong with the salt, or NULL. It is decoded where it stands. */
static const char *parse_salt(char *text, struct user *user)
{
    struct smtp_slice slice = {text, (uint32_t)strlen(text)};
    int size = smtp_base64_decode(slice, text, slice.size);
    if (size < 1 || size > SCRAM_SALT_MAX)
        return "its salt is not base64 of 1 to 64 octets";
    user->salt = (const uint8_t *)text;
    user->salt_size = (uint32_t)size;
    return NULL;
}

/* What is wrong with the SCRAM field, or NULL. */
static const char *parse_scram(char *field, struct user *user)
{
    if (strncmp(field, scram_prefix, strlen(scram_prefix)) != 0)
        return "it does not begin with \"SCRAM-SHA-256$\"";
    char *iterations = field + strlen(scram_prefix);
    char *salt = cut(iterations, ':');
    char *stored_key = salt != NULL ? cut(salt, '$') : NULL;
    char *server_key = stored_key != NULL ? cut(stored_key, ':') : NULL;
    if (server_key == NULL)
        return "its form is not ITERATIONS:SALT$STOREDKEY:SERVERKEY";
    user->iterations = parse_iterations(iterations);
    if (user->iterations == 0)
        return "its iterations are not a number from 4096 to 1000000";
    if (!parse_key(stored_key, user->stored_key) || !parse_key(server_key, user->server_key))
        return "its keys are not base64 of 32 octets each";
    user->has_scram = true;
    return parse_salt(salt, user);
}

static int parse_line(struct line_file *file, char *line, size_t size, struct user *user)
{
    if (strlen(line) != size)
        return line_file_fail(file, "a zero octet");
    char *crypt = cut(line, ':');
    char *scram = crypt != NULL ? cut(crypt, ':') : NULL;
    if (scram == NULL)
        return line_file_fail(file, "not of the form NAME:HASH:SCRAM, where \"-\" stands for a missing part");
    *user = (struct user){.name = line, .name_size = (uint32_t)strlen(line)};
    if (!sasl_name_is_valid(user->name, user->name_size))
        return line_file_fail(file, "this name cannot be used: 1 to 255 octets of UTF-8 without spaces, "
                                    "controls and colons, and not \"*\"");
    if (strcmp(crypt, "-") != 0) {
        if (!crypt_hash_is_valid(crypt, strlen(crypt)))
            return line_file_fail(file,
                                  "the hash of %s is neither yescrypt ($y$) nor sha512crypt ($6$), or "
                                  "it is not whole",
                                  user->name);
        user->crypt = crypt;
    }
    if (strcmp(scram, "-") != 0) {
        const char *wrong = parse_scram(scram, user);
        if (wrong != NULL)
            return line_file_fail(file, "the SCRAM part of %s: %s", user->name, wrong);
    }
    return 0;
}

/* Room for one more in all three arrays. */
static int reserve(struct users *users)
{
    if (users->count < users->capacity)
        return 0;
    uint32_t capacity = users->capacity > 0 ? users->capacity * 2 : 64;
    struct user *grown = realloc(users->users, capacity * sizeof(*grown));
    if (grown != NULL)
        users->users = grown;
    uint32_t *decoys = realloc(users->decoys, capacity * sizeof(*decoys));
    if (decoys != NULL)
        users->decoys = decoys;
    uint32_t *scram_decoys = realloc(users->scram_decoys, capacity * sizeof(*scram_decoys));
    if (scram_decoys != NULL)
        users->scram_decoys = scram_decoys;
    if (grown == NULL || decoys == NULL || scram_decoys == NULL)
        return -ENOMEM;
    users->capacity = capacity;
    return 0;
}

static int add(struct users *users, const struct user *user)
{
    int result = reserve(users);
    if (result == 0)
        result = name_table_add(&users->names, user->name, user->name_size, users->count);
    if (result < 0)
        return result;
    if (user->crypt != NULL || user->has_scram)
        users->decoys[users->decoy_count++] = users->count;
    if (user->has_scram)
        users->scram_decoys[users->scram_decoy_count++] = users->count;
    users->users[users->count++] = *user;
    return 0;
}

static int read_users(struct users *users, struct line_file *file)
{
    char *line;
    size_t size;
    while (line_file_next(file, &line, &size)) {
        struct user user;
        int result = parse_line(file, line, size, &user);
        if (result < 0)
            return result;
        result = add(users, &user);
        if (result == -EEXIST)
            return line_file_fail(file, "%s has a line above already", user.name);
        if (result < 0)
            return result;
    }
    return 0;
}

int users_load(const char *path, struct users **users, char *error, size_t error_size)
{
    struct line_file file;
    int result = line_file_open(&file, path, S_IWGRP | S_IRWXO, error, error_size);
    if (result < 0)
        return result;
    struct users *loaded = calloc(1, sizeof(*loaded));
    result = loaded != NULL ? name_table_init(&loaded->names) : -ENOMEM;
    if (result == 0)
        result = read_users(loaded, &file);
    if (result == -ENOMEM)
        snprintf(error, error_size, "%s: no memory for its users", path);
    if (result < 0) {
        line_file_close(&file);
        users_free(loaded);
        return result;
    }
    loaded->text_size = file.size;
    loaded->text = line_file_take(&file);
    *users = loaded;
    return 0;
}

void users_free(struct users *users)
{
    if (users == NULL)
        return;
    if (users->users != NULL)
        OPENSSL_cleanse(users->users, users->count * sizeof(*users->users));
    if (users->text != NULL)
        OPENSSL_cleanse(users->text, users->text_size);
    name_table_deinit(&users->names);
    free(users->users);
    free(users->decoys);
    free(users->scram_decoys);
    free(users->text);
    free(users);
}

size_t users_count(const struct users *users)
{
    return users->count;
}

const struct user *users_find(const struct users *users, const char *name, size_t size)
{
    uint32_t index;
    if (size > USER_NAME_MAX || !name_table_find(&users->names, name, size, &index))
        return NULL;
    assert(index < users->count);
    return &users->users[index];
}

/* An even draw: the high part of a product, so that a user more or less moves few of the others. */
static const struct user *draw_from(const struct users *users, const uint32_t *indexes, uint32_t count,
                                    uint32_t draw)
{
    if (count == 0)
        return NULL;
    uint32_t index = indexes[(uint64_t)draw * count >> 32];
    assert(index < users->count);
    return &users->users[index];
}

const struct user *users_decoy(const struct users *users, uint32_t draw)
{
    return draw_from(users, users->decoys, users->decoy_count, draw);
}

const struct user *users_scram_decoy(const struct users *users, uint32_t draw)
{
    return draw_from(users, users->scram_decoys, users->scram_decoy_count, draw);
}

/* The field in its form, zero-terminated; `field` has room for the longest one. */
static void format_scram(const struct user *user, char *field, size_t capacity)
{
    char salt[SMTP_BASE64_ENCODED_SIZE(SCRAM_SALT_MAX) + 1] = "";
    char stored_key[SMTP_BASE64_ENCODED_SIZE(SCRAM_KEY_SIZE) + 1] = "";
    char server_key[SMTP_BASE64_ENCODED_SIZE(SCRAM_KEY_SIZE) + 1] = "";
    assert(user->salt_size >= 1 && user->salt_size <= SCRAM_SALT_MAX);
    assert(user->iterations >= SCRAM_ITERATIONS_MIN && user->iterations <= SCRAM_ITERATIONS_MAX);
    size_t size = smtp_base64_encode(user->salt, user->salt_size, salt, sizeof(salt) - 1);
    assert(size > 0);
    size = smtp_base64_encode(user->stored_key, SCRAM_KEY_SIZE, stored_key, sizeof(stored_key) - 1);
    assert(size > 0);
    size = smtp_base64_encode(user->server_key, SCRAM_KEY_SIZE, server_key, sizeof(server_key) - 1);
    assert(size > 0);
    int written = snprintf(field, capacity, "%s%u:%s$%s:%s", scram_prefix, user->iterations, salt, stored_key,
                           server_key);
    assert(written > 0 && (size_t)written < capacity);
}

int user_format(const struct user *user, char *line, size_t capacity)
{
    if (!sasl_name_is_valid(user->name, user->name_size))
        return -EINVAL;
    if (user->crypt != NULL && !crypt_hash_is_valid(user->crypt, strlen(user->crypt)))
        return -EINVAL;
    char scram[256] = "-";
    if (user->has_scram)
        format_scram(user, scram, sizeof(scram));
    int size = snprintf(line, capacity, "%.*s:%s:%s", (int)user->name_size, user->name,
                        user->crypt != NULL ? user->crypt : "-", scram);
    return size >= 0 && (size_t)size < capacity ? size : -ENOSPC;
}
