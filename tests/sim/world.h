/* The world of one seed: a queue on a bad disk, somebody who sends, somebody who delivers, and power cuts.
 *
 * Everything that happens is drawn from the seed, and noted: the notes' hash says whether two runs were the
 * same. Single-threaded, like the shard that it drives.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "queue/queue.h"
#include "tests/sim/disk.h"
#include "tests/sim/oracle.h"
#include "tests/sim/random.h"

enum {
    WORLD_LANES_MAX = 32,
    WORLD_DRAFTS_MAX = 8,
    WORLD_DELIVERIES_MAX = 48,
};

/* How this seed's world is made. */
struct plan {
    uint32_t page_size;
    uint64_t segment_size;
    uint32_t slots_max;
    uint32_t lanes;
    uint32_t drafts;     /* at the same time */
    uint32_t deliveries; /* at the same time */
    uint32_t lives;
    uint32_t turns;        /* of a life, at most */
    uint64_t content_max;  /* octets */
    uint32_t send_percent; /* how eager the two sides are, in each turn */
    uint32_t take_percent;
    uint32_t defer_percent; /* of the outcomes */
    uint32_t retry_percent;
    uint32_t owe_percent;
    uint32_t abort_percent; /* of the drafts */
    uint32_t many_percent;  /* messages with many recipients */
    uint32_t place_percent; /* content that is received in place */
    uint32_t bond_percent;  /* deliveries that are settled together with messages */
    bool phases;            /* backlogs build up and melt away */
    bool sleeps;            /* long pauses, in which deferred messages become due */
    bool flips;             /* bits flip while the power is off */
};

struct sim_draft {
    struct queue_draft *draft; /* NULL: free */
    uint64_t number;           /* of the message */
    uint64_t appended;
    uint8_t *room; /* reserved, being received into; or NULL */
    uint64_t room_size;
    uint64_t room_done;
    bool lost;    /* content was received and does not count: the draft must say that it is dead */
    bool blocked; /* answered -EAGAIN: waits for room() */
    bool aborts;
    uint64_t since_us; /* when it was blocked */
};

struct world;

enum delivery_state {
    DELIVERY_FREE,
    DELIVERY_TAKING,   /* queue_take returned true, taken() was not called */
    DELIVERY_READING,  /* a piece is being read back */
    DELIVERY_HELD,     /* content was checked; settled at settle_us */
    DELIVERY_SETTLING, /* queue_settle_with took it, settled() was not called */
    DELIVERY_SETTLED,  /* released at settle_us */
};

/* Outcomes on their way, alone or together with messages. */
struct sim_settling {
    bool drawn;    /* the targets have their outcomes */
    bool together; /* with messages */
    uint32_t companion_count;
    struct sim_draft companions[QUEUE_COMPANIONS_MAX];
    uint64_t ids[QUEUE_COMPANIONS_MAX];
    uint32_t tries;
    uint32_t bond;
    /* as they were when the queue took it */
    int64_t now_ms;
    int64_t age_max_ms;
};

struct sim_delivery {
    struct world *world;
    enum delivery_state state;
    struct queue_delivery *delivery;
    uint64_t number; /* of the message */
    uint64_t settle_us;
    uint32_t lanes_mask; /* lanes that its recipients may come from */
    uint32_t recipients_max;
    uint32_t piece;
    uint64_t piece_offset; /* of the piece in the content */
    uint32_t reads_failed;
    bool damaged;
    bool unreadable; /* reading failed: give it back */
    struct queue_piece_range range;
    void *buffer;
    struct storage_op read;
    struct sim_settling settling;
    int64_t delay_max_ms; /* the longest that the deferred may have to wait, at any time they were judged */
};

struct world {
    uint64_t seed;
    bool verbose;
    struct plan plan;
    struct random random;
    struct disk *disk;
    struct oracle oracle;
    struct queue *queue;
    struct queue_options options;
    struct queue_recovery recovery; /* of the last start */

    struct queue_lane *ready[WORLD_LANES_MAX]; /* as lane_ready said; NULL: nothing to take */
    struct sim_draft drafts[WORLD_DRAFTS_MAX];
    struct sim_delivery deliveries[WORLD_DELIVERIES_MAX];

    bool quiet;         /* inside a call that promises not to call back */
    bool dead;          /* the power is off: callbacks mean nothing */
    bool draining;      /* everything is delivered at once */
    uint64_t tick_ms;   /* when to tick next; UINT64_MAX: never */
    uint64_t crash_at;  /* disk.completions at which the power goes */
    uint64_t allocated; /* octets, by the queue's small objects */

    uint64_t hash; /* of the notes */
    uint64_t notes;
    /* What the seeds saw, for the summary. */
    uint64_t acked;
    uint64_t delivered;
    uint64_t duplicates;
    uint64_t crashes;
    uint64_t refused;
    uint64_t read_back;
    uint64_t moved;
    uint64_t received; /* reservations filled */
    uint64_t together; /* deliveries settled with messages */
};

/* Notes that something happened. */
void world_note(struct world *world, const char *what, uint64_t a, uint64_t b);

int64_t world_now_ms(const struct world *world);

/* Draws the plan of a seed, and the queue's options and the disk's. */
void plan_draw(struct world *world, struct disk_options *disk);
/* What may differ from life to life. */
void plan_redraw(struct world *world);
/* A new phase of a world that has them. */
void plan_phase(struct world *world);

/* Begins, continues or ends a few drafts. */
void receive_turn(struct world *world);
/* Continues those that were begun. False: none is left. */
bool receive_finish(struct world *world);
/* Gives all drafts up. */
void receive_abandon(struct world *world);
/* The queue said room(). */
void receive_room(struct world *world);
/* One small message, for a queue that is idle otherwise. */
void receive_one(struct world *world);
/* For messages about deliveries: begins one; takes a step, until its content is complete or it was given up;
 * gives it up; makes its envelope, in memory that is the caller's to free. */
bool receive_begin(struct world *world, struct sim_draft *draft, uint64_t content_max);
bool receive_step(struct world *world, struct sim_draft *draft);
void receive_give_up(struct world *world, struct sim_draft *draft);
uint8_t *receive_encode(const struct oracle_message *message, struct queue_envelope *envelope);

/* Takes, checks and settles. */
void deliver_turn(struct world *world);
/* When the next one wants attention, or UINT64_MAX. */
uint64_t deliver_next_us(const struct world *world);
/* Gives everything that is out back as not attempted. Nothing of it is being read. */
void deliver_abandon(struct world *world);
uint32_t deliver_count(const struct world *world);
/* The queue said room(). */
void deliver_room(struct world *world);
/* Before outcomes are judged: the options of now may count. */
void deliver_note_delay(struct world *world, struct sim_delivery *out);

/* Settles together with messages, step by step. TOGETHER_FAILED: the outcomes are still to be settled. */
enum together { TOGETHER_WAITS, TOGETHER_TAKEN, TOGETHER_FAILED };
enum together together_step(struct world *world, struct sim_delivery *out);
/* Gives up what was begun. */
void together_abandon(struct world *world, struct sim_delivery *out);

/* The lane's number, from its key. */
uint32_t deliver_lane(const struct queue_lane *lane);

/* Runs one seed to its end; `disk` is used again for the next. Returns the hash of what happened.
 * `disk_violation` is told when the queue breaks the rules of queue/storage.h, and must not return. */
uint64_t world_run(struct world *world, struct disk *disk, uint64_t seed, bool verbose,
                   void (*disk_violation)(const char *what));
