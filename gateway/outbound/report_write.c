/* Writing: from a report to complete drafts. Everything here can stop for lack of room, or for a read, and
 * goes on where it stopped. */
#include "gateway/outbound/report_inner.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "gateway/base/id.h"
#include "gateway/base/idna.h"
#include "gateway/outbound/told.h"

_Static_assert(sizeof(((struct report_work *)0)->id_text) >= ID_TEXT_SIZE, "an id fits");
_Static_assert((int)REPORT_NOTICES_MAX <= (int)QUEUE_COMPANIONS_MAX, "the queue takes all notices at a time");

static struct smtp_slice slice_of(const char *text)
{
    return (struct smtp_slice){text, (uint32_t)strlen(text)};
}

/* --- The sender --- */

/* Of an address without a domain, this host's. */
static struct smtp_slice domain_of(const struct outbound *outbound, struct smtp_slice address)
{
    const char *at = memrchr(address.data, '@', address.size);

    if (at == NULL)
        return slice_of(outbound->config->hostname);
    return (struct smtp_slice){at + 1, (uint32_t)(address.data + address.size - at - 1)};
}

int report_encode_address(const struct outbound *outbound, const struct envelope *envelope,
                          char bytes[static REPORT_ADDRESS_MAX])
{
    /* RFC 3461 §6: nobody is told of what becomes of a notice. */
    const struct recipient recipient = {.address = envelope->sender, .notify = SMTP_NOTIFY_NEVER};
    const struct smtp_slice sender = envelope->sender;
    char stored[RECIPIENT_SIZE_MAX];
    char domain_key[IDNA_KEY_SIZE];
    char key[ROUTES_KEY_MAX];

    assert(sender.size > 0);
    if (sender.size > SMTP_PATH_MAX || memchr(sender.data, '\0', sender.size) != NULL)
        return -EINVAL; /* what a damaged disk says */
    const struct smtp_slice domain = domain_of(outbound, sender);
    const int domain_size = idna_domain_key(domain.data, domain.size, domain_key);
    if (domain_size < 0)
        return domain_size;
    const size_t key_size =
        routes_lane_key(&outbound->policy->routes, domain_key, (size_t)domain_size, "", 0, key);
    const size_t stored_size = recipient_encode(&recipient, stored);
    assert(queue_recipient_size(stored_size, key_size) <= REPORT_ADDRESS_MAX);
    return (int)queue_recipient_encode(bytes, stored, stored_size, key, key_size);
}

/* --- Memory --- */

static size_t work_size(const struct report *report)
{
    return sizeof(struct report_work) + report->delivery->target_count * sizeof(struct notice_recipient);
}

static enum notice_original choose_original(const struct report *report, enum notice_kind kind, bool *is_cut)
{
    return notice_original_choose(kind, report->envelope.flags, report->delivery->content_size,
                                  report->outbound->config->notices.content_max_bytes, is_cut);
}

static bool has_kind(const struct report *report, enum notice_kind kind)
{
    return memchr(report->kinds, (int)kind, report->delivery->target_count) != NULL;
}

static bool needs_header(const struct report *report)
{
    bool is_cut;
    for (uint32_t kind = NOTICE_FAILURE; kind <= NOTICE_SUCCESS; kind++) {
        if (has_kind(report, kind) && choose_original(report, kind, &is_cut) == NOTICE_ORIGINAL_HEADER)
            return true;
    }
    return false;
}

int report_open(struct report *report)
{
    const struct queue_delivery *delivery = report->delivery;
    struct pool *pool = report->outbound->options.pool;
    struct report_work *work = pool_alloc(pool, work_size(report));

    assert(report->work == NULL);
    if (work == NULL)
        return -ENOMEM;
    memset(work, 0, work_size(report));
    report->work = work;
    const int size = report_encode_address(report->outbound, &report->envelope, work->address);
    assert(size > 0); /* it was tried before */
    work->address_size = (uint32_t)size;
    id_format(delivery->id, work->original_id_text);
    for (uint32_t kind = NOTICE_FAILURE; kind <= NOTICE_SUCCESS; kind++) {
        if (has_kind(report, kind))
            work->notices[report->notice_count++].kind = kind;
    }
    original_init(&report->original, report->outbound, delivery);
    if (!needs_header(report) || delivery->content_size == 0)
        return 0;
    report->header_capacity =
        delivery->content_size < NOTICE_HEADER_MAX ? (uint32_t)delivery->content_size : NOTICE_HEADER_MAX;
    report->header = pool_alloc(pool, report->header_capacity);
    return report->header != NULL ? 0 : -ENOMEM;
}

