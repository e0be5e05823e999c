/* Outcomes: their class in the log, and what is remembered of them for the sender. */
#include <stdlib.h>
#include <string.h>

#include "gateway/message/envelope.h"
#include "gateway/outbound/told.h"
#include "proto/command.h"
#include "tests/unit/outbound/play.h"

#define ACCEPTED "=", MAIL, "S: 250 ok", "=", RCPT, "S: 250 ok"
#define TAKEN    "=", "C: DATA", "S: 354 go", "=", "D", "A: 250 2.0.0 taken"

static const char config[] = "site \"default\" { connections = 1 }\n"
                             "timeouts { outbound_idle = \"0\" }\n"
                             "retry { delay_warning = \"30s\" }";
static const char no_warning[] = "site \"default\" { connections = 1 }\n"
                                 "timeouts { outbound_idle = \"0\" }\n"
                                 "retry { delay_warning = \"0\" }";

static struct world world;
static struct peer peer;

static void (*worlds_send_home)(void *context, struct queue_delivery *delivery);

/* What is remembered stays, to be looked at. */
static void send_home(void *context, struct queue_delivery *delivery)
{
    void *told = delivery->told;

    delivery->told = NULL;
    worlds_send_home(context, delivery);
    delivery->told = told;
}

/* One message, one script. The log is good until the next call. */
static const char *meet(const char *const *script, struct message *message, bool is_marked, const char *with)
{
    peer_start(&peer, SCRIPTS(script), SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, with);
    worlds_send_home = world.outbound.options.send_home;
    world.outbound.options.send_home = send_home;
    world_send(&world, message);
    message->targets[0].marked = is_marked;
    world_run_home(&world, 1);
    world_run_closed(&world);
    const char *log = world_log(&world);
    world_deinit(&world);
    peer_stop(&peer);
    if (peer.failure[0] != 0)
        fail_msg("%s\nlog:\n%s", peer.failure, log);
    return log;
}

static void expect(const char *log, const char *part)
{
    if (strstr(log, part) == NULL)
        fail_msg("no \"%s\" in:\n%s", part, log);
}

static void expect_slice(struct smtp_slice slice, const char *text)
{
    assert_int_equal(slice.size, strlen(text));
    assert_memory_equal(slice.data, text, slice.size);
}

/* What is remembered of the only recipient. */
static bool is_remembered(const char *const *script, struct message *message, bool is_marked,
                          const char *with)
{
    (void)meet(script, message, is_marked, with);
    const bool is = told_of(&message->delivery, 0) != NULL;
    told_free(&message->delivery);
    return is;
}

static void a_bounce_is_remembered_in_the_words_of_the_peer(void **state)
{
    struct message message = ONE();
    const char *log = meet(
        SCRIPT(LOCKSTEP, "=", MAIL, "S: 250 ok", "=", RCPT,
               "S: 550-5.1.1 <b@to.test>: recipient address rejected:", "S: 550 5.1.1 User unknown", BYE),
        &message, false, config);
    expect(log, "class=bad-mailbox attempt=1");
    const struct told_reply *told = told_of(&message.delivery, 0);
    assert_non_null(told);
    assert_int_equal(told->action, NOTICE_FAILED);
    assert_int_equal(told->class, NOTICE_CLASS_BAD_MAILBOX);
    assert_int_equal(told->code, 550);
    assert_int_equal(told->status.class, 5);
    assert_int_equal(told->status.subject, 1);
    assert_int_equal(told->status.detail, 1);
    assert_true(told->reply.size > 40);
    assert_memory_equal(told->reply.data, "550-5.1.1 <b@to.test>: recipient", 32);
    expect_slice(told->host, "127.0.0.1");
    assert_true(told->at_ms > message.delivery.arrival_ms);
    told_free(&message.delivery);
    assert_null(message.delivery.told);
}

static void recipients_that_share_a_reply_share_its_record(void **state)
{
    struct message message = TWO();
    (void)meet(SCRIPT(LOCKSTEP, ACCEPTED, "=", "C: RCPT TO:<c@to.test>", "S: 250 ok", "=", "C: DATA",
                      "S: 354 go", "=", "D", "S: 554 5.7.1 no", BYE),
               &message, false, config);
    assert_non_null(told_of(&message.delivery, 0));
    assert_ptr_equal(told_of(&message.delivery, 0), told_of(&message.delivery, 1));
    told_free(&message.delivery);
}

