/* The way home: who is told what, in which form, and how often. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/rate_table.h"
#include "proto/command.h"
#include "tests/unit/outbound/home.h"

enum { ALL = SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY };

static struct home home;

static const struct home_mail plain = {.from = "a@from.test", .to = {{"b@one.test", 0, NULL}}};

/* --- What a notice is --- */

static void a_refused_message_comes_back_to_its_sender(void **state)
{
    home_begin(&home, "notices { postmaster = \"help@relay.test\" }");
    home_bounce(&home, home_accept_and_take(&home, &plain));
    assert_null(home_take(&home, "one.test"));
    const struct home_text *text = home_read(&home, "from.test");
    assert_string_equal(text->to, "a@from.test");
    assert_int_equal(text->notify, SMTP_NOTIFY_NEVER);
    assert_int_equal(text->envelope.sender.size, 0);
    home_expect(text, "From: Mail Delivery System <help@relay.test>\r\nTo: <a@from.test>\r\n");
    home_expect(text, "Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.one.test\r\n"
                      "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n");
    home_expect(text,
                "Content-Type: message/rfc822\r\n\r\nFrom: a@from.test\r\nSubject: hello\r\n\r\nhello\r\n"
                "..dot\r\n\r\n--");
    assert_int_equal(home_sent(&home), 1);
    home_expect_log(&home, "notice id=");
    home_expect_log(&home, "to=<a@from.test> kind=failure recipients=1 class=bad-mailbox size=");
    home_expect_empty(&home);
    home_end(&home);
}

static void the_notice_has_the_flags_of_what_it_returns(void **state)
{
    static const char content[] = "Subject: x\r\n\r\ngr\xc3\xbc\xc3\x9f\x65\r\n..\r\n";
    const struct home_mail mail = {.from = "a@from.test",
                                   .to = {{"b@one.test", 0, NULL}},
                                   .content = content,
                                   .flags = ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME | ENVELOPE_DOT_LINES};

    home_begin(&home, "");
    home_bounce(&home, home_accept_and_take(&home, &mail));
    const struct home_text *text = home_read(&home, "from.test");
    assert_int_equal(text->envelope.flags, ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME | ENVELOPE_DOT_LINES);
    home_expect(text, content);
    home_expect_empty(&home);
    home_end(&home);
}

static void a_sender_beyond_ascii_is_told_in_its_own_form(void **state)
{
    const struct home_mail mail = {
        .from = "gr\xc3\xbc\xc3\x9f@from.test", .to = {{"b@one.test", 0, NULL}}, .flags = ENVELOPE_SMTPUTF8};

    home_begin(&home, "");
    home_bounce(&home, home_accept_and_take(&home, &mail));
    const struct home_text *text = home_read(&home, "from.test");
    assert_int_equal(text->envelope.flags, ENVELOPE_SMTPUTF8 | ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME);
    home_expect(text, "To: <gr\xc3\xbc\xc3\x9f@from.test>\r\n");
    home_expect(text, "message/global-delivery-status");
    home_expect_empty(&home);
    home_end(&home);
}

static void a_sender_in_an_international_domain_is_found_under_its_key(void **state)
{
    const struct home_mail mail = {.from = "a@b\xc3\xbc"
                                           "cher.test",
                                   .to = {{"b@one.test", 0, NULL}},
                                   .flags = ENVELOPE_SMTPUTF8};

    home_begin(&home, "");
    home_bounce(&home, home_accept_and_take(&home, &mail));
    assert_string_equal(home_read(&home, "xn--bcher-kva.test")->to, mail.from);
    home_expect_empty(&home);
    home_end(&home);
}

