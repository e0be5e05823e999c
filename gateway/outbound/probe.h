/*
 * A probe is the right to try a site that is down, shared by the workers: one of them at a time has it, for
 * all. `struct probes` holds those of all spread sites, by the key of their next hop, so that they outlive a
 * reload.
 *
 * Whoever has the right claims it for a while and renews the claim for as long as it probes. So the right
 * cannot get lost: the claim of a worker that ends, or has nothing left to try with, runs out.
 *
 * Any thread. Finding and letting go takes a lock, for a configuration that is taken over; all else is one
 * atomic word.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct probe;
struct probes;

#define PROBE_CLAIM_US UINT64_C(10000000) /* how long a claim holds without being renewed */

/* 0 or -ENOMEM. When it is freed nobody uses any probe any more; those that were not let go, as after a start
 * that failed, go with it. NULL is ignored. */
int probes_new(struct probes **probes) __attribute__((warn_unused_result));
void probes_free(struct probes *probes);

/* The probe of a next hop, made if it is not there. NULL without memory. */
struct probe *probe_take(struct probes *probes, const char *key) __attribute__((warn_unused_result));

/* NULL is ignored. */
void probe_let_go(struct probes *probes, struct probe *probe);

/* Before this time (monotonic) nobody is to try. 0: the last that was heard is that the site works. */
uint64_t probe_at_us(const struct probe *probe);

/* The back-off before that time in milliseconds, for the next that fails to double; 0: none. A hint. */
uint32_t probe_backoff_ms(const struct probe *probe);

/*
 * Claims the right, if its time has come, or if it still is `own_until_us`, the time that this worker itself
 * set (0: it set none). What it returns says whose claim it is for the functions below; 0: not now.
 */
uint64_t probe_claim(struct probe *probe, uint64_t own_until_us, uint64_t now_us)
    __attribute__((warn_unused_result));

/* The claim, from now on; 0: it ran out and is another's. */
uint64_t probe_renew(struct probe *probe, uint64_t claim, uint64_t now_us)
    __attribute__((warn_unused_result));

/* Gives the right back without an outcome. `claim` may be 0. */
void probe_give_back(struct probe *probe, uint64_t claim, uint64_t now_us);

/* The site was tried in vain, by a probe (`claim`) or before it was known to be down (0). What another said
 * of the time to come, or claims, stays. */
void probe_failed(struct probe *probe, uint64_t claim, uint64_t until_us, uint32_t backoff_ms,
                  uint64_t now_us);

/* The site works: everybody may try. */
void probe_worked(struct probe *probe);
