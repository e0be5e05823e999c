/* Our own login: the vector of RFC 7677, our client against our server, and everything that a server may get
 * wrong. */

#include "sasl_test.h"

#include "gateway/sasl/sasl_client.h"
#include "proto/base64.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct smtp_slice slice(const char *text)
{
    return (struct smtp_slice){text, (uint32_t)strlen(text)};
}

/* What the client said last, in clear. */
static char said[SASL_CLIENT_TEXT_MAX + 1];
static size_t said_size;

static void note(const char *text, size_t size)
{
    int clear = smtp_base64_decode((struct smtp_slice){text, (uint32_t)size}, said, SASL_CLIENT_TEXT_MAX);
    assert_true(clear >= 0);
    said_size = (size_t)clear;
    said[clear] = '\0';
}

static void begin(struct sasl_client *login, enum sasl_mechanism mechanism, const char *user,
                  const char *password)
{
    assert_int_equal(sasl_client_begin(login, mechanism, slice(user), slice(password)), 0);
}

static void first(struct sasl_client *login)
{
    char text[SASL_CLIENT_TEXT_MAX];
    size_t size = sasl_client_first(login, SASL_CLIENT_TEXT_MAX, text);
    assert_true(size > 0);
    note(text, size);
}

/* The challenge in clear. */
static enum sasl_client_result hear(struct sasl_client *login, const char *challenge,
                                    struct sasl_client_salted *salted)
{
    char text[SASL_CLIENT_TEXT_MAX], coded[2 * SASL_CLIENT_TEXT_MAX];
    size_t coded_size = smtp_base64_encode(challenge, strlen(challenge), coded, sizeof(coded));
    size_t size = 0;

    said[0] = '\0';
    said_size = 0;
    enum sasl_client_result result =
        sasl_client_step(login, (struct smtp_slice){coded, (uint32_t)coded_size}, salted, text, &size);
    if (result == SASL_CLIENT_SAY)
        note(text, size);
    return result;
}

