#include "tests/sim/oracle.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/bond.h"
#include "tests/sim/content.h"

/* Streams of content.h: the message's octets are stream number*4, its meta number*4+1, paddings number*4+2.
 */
enum { STREAMS = 4 };

void oracle_init(struct oracle *oracle, const struct disk *disk)
{
    *oracle = (struct oracle){.disk = disk};
}

void oracle_deinit(struct oracle *oracle)
{
    for (uint32_t i = 0; i < oracle->count; i++) {
        free(oracle->messages[i].recipients);
        free(oracle->messages[i].answer);
    }
    free(oracle->messages);
    bonds_deinit(oracle);
    *oracle = (struct oracle){0};
}

struct oracle_message *oracle_add(struct oracle *oracle, uint32_t recipient_count)
{
    assert(recipient_count > 0);
    if (oracle->count == oracle->capacity) {
        oracle->capacity = oracle->capacity ? 2 * oracle->capacity : 64;
        oracle->messages = realloc(oracle->messages, oracle->capacity * sizeof(oracle->messages[0]));
        if (oracle->messages == NULL)
            abort();
    }
    struct oracle_message *message = &oracle->messages[oracle->count];
    *message = (struct oracle_message){
        .number = oracle->count++,
        .recipient_count = recipient_count,
        .recipients = calloc(recipient_count, sizeof(message->recipients[0])),
        .first_write = oracle->disk->writes_through + 1,
    };
    if (message->recipients == NULL)
        abort();
    for (uint32_t i = 0; i < recipient_count; i++)
        message->recipients[i].possible = 1U << NOTE_NONE;
    return message;
}

struct oracle_message *oracle_get(struct oracle *oracle, uint64_t number)
{
    assert(number < oracle->count);
    return &oracle->messages[number];
}

uint32_t oracle_address(const struct oracle_message *message, uint32_t index, char *address)
{
    uint32_t padding = message->recipients[index].padding;
    int size = snprintf(address, 64, "r%u.%llu@", index, (unsigned long long)message->number);

    assert(size > 0 && (uint32_t)size + padding <= QUEUE_ADDRESS_MAX);
    content_fill(message->number * STREAMS + 2, index, address + size, padding);
    return (uint32_t)size + padding;
}

/* Octet 0 is NUL: a key is not a string. */
uint32_t oracle_key(uint32_t lane, char *key)
{
    key[0] = '\0';
    int size = snprintf(key + 1, 31, "lane-%u", lane);
    assert(size > 0 && size < 31);
    return (uint32_t)size + 1;
}

void oracle_meta(const struct oracle_message *message, uint8_t *meta)
{
    assert(message->meta_size >= sizeof(message->number));
    memcpy(meta, &message->number, sizeof(message->number));
    content_fill(message->number * STREAMS + 1, 0, meta + 8, message->meta_size - 8);
}

bool oracle_hit(const struct oracle *oracle, const struct oracle_message *message)
{
    uint64_t last = oracle->moved ? UINT64_MAX : message->last_write;
    return disk_flipped_writes(oracle->disk, message->first_write, last);
}

static bool durable(const struct oracle *oracle, struct oracle_mark mark)
{
    return mark.stamp < oracle->idle_stamp || (mark.stamp == 0 && mark.write == 0) ||
           (mark.write != UINT64_MAX && mark.write < oracle->disk->batch_through);
}

static struct oracle_mark mark_now(struct oracle *oracle)
{
    return (struct oracle_mark){
        .write = oracle->trouble ? UINT64_MAX : oracle->disk->writes,
        .stamp = ++oracle->stamp,
    };
}

