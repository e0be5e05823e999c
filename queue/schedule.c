#include "queue/schedule.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

enum { ARITY = 4 };

void schedule_deinit(struct schedule *schedule)
{
    free(schedule->slots);
    *schedule = (struct schedule){0};
}

static int schedule_reserve(struct schedule *schedule)
{
    if (schedule->count < schedule->capacity)
        return 0;
    uint64_t more = schedule->capacity ? 2 * schedule->capacity : 256;
    struct schedule_slot *grown = realloc(schedule->slots, more * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    schedule->slots = grown;
    schedule->capacity = more;
    return 0;
}

int schedule_add(struct schedule *schedule, int64_t due_ms, struct entry *entry)
{
    int error = schedule_reserve(schedule);
    if (error)
        return error;
    uint64_t at = schedule->count++;
    while (at > 0 && schedule->slots[(at - 1) / ARITY].due_ms > due_ms) {
        schedule->slots[at] = schedule->slots[(at - 1) / ARITY];
        at = (at - 1) / ARITY;
    }
    schedule->slots[at] = (struct schedule_slot){due_ms, entry};
    return 0;
}

int64_t schedule_next(const struct schedule *schedule)
{
    return schedule->count > 0 ? schedule->slots[0].due_ms : INT64_MAX;
}

static uint64_t earliest_child(const struct schedule *schedule, uint64_t at)
{
    uint64_t first = at * ARITY + 1;
    uint64_t best = first;
    for (uint64_t child = first; child < first + ARITY && child < schedule->count; child++)
        if (schedule->slots[child].due_ms < schedule->slots[best].due_ms)
            best = child;
    return best;
}

struct entry *schedule_take(struct schedule *schedule, int64_t now_ms)
{
    if (schedule_next(schedule) > now_ms)
        return NULL;
    struct entry *taken = schedule->slots[0].entry;
    struct schedule_slot last = schedule->slots[--schedule->count];
    uint64_t at = 0;
    for (;;) {
        uint64_t child = earliest_child(schedule, at);
        if (child >= schedule->count || schedule->slots[child].due_ms >= last.due_ms)
            break;
        schedule->slots[at] = schedule->slots[child];
        at = child;
    }
    if (schedule->count > 0)
        schedule->slots[at] = last;
    return taken;
}
