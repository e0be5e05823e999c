/* A worker without a queue: loop, log, configuration and one struct outbound, whose deliveries are all
 * guests, so that they come home to the test. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/message/recipient.h"
#include "gateway/outbound/outbound.h"

enum { WORLD_TARGETS_MAX = 8, WORLD_PIECES_MAX = 4, WORLD_LOG_MAX = 1 << 20 };

/* What a test gives and gets. */
struct message {
    const char *from;
    const char *to[WORLD_TARGETS_MAX]; /* ends with NULL */
    const char *content;               /* as on the wire, without the lone dot */
    uint32_t flags;                    /* of the envelope */
    const char *envid;                 /* NULL: none */
    uint8_t notify;                    /* SMTP_NOTIFY_ bits of the first recipient */
    const char *orcpt;                 /* of the first recipient; NULL: none */
    bool on_disk;                      /* the content is to be read */
    bool is_owed;                      /* it was delivered before */
    bool is_damaged;                   /* what is read has other bytes */
    int read_error;                    /* negative errno */

    struct queue_delivery delivery;
    struct outbound_gift gift;
    struct queue_target targets[WORLD_TARGETS_MAX];
    struct queue_piece pieces[WORLD_PIECES_MAX];
    char meta[1024];
    char first[RECIPIENT_SIZE_MAX]; /* the first recipient as the queue keeps it */
    uint32_t homecomings;
};

/* What all worlds have; the test's. */
struct world_means {
    const char *to;        /* without the port; NULL: "smtp://127.0.0.1"; with "lmtp:/…" there is no port */
    const char *route;     /* behind `to` in the route; NULL: nothing */
    const char *ca_file;   /* whom TLS is verified by; NULL: nobody */
    const char *passwords; /* file; NULL: none */
    const char *sections;  /* more of the configuration; NULL: nothing */
    bool on_trial;         /* nobody knows yet whether the peers count their replies */
};
extern struct world_means world_means;

struct world_policy;

struct world {
    struct loop *loop;
    struct loop_hook hook;
    struct log *log;
    struct log_writer *writer;
    struct counters counters;
    struct pool pool;
    struct config *config;
    struct world_policy *policy;
    struct outbound outbound;
    struct outbound_read *reads[16]; /* asked for, to be answered in the next turn */
    uint32_t read_count;
    uint32_t reads_most; /* that were open at a time */
    bool is_running;
    uint32_t home;
    char log_path[64];
    char log_text[WORLD_LOG_MAX];
};

/* A configuration with hostname relay.test and one route for all domains to the ports (0: end), and `more`.
 */
struct config *world_config(const uint16_t *ports, const char *more);

void world_init(struct world *world, const uint16_t *ports, const char *more);

/* Ends what is left at once; every message must have come home exactly once before or here. */
void world_deinit(struct world *world);

/* As a reload does it. The second takes over the configuration. */
void world_reload(struct world *world, const uint16_t *ports, const char *more);
void world_take(struct world *world, struct config *config);

void world_send(struct world *world, struct message *message);

/* Turns until so many came home; fails after ten seconds. */
void world_run_home(struct world *world, uint32_t count);
/* Turns until no session is left. */
void world_run_closed(struct world *world);
void world_run_ms(struct world *world, uint64_t ms);

/* What was logged so far. */
const char *world_log(struct world *world);
