/* SCRAM against the vector of RFC 7677, a client of our own, and everything that a client may get wrong. */

#include "sasl_test.h"

#include "proto/base64.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct sasl_binding bindings[] = {
    {"tls-exporter", "0123456789abcdef0123456789abcdef", 32},
    {"tls-server-end-point", "hash of the certificate", 23},
};

static struct users *users;

static int load_users(void **state)
{
    users = make_users(RFC7677_LINE "hashed:" YESCRYPT_OF_SECRET ":-\n"
                                    "locked:-:-\n");
    return 0;
}

static int free_users(void **state)
{
    users_free(users);
    return 0;
}

static void the_vector_of_rfc_7677_holds(void **state)
{
    struct talk talk;
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    strcpy(talk.exchange.scram.server_nonce, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0");
    assert_int_equal(talk_say(&talk, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), SASL_CHALLENGE);
    assert_string_equal(talk.answer, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                                     "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    assert_int_equal(talk_say(&talk, "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                                     "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
                     SASL_CHALLENGE);
    assert_string_equal(talk.answer, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert_int_equal(talk_raw(&talk, ""), SASL_OK);
    assert_string_equal(sasl_user(&talk.exchange), "user");
}

static void the_empty_challenge_comes_first_where_there_is_no_initial_response(void **state)
{
    struct talk talk;
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_raw(&talk, NULL), SASL_CHALLENGE);
    assert_string_equal(talk.answer, "");
    assert_int_equal(talk_scram(&talk, "n,,", "user", "pencil", "", 0), SASL_CHALLENGE);
    assert_int_equal(talk_raw(&talk, ""), SASL_OK);
}

static void each_exchange_has_a_nonce_of_its_own(void **state)
{
    struct talk one, other;
    talk_begin(&one, SASL_SCRAM_SHA_256, users);
    talk_begin(&other, SASL_SCRAM_SHA_256, users);
    assert_int_equal(strlen(one.exchange.scram.server_nonce), 24);
    assert_string_not_equal(one.exchange.scram.server_nonce, other.exchange.scram.server_nonce);
}

static void a_wrong_password_fails_at_the_proof(void **state)
{
    struct talk talk;
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_scram(&talk, "n,,", "user", "pencils", "", 0), SASL_FAILED);
    assert_string_equal(sasl_reason(&talk.exchange), "wrong password");
    assert_string_equal(sasl_claimed_user(&talk.exchange), "user");
}

static void a_final_message_of_another_exchange_is_refused(void **state)
{
    struct talk talk;
    char final[1500];
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_say(&talk, "n,,n=user,r=cn"), SASL_CHALLENGE);
    client_final(final, sizeof(final), "n,,", "n=user,r=cn", talk.answer, "pencil", "", 0);
    assert_int_equal(talk_say(&talk, final), SASL_CHALLENGE);

    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_say(&talk, "n,,n=user,r=cn"), SASL_CHALLENGE);
    assert_int_equal(talk_say(&talk, final), SASL_FAILED);
    assert_string_equal(sasl_reason(&talk.exchange), "the nonce is of another exchange");
}

static void the_binding_of_the_connection_is_checked(void **state)
{
    static const struct {
        const char *gs2;
        const char *data;
        enum sasl_result result;
        const char *reason;
    } cases[] = {
        {"p=tls-exporter,,", "0123456789abcdef0123456789abcdef", SASL_CHALLENGE, ""},
        {"p=tls-server-end-point,,", "hash of the certificate", SASL_CHALLENGE, ""},
        {"p=tls-exporter,a=user,", "0123456789abcdef0123456789abcdef", SASL_CHALLENGE, ""},
        {"p=tls-exporter,,", "0123456789abcdef0123456789abcdeF", SASL_FAILED, "the channel binding differs"},
        {"p=tls-exporter,,", "0123456789abcdef0123456789abcde", SASL_FAILED, "the channel binding differs"},
        {"p=tls-exporter,,", "hash of the certificate", SASL_FAILED, "the channel binding differs"},
        {"p=tls-exporter,,", "", SASL_FAILED, "the channel binding differs"},
        {"p=tls-unique,,", "0123456789abcdef0123456789abcdef", SASL_FAILED, "an unknown channel binding"},
        {"p=tls-exporte,,", "x", SASL_FAILED, "an unknown channel binding"},
        {"n,,", "", SASL_FAILED, "the channel binding does not go with the mechanism"},
        {"y,,", "", SASL_FAILED, "the channel binding does not go with the mechanism"},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        struct talk talk;
        talk_begin_bound(&talk, SASL_SCRAM_SHA_256_PLUS, users, bindings, 2);
        enum sasl_result result = talk_scram(&talk, cases[index].gs2, "user", "pencil", cases[index].data,
                                             strlen(cases[index].data));
        assert_string_equal(sasl_reason(&talk.exchange), cases[index].reason);
        assert_int_equal(result, cases[index].result);
    }
}

