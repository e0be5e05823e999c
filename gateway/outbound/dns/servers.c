#include "gateway/outbound/dns/servers.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/address.h"

enum { DNS_PORT = 53, LINE_SIZE = 512 };

/* The address of a line "nameserver ADDRESS" of resolv.conf(5); false for every other line. */
static bool read_line(char *line, struct sockaddr_storage *address)
{
    static const char blanks[] = " \t\r\n";
    char *rest = NULL;
    const char *word = strtok_r(line, blanks, &rest);
    if (word == NULL || strcmp(word, "nameserver") != 0)
        return false;
    const char *text = strtok_r(NULL, blanks, &rest);
    return text != NULL && parse_ip(text, DNS_PORT, address) == 0;
}

/* Returns how many servers the file names. */
static size_t read_file(const char *path, struct sockaddr_storage addresses[static RESOLVER_SERVERS_MAX])
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    char line[LINE_SIZE];
    size_t count = 0;
    while (count < RESOLVER_SERVERS_MAX && fgets(line, sizeof(line), file) != NULL) {
        if (read_line(line, &addresses[count]))
            count++;
    }
    fclose(file);
    return count;
}

/* Takes the addresses over, unless they are what is there: then what is known of the servers stays. */
static bool take(struct server_list *list, const struct sockaddr_storage *addresses, size_t count)
{
    assert(count > 0 && count <= RESOLVER_SERVERS_MAX);
    bool is_same = list->count == count;
    for (size_t index = 0; is_same && index < count; index++)
        is_same = address_equals((const struct sockaddr *)&list->servers[index].address,
                                 (const struct sockaddr *)&addresses[index]);
    if (is_same)
        return false;
    memset(list->servers, 0, sizeof(list->servers));
    for (size_t index = 0; index < count; index++)
        list->servers[index].address = addresses[index];
    list->count = (uint32_t)count;
    list->generation++;
    return true;
}

static bool take_file(struct server_list *list)
{
    struct sockaddr_storage addresses[RESOLVER_SERVERS_MAX];
    size_t count = read_file(list->file, addresses);
    if (count == 0) {
        /* resolv.conf(5): without a server, the one on this machine. */
        int result = parse_ip("127.0.0.1", DNS_PORT, &addresses[0]);
        assert(result == 0);
        count = 1;
    }
    return take(list, addresses, count);
}

void servers_set(struct server_list *list, const struct sockaddr_storage *addresses, size_t count,
                 const char *file, uint64_t now_us)
{
    list->file = count > 0 ? NULL : file;
    if (count > 0) {
        take(list, addresses, count < RESOLVER_SERVERS_MAX ? count : RESOLVER_SERVERS_MAX);
        return;
    }
    memset(&list->stamp, 0, sizeof(list->stamp));
    if (table_stamp_read(file, &list->stamp) < 0)
        memset(&list->stamp, 0, sizeof(list->stamp));
    list->next_look_us = now_us + SERVER_LOOK_MS * 1000;
    take_file(list);
}

bool servers_refresh(struct server_list *list, uint64_t now_us)
{
    if (list->file == NULL || now_us < list->next_look_us)
        return false;
    list->next_look_us = now_us + SERVER_LOOK_MS * 1000;
    struct table_stamp stamp = {0};
    if (table_stamp_read(list->file, &stamp) < 0 || table_stamp_equals(&stamp, &list->stamp))
        return false; /* one that is gone is most likely being replaced */
    list->stamp = stamp;
    return take_file(list);
}

int servers_pick(const struct server_list *list, uint32_t refused, uint32_t tried, uint64_t now_us,
                 bool *wraps)
{
    int fresh = -1;
    int any = -1;
    for (uint32_t index = 0; index < list->count; index++) {
        uint32_t bit = 1u << index;
        if (refused & bit)
            continue;
        any = any < 0 ? (int)index : any;
        if (tried & bit)
            continue;
        if (list->servers[index].left_out_until_us <= now_us)
            return (int)index;
        fresh = fresh < 0 ? (int)index : fresh;
    }
    if (fresh < 0 && any >= 0)
        *wraps = true;
    return fresh >= 0 ? fresh : any;
}

static void log_server(const struct server_list *list, const struct server *server, enum log_level level,
                       const char *reason)
{
    struct log_line line;
    if (list->log == NULL || !log_begin(list->log, &line, LOG_CAUTION, level))
        return;
    log_text(&line, "reason", reason);
    log_addr(&line, "host", (const struct sockaddr *)&server->address);
    log_end(&line);
}

void servers_answered(struct server_list *list, uint32_t index, uint64_t now_us)
{
    assert(index < list->count);
    list->answered_us = now_us;
    struct server *server = &list->servers[index];
    if (server->rest_ms > 0)
        log_server(list, server, LOG_NOTICE, "name server answers again");
    server->silences = 0;
    server->rest_ms = 0;
    server->left_out_until_us = 0;
}

void servers_failed(struct server_list *list, uint32_t index, bool is_gone, uint64_t now_us)
{
    assert(index < list->count);
    struct server *server = &list->servers[index];
    server->silences++;
    if (server->left_out_until_us > now_us || (!is_gone && server->silences < SERVER_SILENCES_MAX))
        return;
    if (server->rest_ms == 0)
        log_server(list, server, LOG_WARNING, "name server does not answer");
    uint32_t rest_ms = server->rest_ms == 0 ? SERVER_REST_MIN_MS : server->rest_ms * 2;
    server->rest_ms = rest_ms < SERVER_REST_MAX_MS ? rest_ms : SERVER_REST_MAX_MS;
    server->left_out_until_us = now_us + (uint64_t)server->rest_ms * 1000;
}
