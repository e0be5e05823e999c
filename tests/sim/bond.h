/* Bonds: outcomes that were settled together with messages. There must be both or neither, whatever happened
 * in between. Part of the oracle.
 *
 *   PENDING ── answered 0 ──▶ KEPT
 *      │  └─── answered with an error ──▶ FAILED ── the log went on ──▶ NEITHER
 *      └── power cut ──▶ OPEN ◀── power cut ──┘
 *                          │  └── a recipient comes back ──▶ NEITHER: no message of it may come any more
 *                          └── a message comes out ──▶ BOTH: no recipient of it may come back
 */
#pragma once

#include "tests/sim/oracle.h"

enum bond_state { BOND_PENDING, BOND_KEPT, BOND_FAILED, BOND_OPEN, BOND_NEITHER, BOND_BOTH };

struct bond_target {
    uint32_t index;
    bool leaves;  /* done or expired */
    uint8_t note; /* enum recipient_note, of those that stay */
};

struct oracle_bond {
    enum bond_state state;
    uint64_t message;
    uint64_t companions[QUEUE_COMPANIONS_MAX];
    uint32_t companion_count;
    uint64_t failed_write; /* writes begun when it failed */
    struct bond_target *targets;
    uint32_t target_count;
};

/* queue_settle_with took it. Returns the bond's number. */
uint32_t bond_begin(struct oracle *oracle, uint64_t message, const struct queue_delivery *delivery,
                    const uint64_t *companions, uint32_t count);

/* The queue answered; after this the caller tells the oracle about the companions and, with error 0, about
 * the outcomes: oracle_settled, and then bond_durable. */
void bond_answered(struct oracle *oracle, uint32_t bond, int error);

/* The outcomes, which oracle_settled knows now, are on disk. */
void bond_durable(struct oracle *oracle, uint32_t bond);

/* For the oracle: what is handed out, and what happens to all of them. */
void bonds_companion_seen(struct oracle *oracle, uint64_t companion);
void bonds_recipient_seen(struct oracle *oracle, uint64_t message, uint32_t index, enum recipient_note note);
void bonds_crashed(struct oracle *oracle);
void bonds_drained(const struct oracle *oracle);
void bonds_deinit(struct oracle *oracle);