/* A proof that is right for a GS2 header other than the one that was sent. */
static void a_header_that_changed_on_the_way_fails(void **state)
{
    struct talk talk;
    char final[1500];
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_say(&talk, "n,,n=user,r=cn"), SASL_CHALLENGE);
    client_final(final, sizeof(final), "y,,", "n=user,r=cn", talk.answer, "pencil", "", 0);
    assert_int_equal(talk_say(&talk, final), SASL_FAILED);
    assert_string_equal(sasl_reason(&talk.exchange), "the channel binding differs");
}

static void who_took_plus_out_of_the_offer_is_found_out(void **state)
{
    struct talk talk;
    /* We offered -PLUS: a client that could have bound itself must have seen a shorter list. */
    talk_begin_bound(&talk, SASL_SCRAM_SHA_256, users, bindings, 1);
    assert_int_equal(talk_say(&talk, "y,,n=user,r=cn"), SASL_FAILED);
    assert_string_equal(sasl_reason(&talk.exchange), "somebody took -PLUS out of the offer");
    /* One that cannot is welcome, */
    talk_begin_bound(&talk, SASL_SCRAM_SHA_256, users, bindings, 1);
    assert_int_equal(talk_scram(&talk, "n,,", "user", "pencil", "", 0), SASL_CHALLENGE);
    /* and so is one that could where we did not offer. */
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_scram(&talk, "y,,", "user", "pencil", "", 0), SASL_CHALLENGE);
    /* A binding belongs to -PLUS. */
    talk_begin_bound(&talk, SASL_SCRAM_SHA_256, users, bindings, 1);
    assert_int_equal(talk_say(&talk, "p=tls-exporter,,n=user,r=cn"), SASL_FAILED);
}

static void nobody_acts_for_another(void **state)
{
    struct talk talk;
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_say(&talk, "n,a=admin,n=user,r=cn"), SASL_FAILED);
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_scram(&talk, "n,a=user,", "user", "pencil", "", 0), SASL_CHALLENGE);
}

/* The challenge up to the nonce's end differs each time; what follows is the salt and the iterations. */
static void server_first_of(const char *name, char *salt, size_t size)
{
    struct talk talk;
    char first[600];
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    snprintf(first, sizeof(first), "n,,n=%s,r=cn", name);
    assert_int_equal(talk_say(&talk, first), SASL_CHALLENGE);
    const char *at = strstr(talk.answer, ",s=");
    assert_non_null(at);
    snprintf(salt, size, "%s", at);
}