void oracle_answered(struct oracle *oracle, uint64_t number, uint64_t id, int error)
{
    struct oracle_message *message = oracle_get(oracle, number);

    if (message->state != MESSAGE_OFFERED)
        violation("message %llu was answered twice", (unsigned long long)number);
    message->last_write = oracle->disk->writes;
    if (error > 0)
        violation("message %llu was answered with %d", (unsigned long long)number, error);
    if (error < 0) {
        message->state = MESSAGE_REFUSED;
        return;
    }
    message->state = MESSAGE_ACKED;
    message->id = id;
    for (uint32_t i = 0; i < oracle->count; i++) {
        const struct oracle_message *other = &oracle->messages[i];
        if (other != message && other->id == id && other->state == MESSAGE_ACKED &&
            !oracle_hit(oracle, other))
            violation("messages %llu and %u have the same id %llx", (unsigned long long)number, i,
                      (unsigned long long)id);
    }
}

static struct oracle_message *identify(struct oracle *oracle, const struct queue_delivery *delivery)
{
    uint64_t number;
    uint8_t meta[64 * 1024];

    if (delivery->meta_size < sizeof(number))
        violation("delivery %llx: meta of %u octets", (unsigned long long)delivery->id, delivery->meta_size);
    memcpy(&number, delivery->meta, sizeof(number));
    if (number >= oracle->count)
        violation("delivery %llx: a message that nobody sent", (unsigned long long)delivery->id);
    struct oracle_message *message = oracle_get(oracle, number);
    if (message->meta_size != delivery->meta_size)
        violation("message %llu: meta has %u octets, not %u", (unsigned long long)number, delivery->meta_size,
                  message->meta_size);
    assert(message->meta_size <= sizeof(meta));
    oracle_meta(message, meta);
    if (memcmp(meta, delivery->meta, message->meta_size) != 0)
        violation("message %llu: meta differs", (unsigned long long)number);
    return message;
}

static void check_message(struct oracle *oracle, struct oracle_message *message,
                          const struct queue_delivery *delivery)
{
    unsigned long long number = message->number;

    switch (message->state) {
    case MESSAGE_ACKED:
        break;
    case MESSAGE_MAYBE:
        message->state = MESSAGE_ACKED; /* it survived, so from now on it must stay */
        message->id = delivery->id;
        bonds_companion_seen(oracle, message->number);
        break;
    case MESSAGE_DRAFT:
    case MESSAGE_OFFERED:
    case MESSAGE_REFUSED:
    case MESSAGE_NEVER:
        violation("message %llu was handed out in state %d", number, (int)message->state);
    }
    if (message->id != delivery->id)
        violation("message %llu has id %llx, was %llx", number, (unsigned long long)delivery->id,
                  (unsigned long long)message->id);
    if (message->size != delivery->content_size)
        violation("message %llu has %llu octets, was %llu", number,
                  (unsigned long long)delivery->content_size, (unsigned long long)message->size);
    if (message->arrival_ms != delivery->arrival_ms)
        violation("message %llu: arrival differs", number);
    if (delivery->target_count == 0)
        violation("message %llu: a delivery to nobody", number);
}

/* A recipient that left the queue is handed out again. */
static void check_return(struct oracle *oracle, const struct oracle_message *message, uint32_t index)
{
    const struct oracle_recipient *recipient = &message->recipients[index];
    bool excused = recipient->state == RECIPIENT_MAYBE || recipient->state == RECIPIENT_BOUND ||
                   (recipient->state == RECIPIENT_GONE &&
                    disk_flipped_writes(oracle->disk, message->first_write, UINT64_MAX));

    if (recipient->state == RECIPIENT_OUT)
        violation("message %llu: recipient %u handed out twice", (unsigned long long)message->number, index);
    if (!excused)
        violation("message %llu: recipient %u was settled and came back (state %u)",
                  (unsigned long long)message->number, index, recipient->state);
    oracle->duplicates++;
}

enum recipient_note oracle_note(const struct queue_delivery *delivery, const struct queue_target *target)
{
    bool is_owed = target->outcome == QUEUE_RETRY ? delivery->is_owed : target->outcome == QUEUE_OWED;
    return is_owed ? NOTE_OWED : target->marked ? NOTE_MARKED : NOTE_NONE;
}

