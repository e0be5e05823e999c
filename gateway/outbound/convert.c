#include "gateway/outbound/convert.h"

#include <assert.h>
#include <errno.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/site.h"

static struct pool *pool_of(const struct job *job)
{
    return job->site->outbound->options.pool;
}

void convert_end(struct job *job)
{
    struct convert *convert = job->convert;

    if (convert == NULL)
        return;
    assert(!convert->is_sending && convert->job == job);
    pool_free(pool_of(job), convert, sizeof(*convert));
    job->convert = NULL;
}

/* --- Survey --- */

/* The small ones are decided before the peer hears of them: then a refusal costs no connection. */
static bool is_at_hand(const struct queue_delivery *delivery)
{
    if (delivery->content_size > CONVERT_AT_ONCE_MAX)
        return false;
    for (uint32_t i = 0; i < delivery->piece_count; i++) {
        if (delivery->pieces[i].data == NULL)
            return false;
    }
    return true;
}

static enum recode_verdict survey_at_once(struct convert *convert)
{
    const struct queue_delivery *delivery = convert->job->delivery;

    for (uint32_t i = 0; i < delivery->piece_count; i++)
        recode_survey(&convert->recode, delivery->pieces[i].data, delivery->pieces[i].size);
    return recode_survey_end(&convert->recode);
}

int convert_begin(struct job *job)
{
    struct convert *convert = pool_alloc(pool_of(job), sizeof(*convert));

    assert(job->state == JOB_WAITING && job->convert == NULL);
    if (convert == NULL)
        return -ENOMEM;
    convert->job = job;
    convert->verdict = RECODE_NOTHING;
    convert->done = 0;
    convert->filled = 0;
    convert->is_sending = false;
    recode_init(&convert->recode);
    job->convert = convert;
    if (!is_at_hand(job->delivery))
        return RECODE_POSSIBLE;
    enum recode_verdict verdict = survey_at_once(convert);
    convert->verdict = verdict;
    if (verdict != RECODE_POSSIBLE)
        convert_end(job);
    return (int)verdict;
}

/* FEED_ALL: the verdict is there. */
static enum feed_state survey_more(struct convert *convert)
{
    struct job *job = convert->job;
    uint32_t surveyed = 0;

    while (job->next_piece < job->delivery->piece_count) {
        const char *octets = NULL;
        uint32_t size = job->delivery->pieces[job->next_piece].size;
        enum feed_state state = feed_piece(job, &octets);
        if (state != FEED_ALL)
            return state;
        recode_survey(&convert->recode, octets, size);
        feed_piece_done(job);
        surveyed += size;
        if (surveyed >= CONVERT_TURN_MAX) {
            feed_progressed(job);
            return FEED_MORE;
        }
    }
    convert->verdict = recode_survey_end(&convert->recode);
    feed_rewind(job);
    return FEED_ALL;
}

/* --- Conversion --- */

static void buffer_sent(struct conn_ref *ref)
{
    struct convert *convert = list_entry(ref, struct convert, ref);
    struct job *job = convert->job;

    assert(convert->is_sending);
    convert->is_sending = false;
    convert->filled = 0;
    feed_progressed(job);
    job_unhold(job);
}

static void send_buffer(struct convert *convert)
{
    struct job *job = convert->job;

    assert(!convert->is_sending && convert->filled <= CONVERT_BUFFER_SIZE);
    if (convert->filled == 0)
        return;
    convert->is_sending = true;
    convert->ref = (struct conn_ref){buffer_sent};
    job->holds++;
    client_count_queued(job->client, convert->filled);
    conn_send_ref(&job->client->conn, convert->buffer, convert->filled, &convert->ref);
}

static bool has_room(const struct convert *convert)
{
    return CONVERT_BUFFER_SIZE - convert->filled >= RECODE_STEP_MAX;
}

/* Of the piece at hand, as much as there is room for. */
static void write_some(struct convert *convert, const char *octets, uint32_t size)
{
    size_t consumed = 0;
    size_t written = recode_convert(&convert->recode, octets + convert->done, size - convert->done, &consumed,
                                    convert->buffer + convert->filled, CONVERT_BUFFER_SIZE - convert->filled);

    assert(written <= CONVERT_BUFFER_SIZE - convert->filled && consumed <= size - convert->done);
    convert->filled += (uint32_t)written;
    convert->done += (uint32_t)consumed;
}

/* FEED_ALL: the piece is done. */
static enum feed_state write_piece(struct convert *convert)
{
    struct job *job = convert->job;
    const char *octets = NULL;
    const uint32_t size = job->delivery->pieces[job->next_piece].size;
    enum feed_state state = feed_piece(job, &octets);

    if (state != FEED_ALL)
        return state;
    if (convert->done < size)
        write_some(convert, octets, size);
    if (convert->done < size)
        return FEED_MORE;
    convert->done = 0;
    feed_piece_done(job);
    return FEED_ALL;
}

static enum feed_state write_end(struct convert *convert)
{
    size_t written = 0;

    if (!recode_convert_end(&convert->recode, convert->buffer + convert->filled, &written))
        return FEED_DAMAGED;
    convert->filled += (uint32_t)written;
    send_buffer(convert);
    return FEED_ALL;
}

static enum feed_state write_more(struct convert *convert)
{
    struct job *job = convert->job;

    if (convert->is_sending)
        return FEED_MORE;
    while (job->next_piece < job->delivery->piece_count && has_room(convert)) {
        enum feed_state state = write_piece(convert);
        if (state == FEED_MORE)
            break;
        if (state != FEED_ALL)
            return state;
    }
    if (job->next_piece == job->delivery->piece_count && has_room(convert))
        return write_end(convert);
    send_buffer(convert);
    return FEED_MORE;
}

enum feed_state convert_more(struct job *job)
{
    struct convert *convert = job->convert;

    assert(job->state == JOB_CONTENT && convert->job == job);
    if (convert->verdict == RECODE_NOTHING) {
        enum feed_state state = survey_more(convert);
        if (state != FEED_ALL)
            return state;
        const bool is_declared = job->envelope.flags & ENVELOPE_8BITMIME;
        if (convert->verdict == RECODE_NOTHING || (convert->verdict != RECODE_POSSIBLE && !is_declared)) {
            convert_end(job);
            return FEED_AS_IT_IS;
        }
    }
    return convert->verdict == RECODE_POSSIBLE ? write_more(convert) : FEED_INCONVERTIBLE;
}
