/* PLAIN and LOGIN, and what all mechanisms have in common. */

#include "sasl_test.h"

#include <stdlib.h>
#include <string.h>

static struct users *users;

static int load_users(void **state)
{
    users = make_users("alice:" YESCRYPT_OF_SECRET ":-\n"
                       "bob@example.com:" SHA512_OF_SECRET ":-\n"
                       "locked:-:-\n" RFC7677_LINE);
    return 0;
}

static int free_users(void **state)
{
    users_free(users);
    return 0;
}

#define SEND(talk, literal) talk_send((talk), (literal), sizeof(literal) - 1)

static void mechanisms_have_names(void **state)
{
    for (int index = 0; index < SASL_MECHANISM_COUNT; index++) {
        const char *name = sasl_mechanism_name((enum sasl_mechanism)index);
        enum sasl_mechanism mechanism = SASL_MECHANISM_COUNT;
        assert_true(sasl_mechanism_parse(name, strlen(name), &mechanism));
        assert_int_equal(mechanism, index);
    }
    enum sasl_mechanism mechanism = SASL_MECHANISM_COUNT;
    assert_true(sasl_mechanism_parse("scram-Sha-256-pluS", 18, &mechanism));
    assert_int_equal(mechanism, SASL_SCRAM_SHA_256_PLUS);
    static const char *const others[] = {"",         "PLAI",        "PLAINS",
                                         "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256-PLUSS"};
    for (size_t index = 0; index < sizeof(others) / sizeof(others[0]); index++)
        assert_false(sasl_mechanism_parse(others[index], strlen(others[index]), &mechanism));
}

static void plain_lets_in_who_knows_the_password(void **state)
{
    struct talk talk;
    talk_begin(&talk, SASL_PLAIN, users);
    assert_int_equal(SEND(&talk, "\0alice\0secret"), SASL_CHECK_PASSWORD);
    assert_int_equal(talk_check(&talk), SASL_OK);
    assert_string_equal(sasl_user(&talk.exchange), "alice");
    assert_string_equal(sasl_reason(&talk.exchange), "");

    talk_begin(&talk, SASL_PLAIN, users);
    assert_int_equal(talk_raw(&talk, NULL), SASL_CHALLENGE);
    assert_int_equal(talk.answer_size, 0);
    assert_int_equal(SEND(&talk, "bob@example.com\0bob@example.com\0secret"), SASL_CHECK_PASSWORD);
    assert_int_equal(talk_check(&talk), SASL_OK);
    assert_string_equal(sasl_user(&talk.exchange), "bob@example.com");
}

static void plain_serves_users_that_have_only_scram(void **state)
{
    struct talk talk;
    talk_begin(&talk, SASL_PLAIN, users);
    assert_int_equal(SEND(&talk, "\0user\0pencil"), SASL_CHECK_PASSWORD);
    assert_int_equal(talk_check(&talk), SASL_OK);
    talk_begin(&talk, SASL_PLAIN, users);
    assert_int_equal(SEND(&talk, "\0user\0pencil2"), SASL_CHECK_PASSWORD);
    assert_int_equal(talk_check(&talk), SASL_FAILED);
}

static void all_failures_of_plain_go_the_same_way(void **state)
{
    static const struct {
        const char *message;
        size_t size;
        const char *reason;
    } cases[] = {
        {"\0alice\0wrong", 12, "wrong password"},   {"\0nobody\0secret", 14, "unknown user"},
        {"\0locked\0secret", 14, "locked user"},    {"\0Alice\0secret", 13, "unknown user"},
        {"\0alice\0secret ", 14, "wrong password"}, {"\0*\0secret", 9, "unknown user"},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        struct talk talk;
        talk_begin(&talk, SASL_PLAIN, users);
        assert_int_equal(talk_send(&talk, cases[index].message, cases[index].size), SASL_CHECK_PASSWORD);
        assert_int_equal(talk_check(&talk), SASL_FAILED);
        assert_string_equal(sasl_reason(&talk.exchange), cases[index].reason);
    }
}

/* The stand-in of an unknown user is a real user's hash: knowing that one's password is of no use. */
static void a_stand_ins_password_lets_nobody_in(void **state)
{
    struct users *one = make_users("alice:" YESCRYPT_OF_SECRET ":-\n");
    struct talk talk;
    struct hasher_job job;
    talk_begin(&talk, SASL_PLAIN, one);
    assert_int_equal(SEND(&talk, "\0nobody\0secret"), SASL_CHECK_PASSWORD);
    sasl_prepare_check(&talk.exchange, &job);
    assert_string_equal(job.check.crypt, YESCRYPT_OF_SECRET);
    assert_false(password_check_run(&job.check, job.password));
    /* and neither is a hasher that errs */
    assert_int_equal(sasl_password_checked(&talk.exchange, true), SASL_FAILED);
    users_free(one);
}

