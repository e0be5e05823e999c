#include "tests/sim/bond.h"

#include <assert.h>
#include <stdlib.h>

static struct oracle_bond *bond_add(struct oracle *oracle)
{
    if (oracle->bond_count == oracle->bond_capacity) {
        oracle->bond_capacity = oracle->bond_capacity ? 2 * oracle->bond_capacity : 64;
        oracle->bonds = realloc(oracle->bonds, oracle->bond_capacity * sizeof(oracle->bonds[0]));
        if (oracle->bonds == NULL)
            abort();
    }
    return &oracle->bonds[oracle->bond_count++];
}

uint32_t bond_begin(struct oracle *oracle, uint64_t message, const struct queue_delivery *delivery,
                    const uint64_t *companions, uint32_t count)
{
    struct oracle_bond *bond = bond_add(oracle);

    assert(count <= QUEUE_COMPANIONS_MAX);
    *bond = (struct oracle_bond){
        .message = message,
        .companion_count = count,
        .targets = calloc(delivery->target_count, sizeof(bond->targets[0])),
    };
    if (bond->targets == NULL)
        abort();
    for (uint32_t i = 0; i < count; i++)
        bond->companions[i] = companions[i];
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        const struct queue_target *target = &delivery->targets[i];
        if (!oracle_is_news(oracle_get(oracle, message), delivery, target))
            continue;
        bond->targets[bond->target_count++] = (struct bond_target){
            .index = target->index,
            .leaves = target->outcome == QUEUE_DONE || target->outcome == QUEUE_EXPIRED,
            .note = (uint8_t)oracle_note(delivery, target),
        };
    }
    return oracle->bond_count - 1;
}

void bond_answered(struct oracle *oracle, uint32_t number, int error)
{
    struct oracle_bond *bond = &oracle->bonds[number];

    if (bond->state != BOND_PENDING)
        violation("message %llu: settled() was called twice", (unsigned long long)bond->message);
    bond->state = error ? BOND_FAILED : BOND_KEPT;
    bond->failed_write = oracle->disk->writes;
}

static struct oracle_recipient *recipient_of(struct oracle *oracle, const struct oracle_bond *bond,
                                             uint32_t i)
{
    return &oracle_get(oracle, bond->message)->recipients[bond->targets[i].index];
}

void bond_durable(struct oracle *oracle, uint32_t number)
{
    const struct oracle_bond *bond = &oracle->bonds[number];

    for (uint32_t i = 0; i < bond->target_count; i++)
        recipient_of(oracle, bond, i)->mark = (struct oracle_mark){0};
}

/* With flipped bits a damaged batch is salvaged record by record, and both halves may go their own ways. */
static bool may_judge(const struct oracle *oracle)
{
    return oracle->disk->flip_count == 0;
}

/* Whether an open bond would explain that this recipient is gone. */
static bool is_bound(const struct oracle *oracle, uint64_t message, uint32_t index)
{
    for (uint32_t i = 0; i < oracle->bond_count; i++) {
        const struct oracle_bond *bond = &oracle->bonds[i];
        if (bond->state != BOND_OPEN || bond->message != message)
            continue;
        for (uint32_t j = 0; j < bond->target_count; j++)
            if (bond->targets[j].index == index && bond->targets[j].leaves)
                return true;
    }
    return false;
}

static void conclude_neither(struct oracle *oracle, struct oracle_bond *bond)
{
    bond->state = BOND_NEITHER;
    for (uint32_t i = 0; i < bond->companion_count; i++) {
        struct oracle_message *companion = oracle_get(oracle, bond->companions[i]);
        if (companion->state == MESSAGE_MAYBE)
            companion->state = MESSAGE_NEVER;
    }
    for (uint32_t i = 0; i < bond->target_count; i++) {
        struct oracle_recipient *recipient = recipient_of(oracle, bond, i);
        if (recipient->state == RECIPIENT_BOUND && !is_bound(oracle, bond->message, bond->targets[i].index))
            recipient->state = RECIPIENT_WAITING;
    }
}

static void conclude_both(struct oracle *oracle, struct oracle_bond *bond)
{
    bond->state = BOND_BOTH;
    for (uint32_t i = 0; i < bond->target_count; i++) {
        struct oracle_recipient *recipient = recipient_of(oracle, bond, i);
        if (bond->targets[i].leaves)
            recipient->state = RECIPIENT_GONE;
        else if (recipient->fresh)
            recipient->possible = (uint8_t)(1U << bond->targets[i].note);
    }
}

