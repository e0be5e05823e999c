/* The way home of what is told at another time than that of an attempt: success notices that could not be
 * stored, and mail that is late before anybody tried it. */
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/job.h"
#include "gateway/outbound/report.h"
#include "proto/command.h"
#include "tests/unit/outbound/home.h"

static struct home home;

/* --- Owed --- */

static const struct home_mail wanted = {
    .from = "a@from.test",
    .to = {{"b@one.test", SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE, NULL},
           {"c@one.test", SMTP_NOTIFY_FAILURE, NULL}},
};

/* Delivered to both while nothing can be written: the first wants to be told. */
static void deliver_in_vain(const struct home_mail *mail)
{
    struct queue_delivery *delivery = home_accept_and_take(&home, mail);

    home.disk.options.write_fails = 1000000;
    home_say(delivery, 0, QUEUE_DONE, NOTICE_RELAYED, "250 2.0.0 taken");
    delivery->targets[1].outcome = QUEUE_DONE;
    report_settle(&home.outbound, delivery, NULL);
    while (report_count(&home.outbound) > 0)
        home_turn(&home);
    assert_int_equal(home_sent(&home), 0);
}

static struct queue_delivery *take_owed(void)
{
    struct queue_delivery *delivery = home_take_again(&home);

    assert_true(delivery->is_owed);
    assert_int_equal(delivery->target_count, 1);
    assert_memory_equal(delivery->targets[0].address, "b@one.test", 10);
    return delivery;
}

static void a_success_that_cannot_be_told_is_told_later_and_once(void **state)
{
    home_begin(&home, "");
    deliver_in_vain(&wanted);
    home_expect_log(&home, "kind=success recipients=1 error=EIO");
    disk_heal(&home.disk);
    home_settle_owed(&home, take_owed());
    assert_int_equal(home_sent(&home), 1);
    const struct home_text *text = home_read(&home, "from.test");
    home_expect(text, "Action: delivered\r\nStatus: 2.0.0\r\nDiagnostic-Code: X-Sluice; 2.0.0 it arrived");
    home_expect(text, "Final-Recipient: rfc822; b@one.test");
    home_expect_not(text, "c@one.test");
    home_expect_not(text, "Last-Attempt-Date");
    home_expect_not(text, "Remote-MTA");
    home_expect_empty(&home);
    home_end(&home);
}

/* Again and again in vain, through a restart and a power cut; it never counts as mail to be sent. */
static void what_is_owed_waits_until_it_can_be_told(void **state)
{
    home_begin(&home, "");
    deliver_in_vain(&wanted);
    for (uint32_t i = 0; i < 3; i++) {
        struct queue_delivery *delivery = take_owed();
        assert_int_equal(delivery->attempt, i + 2);
        outcome_owed(&home.site, delivery);
        report_settle(&home.outbound, delivery, NULL);
        while (report_count(&home.outbound) > 0)
            home_turn(&home);
    }
    disk_heal(&home.disk);
    home_restart(&home);
    home_crash(&home);
    home_settle_owed(&home, take_owed());
    home_expect(home_read(&home, "from.test"), "Action: delivered");
    assert_int_equal(home_sent(&home), 1);
    home_expect_empty(&home);
    home_end(&home);
}

static void what_is_owed_for_too_long_is_dropped_and_logged(void **state)
{
    struct home_mail old = wanted;

    old.age_ms = 6 * 24 * HOME_HOUR_MS;
    home_begin(&home, "");
    deliver_in_vain(&old);
    home_expect_log(&home, "kind=success recipients=1 suppressed=max-age");
    assert_int_equal(home_suppressed(&home), 1);
    assert_int_equal(counter_get(&home.counters, COUNTER_expired), 0);
    disk_heal(&home.disk);
    home_expect_empty(&home);
    home_end(&home);
}

/* The other recipient was refused, which could not be told either: it is tried again, and for itself. */
static void a_success_and_a_failure_are_told_apart(void **state)
{
    home_begin(&home, "");
    struct queue_delivery *delivery = home_accept_and_take(&home, &wanted);
    home.disk.options.write_fails = 1000000;
    home_say(delivery, 0, QUEUE_DONE, NOTICE_RELAYED, "250 2.0.0 taken");
    home_say(delivery, 1, QUEUE_DONE, NOTICE_FAILED, "550 5.1.1 no");
    report_settle(&home.outbound, delivery, NULL);
    while (report_count(&home.outbound) > 0)
        home_turn(&home);
    disk_heal(&home.disk);
    delivery = home_take_again(&home);
    assert_false(delivery->is_owed);
    assert_int_equal(delivery->target_count, 1);
    home_bounce(&home, delivery);
    home_expect(home_read(&home, "from.test"), "Final-Recipient: rfc822; c@one.test");
    home_settle_owed(&home, take_owed());
    home_expect(home_read(&home, "from.test"), "Final-Recipient: rfc822; b@one.test");
    home_expect_empty(&home);
    home_end(&home);
}

/* --- Late --- */

static const struct home_mail late = {
    .from = "a@from.test",
    .age_ms = 5 * HOME_HOUR_MS,
    .to = {{"b@one.test", 0, NULL}, {"c@one.test", SMTP_NOTIFY_FAILURE, NULL}},
};