static void the_vector_of_rfc_7677_holds(void **state)
{
    struct sasl_client login;
    begin(&login, SASL_SCRAM_SHA_256, "user", "pencil");
    strcpy(login.nonce, "rOprNGfwEbeRWgbNEkqO");
    first(&login);
    assert_string_equal(said, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    assert_int_equal(hear(&login,
                          "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,"
                          "i=4096",
                          NULL),
                     SASL_CLIENT_SAY);
    assert_string_equal(said, "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                              "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    assert_false(sasl_client_accepts(&login));
    assert_int_equal(hear(&login, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", NULL), SASL_CLIENT_SAY);
    assert_int_equal(said_size, 0);
    assert_true(sasl_client_accepts(&login));
    sasl_client_wipe(&login);
    assert_null(memchr(&login, 'p', sizeof(login)));
}

/* Our client with our server until one of them ends: the server's last word. */
static enum sasl_result converse(struct sasl_client *login, struct talk *talk,
                                 struct sasl_client_salted *salted)
{
    char text[SASL_CLIENT_TEXT_MAX + 1];
    size_t size = sasl_client_first(login, SASL_CLIENT_TEXT_MAX, text);
    text[size] = '\0';
    enum sasl_result result = talk_raw(talk, size > 0 ? text : NULL);
    while (result == SASL_CHALLENGE) {
        char coded[SASL_CHALLENGE_MAX + 1];
        size_t coded_size = smtp_base64_encode(talk->answer, talk->answer_size, coded, sizeof(coded));
        if (sasl_client_step(login, (struct smtp_slice){coded, (uint32_t)coded_size}, salted, text, &size) !=
            SASL_CLIENT_SAY)
            return SASL_CANCELLED;
        text[size] = '\0';
        result = talk_raw(talk, text);
    }
    return result == SASL_CHECK_PASSWORD ? talk_check(talk) : result;
}

static void each_mechanism_gets_into_our_own_server(void **state)
{
    static const enum sasl_mechanism mechanisms[] = {SASL_PLAIN, SASL_LOGIN, SASL_SCRAM_SHA_256};
    struct users *users = make_users(RFC7677_LINE);

    for (size_t i = 0; i < sizeof(mechanisms) / sizeof(mechanisms[0]); i++) {
        for (int is_wrong = 0; is_wrong < 2; is_wrong++) {
            struct sasl_client login;
            struct talk talk;
            talk_begin(&talk, mechanisms[i], users);
            begin(&login, mechanisms[i], "user", is_wrong ? "pencils" : "pencil");
            assert_int_equal(converse(&login, &talk, NULL), is_wrong ? SASL_FAILED : SASL_OK);
            assert_int_equal(sasl_client_accepts(&login), !is_wrong || mechanisms[i] != SASL_SCRAM_SHA_256);
        }
    }
    users_free(users);
}

static void a_name_with_comma_and_equals_is_escaped(void **state)
{
    struct sasl_client login;
    begin(&login, SASL_SCRAM_SHA_256, "a=b,c", "x");
    first(&login);
    assert_memory_equal(said, "n,,n=a=3Db=2Cc,r=", 17);
}

static void plain_and_login_say_name_and_password(void **state)
{
    struct sasl_client login;
    begin(&login, SASL_PLAIN, "user@example.com", "pass word");
    first(&login);
    assert_int_equal(said_size, 27);
    assert_memory_equal(said, "\0user@example.com\0pass word", 27);
    assert_int_equal(hear(&login, "", NULL), SASL_CLIENT_STRANGE);

    begin(&login, SASL_LOGIN, "user", "secret");
    char text[SASL_CLIENT_TEXT_MAX];
    assert_int_equal(sasl_client_first(&login, SASL_CLIENT_TEXT_MAX, text), 0);
    assert_false(sasl_client_accepts(&login));
    assert_int_equal(hear(&login, "Username:", NULL), SASL_CLIENT_SAY);
    assert_string_equal(said, "user");
    size_t size = 0; /* not even base64 */
    assert_int_equal(sasl_client_step(&login, slice("Password:"), NULL, text, &size), SASL_CLIENT_SAY);
    note(text, size);
    assert_string_equal(said, "secret");
    assert_int_equal(hear(&login, "Again:", NULL), SASL_CLIENT_STRANGE);
}

static void what_does_not_fit_the_command_follows_the_empty_challenge(void **state)
{
    struct sasl_client login;
    char text[SASL_CLIENT_TEXT_MAX];
    begin(&login, SASL_PLAIN, "user", "secret");
    assert_int_equal(sasl_client_first(&login, 15, text), 0);
    assert_false(sasl_client_accepts(&login));
    assert_int_equal(hear(&login, "", NULL), SASL_CLIENT_SAY);
    assert_memory_equal(said, "\0user\0secret", 12);
    assert_true(sasl_client_accepts(&login));

    begin(&login, SASL_PLAIN, "user", "secret");
    assert_int_equal(sasl_client_first(&login, 16, text), 16);

    begin(&login, SASL_SCRAM_SHA_256, "user", "secret");
    assert_int_equal(sasl_client_first(&login, 15, text), 0);
    assert_int_equal(hear(&login, "not empty", NULL), SASL_CLIENT_STRANGE);
}

static void a_strange_first_message_ends_scram(void **state)
{
    static const struct {
        const char *before; /* our nonce */
        const char *after;
        const char *reason;
    } cases[] = {
        {"", NULL, "the server's first message is not SCRAM's"},
        {"r=", "x", "the server's first message is not SCRAM's"},
        {"r=", "x,s=W22ZaJ0SNY7soEsUEjb6gQ==", "the server's first message is not SCRAM's"},
        {"s=W22ZaJ0SNY7soEsUEjb6gQ==,r=", "x,i=4096", "the server's first message is not SCRAM's"},
        {"m=yes,r=", "x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "the server's first message is not SCRAM's"},
        {"r=", "x,s=W22ZaJ0SNY7soEsUEjb6gQ=,i=4096", "the server's first message is not SCRAM's"},
        {"r=", "x,s=,i=4096", "the server's first message is not SCRAM's"},
        {"r=", "x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=many", "the server's first message is not SCRAM's"},
        {"r=", "x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4294971392", "the server's first message is not SCRAM's"},
        {"r=", "x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,1=2", "the server's first message is not SCRAM's"},
        {"r=", ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "the server's nonce is of another login"},
        {"r=x", ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", "the server's nonce is of another login"},
        {"r=", "x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095",
         "the server asks for so few rounds that the password could be guessed from our answer"},
        {"r=", "x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=100001", "the server asks for too many rounds"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sasl_client login;
        char message[300];
        begin(&login, SASL_SCRAM_SHA_256, "user", "pencil");
        first(&login);
        snprintf(message, sizeof(message), "%s%s%s", cases[i].before,
                 cases[i].after != NULL ? login.nonce : "", cases[i].after != NULL ? cases[i].after : "");
        assert_int_equal(hear(&login, message, NULL), SASL_CLIENT_STRANGE);
        assert_string_equal(sasl_client_reason(&login), cases[i].reason);
        assert_false(sasl_client_accepts(&login));
    }
}

static void a_nonce_that_leaves_no_room_for_the_answer_is_refused(void **state)
{
    struct sasl_client login;
    char nonce[1200], message[1400];
    memset(nonce, 'n', sizeof(nonce));
    for (size_t size = 900; size < 1100; size += 4) {
        begin(&login, SASL_SCRAM_SHA_256, "user", "pencil");
        first(&login);
        snprintf(message, sizeof(message), "r=%s%.*s,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", login.nonce,
                 (int)size, nonce);
        enum sasl_client_result result = hear(&login, message, NULL);
        assert_true(result == SASL_CLIENT_SAY || result == SASL_CLIENT_STRANGE);
        assert_int_equal(result == SASL_CLIENT_SAY, said_size > 0);
    }
    assert_int_equal(hear(&login, "", NULL), SASL_CLIENT_STRANGE);
}

static void a_server_without_the_password_is_not_believed(void **state)
{
    static const struct {
        const char *message;
        enum sasl_client_result result;
        const char *reason;
    } cases[] = {
        {"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", SASL_CLIENT_FALSE,
         "the server does not know the password"},
        {"e=other-error", SASL_CLIENT_FALSE, "the server ended SCRAM with an error"},
        {"v=6rri", SASL_CLIENT_STRANGE, "the server's final message is not SCRAM's"},
        {"", SASL_CLIENT_STRANGE, "the server's final message is not SCRAM's"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sasl_client login;
        char message[200];
        begin(&login, SASL_SCRAM_SHA_256, "user", "pencil");
        first(&login);
        snprintf(message, sizeof(message), "r=%sx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", login.nonce);
        assert_int_equal(hear(&login, message, NULL), SASL_CLIENT_SAY);
        assert_int_equal(hear(&login, cases[i].message, NULL), cases[i].result);
        assert_string_equal(sasl_client_reason(&login), cases[i].reason);
        assert_false(sasl_client_accepts(&login));
    }
}

static void the_salted_password_is_kept_for_the_same_salt_and_password(void **state)
{
    struct users *users = make_users(RFC7677_LINE);
    struct sasl_client_salted salted = {0}, before;
    struct sasl_client login;
    struct talk talk;

    for (int i = 0; i < 2; i++) {
        before = salted;
        talk_begin(&talk, SASL_SCRAM_SHA_256, users);
        begin(&login, SASL_SCRAM_SHA_256, "user", "pencil");
        assert_int_equal(converse(&login, &talk, &salted), SASL_OK);
    }
    assert_memory_equal(&before, &salted, sizeof(salted));

    /* That it is used at all: what was kept is not asked for twice. */
    salted.password[0] ^= 1;
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    begin(&login, SASL_SCRAM_SHA_256, "user", "pencil");
    assert_int_equal(converse(&login, &talk, &salted), SASL_FAILED);

    /* Another password has nothing to do with it. */
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    begin(&login, SASL_SCRAM_SHA_256, "user", "pencils");
    assert_int_equal(converse(&login, &talk, &salted), SASL_FAILED);
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    begin(&login, SASL_SCRAM_SHA_256, "user", "pencil");
    assert_int_equal(converse(&login, &talk, &salted), SASL_OK);
    users_free(users);
}

static void the_best_mechanism_is_chosen(void **state)
{
    static const struct {
        const char *names;
        int best; /* -1: none */
    } cases[] = {
        {"PLAIN LOGIN SCRAM-SHA-256 SCRAM-SHA-256-PLUS", SASL_SCRAM_SHA_256},
        {"LOGIN plain", SASL_PLAIN},
        {"  login  ", SASL_LOGIN},
        {"GSSAPI SCRAM-SHA-256-PLUS CRAM-MD5", -1},
        {"PLAINLOGIN", -1},
        {"", -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum sasl_mechanism best = SASL_MECHANISM_COUNT;
        bool found = sasl_client_choose(sasl_client_offered(slice(cases[i].names)), &best);
        assert_int_equal(found, cases[i].best >= 0);
        if (found)
            assert_int_equal(best, cases[i].best);
    }
}

static void what_is_no_text_is_not_sent(void **state)
{
    struct sasl_client login;
    char longest[USER_PASSWORD_MAX + 2];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(sasl_client_begin(&login, SASL_PLAIN, slice("user"), slice("")), -EINVAL);
    assert_int_equal(sasl_client_begin(&login, SASL_PLAIN, slice(""), slice("x")), -EINVAL);
    assert_int_equal(sasl_client_begin(&login, SASL_PLAIN, slice("us\ner"), slice("x")), -EINVAL);
    assert_int_equal(sasl_client_begin(&login, SASL_PLAIN, slice("user"), slice(longest)), -EINVAL);
    assert_int_equal(sasl_client_begin(&login, SASL_PLAIN, slice("user"), slice(longest + 1)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vector_of_rfc_7677_holds),
        cmocka_unit_test(each_mechanism_gets_into_our_own_server),
        cmocka_unit_test(a_name_with_comma_and_equals_is_escaped),
        cmocka_unit_test(plain_and_login_say_name_and_password),
        cmocka_unit_test(what_does_not_fit_the_command_follows_the_empty_challenge),
        cmocka_unit_test(a_strange_first_message_ends_scram),
        cmocka_unit_test(a_nonce_that_leaves_no_room_for_the_answer_is_refused),
        cmocka_unit_test(a_server_without_the_password_is_not_believed),
        cmocka_unit_test(the_salted_password_is_kept_for_the_same_salt_and_password),
        cmocka_unit_test(the_best_mechanism_is_chosen),
        cmocka_unit_test(what_is_no_text_is_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
