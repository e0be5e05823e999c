/*
 * A report is a delivery at home whose sender is to be told something. Only report*.c include this. Worker's
 * thread only.
 */
#pragma once

#include "gateway/message/envelope.h"
#include "gateway/message/notice.h"
#include "gateway/message/recipient.h"
#include "gateway/outbound/outbound.h"
#include "gateway/outbound/report.h"
#include "gateway/outbound/report_original.h"

enum {
    REPORT_NOTICES_MAX = 3, /* one of each kind */
    REPORT_ADDRESS_MAX = RECIPIENT_SIZE_MAX + QUEUE_KEY_MAX + 16,
    REPORT_NOBODY = UINT8_MAX, /* instead of an enum notice_kind: nothing is told */
};

/*
 *  WAITING ─▶ OPENING ─▶ READING ─▶ WRITING ─▶ STORING ─▶ SETTLING ─▶ (gone)
 *                │                     │ ▲        │ │        │
 *                │                     │ └────────┘ │        │
 *                └─────────────────────┴────────────┴────────┴─ cannot be stored ─▶ (gone)
 *
 * Up to STORING each state is tried again at every turn, until there is room or what is read has come.
 */
enum report_state {
    REPORT_WAITING,  /* others are being written */
    REPORT_OPENING,  /* gets its memory */
    REPORT_READING,  /* the header of the original */
    REPORT_WRITING,  /* its notices, one after the other */
    REPORT_STORING,  /* all are complete, and are to be handed to the queue */
    REPORT_SETTLING, /* the queue is writing */
};

/* One notice of it. */
struct report_notice {
    enum notice_kind kind;
    struct queue_draft *draft; /* NULL: not begun, or the queue's */
    uint64_t id;
    uint64_t size;
    uint32_t recipient_count;
    enum notice_class class; /* of the first recipient */
    uint32_t meta_size;
    char meta[ENVELOPE_SIZE_MAX];
};

/* Memory that is needed while notices are written. */
struct report_work {
    struct report_notice notices[REPORT_NOTICES_MAX];
    struct queue_envelope envelopes[REPORT_NOTICES_MAX];
    struct notice notice; /* that is being written */
    struct notice_writer writer;
    struct smtp_slice pending; /* still to be appended */
    bool is_returning;         /* pieces of the original are appended */
    char id_text[16];
    char original_id_text[16];
    char piece[NOTICE_PIECE_MAX];
    char address[REPORT_ADDRESS_MAX]; /* the sender, as a recipient of the queue */
    uint32_t address_size;
    struct notice_recipient recipients[]; /* as many as the delivery has targets */
};

struct report {
    struct list link; /* in reports.waiting or reports.open */
    struct outbound *outbound;
    struct queue_delivery *delivery;
    struct envelope envelope; /* its slices point into delivery->meta */
    enum report_state state;
    struct report_work *work; /* NULL while waiting */
    struct original original;
    char *header; /* the first octets of the original; NULL: not needed */
    uint32_t header_capacity;
    uint32_t header_size;
    bool without_content;  /* it cannot be read, or is too much for the log now: it is not returned */
    uint32_t notice_count; /* to be written */
    uint32_t written;
    const char *site_name; /* NULL: none; behind `kinds` */
    size_t size;           /* of this memory */
    uint8_t kinds[];       /* of each target: enum notice_kind, or REPORT_NOBODY */
};

/* --- report_write.c --- */

/* The memory for writing, and the sender's address in the form of the queue. 0, or -ENOMEM.
 */
int report_open(struct report *report) __attribute__((warn_unused_result));

/* Aborts what was written, to begin with the first notice again, without the content. */
void report_rewind(struct report *report);

/* Aborts drafts that are still ours and frees the memory. Not while something is being read. */
void report_close(struct report *report);

/* 0: the header is there, as far as it can be had. -EAGAIN: again when the read has ended. */
int report_read_header(struct report *report) __attribute__((warn_unused_result));

/* 0: all notices are complete. -EAGAIN: again when there is room or the read has ended. Else a negative
 * errno: they cannot be stored. */
int report_write(struct report *report) __attribute__((warn_unused_result));

/* The sender as the queue keeps a recipient, its lane key included: its size, or a negative errno: no mail
 * can go there. */
int report_encode_address(const struct outbound *outbound, const struct envelope *envelope,
                          char bytes[static REPORT_ADDRESS_MAX]) __attribute__((warn_unused_result));

/* --- report_limit.c --- */

/* Takes out what is told too often, or to no address, and logs it. False: nothing is left. */
bool report_apply_limits(struct report *report) __attribute__((warn_unused_result));

/* Nobody is told of this kind, for good, which is logged: what was to be told as delayed is not told later
 * either. */
void report_suppress(struct report *report, enum notice_kind kind, const char *reason);

/* Targets that are told of in this way. */
uint32_t report_count_of(const struct report *report, enum notice_kind kind);

/* "failure", "delay", "success" */
const char *report_kind_name(enum notice_kind kind);

/* It is queued; none of them could be. */
void report_log_notice(const struct report *report, const struct report_notice *notice);
void report_log_failure(const struct report *report, int error);