static void abort_drafts(struct report_work *work)
{
    for (uint32_t i = 0; i < REPORT_NOTICES_MAX; i++) {
        queue_draft_abort(work->notices[i].draft);
        work->notices[i].draft = NULL;
    }
}

void report_rewind(struct report *report)
{
    abort_drafts(report->work);
    original_rewind(&report->original);
    report->without_content = true;
    report->written = 0;
}

void report_close(struct report *report)
{
    struct pool *pool = report->outbound->options.pool;

    if (report->work == NULL)
        return;
    abort_drafts(report->work);
    original_deinit(&report->original);
    if (report->header != NULL)
        pool_free(pool, report->header, report->header_capacity);
    report->header = NULL;
    pool_free(pool, report->work, work_size(report));
    report->work = NULL;
}

/* --- The header of the original --- */

int report_read_header(struct report *report)
{
    struct smtp_slice piece;

    while (report->header_size < report->header_capacity) {
        const enum original_step step = original_look(&report->original, &piece);
        if (step == ORIGINAL_WAIT)
            return -EAGAIN;
        if (step != ORIGINAL_PIECE)
            break; /* what came before is still its beginning */
        const uint32_t room = report->header_capacity - report->header_size;
        const uint32_t size = piece.size < room ? piece.size : room;
        memcpy(report->header + report->header_size, piece.data, size);
        report->header_size += size;
        original_pass(&report->original);
    }
    original_rewind(&report->original);
    return 0;
}

/* --- One notice --- */

static void fill_recipient(const struct report *report, uint32_t number, enum notice_kind kind,
                           struct notice_recipient *into)
{
    const struct queue_target *target = &report->delivery->targets[number];
    const struct recipient recipient = recipient_decode(target->address, target->size);
    const struct told_reply *told = told_of(report->delivery, number);

    *into = (struct notice_recipient){
        .address = recipient.address,
        .orcpt = recipient.orcpt,
        .action = kind == NOTICE_FAILURE ? NOTICE_FAILED : NOTICE_DELAYED,
        .class = NOTICE_CLASS_OTHER,
    };
    if (told != NULL) {
        into->class = told->class;
        into->code = told->code;
        into->status = told->status;
        into->reply = told->reply;
        into->host = told->host;
        into->last_attempt_ms = told->at_ms;
    }
    if (kind == NOTICE_SUCCESS)
        into->action = told->action; /* which is why it is told */
    if (target->outcome == QUEUE_EXPIRED)
        into->class = NOTICE_CLASS_EXPIRED;
}

static void fill_recipients(struct report *report, struct report_notice *notice)
{
    struct report_work *work = report->work;

    notice->recipient_count = 0;
    for (uint32_t i = 0; i < report->delivery->target_count; i++) {
        if (report->kinds[i] == notice->kind)
            fill_recipient(report, i, notice->kind, &work->recipients[notice->recipient_count++]);
    }
    assert(notice->recipient_count > 0);
    notice->class = work->recipients[0].class;
}

/* What of the original goes with it; of its header, where that ends. */
static void fill_original(struct report *report, struct notice *notice)
{
    notice->original = choose_original(report, notice->kind, &notice->original_is_cut);
    if (notice->original == NOTICE_ORIGINAL_CONTENT) {
        if (report->without_content || report->delivery->content_size == 0)
            notice->original = NOTICE_ORIGINAL_NOTHING;
        else
            notice->original_is_8bit = (report->envelope.flags & ENVELOPE_HAS_8BIT) != 0;
        return;
    }
    struct notice_header header = {0};
    if (report->header_size > 0)
        header = notice_header_find(report->header, report->header_size);
    notice->original_is_8bit = header.is_8bit;
    report->header_size = header.size;
    if (header.size == 0)
        notice->original = NOTICE_ORIGINAL_NOTHING;
}

static int new_draft(struct report *report, struct report_notice *into)
{
    static const int errors[] = {
        [QUEUE_OPEN] = -ENOMEM,
        [QUEUE_DISK_FULL] = -ENOSPC,
        [QUEUE_MEMORY_FULL] = -ENOMEM,
        [QUEUE_FAILED] = -EIO,
    };
    struct queue *queue = report->delivery->queue;

    assert(into->draft == NULL);
    into->draft = queue_draft_new(queue);
    if (into->draft == NULL)
        return errors[queue_state(queue)];
    into->id = queue_draft_id(into->draft);
    return 0;
}

