/* Mail in and out of a shard at home. */
#include <errno.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/outbound/job.h"
#include "gateway/outbound/report.h"
#include "tests/unit/outbound/home.h"

enum { TURNS_MAX = 100000 };

static const char short_content[] = "From: a@from.test\r\nSubject: hello\r\n\r\nhello\r\n..dot\r\n";

static struct smtp_slice slice_of(const char *text)
{
    return (struct smtp_slice){text, text != NULL ? (uint32_t)strlen(text) : 0};
}

static void committed(void *context, uint64_t id, int error)
{
    uint64_t *done = context;

    assert_int_equal(error, 0);
    *done = id;
}

static void append_content(struct home *home, struct queue_draft *draft, const char *content)
{
    for (size_t left = strlen(content); left > 0;) {
        const int64_t taken = queue_draft_append(draft, content, left);
        if (taken == -EAGAIN) {
            home_turn(home);
            continue;
        }
        if (taken <= 0)
            fail_msg("append: %s", strerror((int)-taken));
        content += taken;
        left -= (size_t)taken;
    }
}

static uint32_t encode_recipients(const struct home_mail *mail, char *bytes, struct queue_envelope *envelope)
{
    char stored[RECIPIENT_SIZE_MAX];
    uint32_t size = 0;

    for (uint32_t i = 0; i < HOME_RECIPIENTS_MAX && mail->to[i].address != NULL; i++) {
        const struct recipient recipient = {slice_of(mail->to[i].address), slice_of(mail->to[i].orcpt),
                                            mail->to[i].notify};
        const char *domain = strchr(mail->to[i].address, '@') + 1;
        const size_t stored_size = recipient_encode(&recipient, stored);
        size += (uint32_t)queue_recipient_encode(bytes + size, stored, stored_size, domain, strlen(domain));
        envelope->recipient_count++;
    }
    return size;
}

int home_try_to_accept(struct home *home, const struct home_mail *mail)
{
    const struct envelope given = {
        .sender = slice_of(mail->from), .envid = slice_of(mail->envid), .flags = mail->flags};
    char meta[ENVELOPE_SIZE_MAX];
    char recipients[HOME_RECIPIENTS_MAX * 1024];
    struct queue_envelope envelope = {.meta = meta, .recipients = recipients};
    struct queue_draft *draft = queue_draft_new(home->queue);
    uint64_t id = 0;

    assert_non_null(draft);
    append_content(home, draft, mail->content != NULL ? mail->content : short_content);
    envelope.meta_size = (uint32_t)envelope_encode(&given, meta);
    envelope.recipients_size = encode_recipients(mail, recipients, &envelope);
    int error;
    while ((error = queue_draft_commit(draft, &envelope, (int64_t)clock_wall_ms() - mail->age_ms, committed,
                                       &id)) == -EAGAIN)
        home_turn(home);
    if (error < 0) {
        queue_draft_abort(draft);
        return error;
    }
    while (id == 0)
        home_turn(home);
    return 0;
}

void home_accept(struct home *home, const struct home_mail *mail)
{
    assert_int_equal(home_try_to_accept(home, mail), 0);
}

static void taken(void *context, struct queue_delivery *delivery)
{
    struct queue_delivery **into = context;

    assert_non_null(delivery);
    *into = delivery;
}

static struct queue_lane *lane_of(struct home *home, const char *domain)
{
    for (uint32_t i = 0; i < home->lane_count; i++) {
        uint32_t size;
        const char *key = queue_lane_key(home->lanes[i], &size);
        if (size == strlen(domain) && memcmp(key, domain, size) == 0)
            return home->lanes[i];
    }
    return NULL;
}

struct queue_delivery *home_take(struct home *home, const char *domain)
{
    struct queue_delivery *delivery = NULL;
    struct queue_lane *lane = lane_of(home, domain);

    if (lane == NULL || !queue_take(lane, HOME_RECIPIENTS_MAX, NULL, taken, &delivery))
        return NULL;
    while (delivery == NULL)
        home_turn(home);
    return delivery;
}

struct queue_delivery *home_accept_and_take(struct home *home, const struct home_mail *mail)
{
    home_accept(home, mail);
    struct queue_delivery *delivery = home_take(home, "one.test");
    assert_non_null(delivery);
    return delivery;
}

struct queue_delivery *home_take_again(struct home *home)
{
    struct queue_delivery *delivery = NULL;

    for (uint32_t turns = 0; delivery == NULL && turns < TURNS_MAX; turns++) {
        home_turn(home);
        delivery = home_take(home, "one.test");
    }
    assert_non_null(delivery);
    return delivery;
}

