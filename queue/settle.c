/* What became of deliveries: outcomes, alone or together with the messages that they cause. */
#include <assert.h>
#include <errno.h>

#include "queue/delivery.h"
#include "queue/draft.h"

/* --- Judging --- */

static int64_t retry_delay(struct queue *queue, uint32_t attempts)
{
    const struct queue_options *options = &queue->options;
    uint32_t step = attempts - 1 < options->retry_count ? attempts - 1 : options->retry_count - 1;
    int64_t delay = options->retry_ms[step];
    int64_t spread = delay * options->retry_jitter_percent / 100;
    if (spread > 0)
        delay += (int64_t)(queue_random(queue) % (uint64_t)(2 * spread + 1)) - spread;
    return delay > 0 ? delay : 1;
}

/* The last attempt comes when the message's time is up, not later. */
static int64_t entry_due(struct queue *queue, const struct entry *entry, int64_t now_ms)
{
    int64_t last = entry->message->arrival_ms + queue->options.age_max_ms;
    int64_t due = now_ms + retry_delay(queue, entry->attempts + 1U);
    return due > last && last > now_ms ? last : due;
}

static void delivery_judge(struct delivery *delivery, int64_t now_ms)
{
    struct queue *queue = delivery->pub.queue;
    queue->now_ms = now_ms > queue->now_ms ? now_ms : queue->now_ms;
    bool expired = now_ms - delivery->pub.arrival_ms >= queue->options.age_max_ms;
    if (!expired || delivery->judged || delivery->pub.is_owed)
        return;
    for (uint32_t i = 0; i < delivery->pub.target_count; i++)
        if (delivery->pub.targets[i].outcome == QUEUE_DEFER)
            delivery->pub.targets[i].outcome = QUEUE_EXPIRED;
}

/* An entry that waits again gets its time, once. */
static void entry_schedule(struct delivery *delivery, struct delivery_entry *its, int64_t now_ms)
{
    if (its->due_ms <= now_ms)
        its->due_ms = entry_due(delivery->pub.queue, its->entry, now_ms);
    if (delivery->pub.due_ms == 0 || its->due_ms < delivery->pub.due_ms)
        delivery->pub.due_ms = its->due_ms;
}

static void delivery_schedule(struct delivery *delivery, int64_t now_ms)
{
    const struct queue_target *target = delivery->pub.targets;
    delivery->pub.due_ms = 0;
    for (uint32_t i = 0; i < delivery->entry_count; i++) {
        struct delivery_entry *its = &delivery->entries[i];
        bool deferred = false;
        for (int left = __builtin_popcountll(entry_next(its->entry)); left > 0; left--, target++)
            deferred |= target->outcome == QUEUE_DEFER || target->outcome == QUEUE_OWED;
        if (deferred)
            entry_schedule(delivery, its, now_ms);
    }
    assert(target == delivery->pub.targets + delivery->pub.target_count);
}

void queue_judge(struct queue_delivery *pub, int64_t now_ms)
{
    struct delivery *delivery = delivery_of(pub);
    assert(delivery->state == DELIVERY_TAKEN);
    delivery->judged = false;
    delivery_judge(delivery, now_ms);
    delivery_schedule(delivery, now_ms);
    delivery->judged = true;
}

/* --- Outcomes --- */

/* An entry as it will be. */
struct entry_change {
    uint64_t pending;
    uint64_t marked;
    bool is_tried; /* an attempt counts, and somebody waits for the next one */
};

static void change_one(struct entry_change *change, const struct queue_target *target, uint64_t its,
                       bool was_owed)
{
    enum queue_outcome outcome = target->outcome;
    change->pending &= ~its;
    change->marked &= ~its;
    assert(!was_owed || outcome == QUEUE_DONE || outcome == QUEUE_OWED || outcome == QUEUE_RETRY);
    if (outcome == QUEUE_DONE || outcome == QUEUE_EXPIRED)
        return;
    change->is_tried |= outcome != QUEUE_RETRY;
    if (was_owed || outcome == QUEUE_OWED) {
        change->marked |= its;
        return;
    }
    change->pending |= its;
    change->marked |= target->marked ? its : 0;
}