static void ordinary_mail_is_not_remembered(void **state)
{
    struct message delivered = ONE();
    struct message deferred = ONE();
    struct message notice = FROM("", BODY);
    struct message unwanted = ONE(.notify = SMTP_NOTIFY_NEVER);
    struct message only_delay = ONE(.notify = SMTP_NOTIFY_DELAY);

    assert_false(is_remembered(SCRIPT(LOCKSTEP, ACCEPTED, TAKEN, BYE), &delivered, false, config));
    assert_false(
        is_remembered(SCRIPT(LOCKSTEP, "=", MAIL, "S: 450 later", BYE), &deferred, false, no_warning));
    assert_false(
        is_remembered(SCRIPT(LOCKSTEP, "=", "C: MAIL FROM:<>", "S: 550 no", BYE), &notice, false, config));
    assert_false(is_remembered(SCRIPT(LOCKSTEP, "=", MAIL, "S: 550 no", BYE), &unwanted, false, config));
    assert_false(is_remembered(SCRIPT(LOCKSTEP, "=", MAIL, "S: 550 no", BYE), &only_delay, false, config));
}

/* Mail that is late within a minute counts as late, as it is still to go home. */
static void a_late_deferral_is_remembered_once(void **state)
{
    struct message first = ONE();
    struct message told_before = ONE();
    struct message unwanted = ONE(.notify = SMTP_NOTIFY_FAILURE);
    const char *const *script = SCRIPT(LOCKSTEP, "=", MAIL, "S: 450 later", BYE);

    (void)meet(script, &first, false, config);
    const struct told_reply *told = told_of(&first.delivery, 0);
    assert_non_null(told);
    assert_int_equal(told->action, NOTICE_DELAYED);
    told_free(&first.delivery);
    assert_false(is_remembered(script, &told_before, true, config));
    assert_false(is_remembered(script, &unwanted, false, config));
}

static void what_may_expire_is_remembered_whoever_sent_it(void **state)
{
    static const char short_lived[] = "site \"default\" { connections = 1 }\n"
                                      "timeouts { outbound_idle = \"0\" }\n"
                                      "retry { max_age = \"1m\" schedule = {\"30s\"} delay_warning = \"0\" }";
    struct message notice = FROM("", BODY);

    assert_true(is_remembered(SCRIPT(LOCKSTEP, "=", "C: MAIL FROM:<>", "S: 450 later", BYE), &notice, false,
                              short_lived));
}

static void success_is_remembered_only_where_the_next_hop_does_not_tell(void **state)
{
    struct message relayed = ONE(.notify = SMTP_NOTIFY_SUCCESS);
    struct message passed_on = ONE(.notify = SMTP_NOTIFY_SUCCESS);

    (void)meet(SCRIPT(LOCKSTEP, ACCEPTED, TAKEN, BYE), &relayed, false, config);
    const struct told_reply *told = told_of(&relayed.delivery, 0);
    assert_non_null(told);
    assert_int_equal(told->action, NOTICE_RELAYED);
    expect_slice(told->reply, "250 2.0.0 taken");
    told_free(&relayed.delivery);
    assert_false(is_remembered(SCRIPT(HELLO, "S: 250-peer.test", "S: 250 DSN", "=", MAIL, "S: 250 ok", "=",
                                      "C: RCPT TO:<b@to.test> NOTIFY=SUCCESS", "S: 250 ok", TAKEN, BYE),
                               &passed_on, false, config));
}

/* Nobody is asked to take it again, and what was answered is not invented. */
static void what_was_delivered_before_is_told_and_not_sent(void **state)
{
    struct message message = {.from = "a@from.test",
                              .to = {"b@to.test", "c@to.test"},
                              .content = BODY,
                              .notify = SMTP_NOTIFY_SUCCESS,
                              .is_owed = true};

    peer_start(&peer, SCRIPTS(NULL), SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, config);
    worlds_send_home = world.outbound.options.send_home;
    world.outbound.options.send_home = send_home;
    world_send(&world, &message);
    assert_int_equal(message.homecomings, 1);
    assert_int_equal(outbound_session_count(&world.outbound), 0);
    for (uint32_t i = 0; i < 2; i++) {
        const struct told_reply *told = told_of(&message.delivery, i);
        assert_int_equal(message.targets[i].outcome, QUEUE_DONE);
        assert_non_null(told);
        assert_int_equal(told->action, NOTICE_RELAYED);
        assert_int_equal(told->code, 0);
        assert_int_equal(told->host.size, 0);
        assert_int_equal(told->at_ms, 0);
    }
    assert_null(strstr(world_log(&world), "deliver id="));
    told_free(&message.delivery);
    world_deinit(&world);
    peer_stop(&peer);
}