static void the_wishes_of_the_sender_are_in_it(void **state)
{
    const struct home_mail mail = {.from = "a@from.test",
                                   .to = {{"b@one.test", SMTP_NOTIFY_FAILURE, "rfc822;list+40one.test"}},
                                   .envid = "QQ+2B1",
                                   .flags = ENVELOPE_RET_HDRS};

    home_begin(&home, "");
    home_bounce(&home, home_accept_and_take(&home, &mail));
    const struct home_text *text = home_read(&home, "from.test");
    home_expect(text, "Original-Envelope-Id: QQ+1\r\n");
    home_expect(text, "Original-Recipient: rfc822; list@one.test\r\n");
    home_expect(text,
                "Content-Type: text/rfc822-headers\r\n\r\nFrom: a@from.test\r\nSubject: hello\r\n\r\n--");
    home_expect_not(text, "..dot");
    home_expect_empty(&home);
    home_end(&home);
}

static void large_and_binary_content_is_not_returned(void **state)
{
    static char large[3000];
    const struct home_mail mails[] = {
        {.from = "a@from.test", .to = {{"b@one.test", 0, NULL}}, .content = large},
        {.from = "a@from.test", .to = {{"b@one.test", 0, NULL}}, .flags = ENVELOPE_BINARYMIME},
    };

    memcpy(large, "Subject: large\r\n\r\n", 18);
    memset(large + 18, 'x', sizeof(large) - 19);
    home_begin(&home, "notices { content_max = \"1K\" }");
    for (int i = 0; i < 2; i++) {
        home_bounce(&home, home_accept_and_take(&home, &mails[i]));
        const struct home_text *text = home_read(&home, "from.test");
        home_expect(text, "Content-Type: text/rfc822-headers\r\n\r\n");
        home_expect(text, i == 0 ? "Subject: large\r\n\r\n--" : "Subject: hello\r\n\r\n--");
        home_expect_not(text, "xxx");
        home_expect_not(text, "dot\r\n");
    }
    home_expect_empty(&home);
    home_end(&home);
}

static void recipients_that_failed_together_share_a_notice(void **state)
{
    const struct home_mail mail = {
        .from = "a@from.test",
        .to = {{"b@one.test", 0, NULL}, {"c@one.test", SMTP_NOTIFY_NEVER, NULL}, {"d@one.test", 0, NULL}}};

    home_begin(&home, "");
    struct queue_delivery *delivery = home_accept_and_take(&home, &mail);
    home_say(delivery, 0, QUEUE_DONE, NOTICE_FAILED, "550 5.1.1 no b");
    delivery->targets[1].outcome = QUEUE_DONE; /* nothing is remembered of what nobody wants to hear */
    home_say(delivery, 2, QUEUE_DONE, NOTICE_FAILED, "552 5.2.2 full d");
    home_settle(&home, delivery);
    const struct home_text *text = home_read(&home, "from.test");
    home_expect(text, "Final-Recipient: rfc822; b@one.test");
    home_expect(text, "Final-Recipient: rfc822; d@one.test");
    home_expect(text, "550 5.1.1 no b");
    home_expect(text, "552 5.2.2 full d");
    home_expect_not(text, "c@one.test");
    assert_int_equal(home_sent(&home), 1);
    home_expect_log(&home, "kind=failure recipients=2");
    home_expect_empty(&home);
    home_end(&home);
}

static void three_kinds_are_three_notices(void **state)
{
    const struct home_mail mail = {
        .from = "a@from.test",
        .age_ms = 5 * HOME_HOUR_MS,
        .to = {{"b@one.test", 0, NULL}, {"c@one.test", 0, NULL}, {"d@one.test", ALL, NULL}}};

    home_begin(&home, "");
    struct queue_delivery *delivery = home_accept_and_take(&home, &mail);
    home_say(delivery, 0, QUEUE_DONE, NOTICE_FAILED, "550 no");
    home_say(delivery, 1, QUEUE_DEFER, NOTICE_DELAYED, "450 later");
    home_say(delivery, 2, QUEUE_DONE, NOTICE_RELAYED, "250 ok");
    report_settle(&home.outbound, delivery, NULL);
    while (report_count(&home.outbound) > 0)
        home_turn(&home);
    assert_int_equal(home_sent(&home), 3);
    home_expect(home_read(&home, "from.test"), "Action: failed");
    home_expect(home_read(&home, "from.test"), "Action: delayed");
    home_expect(home_read(&home, "from.test"), "Action: relayed");
    assert_null(home_take(&home, "from.test"));
    home_bounce(&home, home_take_again(&home));
    (void)home_read(&home, "from.test");
    home_expect_empty(&home);
    home_end(&home);
}