/* *targets moves on to those of the next entry. */
static inline struct entry_change entry_change(const struct entry *entry, const struct queue_target **targets)
{
    struct entry_change change = {.pending = entry->pending, .marked = entry->marked};
    uint64_t out = entry_next(entry);
    for (uint32_t bit = 0; bit < entry->count; bit++) {
        if (!(out >> bit & 1))
            continue;
        const struct queue_target *target = (*targets)++;
        assert(target->index == entry->first + bit);
        change_one(&change, target, UINT64_C(1) << bit, entry->pending == 0);
    }
    return change;
}

/* Whether there is anything to record: of an untried recipient only a mark can be new. */
static bool is_change(const struct entry *entry, const struct entry_change *change)
{
    return change->is_tried || change->pending != entry->pending || change->marked != entry->marked;
}

static void entry_apply(struct entry *entry, const struct entry_change *change, int64_t due_ms)
{
    entry->pending = change->pending;
    entry->marked = change->marked;
    if (!change->is_tried)
        return;
    assert(due_ms > 0);
    if (entry->attempts < UINT16_MAX)
        entry->attempts++;
    entry->due_ms = due_ms;
}

/* What is to be recorded of an entry whose outcome is not in force yet. False: nothing. */
static bool entry_record(const struct delivery_entry *its, const struct queue_target **targets,
                         struct format_settle *settle)
{
    struct entry after = *its->entry;
    struct entry_change change = entry_change(&after, targets);
    bool any = is_change(&after, &change);
    entry_apply(&after, &change, its->due_ms);
    *settle = entry_outcome(&after);
    return any;
}

/* Bytes of the outcomes' records. */
static uint32_t records_size(const struct delivery *delivery)
{
    const struct queue_target *targets = delivery->pub.targets;
    uint32_t size = 0;
    struct format_settle settle;
    for (uint32_t i = 0; i < delivery->entry_count; i++)
        if (entry_record(&delivery->entries[i], &targets, &settle))
            size += format_record_size(format_settle_size(&settle));
    return size;
}

static void records_append(const struct delivery *delivery)
{
    const struct queue_target *targets = delivery->pub.targets;
    struct format_settle settle;
    for (uint32_t i = 0; i < delivery->entry_count; i++)
        if (entry_record(&delivery->entries[i], &targets, &settle))
            wal_settle_together(&delivery->pub.queue->wal, delivery->pub.id, &settle);
}

void message_unclaim(struct queue *queue, struct message *message, const struct commit_view *view)
{
    if (!message->claimed)
        return;
    message->claimed = false;
    wal_unclaim(&queue->wal, &message->commit);
    for (uint32_t i = 0; i < view->head.piece_count; i++)
        wal_unclaim(&queue->wal, &view->pieces[i]);
}

/* The outcomes are in force: the entries know them, and are no longer out. They are recorded, unless that was
 * done before. */
static void outcomes_apply(struct delivery *delivery, int64_t now_ms, bool record)
{
    struct queue *queue = delivery->pub.queue;
    struct message *message = delivery->entries[0].entry->message;
    const struct queue_target *targets = delivery->pub.targets;
    delivery->pub.due_ms = 0;
    for (uint32_t i = 0; i < delivery->entry_count; i++) {
        struct entry *entry = delivery->entries[i].entry;
        struct entry_change change = entry_change(entry, &targets);
        int left = __builtin_popcountll(entry_left(entry));
        bool any = is_change(entry, &change);
        if (change.is_tried)
            entry_schedule(delivery, &delivery->entries[i], now_ms);
        entry_apply(entry, &change, delivery->entries[i].due_ms);
        if (record && any) {
            struct format_settle settle = entry_outcome(entry);
            wal_settle(&queue->wal, delivery->pub.id, &settle);
        }
        queue->recipients -= (uint64_t)(left - __builtin_popcountll(entry_left(entry)));
        bool again = entry_left(entry) != 0 && entry->due_ms <= queue->now_ms;
        message->out--;
        message->active -= !again;
    }
    delivery->state = DELIVERY_SETTLED;
}

/* The entries go where they belong now. */
static void entries_place(struct delivery *delivery)
{
    struct queue *queue = delivery->pub.queue;
    struct message *message = delivery->entries[0].entry->message;
    if (message->active == 0)
        message_unclaim(queue, message, &delivery->view);
    for (uint32_t i = 0; i < delivery->entry_count; i++)
        if (entry_left(delivery->entries[i].entry) == 0)
            entry_place(queue, delivery->entries[i].entry, false);
    if (message->left == 0) {
        queue_dismiss(queue, message);
        return;
    }
    /* Placing may call lane_ready, whose taker may take and settle at once: the message stays as long as one
     * of these entries is still to be placed. */
    for (uint32_t i = delivery->entry_count; i > 0; i--)
        if (delivery->entries[i - 1].entry->state == ENTRY_OUT)
            entry_place(queue, delivery->entries[i - 1].entry, true);
}