static void without_users_there_is_still_work_to_do(void **state)
{
    struct users *none = make_users("");
    struct talk talk;
    struct hasher_job job;
    talk_begin(&talk, SASL_PLAIN, none);
    assert_int_equal(SEND(&talk, "\0nobody\0secret"), SASL_CHECK_PASSWORD);
    sasl_prepare_check(&talk.exchange, &job);
    assert_true(crypt_hash_is_valid(job.check.crypt, strlen(job.check.crypt)));
    assert_false(job.check.is_known);
    assert_int_equal(sasl_password_checked(&talk.exchange, password_check_run(&job.check, job.password)),
                     SASL_FAILED);
    users_free(none);
}

static void malformed_messages_of_plain_are_refused(void **state)
{
    static const struct {
        const char *message;
        size_t size;
        enum sasl_result result;
    } cases[] = {
        {"", 0, SASL_MALFORMED},
        {"\0", 1, SASL_MALFORMED},
        {"\0\0", 2, SASL_MALFORMED},
        {"alice", 5, SASL_MALFORMED},
        {"\0alice", 6, SASL_MALFORMED},
        {"\0alice\0", 7, SASL_MALFORMED},
        {"\0\0secret", 8, SASL_MALFORMED},
        {"\0alice\0secret\0", 14, SASL_MALFORMED},
        {"\0alice\0sec\0ret", 14, SASL_MALFORMED},
        {"\0alice\0sec\nret", 14, SASL_MALFORMED},
        {"\0ali\nce\0secret", 14, SASL_MALFORMED},
        {"\0ali\xff\xff\0secret", 14, SASL_MALFORMED},
        {"\0alice\0\xed\xa0\x80", 10, SASL_MALFORMED},
        {"bob\0alice\0secret", 16, SASL_FAILED},
        {"alic\0alice\0secret", 17, SASL_FAILED},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        struct talk talk;
        talk_begin(&talk, SASL_PLAIN, users);
        assert_int_equal(talk_send(&talk, cases[index].message, cases[index].size), cases[index].result);
        assert_string_not_equal(sasl_reason(&talk.exchange), "");
    }
}

static void names_and_passwords_have_a_longest(void **state)
{
    for (size_t over = 0; over <= 1; over++) {
        char message[2 + 2 * (USER_NAME_MAX + 1)];
        struct talk talk;
        size_t size = USER_NAME_MAX + over;
        memset(message, 'x', sizeof(message));
        message[0] = '\0';
        message[1 + size] = '\0';
        talk_begin(&talk, SASL_PLAIN, users);
        assert_int_equal(talk_send(&talk, message, 2 + size + 6), over ? SASL_FAILED : SASL_CHECK_PASSWORD);
        memset(message, 'x', sizeof(message));
        memcpy(message, "\0alice", 7);
        talk_begin(&talk, SASL_PLAIN, users);
        assert_int_equal(talk_send(&talk, message, 7 + size), over ? SASL_FAILED : SASL_CHECK_PASSWORD);
    }
}

static void login_asks_for_both(void **state)
{
    struct talk talk;
    talk_begin(&talk, SASL_LOGIN, users);
    assert_int_equal(talk_raw(&talk, NULL), SASL_CHALLENGE);
    assert_string_equal(talk.answer, "Username:");
    assert_int_equal(talk_say(&talk, "alice"), SASL_CHALLENGE);
    assert_string_equal(talk.answer, "Password:");
    assert_int_equal(talk_say(&talk, "secret"), SASL_CHECK_PASSWORD);
    assert_int_equal(talk_check(&talk), SASL_OK);
    assert_string_equal(sasl_user(&talk.exchange), "alice");
}

static void login_takes_the_name_as_initial_response(void **state)
{
    struct talk talk;
    talk_begin(&talk, SASL_LOGIN, users);
    assert_int_equal(talk_say(&talk, "nobody"), SASL_CHALLENGE);
    assert_string_equal(talk.answer, "Password:");
    assert_string_equal(sasl_claimed_user(&talk.exchange), "nobody");
    assert_int_equal(talk_say(&talk, "secret"), SASL_CHECK_PASSWORD);
    assert_int_equal(talk_check(&talk), SASL_FAILED);
}