static void a_verdict_of_our_own_names_no_host(void **state)
{
    struct message message = ONE(.flags = ENVELOPE_SMTPUTF8);
    const char *log = meet(SCRIPT(LOCKSTEP, BYE), &message, false, config);

    expect(log, "bounce id=");
    const struct told_reply *told = told_of(&message.delivery, 0);
    assert_non_null(told);
    assert_int_equal(told->code, 0);
    assert_int_equal(told->host.size, 0);
    assert_int_equal(told->status.subject, 6);
    assert_int_equal(told->status.detail, 7);
    told_free(&message.delivery);
}

static void the_class_of_each_reply_is_logged(void **state)
{
    static const struct {
        const char *reply;
        const char *part;
    } rows[] = {
        {"S: 550 5.1.1 no such user here", "class=bad-mailbox"},
        {"S: 452 4.2.2 mailbox full", "class=quota"},
        {"S: 450 4.2.0 greylisted, please try again", "class=greylisted"},
        {"S: 421 4.7.28 our system has detected an unusual rate of mail", "class=rate-limited"},
        {"S: 550 5.7.1 blocked using zen.spamhaus.org", "class=spam-block"},
        {"S: 554 so what", "class=other"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct message message = ONE();
        const bool is_421 = strncmp(rows[i].reply, "S: 421", 6) == 0;
        const char *log =
            is_421 ? meet(SCRIPT(LOCKSTEP, "=", MAIL, rows[i].reply, "E"), &message, false, config)
                   : meet(SCRIPT(LOCKSTEP, "=", MAIL, rows[i].reply, BYE), &message, false, config);
        expect(log, rows[i].part);
        told_free(&message.delivery);
    }
}

static void a_lost_connection_has_a_class_too(void **state)
{
    struct message message = ONE();
    const char *log =
        meet(SCRIPT(LOCKSTEP, ACCEPTED, "=", "C: DATA", "S: 354 go", "=", "D", "X"), &message, false, config);

    expect(log, "class=connection possible_duplicate=");
    told_free(&message.delivery);
}

static void codes_are_read_where_they_stand(void **state)
{
    static const struct {
        const char *text;
        uint16_t code;
        struct smtp_status status;
    } rows[] = {
        {"550 5.1.1 no", 550, {5, 1, 1}},
        {"550-5.1.1 no", 550, {5, 1, 1}},
        {"4.4.1 cannot", 0, {4, 4, 1}},
        {"5.7.123", 0, {5, 7, 123}},
        {"450", 450, {0, 0, 0}},
        {"450 later", 450, {0, 0, 0}},
        {"", 0, {0, 0, 0}},
        {"55", 0, {0, 0, 0}},
        {"199 no", 0, {0, 0, 0}},
        {"5501 5.1.1", 0, {0, 0, 0}},
        {"550 5.1", 550, {0, 0, 0}},
        {"550 5.1.", 550, {0, 0, 0}},
        {"550 5..1", 550, {0, 0, 0}},
        {"550 3.1.1 x", 550, {0, 0, 0}},
        {"550 5.1.1.1 x", 550, {0, 0, 0}},
        {"550 5.1234.1 x", 550, {0, 0, 0}},
        {"192.0.2.1 x", 0, {0, 0, 0}},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct smtp_slice text = {rows[i].text, (uint32_t)strlen(rows[i].text)};
        const struct smtp_status status = told_status(text);
        if (told_code(text) != rows[i].code || status.class != rows[i].status.class ||
            status.subject != rows[i].status.subject || status.detail != rows[i].status.detail)
            fail_msg("%s: %u %u.%u.%u", rows[i].text, told_code(text), status.class, status.subject,
                     status.detail);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bounce_is_remembered_in_the_words_of_the_peer),
        cmocka_unit_test(recipients_that_share_a_reply_share_its_record),
        cmocka_unit_test(ordinary_mail_is_not_remembered),
        cmocka_unit_test(a_late_deferral_is_remembered_once),
        cmocka_unit_test(what_may_expire_is_remembered_whoever_sent_it),
        cmocka_unit_test(success_is_remembered_only_where_the_next_hop_does_not_tell),
        cmocka_unit_test(what_was_delivered_before_is_told_and_not_sent),
        cmocka_unit_test(a_verdict_of_our_own_names_no_host),
        cmocka_unit_test(the_class_of_each_reply_is_logged),
        cmocka_unit_test(a_lost_connection_has_a_class_too),
        cmocka_unit_test(codes_are_read_where_they_stand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
