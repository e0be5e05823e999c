/* The way home over restarts, power cuts, disks that cannot be read, and disks that take nothing: no notice
 * is lost, and none is queued twice. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/report.h"
#include "tests/unit/outbound/home.h"

static struct home home;

static const struct home_mail plain = {.from = "a@from.test", .to = {{"b@one.test", 0, NULL}}};

/* --- Once --- */

static void defer_late(struct queue_delivery *delivery)
{
    assert_non_null(delivery);
    for (uint32_t i = 0; i < delivery->target_count; i++)
        home_say(delivery, i, QUEUE_DEFER, NOTICE_DELAYED, "450 later");
    report_settle(&home.outbound, delivery, "site.test");
    while (report_count(&home.outbound) > 0)
        home_turn(&home);
}

static void a_delay_is_told_once_even_after_a_restart(void **state)
{
    const struct home_mail mail = {
        .from = "a@from.test", .to = {{"b@one.test", 0, NULL}}, .age_ms = 5 * HOME_HOUR_MS};

    home_begin(&home, "");
    defer_late(home_accept_and_take(&home, &mail));
    home_expect(home_read(&home, "from.test"), "Will-Retry-Until: ");
    defer_late(home_take_again(&home));
    home_restart(&home);
    defer_late(home_take_again(&home));
    home_crash(&home);
    struct queue_delivery *delivery = home_take_again(&home);
    assert_true(delivery->targets[0].marked);
    defer_late(delivery);
    assert_int_equal(home_sent(&home), 1);
    assert_null(home_take(&home, "from.test"));
    home_bounce(&home, home_take_again(&home));
    assert_int_equal(home_sent(&home), 2); /* the failure is another matter */
    (void)home_read(&home, "from.test");
    home_expect_empty(&home);
    home_end(&home);
}

/* The power goes at each moment of the write in turn: outcome and notice are both there, or none is. */
static void notice_and_outcome_survive_together_or_not_at_all(void **state)
{
    uint32_t both = 0;

    for (uint32_t turns = 0; turns < 12; turns++) {
        home_begin(&home, "");
        struct queue_delivery *delivery = home_accept_and_take(&home, &plain);
        home_say(delivery, 0, QUEUE_DONE, NOTICE_FAILED, "550 no");
        report_settle(&home.outbound, delivery, NULL);
        for (uint32_t i = 0; i < turns; i++)
            home_turn(&home);
        home_crash(&home);
        delivery = home_take(&home, "one.test");
        if (delivery != NULL) {
            assert_null(home_take(&home, "from.test"));
            home_bounce(&home, delivery);
        } else {
            both++;
        }
        (void)home_read(&home, "from.test");
        home_expect_empty(&home);
        home_end(&home);
    }
    assert_true(both > 0 && both < 12);
}

/* --- The original from disk --- */

static void content_on_disk_is_read_back(void **state)
{
    static char content[40000];

    memcpy(content, "Subject: on disk\r\n\r\n", 20);
    for (size_t i = 20; i < sizeof(content) - 1; i++)
        content[i] = i % 100 == 98 ? '\r' : i % 100 == 99 ? '\n' : (char)('a' + i % 26);
    const struct home_mail mail = {
        .from = "a@from.test", .to = {{"b@one.test", 0, NULL}}, .content = content};
    home_begin(&home, "");
    home_accept(&home, &mail);
    home_restart(&home);
    struct queue_delivery *delivery = home_take(&home, "one.test");
    assert_null(delivery->pieces[0].data);
    home_bounce(&home, delivery);
    home_expect(home_read(&home, "from.test"), content);
    home_expect_empty(&home);
    home_end(&home);
}