static void login_refuses_what_is_malformed(void **state)
{
    struct talk talk;
    talk_begin(&talk, SASL_LOGIN, users);
    assert_int_equal(talk_raw(&talk, ""), SASL_MALFORMED);
    talk_begin(&talk, SASL_LOGIN, users);
    assert_int_equal(SEND(&talk, "ali\0ce"), SASL_MALFORMED);
    talk_begin(&talk, SASL_LOGIN, users);
    assert_int_equal(talk_say(&talk, "alice"), SASL_CHALLENGE);
    assert_int_equal(talk_raw(&talk, ""), SASL_MALFORMED);
    talk_begin(&talk, SASL_LOGIN, users);
    assert_int_equal(talk_say(&talk, "alice"), SASL_CHALLENGE);
    assert_int_equal(SEND(&talk, "secret\0"), SASL_MALFORMED);
}

static void what_is_not_base64_is_refused(void **state)
{
    static const char *const lines[] = {"=",
                                        "A",
                                        "AGFsaWNlAHNlY3JldA",
                                        "AGFsaWNl AHNlY3JldA==",
                                        "AGFsaWNlAHNlY3JldB==",
                                        "AGFsaWNlAHNlY3JldA==\r",
                                        "**"};
    for (size_t index = 0; index < sizeof(lines) / sizeof(lines[0]); index++) {
        struct talk talk;
        talk_begin(&talk, SASL_PLAIN, users);
        assert_int_equal(talk_raw(&talk, lines[index]), SASL_MALFORMED);
        assert_string_equal(sasl_reason(&talk.exchange), "not base64");
    }
}

static void a_line_has_a_longest(void **state)
{
    char line[SASL_LINE_MAX + 5];
    struct talk talk;
    memset(line, 'A', sizeof(line));
    line[SASL_LINE_MAX] = '\0';
    talk_begin(&talk, SASL_PLAIN, users);
    assert_int_equal(talk_raw(&talk, line), SASL_MALFORMED);
    assert_string_not_equal(sasl_reason(&talk.exchange), "a line too long");
    line[SASL_LINE_MAX] = 'A';
    line[SASL_LINE_MAX + 4] = '\0';
    talk_begin(&talk, SASL_PLAIN, users);
    assert_int_equal(talk_raw(&talk, line), SASL_MALFORMED);
    assert_string_equal(sasl_reason(&talk.exchange), "a line too long");
}

static void a_client_may_give_up(void **state)
{
    struct talk talk;
    for (int index = 0; index < SASL_SCRAM_SHA_256_PLUS; index++) {
        talk_begin(&talk, (enum sasl_mechanism)index, users);
        assert_int_equal(talk_raw(&talk, NULL), SASL_CHALLENGE);
        assert_int_equal(talk_raw(&talk, "*"), SASL_CANCELLED);
    }
    talk_begin(&talk, SASL_LOGIN, users);
    assert_int_equal(talk_say(&talk, "alice"), SASL_CHALLENGE);
    assert_int_equal(talk_raw(&talk, "*"), SASL_CANCELLED);
}

static bool holds(const void *memory, size_t size, const char *text)
{
    return memmem(memory, size, text, strlen(text)) != NULL;
}

static void no_password_is_left_behind(void **state)
{
    struct talk talk;
    struct hasher_job job;
    talk_begin(&talk, SASL_PLAIN, users);
    assert_int_equal(SEND(&talk, "\0alice\0secret"), SASL_CHECK_PASSWORD);
    assert_true(holds(&talk.exchange, sizeof(talk.exchange), "secret"));
    sasl_prepare_check(&talk.exchange, &job);
    assert_false(holds(talk.exchange.password, sizeof(talk.exchange.password), "secret"));
    assert_string_equal(job.password, "secret");
    sasl_exchange_wipe(&talk.exchange);
    assert_false(holds(&talk.exchange, sizeof(talk.exchange), "alice"));
    assert_false(holds(&talk.exchange, sizeof(talk.exchange), "a secret of 32 octets"));
    sasl_exchange_wipe(&talk.exchange);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mechanisms_have_names),
        cmocka_unit_test(plain_lets_in_who_knows_the_password),
        cmocka_unit_test(plain_serves_users_that_have_only_scram),
        cmocka_unit_test(all_failures_of_plain_go_the_same_way),
        cmocka_unit_test(a_stand_ins_password_lets_nobody_in),
        cmocka_unit_test(without_users_there_is_still_work_to_do),
        cmocka_unit_test(malformed_messages_of_plain_are_refused),
        cmocka_unit_test(names_and_passwords_have_a_longest),
        cmocka_unit_test(login_asks_for_both),
        cmocka_unit_test(login_takes_the_name_as_initial_response),
        cmocka_unit_test(login_refuses_what_is_malformed),
        cmocka_unit_test(what_is_not_base64_is_refused),
        cmocka_unit_test(a_line_has_a_longest),
        cmocka_unit_test(a_client_may_give_up),
        cmocka_unit_test(no_password_is_left_behind),
    };
    return cmocka_run_group_tests(tests, load_users, free_users);
}