/* --- Who is told --- */

enum fate { BOUNCED, LATE, EXPIRED, RELAYED, DELIVERED_SILENTLY, EARLY };

static void meet(struct queue_delivery *delivery, enum fate fate)
{
    switch (fate) {
    case BOUNCED:
        home_say(delivery, 0, QUEUE_DONE, NOTICE_FAILED, "550 no");
        break;
    case LATE:
    case EXPIRED:
    case EARLY:
        home_say(delivery, 0, QUEUE_DEFER, NOTICE_DELAYED, "450 later");
        break;
    case RELAYED:
        home_say(delivery, 0, QUEUE_DONE, NOTICE_RELAYED, "250 ok");
        break;
    case DELIVERED_SILENTLY:
        delivery->targets[0].outcome = QUEUE_DONE;
        break;
    }
}

static int64_t age_of(enum fate fate)
{
    return fate == LATE ? 5 * HOME_HOUR_MS : fate == EXPIRED ? 6 * 24 * HOME_HOUR_MS : 0;
}

/* outcome.c remembers only what is to be told of a bounce and of a success: these rows are about the rest. */
static void notify_decides_who_hears_of_it(void **state)
{
    static const struct {
        const char *from;
        enum fate fate;
        uint8_t notify;
        const char *kind; /* NULL: nobody is told */
    } rows[] = {
        {"a@from.test", BOUNCED, 0, "failure"},
        {"a@from.test", BOUNCED, SMTP_NOTIFY_FAILURE, "failure"},
        {"", BOUNCED, 0, NULL},
        {"", BOUNCED, SMTP_NOTIFY_FAILURE, NULL},
        {"a@from.test", EXPIRED, 0, "failure"},
        {"a@from.test", EXPIRED, SMTP_NOTIFY_FAILURE, "failure"},
        {"a@from.test", EXPIRED, SMTP_NOTIFY_NEVER, NULL},
        {"a@from.test", EXPIRED, SMTP_NOTIFY_SUCCESS, NULL},
        {"a@from.test", EXPIRED, SMTP_NOTIFY_DELAY, NULL},
        {"", EXPIRED, 0, NULL},
        {"a@from.test", LATE, 0, "delay"},
        {"a@from.test", LATE, SMTP_NOTIFY_DELAY, "delay"},
        {"a@from.test", LATE, SMTP_NOTIFY_NEVER, NULL},
        {"a@from.test", LATE, SMTP_NOTIFY_FAILURE, NULL},
        {"a@from.test", LATE, SMTP_NOTIFY_SUCCESS, NULL},
        {"", LATE, 0, NULL},
        {"a@from.test", EARLY, 0, NULL},
        {"a@from.test", EARLY, SMTP_NOTIFY_DELAY, NULL},
        {"a@from.test", RELAYED, SMTP_NOTIFY_SUCCESS, "success"},
        {"a@from.test", RELAYED, ALL, "success"},
        {"", RELAYED, SMTP_NOTIFY_SUCCESS, NULL},
        {"a@from.test", DELIVERED_SILENTLY, 0, NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct home_mail mail = {.from = rows[i].from,
                                       .to = {{"b@one.test", rows[i].notify, NULL}},
                                       .age_ms = age_of(rows[i].fate)};
        char kind[64];

        home_begin(&home, "");
        struct queue_delivery *delivery = home_accept_and_take(&home, &mail);
        meet(delivery, rows[i].fate);
        home_settle(&home, delivery);
        snprintf(kind, sizeof(kind), "kind=%s", rows[i].kind != NULL ? rows[i].kind : "");
        if (home_sent(&home) != (rows[i].kind != NULL))
            fail_msg("row %zu: %u notices", i, (unsigned)home_sent(&home));
        if ((strstr(home_log(&home), kind) != NULL) != (rows[i].kind != NULL))
            fail_msg("row %zu: %s", i, home_log(&home));
        home_end(&home);
    }
}

static void the_reason_of_the_last_attempt_is_told_of_what_expired(void **state)
{
    const struct home_mail mail = {
        .from = "a@from.test", .to = {{"b@one.test", 0, NULL}}, .age_ms = 6 * 24 * HOME_HOUR_MS};

    home_begin(&home, "");
    struct queue_delivery *delivery = home_accept_and_take(&home, &mail);
    home_say(delivery, 0, QUEUE_DEFER, NOTICE_DELAYED, "451 4.7.1 come again");
    home_settle(&home, delivery);
    const struct home_text *text = home_read(&home, "from.test");
    home_expect(text, "The message waited for as long as it may");
    home_expect(text, "Action: failed\r\nStatus: 4.7.1\r\n");
    home_expect(text, "451 4.7.1 come again");
    home_expect_log(&home, "expire id=");
    /* Both those of the attempt. */
    home_expect_log(&home, "site=site.test reply=\"451 4.7.1 come again\" class=bad-mailbox");
    home_expect_log(&home, "class=expired size=");
    assert_int_equal(counter_get(&home.counters, COUNTER_expired), 1);
    home_expect_empty(&home);
    home_end(&home);
}

static void a_notice_that_bounces_is_not_told(void **state)
{
    home_begin(&home, "");
    home_bounce(&home, home_accept_and_take(&home, &plain));
    home_bounce(&home, home_take(&home, "from.test"));
    assert_int_equal(home_sent(&home), 1);
    home_expect_empty(&home);
    home_end(&home);
}

/* --- Limits --- */

static void beyond_the_limits_nobody_is_told(void **state)
{
    static const char *const configs[] = {"notices { per_minute = 2 }",
                                          "notices { per_address_per_minute = 2 }"};

    for (int i = 0; i < 2; i++) {
        struct rate_table *rates;
        assert_int_equal(rate_table_new(64, 1, &rates), 0);
        home_begin(&home, configs[i]);
        home.outbound.options.notice_rates = rates;
        for (int n = 0; n < 3; n++)
            home_bounce(&home, home_accept_and_take(&home, &plain));
        assert_int_equal(home_sent(&home), 2);
        assert_int_equal(home_suppressed(&home), 1);
        home_expect_log(&home, "kind=failure recipients=1 suppressed=rate");
        const struct home_mail other = {.from = "x@other.test", .to = {{"b@one.test", 0, NULL}}};
        home_bounce(&home, home_accept_and_take(&home, &other));
        assert_int_equal(home_sent(&home), i == 0 ? 2 : 3);
        rate_table_free(rates);
        home_end(&home);
    }
}

static void a_sender_that_is_no_address_is_not_told(void **state)
{
    const struct home_mail mail = {.from = "a@", .to = {{"b@one.test", 0, NULL}}};

    home_begin(&home, "");
    home_bounce(&home, home_accept_and_take(&home, &mail));
    assert_int_equal(home_suppressed(&home), 1);
    home_expect_log(&home, "suppressed=bad-address");
    home_expect_empty(&home);
    home_end(&home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_message_comes_back_to_its_sender),
        cmocka_unit_test(the_notice_has_the_flags_of_what_it_returns),
        cmocka_unit_test(a_sender_beyond_ascii_is_told_in_its_own_form),
        cmocka_unit_test(a_sender_in_an_international_domain_is_found_under_its_key),
        cmocka_unit_test(the_wishes_of_the_sender_are_in_it),
        cmocka_unit_test(large_and_binary_content_is_not_returned),
        cmocka_unit_test(recipients_that_failed_together_share_a_notice),
        cmocka_unit_test(three_kinds_are_three_notices),
        cmocka_unit_test(notify_decides_who_hears_of_it),
        cmocka_unit_test(the_reason_of_the_last_attempt_is_told_of_what_expired),
        cmocka_unit_test(a_notice_that_bounces_is_not_told),
        cmocka_unit_test(beyond_the_limits_nobody_is_told),
        cmocka_unit_test(a_sender_that_is_no_address_is_not_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
