#include "gateway/outbound/probe.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/list.h"

struct probe {
    /* under probes.lock */
    struct list link;
    uint32_t users;

    /* any thread (atomic, relaxed): the word decides by itself and guards nothing else, and its one order of
     * changes is all that is needed; the back-off is a hint */
    _Atomic uint64_t until_us;
    _Atomic uint32_t backoff_ms;

    /* immutable */
    char key[];
};

struct probes {
    pthread_mutex_t lock;
    struct list all;
};

/* --- Life --- */

int probes_new(struct probes **probes)
{
    struct probes *made = malloc(sizeof(*made));

    if (made == NULL)
        return -ENOMEM;
    pthread_mutex_init(&made->lock, NULL);
    list_init(&made->all);
    *probes = made;
    return 0;
}

void probes_free(struct probes *probes)
{
    struct list *link;

    if (probes == NULL)
        return;
    while ((link = list_pop_front(&probes->all)) != NULL)
        free(list_entry(link, struct probe, link));
    pthread_mutex_destroy(&probes->lock);
    free(probes);
}

static struct probe *find(struct probes *probes, const char *key)
{
    list_each(link, &probes->all)
    {
        struct probe *probe = list_entry(link, struct probe, link);
        if (strcmp(probe->key, key) == 0)
            return probe;
    }
    return NULL;
}

static struct probe *add(struct probes *probes, const char *key)
{
    size_t size = strlen(key) + 1;
    struct probe *probe = calloc(1, sizeof(*probe) + size);

    if (probe == NULL)
        return NULL;
    memcpy(probe->key, key, size);
    list_init(&probe->link);
    list_push_back(&probes->all, &probe->link);
    return probe;
}

struct probe *probe_take(struct probes *probes, const char *key)
{
    pthread_mutex_lock(&probes->lock);
    struct probe *probe = find(probes, key);
    if (probe == NULL)
        probe = add(probes, key);
    if (probe != NULL)
        probe->users++;
    pthread_mutex_unlock(&probes->lock);
    return probe;
}

void probe_let_go(struct probes *probes, struct probe *probe)
{
    if (probe == NULL)
        return;
    pthread_mutex_lock(&probes->lock);
    assert(probe->users > 0);
    bool is_last = --probe->users == 0;
    if (is_last)
        list_remove(&probe->link);
    pthread_mutex_unlock(&probes->lock);
    if (is_last)
        free(probe);
}

/* --- The word --- */

uint64_t probe_at_us(const struct probe *probe)
{
    return atomic_load_explicit(&probe->until_us, memory_order_relaxed);
}

uint32_t probe_backoff_ms(const struct probe *probe)
{
    return atomic_load_explicit(&probe->backoff_ms, memory_order_relaxed);
}

/* Of several that expect the same, one succeeds. */
static bool replace(struct probe *probe, uint64_t expected, uint64_t until_us)
{
    return atomic_compare_exchange_strong_explicit(&probe->until_us, &expected, until_us,
                                                   memory_order_relaxed, memory_order_relaxed);
}

uint64_t probe_claim(struct probe *probe, uint64_t own_until_us, uint64_t now_us)
{
    uint64_t until_us = probe_at_us(probe);

    if (until_us > now_us && until_us != own_until_us)
        return 0;
    return replace(probe, until_us, now_us + PROBE_CLAIM_US) ? now_us + PROBE_CLAIM_US : 0;
}

uint64_t probe_renew(struct probe *probe, uint64_t claim, uint64_t now_us)
{
    return claim != 0 && replace(probe, claim, now_us + PROBE_CLAIM_US) ? now_us + PROBE_CLAIM_US : 0;
}

void probe_give_back(struct probe *probe, uint64_t claim, uint64_t now_us)
{
    assert(now_us > 0);
    if (claim != 0)
        (void)replace(probe, claim, now_us); /* it is another's if it ran out */
}

void probe_failed(struct probe *probe, uint64_t claim, uint64_t until_us, uint32_t backoff_ms,
                  uint64_t now_us)
{
    uint64_t was_us = probe_at_us(probe);

    assert(until_us > now_us);
    if (was_us > now_us && was_us != claim)
        return;
    if (replace(probe, was_us, until_us))
        atomic_store_explicit(&probe->backoff_ms, backoff_ms, memory_order_relaxed);
}

void probe_worked(struct probe *probe)
{
    atomic_store_explicit(&probe->backoff_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&probe->until_us, 0, memory_order_relaxed);
}