void queue_settle(struct queue_delivery *pub, int64_t now_ms)
{
    struct delivery *delivery = delivery_of(pub);
    assert(delivery->state == DELIVERY_TAKEN);
    delivery_judge(delivery, now_ms);
    outcomes_apply(delivery, now_ms, true);
    entries_place(delivery);
}

void queue_release(struct queue_delivery *pub)
{
    struct delivery *delivery = delivery_of(pub);
    struct wal *wal = &pub->queue->wal;
    assert(delivery->state == DELIVERY_SETTLED);
    for (uint32_t i = 0; i < pub->piece_count; i++)
        if (pub->pieces[i].data)
            wal_unpin(wal, &delivery->view.pieces[i]);
    if (!delivery->envelope)
        wal_unpin(wal, &delivery->commit);
    delivery_free(delivery);
}

/* --- Together with messages --- */

/* The simulator's planted bug: the outcomes come after the messages instead of with them. */
#if defined(PLANT_APART)
enum { PLANTED_APART = true };
#else
enum { PLANTED_APART = false };
#endif

static void settled_together(struct wal_waiter *waiter, int error)
{
    struct delivery *delivery =
        (struct delivery *)(void *)((char *)waiter - offsetof(struct delivery, waiter));
    assert(delivery->state == DELIVERY_SETTLING);
    delivery->state = DELIVERY_TAKEN;
    if (!error) {
        outcomes_apply(delivery, INT64_MIN, PLANTED_APART);
        entries_place(delivery);
    }
    delivery->settled(delivery->context, &delivery->pub, error);
}

/* All that may fail, for all of them, before anything is written. */
static int companions_prepare(struct delivery *delivery, const struct queue_companion *companions,
                              uint32_t count, struct message **messages)
{
    struct queue *queue = delivery->pub.queue;
    uint64_t size = records_size(delivery);
    int error = 0;
    for (uint32_t i = 0; i < count && !error; i++) {
        assert(companions[i].draft->queue == queue);
        error = draft_finish(companions[i].draft, companions[i].envelope);
        size += error ? 0 : draft_commit_size(companions[i].draft, companions[i].envelope);
    }
    /* Older outcomes first: the last one that is found in the log is the one that counts. */
    if (!error)
        error = wal_catch_up(&queue->wal);
    if (!error)
        error = size > queue->options.page_size ? -EMSGSIZE : wal_reserve(&queue->wal, (uint32_t)size, false);
    uint32_t made = 0;
    while (!error && made < count) {
        messages[made] = message_new(queue, companions[made].draft->id, companions[made].envelope, &error);
        made += messages[made] != NULL;
    }
    while (error && made > 0)
        message_free(queue, messages[--made]);
    return error;
}

int queue_settle_with(struct queue_delivery *pub, const struct queue_companion *companions, uint32_t count,
                      int64_t now_ms, queue_settled *settled, void *context)
{
    struct delivery *delivery = delivery_of(pub);
    struct wal *wal = &pub->queue->wal;
    struct message *messages[QUEUE_COMPANIONS_MAX];
    assert(delivery->state == DELIVERY_TAKEN && count >= 1 && count <= QUEUE_COMPANIONS_MAX);
    delivery_judge(delivery, now_ms);
    delivery->judged = true;
    delivery_schedule(delivery, now_ms);
    int error = companions_prepare(delivery, companions, count, messages);
    if (error)
        return error;
    const struct wal_batch *batch = wal->batch;
    for (uint32_t i = 0; i < count; i++) {
        unsigned flags = i > 0 ? WAL_TOGETHER : 0;
        error = draft_append_commit(companions[i].draft, companions[i].envelope, now_ms, flags);
        assert(!error); /* reserved above */
        draft_offer(companions[i].draft, messages[i], now_ms, NULL, NULL);
    }
    if (!PLANTED_APART)
        records_append(delivery);
    assert(wal->batch == batch);
    delivery->state = DELIVERY_SETTLING;
    delivery->settled = settled;
    delivery->context = context;
    delivery->waiter.done = settled_together;
    wal_await(wal, &delivery->waiter);
    return 0;
}