/* `is_header`: the header alone is wanted. */
static void lose_content(bool is_header, bool is_damaged, int error)
{
    const struct home_mail mail = {
        .from = "a@from.test", .to = {{"b@one.test", 0, NULL}}, .flags = is_header ? ENVELOPE_RET_HDRS : 0};

    home_begin(&home, "");
    home.is_damaged = is_damaged;
    home.read_error = error;
    home_accept(&home, &mail);
    home_restart(&home);
    home_bounce(&home, home_take(&home, "one.test"));
    const struct home_text *text = home_read(&home, "from.test");
    home_expect(text, "Action: failed");
    home_expect_not(text, "rfc822\r\n"); /* neither type of a part with the original */
    home_expect_not(text, "rfc822-headers");
    home_expect_not(text, "is attached.");
    home_expect_not(text, "Subject: hello");
    assert_int_equal(home_sent(&home), 1);
    home_expect_empty(&home);
    home_end(&home);
}

static void without_readable_content_the_notice_goes_without(void **state)
{
    lose_content(false, true, 0);
    lose_content(false, false, -EIO);
    lose_content(true, true, 0);
    lose_content(true, false, -EIO);
}

/* The commit record of a message names each run of its content, and must fit into one page. Of a message that
 * just fits, the notice with all of it does not. */
static void a_notice_that_is_too_large_goes_without_content(void **state)
{
    enum { PAGE = 16 * 1024, MOST = 17 << 20 };
    char *large = malloc(MOST + 1);
    struct home_mail mail = {.from = "a@from.test", .to = {{"b@one.test", 0, NULL}}, .content = large};
    size_t size = MOST;
    int error;

    assert_non_null(large);
    memset(large, 'x', MOST);
    home_begin(&home, "notices { content_max = \"1G\" }");
    home.queue_options.page_size = PAGE;
    home_restart(&home);
    do {
        size -= PAGE / 2;
        large[size] = '\0';
        error = home_try_to_accept(&home, &mail);
    } while (error == -EMSGSIZE);
    assert_int_equal(error, 0);
    assert_true(size < MOST - PAGE);
    home_bounce(&home, home_take(&home, "one.test"));
    const struct home_text *text = home_read(&home, "from.test");
    home_expect(text, "Action: failed");
    home_expect_not(text, "xxx");
    assert_int_equal(home_sent(&home), 1);
    home_expect_empty(&home);
    home_end(&home);
    free(large);
}

/* --- Many at a time --- */

static void many_reports_take_turns(void **state)
{
    static char content[30000];
    struct queue_delivery *deliveries[40];

    memcpy(content, "Subject: x\r\n\r\n", 14);
    memset(content + 14, 'x', sizeof(content) - 15);
    const struct home_mail mail = {
        .from = "a@from.test", .to = {{"b@one.test", 0, NULL}}, .content = content};
    home_begin(&home, "");
    for (int i = 0; i < 40; i++)
        deliveries[i] = home_accept_and_take(&home, &mail);
    for (int i = 0; i < 40; i++) {
        home_say(deliveries[i], 0, QUEUE_DONE, NOTICE_FAILED, "550 no");
        report_settle(&home.outbound, deliveries[i], NULL);
    }
    assert_int_equal(report_count(&home.outbound), 40);
    home_rest(&home);
    assert_int_equal(home.most_open, REPORTS_OPEN_MAX);
    for (int i = 0; i < 40; i++)
        home_expect(home_read(&home, "from.test"), content);
    home_expect_empty(&home);
    home_end(&home);
}