void home_say(struct queue_delivery *delivery, uint32_t target, enum queue_outcome outcome,
              enum notice_action action, const char *reply)
{
    const struct told_reply told = {
        .action = action,
        .class = NOTICE_CLASS_BAD_MAILBOX,
        .code = told_code(slice_of(reply)),
        .status = told_status(slice_of(reply)),
        .reply = slice_of(reply),
        .host = SMTP_SLICE("mx.one.test"),
        .at_ms = (int64_t)clock_wall_ms(),
    };

    assert_true(target < delivery->target_count);
    delivery->targets[target].outcome = outcome;
    assert_non_null(told_note(delivery, target, &told));
}

void home_settle(struct home *home, struct queue_delivery *delivery)
{
    report_settle(&home->outbound, delivery, "site.test");
    home_rest(home);
}

void home_relay(struct home *home, struct queue_delivery *delivery)
{
    assert_non_null(delivery);
    assert_false(delivery->is_owed);
    for (uint32_t i = 0; i < delivery->target_count; i++)
        home_say(delivery, i, QUEUE_DONE, NOTICE_RELAYED, "250 2.0.0 taken");
    home_settle(home, delivery);
}

void home_settle_owed(struct home *home, struct queue_delivery *delivery)
{
    assert_non_null(delivery);
    assert_true(delivery->is_owed);
    outcome_owed(&home->site, delivery);
    home_settle(home, delivery);
}

bool home_delay(struct home *home, struct queue_delivery *delivery)
{
    struct job job = {.delivery = delivery, .site = &home->site, .state = JOB_WAITING};

    assert_non_null(delivery);
    assert_int_equal(envelope_decode(delivery->meta, delivery->meta_size, &job.envelope), 0);
    outcome_delay_due(&job, SMTP_SLICE("4.4.1 nobody answers"));
    const bool is_told = delivery->told != NULL;
    home_settle(home, delivery);
    return is_told;
}

void home_bounce(struct home *home, struct queue_delivery *delivery)
{
    assert_non_null(delivery);
    for (uint32_t i = 0; i < delivery->target_count; i++)
        home_say(delivery, i, QUEUE_DONE, NOTICE_FAILED, "550 5.1.1 no such user");
    home_settle(home, delivery);
}

static void copy_target(struct home_text *text, const struct queue_delivery *delivery)
{
    const struct recipient recipient =
        recipient_decode(delivery->targets[0].address, delivery->targets[0].size);

    assert_int_equal(delivery->target_count, 1);
    assert_true(recipient.address.size < sizeof(text->to));
    memcpy(text->to, recipient.address.data, recipient.address.size);
    text->notify = recipient.notify;
    memcpy(text->meta, delivery->meta, delivery->meta_size);
    assert_int_equal(envelope_decode(text->meta, delivery->meta_size, &text->envelope), 0);
    text->id = delivery->id;
}

const struct home_text *home_read(struct home *home, const char *domain)
{
    static struct home_text text;
    struct queue_delivery *delivery = home_take(home, domain);

    if (delivery == NULL)
        fail_msg("nothing waits for %s; log:\n%s", domain, home_log(home));
    memset(&text, 0, sizeof(text));
    copy_target(&text, delivery);
    strcpy(text.key, domain);
    for (uint32_t i = 0; i < delivery->piece_count; i++) {
        const struct queue_piece *piece = &delivery->pieces[i];
        const uint8_t *data =
            piece->data != NULL ? piece->data : home->disk.slots[piece->slot].bytes + piece->offset;
        assert_true(text.size + piece->size < HOME_TEXT_MAX);
        memcpy(text.content + text.size, data, piece->size);
        text.size += piece->size;
    }
    delivery->targets[0].outcome = QUEUE_DONE;
    home_settle(home, delivery);
    return &text;
}

void home_expect(const struct home_text *text, const char *what)
{
    if (strstr(text->content, what) == NULL)
        fail_msg("\"%s\" is not in\n%s", what, text->content);
}

void home_expect_not(const struct home_text *text, const char *what)
{
    if (strstr(text->content, what) != NULL)
        fail_msg("\"%s\" is in\n%s", what, text->content);
}

void home_expect_log(struct home *home, const char *what)
{
    if (strstr(home_log(home), what) == NULL)
        fail_msg("\"%s\" is not in\n%s", what, home_log(home));
}

void home_expect_empty(struct home *home)
{
    home_rest(home);
    if (queue_stats(home->queue).messages != 0)
        fail_msg("%llu messages wait; log:\n%s", (unsigned long long)queue_stats(home->queue).messages,
                 home_log(home));
}