static int begin_notice(struct report *report, struct report_notice *into)
{
    const struct config *config = report->outbound->config;
    const struct queue_delivery *delivery = report->delivery;
    struct report_work *work = report->work;
    const int error = new_draft(report, into);

    if (error < 0)
        return error;
    id_format(into->id, work->id_text);
    fill_recipients(report, into);
    work->notice = (struct notice){
        .kind = into->kind,
        .hostname = slice_of(config->hostname),
        .postmaster = slice_of(config->notices.postmaster),
        .id = {work->id_text, ID_TEXT_SIZE},
        .sender = report->envelope.sender,
        .envid = report->envelope.envid,
        .original_id = {work->original_id_text, ID_TEXT_SIZE},
        .now_ms = (int64_t)loop_now_wall_ms(report->outbound->options.loop),
        .arrival_ms = delivery->arrival_ms,
        .expires_ms = delivery->arrival_ms + (int64_t)config->retry.max_age_ms,
        .recipients = work->recipients,
        .recipient_count = into->recipient_count,
        .is_utf8 = (report->envelope.flags & ENVELOPE_SMTPUTF8) != 0,
    };
    fill_original(report, &work->notice);
    if (getrandom(work->notice.nonce, sizeof(work->notice.nonce), GRND_NONBLOCK) !=
        sizeof(work->notice.nonce))
        return -EIO; /* without it the boundary could be guessed */
    notice_writer_init(&work->writer, &work->notice);
    work->pending = (struct smtp_slice){0};
    work->is_returning = false;
    return 0;
}

/* Without the content, which was begun and cannot be had to its end. */
static int begin_anew(struct report *report, struct report_notice *notice)
{
    queue_draft_abort(notice->draft);
    notice->draft = NULL;
    report->without_content = true;
    return begin_notice(report, notice);
}

static int append_pending(struct report_work *work, struct queue_draft *draft)
{
    struct smtp_slice *pending = &work->pending;

    while (pending->size > 0) {
        const int64_t taken = queue_draft_append(draft, pending->data, pending->size);
        if (taken < 0)
            return (int)taken;
        assert(taken > 0 && (uint64_t)taken <= pending->size);
        pending->data += taken;
        pending->size -= (uint32_t)taken;
    }
    return 0;
}

/* The next piece of the content that is returned. */
static int next_returned(struct report *report, struct report_notice *notice)
{
    struct report_work *work = report->work;

    switch (original_look(&report->original, &work->pending)) {
    case ORIGINAL_WAIT:
        return -EAGAIN;
    case ORIGINAL_LOST:
        return begin_anew(report, notice);
    case ORIGINAL_END:
        work->is_returning = false;
        original_rewind(&report->original);
        break;
    case ORIGINAL_PIECE:
        if (work->pending.size == 0)
            original_pass(&report->original);
        break;
    }
    return 0;
}

/* The next piece to be appended. True: there is none. */
static bool next_piece(struct report *report)
{
    struct report_work *work = report->work;
    size_t size = 0;

    switch (notice_next(&work->writer, work->piece, &size)) {
    case NOTICE_PIECE:
        work->pending = (struct smtp_slice){work->piece, (uint32_t)size};
        return false;
    case NOTICE_RETURNED:
        if (work->notice.original == NOTICE_ORIGINAL_HEADER)
            work->pending = (struct smtp_slice){report->header, report->header_size};
        else
            work->is_returning = true;
        return false;
    case NOTICE_END:
        break;
    }
    return true;
}

static void end_notice(struct report *report, struct report_notice *notice)
{
    const struct notice *written = &report->work->notice;
    struct envelope envelope = {.flags = notice_envelope_flags(written)};

    if (written->original == NOTICE_ORIGINAL_CONTENT)
        envelope.flags |= report->envelope.flags & ENVELOPE_DOT_LINES;
    notice->meta_size = (uint32_t)envelope_encode(&envelope, notice->meta);
    notice->size = queue_draft_size(notice->draft);
}

static int write_notice(struct report *report, struct report_notice *notice)
{
    struct report_work *work = report->work;
    int error = notice->draft == NULL ? begin_notice(report, notice) : 0;

    while (error == 0) {
        const bool was_returning = work->is_returning && work->pending.size > 0;
        error = append_pending(work, notice->draft);
        if (error < 0)
            break;
        if (was_returning)
            original_pass(&report->original);
        if (work->is_returning) {
            error = next_returned(report, notice);
        } else if (next_piece(report)) {
            end_notice(report, notice);
            break;
        }
    }
    return error;
}

int report_write(struct report *report)
{
    while (report->written < report->notice_count) {
        const int error = write_notice(report, &report->work->notices[report->written]);
        if (error < 0)
            return error;
        report->written++;
    }
    return 0;
}