/* However many there are, none is turned away; but whoever takes mail out of the queue is asked to stop. */
static void none_of_thousands_is_turned_away(void **state)
{
    enum { COUNT = 6000, EACH = 3 };
    static struct queue_delivery *deliveries[COUNT];
    static bool is_told[COUNT];
    uint32_t told = 0;

    home_begin(&home, "");
    for (uint32_t i = 0; i < COUNT; i++) {
        char from[32];
        snprintf(from, sizeof(from), "%u@from.test", i);
        const struct home_mail mail = {.from = from, .to = {{"b@one.test", 0, NULL}}};
        deliveries[i] = home_accept_and_take(&home, &mail);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(reports_are_many(&home.outbound), i >= REPORTS_MANY);
        home_say(deliveries[i], 0, QUEUE_DONE, i % EACH ? NOTICE_FAILED : NOTICE_RELAYED, "550 no");
        report_settle(&home.outbound, deliveries[i], NULL);
    }
    assert_int_equal(report_count(&home.outbound), COUNT);
    assert_true(list_is_empty(&home.site.dirty_link));
    while (reports_are_many(&home.outbound))
        home_turn(&home);
    assert_false(list_is_empty(&home.site.dirty_link)); /* it goes on taking */
    list_remove(&home.site.dirty_link);
    assert_true(report_count(&home.outbound) > 0);
    home_rest(&home);
    assert_int_equal(home_sent(&home), COUNT);
    assert_int_equal(queue_stats(home.queue).messages, COUNT);
    for (; told < COUNT; told++) {
        const uint32_t number = (uint32_t)strtoul(home_read(&home, "from.test")->to, NULL, 10);
        assert_true(number < COUNT && !is_told[number]);
        is_told[number] = true;
    }
    home_expect_empty(&home);
    home_end(&home);
}

/* --- What cannot be stored --- */

static void what_cannot_be_told_now_is_told_later(void **state)
{
    const struct home_mail mail = {.from = "a@from.test",
                                   .to = {{"b@one.test", 0, NULL}, {"c@one.test", 0, NULL}}};

    home_begin(&home, "");
    struct queue_delivery *delivery = home_accept_and_take(&home, &mail);
    home.disk.options.write_fails = 1000000;
    home_say(delivery, 0, QUEUE_DONE, NOTICE_FAILED, "550 no");
    delivery->targets[1].outcome = QUEUE_DONE; /* delivered */
    report_settle(&home.outbound, delivery, NULL);
    for (int i = 0; report_count(&home.outbound) > 0 && i < 100000; i++)
        home_turn(&home);
    assert_int_equal(home_sent(&home), 0);
    home_expect_log(&home, "kind=failure recipients=1 error=EIO");
    disk_heal(&home.disk);
    delivery = home_take_again(&home);
    assert_non_null(delivery);
    assert_int_equal(delivery->target_count, 1);
    assert_memory_equal(delivery->targets[0].address, "b@one.test", 10);
    home_bounce(&home, delivery);
    home_expect(home_read(&home, "from.test"), "Final-Recipient: rfc822; b@one.test");
    home_expect_empty(&home);
    home_end(&home);
}

static void what_expired_untold_stays_until_it_is_told(void **state)
{
    const struct home_mail mail = {
        .from = "a@from.test", .to = {{"b@one.test", 0, NULL}}, .age_ms = 6 * 24 * HOME_HOUR_MS};

    home_begin(&home, "");
    struct queue_delivery *delivery = home_accept_and_take(&home, &mail);
    home.disk.options.write_fails = 1000000;
    delivery->targets[0].outcome = QUEUE_DEFER;
    report_settle(&home.outbound, delivery, NULL);
    for (int i = 0; report_count(&home.outbound) > 0 && i < 100000; i++)
        home_turn(&home);
    assert_int_equal(counter_get(&home.counters, COUNTER_expired), 0);
    disk_heal(&home.disk);
    delivery = home_take_again(&home);
    assert_non_null(delivery);
    delivery->targets[0].outcome = QUEUE_DEFER;
    home_settle(&home, delivery);
    assert_int_equal(counter_get(&home.counters, COUNTER_expired), 1);
    home_expect(home_read(&home, "from.test"), "Final-Recipient: rfc822; b@one.test");
    home_expect_empty(&home);
    home_end(&home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_delay_is_told_once_even_after_a_restart),
        cmocka_unit_test(notice_and_outcome_survive_together_or_not_at_all),
        cmocka_unit_test(content_on_disk_is_read_back),
        cmocka_unit_test(without_readable_content_the_notice_goes_without),
        cmocka_unit_test(a_notice_that_is_too_large_goes_without_content),
        cmocka_unit_test(many_reports_take_turns),
        cmocka_unit_test(none_of_thousands_is_turned_away),
        cmocka_unit_test(what_cannot_be_told_now_is_told_later),
        cmocka_unit_test(what_expired_untold_stays_until_it_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