bool oracle_is_news(const struct oracle_message *message, const struct queue_delivery *delivery,
                    const struct queue_target *target)
{
    return target->outcome != QUEUE_RETRY ||
           oracle_note(delivery, target) != message->recipients[target->index].note;
}

static void check_note(struct oracle *oracle, const struct oracle_message *message,
                       const struct queue_delivery *delivery, const struct queue_target *target)
{
    static const char *const names[] = {"not marked", "marked", "owed"};
    struct oracle_recipient *recipient = &message->recipients[target->index];
    enum recipient_note note = oracle_note(delivery, target);
    uint8_t its = (uint8_t)(1U << note);
    bool right = recipient->fresh ? recipient->possible & its : note == recipient->note;

    if (!right && oracle->disk->flip_count == 0)
        violation("message %llu: recipient %u is %s", (unsigned long long)message->number, target->index,
                  names[note]);
    if (recipient->fresh)
        recipient->possible = its;
    recipient->note = note;
}

static void check_target(struct oracle *oracle, struct oracle_message *message,
                         const struct queue_delivery *delivery, const struct queue_target *target)
{
    char address[QUEUE_ADDRESS_MAX];
    unsigned long long number = message->number;

    if (target->index >= message->recipient_count)
        violation("message %llu: there is no recipient %u", number, target->index);
    struct oracle_recipient *recipient = &message->recipients[target->index];
    if (oracle_address(message, target->index, address) != target->size ||
        memcmp(address, target->address, target->size) != 0)
        violation("message %llu: address of recipient %u differs", number, target->index);
    if (target->outcome != QUEUE_RETRY)
        violation("message %llu: recipient %u begins with outcome %d", number, target->index,
                  (int)target->outcome);
    if (recipient->state != RECIPIENT_WAITING)
        check_return(oracle, message, target->index);
    if (recipient->due_ms > oracle->tick_ms && oracle->disk->flip_count == 0)
        violation("message %llu: recipient %u handed out %lld ms too early", number, target->index,
                  (long long)(recipient->due_ms - oracle->tick_ms));
    check_note(oracle, message, delivery, target);
    bonds_recipient_seen(oracle, message->number, target->index, recipient->note);
    recipient->state = RECIPIENT_OUT;
    recipient->fresh = false;
}

/* Everybody was settled: the message is there again because outcomes were lost with the power. */
static bool nobody_waits(const struct oracle_message *message)
{
    for (uint32_t i = 0; i < message->recipient_count; i++)
        if (message->recipients[i].state == RECIPIENT_WAITING ||
            message->recipients[i].state == RECIPIENT_BOUND)
            return false;
    return true;
}

struct oracle_message *oracle_taken(struct oracle *oracle, const struct queue_delivery *delivery)
{
    struct oracle_message *message = identify(oracle, delivery);
    uint32_t low = UINT32_MAX;
    uint32_t high = 0;

    check_message(oracle, message, delivery);
    message->returned = nobody_waits(message);
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        check_target(oracle, message, delivery, &delivery->targets[i]);
        const struct oracle_recipient *recipient = &message->recipients[delivery->targets[i].index];
        low = recipient->attempts_low < low ? recipient->attempts_low : low;
        high = recipient->attempts_high > high ? recipient->attempts_high : high;
    }
    /* Recipients that travelled apart, and after a restart travel together, share the higher count. So do
     * those that are owed with others of their entry, which go before them. */
    bool flipped = oracle->disk->flip_count > 0 || oracle->recut;
    bool shared = oracle->recut || delivery->is_owed;
    if ((delivery->attempt < low + 1 && !flipped) ||
        (delivery->attempt > high + 1 + oracle->failed_reads && !shared) || delivery->attempt == 0)
        violation("message %llu: attempt %u, should be %u to %u", (unsigned long long)message->number,
                  delivery->attempt, low + 1, high + 1 + oracle->failed_reads);
    return message;
}