/* Of bonds that failed one after the other at most one can be on disk. */
static void conclude_rivals(struct oracle *oracle, const struct oracle_bond *chosen)
{
    for (uint32_t i = 0; i < oracle->bond_count; i++) {
        struct oracle_bond *bond = &oracle->bonds[i];
        if (bond->state != BOND_OPEN || bond->message != chosen->message)
            continue;
        for (uint32_t j = 0; j < bond->target_count && bond->state == BOND_OPEN; j++)
            for (uint32_t k = 0; k < chosen->target_count; k++)
                if (bond->targets[j].index == chosen->targets[k].index && chosen->targets[k].leaves &&
                    bond->state == BOND_OPEN)
                    conclude_neither(oracle, bond);
    }
}

void bonds_companion_seen(struct oracle *oracle, uint64_t companion)
{
    if (!may_judge(oracle))
        return;
    for (uint32_t i = 0; i < oracle->bond_count; i++) {
        struct oracle_bond *bond = &oracle->bonds[i];
        for (uint32_t j = 0; bond->state == BOND_OPEN && j < bond->companion_count; j++) {
            if (bond->companions[j] != companion)
                continue;
            conclude_both(oracle, bond);
            conclude_rivals(oracle, bond);
        }
    }
}

void bonds_recipient_seen(struct oracle *oracle, uint64_t message, uint32_t index, enum recipient_note note)
{
    if (!may_judge(oracle))
        return;
    for (uint32_t i = 0; i < oracle->bond_count; i++) {
        struct oracle_bond *bond = &oracle->bonds[i];
        for (uint32_t j = 0; bond->state == BOND_OPEN && bond->message == message && j < bond->target_count;
             j++) {
            const struct bond_target *its = &bond->targets[j];
            if (its->index == index && (its->leaves || its->note != note))
                conclude_neither(oracle, bond);
        }
    }
}

static void bond_open(struct oracle *oracle, struct oracle_bond *bond)
{
    bond->state = BOND_OPEN;
    for (uint32_t i = 0; i < bond->target_count; i++) {
        struct oracle_recipient *recipient = recipient_of(oracle, bond, i);
        if (!bond->targets[i].leaves) {
            recipient->possible |= (uint8_t)(1U << bond->targets[i].note);
            recipient->attempts_high++;
            recipient->due_ms = 0;
        } else if (recipient->state == RECIPIENT_WAITING) {
            recipient->state = RECIPIENT_BOUND;
        }
    }
}

void bonds_crashed(struct oracle *oracle)
{
    for (uint32_t i = 0; i < oracle->bond_count; i++) {
        struct oracle_bond *bond = &oracle->bonds[i];
        /* A batch behind the failed one says that the log went on elsewhere. */
        if (bond->state == BOND_FAILED && oracle->disk->batch_good > bond->failed_write && may_judge(oracle))
            conclude_neither(oracle, bond);
        else if (bond->state == BOND_PENDING || bond->state == BOND_FAILED)
            bond_open(oracle, bond);
    }
}

void bonds_drained(const struct oracle *oracle)
{
    if (!may_judge(oracle))
        return;
    for (uint32_t i = 0; i < oracle->bond_count; i++) {
        const struct oracle_bond *bond = &oracle->bonds[i];
        for (uint32_t j = 0; bond->state == BOND_OPEN && j < bond->target_count; j++)
            if (oracle->messages[bond->message].recipients[bond->targets[j].index].state == RECIPIENT_BOUND)
                violation("message %llu: recipient %u is gone, and so are the messages about it",
                          (unsigned long long)bond->message, bond->targets[j].index);
        for (uint32_t j = 0; bond->state == BOND_BOTH && j < bond->companion_count; j++)
            if (oracle->messages[bond->companions[j]].state == MESSAGE_MAYBE)
                violation("message %llu: only some of the messages about it are there",
                          (unsigned long long)bond->message);
    }
}

void bonds_deinit(struct oracle *oracle)
{
    for (uint32_t i = 0; i < oracle->bond_count; i++)
        free(oracle->bonds[i].targets);
    free(oracle->bonds);
}
