/*
 * The name servers that a resolver asks, in their order of preference, and how they have been lately.
 *
 * They come from the configuration, or from a resolv.conf that is read again when it has changed. A server
 * that stays silent several times in a row is left out for a while, unless all are. Worker's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/base/log.h"
#include "gateway/base/table.h"
#include "gateway/outbound/dns/resolver.h"

enum {
    SERVER_SILENCES_MAX = 3,   /* unanswered questions in a row, before it is left out */
    SERVER_REST_MIN_MS = 5000, /* the first time; doubled each time up to */
    SERVER_REST_MAX_MS = 60000,
    SERVER_LOOK_MS = 5000, /* how often it is looked whether resolv.conf has changed */
};

struct server {
    struct sockaddr_storage address;
    uint32_t silences; /* since its last answer */
    uint32_t rest_ms;  /* the last one; 0: none since its last answer */
    uint64_t left_out_until_us;
};

struct server_list {
    struct server servers[RESOLVER_SERVERS_MAX];
    uint32_t count;      /* at least 1 */
    uint32_t generation; /* changes when the indices mean other servers */
    const char *file;    /* NULL: they are configured */
    struct table_stamp stamp;
    uint64_t next_look_us;
    uint64_t answered_us; /* when one of them last said something */
    struct log_writer *log;
};

/* `count` 0: from `file`, at once and whenever it has changed. */
void servers_set(struct server_list *list, const struct sockaddr_storage *addresses, size_t count,
                 const char *file, uint64_t now_us);

/* Looks at the file when it is time to; true when the servers have changed. */
bool servers_refresh(struct server_list *list, uint64_t now_us);

/*
 * The server to ask next: the first one that is well and in neither set of bits, else the first one that is
 * in neither, else the first one not in `refused`, for which `tried` no longer counts (`wraps` is set). -1:
 * all have refused.
 */
int servers_pick(const struct server_list *list, uint32_t refused, uint32_t tried, uint64_t now_us,
                 bool *wraps) __attribute__((warn_unused_result));

/* It answered, whatever it said. */
void servers_answered(struct server_list *list, uint32_t index, uint64_t now_us);

/* It did not; `is_gone`: it cannot be reached at all. */
void servers_failed(struct server_list *list, uint32_t index, bool is_gone, uint64_t now_us);