uint64_t oracle_records(const struct oracle_message *message, const struct queue_delivery *delivery)
{
    uint64_t runs = 0;
    uint32_t index = UINT32_MAX - 1;
    uint16_t lane = UINT16_MAX;

    for (uint32_t i = 0; i < delivery->target_count; i++) {
        const struct queue_target *target = &delivery->targets[i];
        uint16_t its_lane = message->recipients[target->index].lane;
        if (!oracle_is_news(message, delivery, target))
            continue;
        runs += target->index != index + 1 || its_lane != lane;
        index = target->index;
        lane = its_lane;
    }
    return runs;
}

/* Recipients that share an entry of the queue are deferred together: one that was not attempted may have an
 * attempt counted because another was. */
static void settle_one(struct oracle_recipient *recipient, const struct queue_delivery *delivery,
                       enum queue_outcome outcome)
{
    switch (outcome) {
    case QUEUE_RETRY:
        recipient->state = RECIPIENT_WAITING;
        recipient->attempts_high += delivery->due_ms != 0;
        break;
    case QUEUE_DONE:
    case QUEUE_EXPIRED:
        recipient->state = RECIPIENT_SETTLED;
        break;
    case QUEUE_DEFER:
    case QUEUE_OWED:
        recipient->state = RECIPIENT_WAITING;
        recipient->due_ms = delivery->due_ms;
        recipient->attempts_low++;
        recipient->attempts_high++;
        break;
    }
}

void oracle_settled(struct oracle *oracle, struct oracle_message *message,
                    const struct queue_delivery *delivery, int64_t now_ms, int64_t delay_max_ms,
                    int64_t age_max_ms, bool recorded)
{
    struct oracle_mark mark = mark_now(oracle);
    unsigned long long number = message->number;
    bool deferred = false;

    if (!recorded)
        mark.write = UINT64_MAX;
    for (uint32_t i = 0; i < delivery->target_count; i++) {
        const struct queue_target *target = &delivery->targets[i];
        struct oracle_recipient *recipient = &message->recipients[target->index];
        assert(recipient->state == RECIPIENT_OUT);
        bool leaves = target->outcome == QUEUE_DONE || target->outcome == QUEUE_EXPIRED;
        bool is_news = oracle_is_news(message, delivery, target);
        if (is_news && !leaves) {
            uint8_t before = durable(oracle, recipient->mark) ? 1U << recipient->note : recipient->possible;
            recipient->note = oracle_note(delivery, target);
            recipient->possible = (uint8_t)(before | 1U << recipient->note);
        }
        settle_one(recipient, delivery, target->outcome);
        if (is_news)
            recipient->mark = mark;
        deferred |= target->outcome == QUEUE_DEFER || target->outcome == QUEUE_OWED;
        if (target->outcome == QUEUE_EXPIRED && delivery->is_owed)
            violation("message %llu: recipient %u was delivered, and expired", number, target->index);
        if (target->outcome == QUEUE_EXPIRED && now_ms - message->arrival_ms + delay_max_ms < age_max_ms)
            violation("message %llu: recipient %u expired after only %lld ms", number, target->index,
                      (long long)(now_ms - message->arrival_ms));
    }
    if (deferred && (delivery->due_ms <= now_ms || delivery->due_ms > now_ms + delay_max_ms))
        violation("message %llu: deferred at %lld until %lld", number, (long long)now_ms,
                  (long long)delivery->due_ms);
    if (!deferred && delivery->due_ms != 0)
        violation("message %llu: due again although nobody was deferred", number);
}

/* Calls `each` for every recipient of every message. */
static void each_recipient(struct oracle *oracle,
                           void (*each)(struct oracle *oracle, struct oracle_recipient *recipient,
                                        uint64_t argument),
                           uint64_t argument)
{
    for (uint32_t i = 0; i < oracle->count; i++)
        for (uint32_t j = 0; j < oracle->messages[i].recipient_count; j++)
            each(oracle, &oracle->messages[i].recipients[j], argument);
}

