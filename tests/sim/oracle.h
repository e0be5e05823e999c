/* The oracle knows every message that was ever offered to the queue and what the queue promised about it, and
 * tells at each hand-over, recovery and drain whether the promise was kept.
 *
 * It never looks into the queue or the disk's bytes. What it needs to know of time is in struct oracle_now,
 * which the world keeps up to date. A broken promise ends the run through violation() and does not return.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "queue/queue.h"
#include "tests/sim/disk.h"

/* Prints what went wrong with which seed, and ends the process. */
__attribute__((noreturn, format(printf, 1, 2))) void violation(const char *format, ...);

enum message_state {
    MESSAGE_DRAFT,   /* being appended: must never be handed out */
    MESSAGE_OFFERED, /* commit was called, not answered: must not be handed out before the answer */
    MESSAGE_ACKED,   /* answered with 0: must be there until settled */
    MESSAGE_REFUSED, /* answered with an error: must not be handed out in this life */
    MESSAGE_MAYBE,   /* refused or unanswered when the power went: may be there, whole, or not */
    MESSAGE_NEVER,   /* aborted, or a draft when the power went: must never be handed out */
};

enum recipient_state {
    RECIPIENT_WAITING, /* waits or is deferred */
    RECIPIENT_OUT,     /* is out for delivery */
    RECIPIENT_SETTLED, /* left the queue in this life */
    RECIPIENT_MAYBE,   /* settled before a crash, its record was not surely on disk: may come back once */
    RECIPIENT_GONE,    /* settled, and its record is surely on disk */
    RECIPIENT_BOUND,   /* there unless the messages of its bond are */
};

/* What comes back with a recipient that waits. */
enum recipient_note {
    NOTE_NONE,
    NOTE_MARKED, /* the deliverer's bit */
    NOTE_OWED,   /* it was delivered, and is to be told of */
};

/* When something was recorded: enough to tell later whether it must have reached the disk. */
struct oracle_mark {
    uint64_t write; /* number of writes begun before; the record is in the next batch. UINT64_MAX: only
                       idleness proves it */
    uint64_t stamp; /* the oracle's own count of events; both 0: it is on disk */
};

struct oracle_recipient {
    uint16_t lane;
    uint8_t state;
    uint16_t padding;          /* octets that make its address longer */
    uint32_t attempts_low;     /* counted for it: at least */
    uint32_t attempts_high;    /* at most */
    uint32_t attempts_durable; /* at least, after a crash */
    int64_t due_ms;            /* not before; 0: any time */
    struct oracle_mark mark;   /* of the last outcome */
    uint8_t note;              /* enum recipient_note, as it was last settled or handed out */
    bool fresh;                /* not handed out since the power went: `note` is a guess */
    uint8_t possible;          /* bit n: after a crash the note may be n */
};

struct oracle_message {
    uint64_t number; /* index in oracle.messages */
    uint64_t id;     /* 0: not known */
    uint64_t size;
    int64_t arrival_ms;
    uint32_t meta_size;
    uint32_t recipient_count;
    struct oracle_recipient *recipients;
    enum message_state state;
    bool damaged;         /* what is left of it failed its check, as the flipped bits explain */
    uint64_t first_write; /* the first write that can hold a byte of it, or that was under way then: at the
                             log's end nobody can tell a flipped write from a torn one, and what follows it
                             goes with it */
    uint64_t last_write;  /* of the last one before it was answered */
    void *answer;         /* the sender's own; freed with the message */
    bool returned;        /* when last handed out, all its recipients had been settled */
};

struct oracle_bond;

struct oracle {
    const struct disk *disk;
    struct oracle_bond *bonds; /* tests/sim/bond.h */
    uint32_t bond_count;
    uint32_t bond_capacity;
    struct oracle_message *messages;
    uint32_t count;
    uint32_t capacity;
    int64_t tick_ms;       /* the time that the queue was last told */
    uint64_t stamp;        /* events */
    uint64_t idle_stamp;   /* event at which the queue was last idle */
    bool trouble;          /* a write failed and the queue was not idle since */
    bool moved;            /* some message may have been copied to where later writes went */
    uint32_t failed_reads; /* envelopes that could not be read back: somebody's attempt was counted */
    bool recut;            /* entry_recipients has changed */
    uint64_t duplicates;   /* recipients that came back as allowed */
};

void oracle_init(struct oracle *oracle, const struct disk *disk);
void oracle_deinit(struct oracle *oracle);

/* A new message in state DRAFT; its recipients are the caller's to fill in. Valid until the next call. */
struct oracle_message *oracle_add(struct oracle *oracle, uint32_t recipient_count);
struct oracle_message *oracle_get(struct oracle *oracle, uint64_t number);

/* The address and key of a recipient, and the message's meta. Buffers of QUEUE_ADDRESS_MAX, 32 and meta_size
 * octets; return the size. */
uint32_t oracle_address(const struct oracle_message *message, uint32_t index, char *address);
uint32_t oracle_key(uint32_t lane, char *key);
void oracle_meta(const struct oracle_message *message, uint8_t *meta);

/* The queue answered a commit. */
void oracle_answered(struct oracle *oracle, uint64_t number, uint64_t id, int error);

/* The queue handed this out; returns the message that it is. */
struct oracle_message *oracle_taken(struct oracle *oracle, const struct queue_delivery *delivery);

/* After queue_settle, with what the queue made of the outcomes. `recorded`: as many outcome records as it
 * takes are in the log, so that they are part of the next write; else only idleness proves that they are on
 * disk. */
void oracle_settled(struct oracle *oracle, struct oracle_message *message,
                    const struct queue_delivery *delivery, int64_t now_ms, int64_t delay_max_ms,
                    int64_t age_max_ms, bool recorded);

/* The recipient's note as the delivery has it; as it has been settled, if it stays. */
enum recipient_note oracle_note(const struct queue_delivery *delivery, const struct queue_target *target);

/* Whether anything of it is recorded: an outcome, or another mark. Before oracle_settled. */
bool oracle_is_news(const struct oracle_message *message, const struct queue_delivery *delivery,
                    const struct queue_target *target);

/* Outcome records that a settled delivery makes at most: one for each run of recipients of one lane. */
uint64_t oracle_records(const struct oracle_message *message, const struct queue_delivery *delivery);

/* A write failed; `through` is what disk.batch_through was before. */
void oracle_write_failed(struct oracle *oracle, uint64_t through);

/* The queue is idle: all that it was told is on disk. */
void oracle_idle(struct oracle *oracle);

/* The power went; call after disk_cut and before disk_restore. */
void oracle_crashed(struct oracle *oracle);

/* What the queue must hold now, and may hold at most. */
struct oracle_range {
    uint64_t messages_low, messages_high;
    uint64_t recipients_low, recipients_high;
};
struct oracle_range oracle_range(const struct oracle *oracle);

/* Everything that can be taken was taken and settled: whatever is still owed is lost. */
void oracle_drained(const struct oracle *oracle);

/* Whether flipped bits explain that this message is not whole. */
bool oracle_hit(const struct oracle *oracle, const struct oracle_message *message);
