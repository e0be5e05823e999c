/* A heap of what is deferred, by due time. Owner thread. */
#pragma once

#include <stdint.h>

struct entry;

struct schedule {
    struct schedule_slot {
        int64_t due_ms;
        struct entry *entry;
    } * slots;
    uint64_t count;
    uint64_t capacity;
};

void schedule_deinit(struct schedule *schedule);

/* 0 or -ENOMEM. */
int schedule_add(struct schedule *schedule, int64_t due_ms, struct entry *entry)
    __attribute__((warn_unused_result));

/* The earliest due time, or INT64_MAX. */
int64_t schedule_next(const struct schedule *schedule);

/* Takes the earliest if it is due at `now_ms`, else NULL. */
struct entry *schedule_take(struct schedule *schedule, int64_t now_ms);