static void distrust(struct oracle *oracle, struct oracle_recipient *recipient, uint64_t through)
{
    bool known = recipient->mark.write != UINT64_MAX && recipient->mark.write < through;
    if (known)
        recipient->mark = (struct oracle_mark){0};
    else if (recipient->mark.stamp >= oracle->idle_stamp)
        recipient->mark.write = UINT64_MAX;
}

void oracle_write_failed(struct oracle *oracle, uint64_t through)
{
    each_recipient(oracle, distrust, through);
    oracle->trouble = true;
}

void oracle_idle(struct oracle *oracle)
{
    oracle->idle_stamp = ++oracle->stamp;
    oracle->trouble = false;
}

static void crash_recipient(struct oracle *oracle, struct oracle_recipient *recipient, uint64_t argument)
{
    bool known = durable(oracle, recipient->mark);

    switch ((enum recipient_state)recipient->state) {
    case RECIPIENT_SETTLED:
        recipient->state = known ? RECIPIENT_GONE : RECIPIENT_MAYBE;
        recipient->due_ms = 0;
        break;
    case RECIPIENT_WAITING:
    case RECIPIENT_OUT:
        recipient->state = RECIPIENT_WAITING;
        break;
    case RECIPIENT_MAYBE:
    case RECIPIENT_GONE:
    case RECIPIENT_BOUND:
        break;
    }
    if (known && !recipient->fresh)
        recipient->possible = (uint8_t)(1U << recipient->note);
    recipient->fresh = true;
    if (known)
        recipient->attempts_durable = recipient->attempts_low;
    else
        recipient->due_ms = 0;
    recipient->attempts_low = recipient->attempts_durable;
    recipient->mark = (struct oracle_mark){0};
}

void oracle_crashed(struct oracle *oracle)
{
    for (uint32_t i = 0; i < oracle->count; i++) {
        struct oracle_message *message = &oracle->messages[i];
        if (message->state == MESSAGE_DRAFT)
            message->state = MESSAGE_NEVER;
        else if (message->state == MESSAGE_OFFERED || message->state == MESSAGE_REFUSED)
            message->state = MESSAGE_MAYBE;
        if (message->last_write == 0)
            message->last_write = oracle->disk->writes;
    }
    each_recipient(oracle, crash_recipient, 0);
    bonds_crashed(oracle);
    oracle->idle_stamp = ++oracle->stamp;
    oracle->trouble = false;
}

struct oracle_range oracle_range(const struct oracle *oracle)
{
    struct oracle_range range = {0};

    for (uint32_t i = 0; i < oracle->count; i++) {
        const struct oracle_message *message = &oracle->messages[i];
        bool must = message->state == MESSAGE_ACKED;
        bool may = must || message->state == MESSAGE_OFFERED || message->state == MESSAGE_MAYBE;
        uint32_t low = 0;
        uint32_t high = 0;
        for (uint32_t j = 0; j < message->recipient_count; j++) {
            uint8_t state = message->recipients[j].state;
            low += state == RECIPIENT_WAITING || state == RECIPIENT_OUT;
            high += state == RECIPIENT_MAYBE || state == RECIPIENT_BOUND;
        }
        high += low;
        range.messages_low += must && low > 0;
        range.messages_high += may && high > 0;
        range.recipients_low += must ? low : 0;
        range.recipients_high += may ? high : 0;
    }
    return range;
}

void oracle_drained(const struct oracle *oracle)
{
    bonds_drained(oracle);
    for (uint32_t i = 0; i < oracle->count; i++) {
        const struct oracle_message *message = &oracle->messages[i];
        if (message->state != MESSAGE_ACKED || oracle_hit(oracle, message))
            continue;
        for (uint32_t j = 0; j < message->recipient_count; j++)
            if (message->recipients[j].state == RECIPIENT_WAITING ||
                message->recipients[j].state == RECIPIENT_OUT)
                violation("message %u (id %llx) was acknowledged and recipient %u is lost", i,
                          (unsigned long long)message->id, j);
    }
}
