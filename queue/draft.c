/* Messages on their way in. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/shard.h"

enum {
    PIECES_INLINE = 6,
    STAGE_FROM = 48, /* pieces after which small appends are gathered first */
    STAGE_SIZE = 16 * 1024,
};

struct queue_draft {
    struct segment_holder holder;
    struct wal_waiter waiter;
    struct queue *queue;
    uint64_t id;
    uint64_t size;
    uint64_t epoch; /* of the log when the first piece was appended */
    int error;      /* the draft is dead */
    struct format_piece *pieces;
    uint32_t piece_count;
    uint32_t piece_capacity;
    /* A sender that sends a few bytes at a time must not make millions of pieces: past the first ones, small
     * appends are gathered here. */
    uint8_t *stage;
    uint32_t stage_used;
    uint32_t commit_size; /* payload of the commit record */
    struct format_piece commit;
    struct message *message;
    queue_committed *committed;
    void *context;
    struct format_piece inline_pieces[PIECES_INLINE];
};

struct queue_draft *queue_draft_new(struct queue *queue)
{
    if (queue_state(queue) != QUEUE_OPEN)
        return NULL;
    struct queue_draft *draft = memory_alloc(&queue->memory, sizeof(*draft));
    if (!draft)
        return NULL;
    *draft = (struct queue_draft){
        .queue = queue,
        .id = queue->next_id++,
        .epoch = queue->wal.epoch,
        .piece_capacity = PIECES_INLINE,
    };
    draft->pieces = draft->inline_pieces;
    queue->drafts++;
    return draft;
}

static void draft_free(struct queue_draft *draft)
{
    struct memory *memory = &draft->queue->memory;
    segment_unhold(&draft->holder);
    if (draft->pieces != draft->inline_pieces)
        memory_free(memory, draft->pieces, draft->piece_capacity * sizeof(*draft->pieces));
    memory_free(memory, draft->stage, STAGE_SIZE);
    memory_free(memory, draft, sizeof(*draft));
}

static void draft_unclaim(struct queue_draft *draft)
{
    for (uint32_t i = 0; i < draft->piece_count; i++)
        wal_unclaim(&draft->queue->wal, &draft->pieces[i]);
}

void queue_draft_abort(struct queue_draft *draft)
{
    if (!draft)
        return;
    draft_unclaim(draft);
    draft->queue->drafts--;
    draft_free(draft);
}

bool draft_is_committing(const struct segment_holder *holder)
{
    return ((const struct queue_draft *)(const void *)holder)->message != NULL;
}

void draft_outrun(struct segment_holder *holder)
{
    struct queue_draft *draft = (struct queue_draft *)(void *)holder;
    draft_unclaim(draft);
    draft->piece_count = 0;
    draft->error = -ETIMEDOUT;
    segment_unhold(holder);
}

uint64_t queue_draft_size(const struct queue_draft *draft)
{
    return draft->size;
}

uint64_t queue_draft_id(const struct queue_draft *draft)
{
    return draft->id;
}

static int draft_check(struct queue_draft *draft)
{
    if (!draft->error && draft->epoch != draft->queue->wal.epoch)
        draft->error = -EIO;
    return draft->error;
}