static void late_mail_is_told_of_without_an_attempt(void **state)
{
    home_begin(&home, "");
    home_accept(&home, &late);
    home_accept(&home, &late);
    struct queue_delivery *delivery = home_take(&home, "one.test");
    const uint64_t id = delivery->id;
    assert_true(home_delay(&home, delivery));
    assert_int_equal(home_sent(&home), 1);
    const struct home_text *text = home_read(&home, "from.test");
    home_expect(text, "Action: delayed\r\nStatus: 4.4.1\r\n"
                      "Diagnostic-Code: X-Sluice; 4.4.1 nobody answers\r\nFinal-Log-ID");
    home_expect(text, "Final-Recipient: rfc822; b@one.test");
    home_expect_not(text, "c@one.test"); /* wants no such notice */
    home_expect_log(&home, "kind=delay recipients=1");
    assert_null(strstr(home_log(&home), "defer id="));

    delivery = home_take(&home, "one.test"); /* it kept its place, and is due at once */
    assert_int_equal(delivery->id, id);
    assert_int_equal(delivery->attempt, 1);
    assert_true(delivery->targets[0].marked && delivery->targets[1].marked);
    assert_false(home_delay(&home, delivery)); /* it was told before */
    assert_int_equal(home_sent(&home), 1);
    home_end(&home);
}

/* The notice and the mark are one write. */
static void late_mail_is_told_once_whenever_the_power_goes(void **state)
{
    uint32_t both = 0;

    for (uint32_t turns = 0; turns < 12; turns++) {
        home_begin(&home, "");
        struct queue_delivery *delivery = home_accept_and_take(&home, &late);
        struct job job = {.delivery = delivery, .site = &home.site, .state = JOB_WAITING};
        assert_int_equal(envelope_decode(delivery->meta, delivery->meta_size, &job.envelope), 0);
        outcome_delay_due(&job, SMTP_SLICE("4.4.1 nobody answers"));
        report_settle(&home.outbound, delivery, NULL);
        for (uint32_t i = 0; i < turns; i++)
            home_turn(&home);
        home_crash(&home);
        delivery = home_take(&home, "one.test");
        const bool is_marked = delivery->targets[0].marked;
        assert_int_equal(home_delay(&home, delivery), !is_marked);
        both += is_marked;
        (void)home_read(&home, "from.test");
        assert_null(home_take(&home, "from.test"));
        home_end(&home);
    }
    assert_true(both > 0 && both < 12);
}

/* One look is enough, whoever may be told: else the same mail would be looked at for ever. */
static void late_mail_that_nobody_hears_of_is_marked(void **state)
{
    struct home_mail rows[] = {late, late, late};

    rows[0].from = "";
    rows[1].to[0].notify = SMTP_NOTIFY_NEVER;
    rows[2].age_ms = HOME_HOUR_MS;
    for (uint32_t i = 0; i < 3; i++) {
        home_begin(&home, "");
        assert_false(home_delay(&home, home_accept_and_take(&home, &rows[i])));
        home_restart(&home);
        struct queue_delivery *delivery = home_take(&home, "one.test");
        for (uint32_t j = 0; j < 2; j++)
            assert_int_equal(delivery->targets[j].marked, i < 2); /* the last one is not late */
        assert_int_equal(home_sent(&home), 0);
        home_bounce(&home, delivery);
        home_end(&home);
    }
}

static void a_delay_that_cannot_be_told_is_told_later(void **state)
{
    home_begin(&home, "");
    struct queue_delivery *delivery = home_accept_and_take(&home, &late);
    struct job job = {.delivery = delivery, .site = &home.site, .state = JOB_WAITING};
    assert_int_equal(envelope_decode(delivery->meta, delivery->meta_size, &job.envelope), 0);
    home.disk.options.write_fails = 1000000;
    outcome_delay_due(&job, SMTP_SLICE("4.4.1 nobody answers"));
    report_settle(&home.outbound, delivery, NULL);
    while (report_count(&home.outbound) > 0)
        home_turn(&home);
    disk_heal(&home.disk);
    for (uint32_t i = 0; home_sent(&home) == 0 && i < 1000; i++) {
        delivery = home_take_again(&home);
        assert_int_equal(delivery->attempt, 1);
        assert_false(delivery->targets[0].marked);
        assert_true(home_delay(&home, delivery));
    }
    home_expect(home_read(&home, "from.test"), "Action: delayed");
    home_bounce(&home, home_take(&home, "one.test"));
    home_end(&home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_success_that_cannot_be_told_is_told_later_and_once),
        cmocka_unit_test(what_is_owed_waits_until_it_can_be_told),
        cmocka_unit_test(what_is_owed_for_too_long_is_dropped_and_logged),
        cmocka_unit_test(a_success_and_a_failure_are_told_apart),
        cmocka_unit_test(late_mail_is_told_of_without_an_attempt),
        cmocka_unit_test(late_mail_is_told_once_whenever_the_power_goes),
        cmocka_unit_test(late_mail_that_nobody_hears_of_is_marked),
        cmocka_unit_test(a_delay_that_cannot_be_told_is_told_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
