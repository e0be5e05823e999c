#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/destination.h"
#include "tests/fuzz/fuzz.h"

/* The input is what stands behind the pattern in a line of a route file. What is understood must keep the
   header's promises, and must say the same when it is written anew from what was understood. */

enum { TEXT_SIZE = 4 * DESTINATION_VALUE_SIZE_MAX };

static const char *const schemes[] = {[DESTINATION_SMTP] = "smtp://", [DESTINATION_LMTP] = "lmtp://"};
static const char *const words[] = {"none", "may", "encrypt", "verify"};

static void check_host(const struct destination *destination, const struct destination_host *host)
{
    bool is_socket = host->port == 0;
    assert(host->name[0] != '\0');
    assert(is_socket == (host->name[0] == '/'));
    assert(host->address_count <= 1 && (!is_socket || host->address_count == 1));
    assert(!is_socket || destination->kind == DESTINATION_LMTP);
    assert((host->weight > 0) == (destination->hosts[0].weight > 0));
    assert(host->weight <= DESTINATION_WEIGHT_MAX);
    for (const char *byte = host->name; !is_socket && *byte != '\0'; byte++)
        assert((unsigned char)*byte < 0x80 && !(*byte >= 'A' && *byte <= 'Z'));
}

static void check(const struct destination *destination)
{
    bool has_hosts = destination->kind == DESTINATION_SMTP || destination->kind == DESTINATION_LMTP;
    assert(has_hosts == (destination->host_count > 0) && destination->host_count <= DESTINATION_HOSTS_MAX);
    assert(has_hosts == (destination->name[0] != '\0'));
    assert(destination->tls_name_count <= DESTINATION_TLS_NAMES_MAX);
    assert(destination->index == UINT32_MAX);
    for (size_t index = 0; index < destination->host_count; index++)
        check_host(destination, &destination->hosts[index]);
    if (destination->kind != DESTINATION_ERROR) {
        assert(destination->text[0] == '\0');
        return;
    }
    assert(destination->code >= 400 && destination->code <= 599);
    assert(destination->text[0] == '0' + destination->code / 100 && destination->text[1] == '.');
    assert(strlen(destination->text) <= DESTINATION_ERROR_TEXT_MAX + 6);
}

static void write_hosts(FILE *out, const struct destination *destination)
{
    for (size_t index = 0; index < destination->host_count; index++) {
        const struct destination_host *host = &destination->hosts[index];
        bool is_v6 = host->port != 0 && strchr(host->name, ':') != NULL;
        fputs(index > 0 ? "," : "", out);
        if (host->port == 0)
            fprintf(out, "lmtp:%s", host->name);
        else
            fprintf(out, "%s%s%s%s:%u", schemes[destination->kind], is_v6 ? "[" : "", host->name,
                    is_v6 ? "]" : "", host->port);
    }
}

static void write_destination(FILE *out, const struct destination *destination)
{
    write_hosts(out, destination);
    if (destination->kind == DESTINATION_ERROR)
        fprintf(out, "error:%u %s", destination->code, destination->text);
    else if (destination->host_count == 0)
        fputs(destination->kind == DESTINATION_MX ? "mx" : "discard", out);
    if (destination->tls != CONFIG_SECURITY_UNSET)
        fprintf(out, " tls=%s", words[destination->tls]);
    for (size_t index = 0; index < destination->tls_name_count; index++)
        fprintf(out, "%s%s", index > 0 ? "," : " tls_names=", destination->tls_names[index]);
    for (size_t index = 0; index < destination->host_count && destination->hosts[0].weight > 0; index++)
        fprintf(out, "%s%u", index > 0 ? "," : " weights=", destination->hosts[index].weight);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct destination_text first;
    static struct destination_text second;
    char text[TEXT_SIZE];
    char error[256] = "";
    if (destination_parse((const char *)data, size, &first, error, sizeof(error)) < 0) {
        assert(error[0] == '"' && strlen(error) < sizeof(error));
        return 0;
    }
    check(&first.destination);
    FILE *out = fmemopen(text, sizeof(text), "w");
    if (out == NULL)
        abort();
    write_destination(out, &first.destination);
    size_t written = (size_t)ftell(out);
    int closed = fclose(out);
    assert(closed == 0 && written < sizeof(text));
    /* Names may be longer as A-labels than a line may be. */
    if (written > DESTINATION_VALUE_SIZE_MAX)
        return 0;
    int result = destination_parse(text, written, &second, error, sizeof(error));
    assert(result == 0 && destination_equals(&first.destination, &second.destination));
    return 0;
}