static int pieces_reserve(struct queue_draft *draft)
{
    if (draft->piece_count < draft->piece_capacity)
        return 0;
    struct memory *memory = &draft->queue->memory;
    uint32_t more = 4 * draft->piece_capacity;
    struct format_piece *grown = memory_alloc(memory, more * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    memcpy(grown, draft->pieces, draft->piece_count * sizeof(*grown));
    if (draft->pieces != draft->inline_pieces)
        memory_free(memory, draft->pieces, draft->piece_capacity * sizeof(*grown));
    draft->pieces = grown;
    draft->piece_capacity = more;
    return 0;
}

static void draft_hold(struct queue_draft *draft, uint32_t sequence)
{
    if (draft->holder.segment)
        return;
    struct segment *segment = segment_find(&draft->queue->wal.segments, sequence);
    assert(segment);
    segment_hold(segment, &draft->holder, true);
}

/* One append to the log: the bytes taken, or a negative errno. */
static int64_t append_once(struct queue_draft *draft, const uint8_t *bytes, size_t size)
{
    struct wal *wal = &draft->queue->wal;
    int error = pieces_reserve(draft);
    if (error)
        return error;
    struct format_piece none = {0};
    struct format_piece *last = draft->piece_count > 0 ? &draft->pieces[draft->piece_count - 1] : &none;
    struct format_piece piece = *last;
    bool is_new = false;
    int64_t taken = wal_append_body(wal, draft->id, bytes, size, false, &piece, &is_new);
    if (taken < 0)
        return taken;
    if (!is_new) {
        *last = piece;
        return taken;
    }
    draft->pieces[draft->piece_count++] = piece;
    wal_claim(wal, &piece);
    draft_hold(draft, piece.segment);
    return taken;
}

static int64_t append_all(struct queue_draft *draft, const uint8_t *bytes, size_t size)
{
    size_t done = 0;
    while (done < size) {
        int64_t taken = append_once(draft, bytes + done, size - done);
        if (taken == -EAGAIN)
            return done > 0 ? (int64_t)done : -EAGAIN;
        if (taken < 0) {
            draft->error = (int)taken;
            return taken;
        }
        done += (size_t)taken;
    }
    return (int64_t)done;
}

static int stage_flush(struct queue_draft *draft)
{
    if (draft->stage_used == 0)
        return 0;
    int64_t taken = append_all(draft, draft->stage, draft->stage_used);
    if (taken < 0)
        return (int)taken;
    draft->stage_used -= (uint32_t)taken;
    if (draft->stage_used == 0)
        return 0;
    memmove(draft->stage, draft->stage + taken, draft->stage_used);
    return -EAGAIN;
}

static int64_t append_staged(struct queue_draft *draft, const uint8_t *bytes, size_t size)
{
    if (!draft->stage)
        draft->stage = memory_alloc(&draft->queue->memory, STAGE_SIZE);
    if (!draft->stage)
        return draft->error = -ENOMEM;
    if (draft->stage_used + size > STAGE_SIZE) {
        int error = stage_flush(draft);
        if (error)
            return error;
    }
    memcpy(draft->stage + draft->stage_used, bytes, size);
    draft->stage_used += (uint32_t)size;
    return (int64_t)size;
}

int64_t queue_draft_append(struct queue_draft *draft, const void *bytes, size_t size)
{
    int64_t taken = draft_check(draft);
    if (taken < 0)
        return taken;
    if (size == 0)
        return 0;
    if (draft->piece_count >= STAGE_FROM && size < STAGE_SIZE) {
        taken = append_staged(draft, bytes, size);
    } else {
        taken = stage_flush(draft);
        if (taken == 0)
            taken = append_all(draft, bytes, size);
    }
    if (taken > 0)
        draft->size += (uint64_t)taken;
    return taken;
}

/* --- Commit --- */

static void draft_durable(struct wal_waiter *waiter, int error)
{
    struct queue_draft *draft =
        (struct queue_draft *)(void *)((char *)waiter - offsetof(struct queue_draft, waiter));
    struct queue *queue = draft->queue;
    struct message *message = draft->message;
    queue_committed *committed = draft->committed;
    void *context = draft->context;
    uint64_t id = draft->id;
    if (error) {
        wal_unclaim(&queue->wal, &draft->commit);
        draft_unclaim(draft);
        draft_free(draft);
        message_free(queue, message);
        committed(context, id, error);
        return;
    }
    queue->commits++;
    struct segment *oldest = draft->holder.segment;
    draft_free(draft);
    committed(context, id, 0);
    queue_admit(queue, message, oldest);
}

static int commit_append(struct queue_draft *draft, const struct queue_envelope *envelope, int64_t now_ms)
{
    struct format_commit head = {
        .arrival_ms = now_ms,
        .content_size = draft->size,
        .piece_count = draft->piece_count,
        .meta_size = envelope->meta_size,
        .recipients_size = envelope->recipients_size,
        .recipient_count = envelope->recipient_count,
    };
    struct wal_part parts[] = {
        {&head, sizeof(head)},
        {draft->pieces, draft->piece_count * (uint32_t)sizeof(*draft->pieces)},
        {envelope->meta, envelope->meta_size},
        {envelope->recipients, envelope->recipients_size},
    };
    for (int i = 0; i < 4; i++)
        draft->commit_size += parts[i].size;
    return wal_append(&draft->queue->wal, FORMAT_COMMIT, draft->id, parts, 4, false, &draft->commit);
}

static struct message *commit_message(struct queue_draft *draft, const struct queue_envelope *envelope,
                                      int64_t now_ms, int *error)
{
    struct message *message = message_new(draft->queue, draft->id, envelope, error);
    if (!message)
        return NULL;
    message->arrival_ms = now_ms;
    draft->commit_size = 0;
    *error = commit_append(draft, envelope, now_ms);
    if (*error) {
        message_free(draft->queue, message);
        return NULL;
    }
    message->commit = draft->commit;
    message->claimed = true;
    message->log_bytes = draft->size + draft->piece_count * sizeof(struct format_record) +
                         format_record_size(draft->commit_size);
    return message;
}

int queue_draft_commit(struct queue_draft *draft, const struct queue_envelope *envelope, int64_t now_ms,
                       queue_committed *committed, void *context)
{
    assert(envelope->recipient_count > 0 && !draft->message);
    int error = draft_check(draft);
    if (!error && envelope->meta_size + envelope->recipients_size > QUEUE_ENVELOPE_MAX)
        error = -EMSGSIZE;
    if (!error)
        error = stage_flush(draft);
    struct message *message = error ? NULL : commit_message(draft, envelope, now_ms, &error);
    if (!message) {
        if (error != -EAGAIN)
            draft->error = error;
        return error;
    }
    draft->message = message;
    draft->committed = committed;
    draft->context = context;
    draft->waiter.done = draft_durable;
    draft_hold(draft, draft->commit.segment);
    wal_claim(&draft->queue->wal, &draft->commit);
    draft->queue->drafts--;
    wal_await(&draft->queue->wal, &draft->waiter);
    return 0;
}

size_t queue_recipient_size(size_t address_size, size_t key_size)
{
    return sizeof(struct format_recipient) + address_size + key_size;
}

size_t queue_recipient_encode(void *buffer, const char *address, size_t address_size, const char *key,
                              size_t key_size)
{
    assert(address_size <= QUEUE_ADDRESS_MAX && key_size <= QUEUE_KEY_MAX);
    struct format_recipient head = {(uint16_t)address_size, (uint16_t)key_size};
    uint8_t *to = buffer;
    memcpy(to, &head, sizeof(head));
    memcpy(to + sizeof(head), address, address_size);
    memcpy(to + sizeof(head) + address_size, key, key_size);
    return queue_recipient_size(address_size, key_size);
}