static void who_does_not_exist_has_a_salt_all_the_same(void **state)
{
    static const char *const names[] = {"nobody", "hashed", "locked", "user2", "a space", "nobody"};
    char salts[6][200];
    for (size_t index = 0; index < 6; index++) {
        server_first_of(names[index], salts[index], sizeof(salts[index]));
        assert_int_equal(strlen(salts[index]), strlen(",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
        assert_non_null(strstr(salts[index], ",i=4096"));
        if (index > 0 && index < 5)
            assert_string_not_equal(salts[index], salts[index - 1]);
        struct talk talk;
        talk_begin(&talk, SASL_SCRAM_SHA_256, users);
        assert_int_equal(talk_scram(&talk, "n,,", names[index], "secret", "", 0), SASL_FAILED);
    }
    assert_string_equal(salts[0], salts[5]);
}

static void without_keys_of_anybody_stand_ins_look_like_the_default(void **state)
{
    struct users *empty = make_users("# nobody yet\n");
    struct talk talk;
    talk_begin(&talk, SASL_SCRAM_SHA_256, empty);
    assert_int_equal(talk_say(&talk, "n,,n=user,r=cn"), SASL_CHALLENGE);
    assert_non_null(strstr(talk.answer, "==,i=20000"));
    users_free(empty);
}

/* The keys that a stand-in has are nobody's: not even one who knows them gets in. */
static void zero_keys_do_not_let_in(void **state)
{
    struct talk talk;
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_say(&talk, "n,,n=nobody,r=cn"), SASL_CHALLENGE);
    char final[1500];
    client_final(final, sizeof(final), "n,,", "n=nobody,r=cn", talk.answer, "x", "", 0);
    /* Give the exchange the very keys that this proof is right for. */
    const struct sasl_scram *scram = &talk.exchange.scram;
    const char *salt_text = strstr(talk.answer, ",s=") + 3;
    uint8_t salt[SCRAM_SALT_MAX];
    struct smtp_slice slice = {salt_text, (uint32_t)(strchr(salt_text, ',') - salt_text)};
    int salt_size = smtp_base64_decode(slice, (char *)salt, sizeof(salt));
    assert_true(salt_size > 0);
    assert_int_equal(scram_derive("x", salt, (size_t)salt_size, 4096, talk.exchange.scram.stored_key,
                                  talk.exchange.scram.server_key),
                     0);
    assert_false(talk.exchange.is_known);
    assert_int_not_equal(scram->transcript_size, 0);
    assert_int_equal(talk_say(&talk, final), SASL_FAILED);
    assert_string_equal(sasl_reason(&talk.exchange), "unknown user");
}

static void names_are_unescaped(void **state)
{
    struct users *odd = make_users("a=b,c:-:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
                                   "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                                   "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n");
    struct talk talk;
    talk_begin(&talk, SASL_SCRAM_SHA_256, odd);
    assert_int_equal(talk_scram(&talk, "n,a=a=3Db=2Cc,", "a=3Db=2Cc", "pencil", "", 0), SASL_CHALLENGE);
    assert_int_equal(talk_raw(&talk, ""), SASL_OK);
    assert_string_equal(sasl_user(&talk.exchange), "a=b,c");
    users_free(odd);
}

static void malformed_first_messages_are_refused(void **state)
{
    static const struct {
        const char *message;
        enum sasl_result result;
    } cases[] = {
        {"", SASL_MALFORMED},
        {"n", SASL_MALFORMED},
        {"n,", SASL_MALFORMED},
        {"n,,", SASL_MALFORMED},
        {"n,,n=user", SASL_MALFORMED},
        {"n,,n=user,", SASL_MALFORMED},
        {"n,,n=user,r=", SASL_MALFORMED},
        {"n,,n=,r=cn", SASL_MALFORMED},
        {"n,,r=cn,n=user", SASL_MALFORMED},
        {"n,n=user,r=cn", SASL_MALFORMED},
        {"n,a=,n=user,r=cn", SASL_MALFORMED},
        {"n,b=user,n=user,r=cn", SASL_MALFORMED},
        {"N,,n=user,r=cn", SASL_MALFORMED},
        {"nn,,n=user,r=cn", SASL_MALFORMED},
        {"p,,n=user,r=cn", SASL_MALFORMED},
        {"p=,,n=user,r=cn", SASL_MALFORMED},
        {"F,n,,n=user,r=cn", SASL_MALFORMED},
        {",,n=user,r=cn", SASL_MALFORMED},
        {"n,,n=us=er,r=cn", SASL_MALFORMED},
        {"n,,n=user=,r=cn", SASL_MALFORMED},
        {"n,,n=user=2,r=cn", SASL_MALFORMED},
        {"n,,n=user=2c,r=cn", SASL_MALFORMED},
        {"n,,n=user=2D,r=cn", SASL_MALFORMED},
        {"n,,n=user=3C,r=cn", SASL_MALFORMED},
        {"n,a=us=,n=user,r=cn", SASL_MALFORMED},
        {"n,,n=user,r=c n", SASL_MALFORMED},
        {"n,,n=user,r=c\xc3\xa9n", SASL_MALFORMED},
        {"n,,n=us\xff"
         "er,r=cn",
         SASL_MALFORMED},
        {"n,,n=us\ter,r=cn", SASL_MALFORMED},
        {"n,,n=user,r=cn,", SASL_MALFORMED},
        {"n,,n=user,r=cn,x", SASL_MALFORMED},
        {"n,,n=user,r=cn,x=", SASL_MALFORMED},
        {"n,,n=user,r=cn,1=x", SASL_MALFORMED},
        {"n,,m=must,n=user,r=cn", SASL_FAILED},
        {"n,,n=user,r=cn,x=y,z=1", SASL_CHALLENGE},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        struct talk talk;
        talk_begin(&talk, SASL_SCRAM_SHA_256, users);
        if (talk_say(&talk, cases[index].message) != cases[index].result)
            fail_msg("%s: %s", cases[index].message, sasl_reason(&talk.exchange));
    }
}

static void the_longest_messages_fit(void **state)
{
    char bare[700], first[800], final[1500], nonce[200];
    memset(nonce, 'x', sizeof(nonce));
    for (int nonce_size = SASL_CLIENT_NONCE_MAX; nonce_size <= SASL_CLIENT_NONCE_MAX + 1; nonce_size++) {
        struct talk talk;
        snprintf(bare, sizeof(bare), "n=user,r=%.*s", nonce_size, nonce);
        snprintf(first, sizeof(first), "n,,%s", bare);
        talk_begin(&talk, SASL_SCRAM_SHA_256, users);
        enum sasl_result result = talk_say(&talk, first);
        assert_int_equal(result, nonce_size == SASL_CLIENT_NONCE_MAX ? SASL_CHALLENGE : SASL_MALFORMED);
    }
    /* An extension fills the message up to its limit; the longest nonce, binding and header go with it. */
    struct sasl_binding long_binding = {"tls-exporter", "", SASL_BINDING_DATA_MAX};
    memset(long_binding.data, 'b', sizeof(long_binding.data));
    for (int over = 0; over <= 1; over++) {
        struct talk talk;
        static const char gs2[] = "p=tls-exporter,a=user,";
        int size = snprintf(bare, sizeof(bare), "n=user,r=%.*s,x=", SASL_CLIENT_NONCE_MAX, nonce);
        size_t wanted = SASL_CLIENT_FIRST_MAX + (size_t)over - strlen(gs2);
        memset(bare + size, 'y', wanted - (size_t)size);
        bare[wanted] = '\0';
        snprintf(first, sizeof(first), "%s%s", gs2, bare);
        talk_begin_bound(&talk, SASL_SCRAM_SHA_256_PLUS, users, &long_binding, 1);
        strcpy(talk.exchange.scram.server_nonce, "0123456789012345678901234567890");
        assert_int_equal(talk_say(&talk, first), over ? SASL_MALFORMED : SASL_CHALLENGE);
        if (over)
            continue;
        client_final(final, sizeof(final), gs2, bare, talk.answer, "pencil", long_binding.data,
                     SASL_BINDING_DATA_MAX);
        assert_int_equal(talk_say(&talk, final), SASL_CHALLENGE);
        assert_int_equal(talk_raw(&talk, ""), SASL_OK);
    }
}

/* Each case edits the right final message: `from` becomes `to`. */
static void malformed_final_messages_are_refused(void **state)
{
    static const struct {
        const char *from;
        const char *to;
        enum sasl_result result;
    } cases[] = {
        {"c=biws", "c=biws", SASL_CHALLENGE},
        {"c=biws", "c=", SASL_MALFORMED},
        {"c=biws", "d=biws", SASL_MALFORMED},
        {"c=biws", "c=bi%s", SASL_MALFORMED},
        {"c=biws", "c=biw", SASL_MALFORMED},
        {"c=biws", "c=eSws", SASL_FAILED},
        {"c=biws,", "", SASL_MALFORMED},
        {"c=biws,", "c=biws,x=y,", SASL_MALFORMED},
        {",r=", ",R=", SASL_MALFORMED},
        {",r=cn", ",r=cm", SASL_FAILED},
        {",r=cn", ",r=c", SASL_FAILED},
        {",p=", ",x=y,p=", SASL_FAILED}, /* well formed, but the proof is over another text */
        {",p=", ",x=,p=", SASL_MALFORMED},
        {",p=", ",q=", SASL_MALFORMED},
        {",p=", ",p=AAAA", SASL_MALFORMED},
        {",p=", ",p=AAAA,p=", SASL_MALFORMED},
        {",p=", "", SASL_MALFORMED},
        {",p=", ",", SASL_MALFORMED},
        {",p=", ",\x01=", SASL_MALFORMED},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        struct talk talk;
        char final[1500], edited[1600];
        talk_begin(&talk, SASL_SCRAM_SHA_256, users);
        assert_int_equal(talk_say(&talk, "n,,n=user,r=cn"), SASL_CHALLENGE);
        client_final(final, sizeof(final), "n,,", "n=user,r=cn", talk.answer, "pencil", "", 0);
        const char *at = strstr(final, cases[index].from);
        assert_non_null(at);
        snprintf(edited, sizeof(edited), "%.*s%s%s", (int)(at - final), final, cases[index].to,
                 at + strlen(cases[index].from));
        if (talk_say(&talk, edited) != cases[index].result)
            fail_msg("%s: %s", edited, sasl_reason(&talk.exchange));
    }
}

/* Every prefix of a right final message, and every single octet of it changed, gets nobody in. */
static void no_damaged_proof_lets_in(void **state)
{
    struct talk talk, copy;
    char final[1500];
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_say(&talk, "n,,n=user,r=cn"), SASL_CHALLENGE);
    client_final(final, sizeof(final), "n,,", "n=user,r=cn", talk.answer, "pencil", "", 0);
    size_t size = strlen(final);
    for (size_t index = 0; index < size; index++) {
        copy = talk;
        assert_in_range(talk_send(&copy, final, index), SASL_FAILED, SASL_MALFORMED);
        copy = talk;
        final[index] ^= 1;
        assert_in_range(talk_send(&copy, final, size), SASL_FAILED, SASL_MALFORMED);
        final[index] ^= 1;
    }
    assert_int_equal(talk_send(&talk, final, size), SASL_CHALLENGE);
}

static void the_last_line_is_empty(void **state)
{
    struct talk talk;
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_scram(&talk, "n,,", "user", "pencil", "", 0), SASL_CHALLENGE);
    assert_int_equal(talk_say(&talk, "x"), SASL_MALFORMED);
    talk_begin(&talk, SASL_SCRAM_SHA_256, users);
    assert_int_equal(talk_scram(&talk, "n,,", "user", "pencil", "", 0), SASL_CHALLENGE);
    assert_int_equal(talk_raw(&talk, "*"), SASL_CANCELLED);
}

