/* The inside of a delivery, shared by delivery.c (taking) and settle.c. Owner thread. */
#pragma once

#include "queue/shard.h"

struct delivery_entry {
    struct entry *entry;
    int64_t due_ms; /* as judged, when somebody of it is deferred; 0: not judged */
};

/*            queue_settle_with          durable
 *   TAKEN ──────────────────▶ SETTLING ──────────▶ SETTLED ──▶ queue_release
 *    │  ▲                         │                  ▲
 *    │  └──── not durable ────────┘                  │
 *    └─────────────────── queue_settle ──────────────┘
 */
enum delivery_state { DELIVERY_TAKEN, DELIVERY_SETTLING, DELIVERY_SETTLED };

struct delivery {
    struct queue_delivery pub;
    struct storage_op read;
    struct format_piece commit;
    struct commit_view view; /* points into the pinned page, or into `envelope` */
    uint8_t *envelope;       /* read back, or NULL */
    uint32_t envelope_skip;
    enum delivery_state state;
    bool judged;  /* nobody expires any more */
    void *arrays; /* targets and pieces */
    size_t arrays_size;
    queue_taken *taken;
    queue_settled *settled;
    void *context; /* of the one who is told next */
    struct wal_waiter waiter;
    uint32_t entry_count;
    struct delivery_entry entries[];
};

static inline struct delivery *delivery_of(struct queue_delivery *pub)
{
    return (struct delivery *)(void *)pub;
}

void delivery_free(struct delivery *delivery);
