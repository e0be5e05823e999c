#include "gateway/base/counters.h"

#include <assert.h>

static const char *const names[COUNTER_COUNT] = {
#define COUNTER(name, help) [COUNTER_##name] = #name,
#include "gateway/base/counters.def"
};

static const char *const helps[COUNTER_COUNT] = {
#define COUNTER(name, help) [COUNTER_##name] = help,
#include "gateway/base/counters.def"
};

void counters_init(struct counters *counters)
{
    for (size_t index = 0; index < COUNTER_COUNT; index++)
        atomic_init(&counters->values[index], 0);
}

const char *counter_name(enum counter counter)
{
    assert(counter < COUNTER_COUNT);
    return names[counter];
}

const char *counter_help(enum counter counter)
{
    assert(counter < COUNTER_COUNT);
    return helps[counter];
}

void counters_sum(uint64_t sums[static COUNTER_COUNT], const struct counters *from)
{
    for (size_t index = 0; index < COUNTER_COUNT; index++)
        sums[index] += counter_get(from, (enum counter)index);
}