static void users_may_be_replaced_between_the_messages(void **state)
{
    struct users *before = make_users(RFC7677_LINE);
    struct talk talk;
    talk_begin(&talk, SASL_SCRAM_SHA_256, before);
    assert_int_equal(talk_raw(&talk, NULL), SASL_CHALLENGE);
    users_free(before);
    struct users *after = make_users(RFC7677_LINE);
    sasl_set_users(&talk.exchange, after);
    char final[1500];
    assert_int_equal(talk_say(&talk, "n,,n=user,r=cn"), SASL_CHALLENGE);
    users_free(after);
    client_final(final, sizeof(final), "n,,", "n=user,r=cn", talk.answer, "pencil", "", 0);
    assert_int_equal(talk_say(&talk, final), SASL_CHALLENGE);
    assert_int_equal(talk_raw(&talk, ""), SASL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vector_of_rfc_7677_holds),
        cmocka_unit_test(the_empty_challenge_comes_first_where_there_is_no_initial_response),
        cmocka_unit_test(each_exchange_has_a_nonce_of_its_own),
        cmocka_unit_test(a_wrong_password_fails_at_the_proof),
        cmocka_unit_test(a_final_message_of_another_exchange_is_refused),
        cmocka_unit_test(the_binding_of_the_connection_is_checked),
        cmocka_unit_test(a_header_that_changed_on_the_way_fails),
        cmocka_unit_test(who_took_plus_out_of_the_offer_is_found_out),
        cmocka_unit_test(nobody_acts_for_another),
        cmocka_unit_test(who_does_not_exist_has_a_salt_all_the_same),
        cmocka_unit_test(without_keys_of_anybody_stand_ins_look_like_the_default),
        cmocka_unit_test(zero_keys_do_not_let_in),
        cmocka_unit_test(names_are_unescaped),
        cmocka_unit_test(malformed_first_messages_are_refused),
        cmocka_unit_test(the_longest_messages_fit),
        cmocka_unit_test(malformed_final_messages_are_refused),
        cmocka_unit_test(no_damaged_proof_lets_in),
        cmocka_unit_test(the_last_line_is_empty),
        cmocka_unit_test(users_may_be_replaced_between_the_messages),
    };
    return cmocka_run_group_tests(tests, load_users, free_users);
}
