/* Messages on their way in. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/draft.h"

enum {
    STAGE_FROM = 48, /* pieces after which small appends are gathered first */
    STAGE_SIZE = 16 * 1024,
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
        .piece_capacity = DRAFT_PIECES_INLINE,
    };
    draft->pieces = draft->inline_pieces;
    queue->drafts++;
    return draft;
}

void draft_free(struct queue_draft *draft)
{
    struct memory *memory = &draft->queue->memory;
    if (draft->extent)
        wal_extent_drop(draft->extent);
    if (draft->writing > 0)
        wal_extents_disown(&draft->queue->wal, draft);
    segment_unhold(&draft->holder);
    if (draft->pieces != draft->inline_pieces)
        memory_free(memory, draft->pieces, draft->piece_capacity * sizeof(*draft->pieces));
    memory_free(memory, draft->stage, STAGE_SIZE);
    memory_free(memory, draft, sizeof(*draft));
}

void draft_unclaim(struct queue_draft *draft)
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

int draft_check(struct queue_draft *draft)
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

void draft_hold(struct queue_draft *draft, uint32_t sequence)
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

/* --- Content that is received in place --- */

static void extent_durable(void *owner, int error)
{
    struct queue_draft *draft = owner;
    assert(draft->writing > 0);
    draft->writing--;
    if (error && !draft->error)
        draft->error = error;
    if (draft->waits && draft->writing == 0) {
        draft->waits = false;
        draft->queue->wal.wanted = true;
    }
}

/* What comes next does not go into the extent. */
static void extent_end(struct queue_draft *draft)
{
    struct wal_extent *extent = draft->extent;
    if (!extent)
        return;
    draft->extent = NULL;
    if (wal_extent_close(extent, draft, extent_durable))
        draft->writing++;
}

void *queue_draft_reserve(struct queue_draft *draft, size_t *size, int *error)
{
    assert(*size > 0 && draft->reserved == 0 && !draft->message);
    *error = draft_check(draft);
    if (!*error)
        *error = stage_flush(draft);
    if (!*error && !draft->extent)
        *error = wal_extent_begin(&draft->queue->wal, draft->id, *size, &draft->extent);
    if (*error) {
        if (*error != -EAGAIN && *error != -ENOBUFS)
            draft->error = *error;
        return NULL;
    }
    uint32_t room = draft->extent->size - draft->extent->used;
    draft->reserved = *size < room ? (uint32_t)*size : room;
    *size = draft->reserved;
    return wal_extent_next(draft->extent);
}

static int extent_take(struct queue_draft *draft, uint32_t size)
{
    struct wal *wal = &draft->queue->wal;
    while (size > 0) {
        int error = pieces_reserve(draft);
        if (error)
            return error;
        bool grows = draft->extent->used > 0;
        struct format_piece piece = grows ? draft->pieces[draft->piece_count - 1] : (struct format_piece){0};
        grows = grows && piece.size < WAL_PIECE_MAX;
        uint32_t taken = wal_extent_fill(draft->extent, size, grows, &piece);
        draft->piece_count += !grows;
        draft->pieces[draft->piece_count - 1] = piece;
        if (!grows)
            wal_claim(wal, &piece);
        draft_hold(draft, piece.segment);
        draft->size += taken;
        size -= taken;
    }
    return 0;
}

void queue_draft_filled(struct queue_draft *draft, size_t size)
{
    assert(draft->reserved > 0 && size <= draft->reserved);
    draft->reserved = 0;
    if (draft_check(draft))
        return; /* it died while the content came: the next call says so */
    draft->error = extent_take(draft, (uint32_t)size);
    if (!draft->error && draft->extent->used == draft->extent->size)
        extent_end(draft);
}

/* --- The whole content --- */

int64_t queue_draft_append(struct queue_draft *draft, const void *bytes, size_t size)
{
    assert(draft->reserved == 0);
    int64_t taken = draft_check(draft);
    if (taken < 0)
        return taken;
    if (size == 0)
        return 0;
    extent_end(draft);
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

int draft_flush(struct queue_draft *draft)
{
    assert(draft->reserved == 0);
    int error = stage_flush(draft);
    if (error)
        return error;
    extent_end(draft);
    draft->waits = draft->writing > 0;
#if defined(PLANT_EARLY_COMMIT)
    return 0;
#endif
    return draft->waits ? -EAGAIN : 0;
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
