/* Recovery: what the records say, applied in order. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "queue/recovery_inner.h"

/* --- Messages by id --- */

static uint64_t table_slot(const struct recovery *r, uint64_t id)
{
    uint64_t at = (id * UINT64_C(0x9e3779b97f4a7c15)) >> 20;
    for (;; at++) {
        at &= r->table_size - 1;
        if (!r->table[at] || r->table[at]->id == id)
            return at;
    }
}

static int table_reserve(struct recovery *r)
{
    if (r->table_used * 2 < r->table_size)
        return 0;
    struct message **old = r->table;
    uint64_t old_size = r->table_size;
    r->table_size = old_size ? 2 * old_size : 1024;
    r->table = calloc(r->table_size, sizeof(*r->table));
    if (!r->table) {
        r->table = old;
        r->table_size = old_size;
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < old_size; i++)
        if (old[i])
            r->table[table_slot(r, old[i]->id)] = old[i];
    free(old);
    return 0;
}

static struct message *table_find(const struct recovery *r, uint64_t id)
{
    return r->table_size ? r->table[table_slot(r, id)] : NULL;
}

/* --- Replaying --- */

/* A later commit of the same message is its copy: it takes the place of the first. */
static void message_unlist(struct recovery *r, struct message *message)
{
    uint64_t hole = table_slot(r, message->id);
    assert(r->table[hole] == message);
    r->table[hole] = NULL;
    r->table_used--;
    for (uint64_t at = (hole + 1) & (r->table_size - 1); r->table[at]; at = (at + 1) & (r->table_size - 1)) {
        struct message *moved = r->table[at];
        r->table[at] = NULL;
        r->table[table_slot(r, moved->id)] = moved;
    }
}

static int replay_commit(struct recovery *r, const struct format_record *record,
                         const struct format_piece *where)
{
    struct commit_view view;
    if (!commit_parse(record + 1, record->size, &view)) {
        r->found->damaged_records++;
        return 0;
    }
    int error = table_reserve(r);
    if (error)
        return error;
    struct queue_envelope envelope = {view.meta, view.head.meta_size, view.recipients,
                                      view.head.recipients_size, view.head.recipient_count};
    struct message *former = table_find(r, record->id);
    if (former) {
        message_unlist(r, former);
        message_free(r->queue, former);
    }
    /* R12: content before the tail: it was settled, and only the outcome is lost. */
    uint32_t first = r->queue->wal.segments.segments[0]->sequence;
    if ((int32_t)(commit_oldest_segment(&view, where->segment) - first) < 0) {
        r->found->orphans++;
        return 0;
    }
    struct message *message = message_new(r->queue, record->id, &envelope, &error);
    if (!message && error == -EBADMSG)
        r->found->damaged_records++;
    if (!message)
        return error == -EBADMSG ? 0 : error;
    message->arrival_ms = view.head.arrival_ms;
    message->commit = *where;
    message->log_bytes = commit_log_bytes(&view, record->size);
    /* R8: content in a segment that is gone; found again, as damage, when it is to be delivered */
    struct segment_table *segments = &r->queue->wal.segments;
    struct segment *oldest = segment_find(segments, commit_oldest_segment(&view, where->segment));
    segment_hold(oldest ? oldest : segments->segments[0], &message->holder, false);
    r->table[table_slot(r, record->id)] = message;
    r->table_used++;
    if (record->id > r->highest_id)
        r->highest_id = record->id;
    return 0;
}

/* The outcome may have been recorded when entries were cut otherwise: it counts for each entry that it
 * overlaps. */
static bool settle_entry(struct entry *entry, const struct format_settle *settle)
{
    uint64_t done = 0;
    uint64_t marked = 0;
    uint64_t known = 0;
    for (uint32_t bit = 0; bit < entry->count; bit++) {
        uint32_t index = entry->first + bit - settle->first;
        if (entry->first + bit < settle->first || index >= settle->count)
            continue;
        known |= UINT64_C(1) << bit;
        done |= (settle->done >> index & 1) << bit;
        marked |= (settle->marked >> index & 1) << bit;
    }
    if (!known)
        return false;
    entry->pending &= ~done;
    entry->marked = (entry->marked & ~known) | marked;
    /* Of outcomes that are now about one entry, the latest time counts: nobody is tried before it is due. */
    if (entry->due_ms < settle->due_ms)
        entry->due_ms = settle->due_ms;
    if (entry->attempts < settle->attempt)
        entry->attempts = settle->attempt;
    return true;
}

static void replay_settle(struct recovery *r, const struct format_record *record)
{
    struct format_settle settle;
    if (!format_settle_read(record, &settle)) {
        r->found->damaged_records++;
        return;
    }
    struct message *message = table_find(r, record->id);
    bool any = false;
    for (uint32_t i = 0; message && i < message->entry_count; i++)
        any |= settle_entry(&message->entries[i], &settle);
    r->found->orphans += !any; /* R9: its message was settled or moved before the tail */
}

int recovery_replay(struct recovery *r, const struct format_record *record, uint32_t sequence,
                    uint64_t offset)
{
    struct format_piece where = {sequence, (uint32_t)(offset + sizeof(*record)), record->size,
                                 record->payload_crc};
    if (record->type == FORMAT_COMMIT)
        return replay_commit(r, record, &where);
    if (record->type == FORMAT_SETTLE)
        replay_settle(r, record);
    return 0;
}
