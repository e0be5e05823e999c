/* Hashes and keys: those of others are understood, and ours are understood by us. */

#include "sasl_test.h"

#include <string.h>

static struct password_check check_of(const char *hash)
{
    struct user user = {.name = "u", .name_size = 1, .crypt = hash};
    struct password_check check;
    password_check_init(&check, &user, true);
    return check;
}

static void the_hashes_of_others_are_understood(void **state)
{
    static const char *const hashes[] = {YESCRYPT_OF_SECRET, SHA512_OF_SECRET};
    for (size_t index = 0; index < 2; index++) {
        struct password_check check = check_of(hashes[index]);
        assert_true(password_check_run(&check, "secret"));
        assert_false(password_check_run(&check, "Secret"));
        assert_false(password_check_run(&check, "secret "));
        assert_false(password_check_run(&check, ""));
        check.is_known = false;
        assert_false(password_check_run(&check, "secret"));
    }
}

static void new_hashes_differ_and_match(void **state)
{
    static const enum crypt_method methods[] = {CRYPT_YESCRYPT, CRYPT_SHA512};
    for (size_t index = 0; index < 2; index++) {
        char hash[USER_CRYPT_MAX + 1], other[USER_CRYPT_MAX + 1];
        assert_int_equal(crypt_hash("p\xc3\xa4ss", methods[index], hash), 0);
        assert_int_equal(crypt_hash("p\xc3\xa4ss", methods[index], other), 0);
        assert_string_not_equal(hash, other);
        assert_true(crypt_hash_is_valid(hash, strlen(hash)));
        assert_memory_equal(hash, index == 0 ? "$y$" : "$6$", 3);
        struct password_check check = check_of(hash);
        assert_true(password_check_run(&check, "p\xc3\xa4ss"));
        assert_false(password_check_run(&check, "pass"));
    }
}

static void scram_keys_are_those_of_the_rfc(void **state)
{
    struct users *users = make_users(RFC7677_LINE);
    const struct user *user = users_find(users, "user", 4);
    uint8_t stored_key[SCRAM_KEY_SIZE], server_key[SCRAM_KEY_SIZE];
    assert_int_equal(
        scram_derive("pencil", user->salt, user->salt_size, user->iterations, stored_key, server_key), 0);
    assert_memory_equal(stored_key, user->stored_key, SCRAM_KEY_SIZE);
    assert_memory_equal(server_key, user->server_key, SCRAM_KEY_SIZE);
    struct password_check check;
    password_check_init(&check, user, true);
    assert_int_equal(check.kind, PASSWORD_CHECK_SCRAM);
    assert_true(password_check_run(&check, "pencil"));
    assert_false(password_check_run(&check, "pencils"));
    users_free(users);
}

static void only_whole_hashes_of_two_methods_are_valid(void **state)
{
    static const struct {
        const char *hash;
        bool is_valid;
    } cases[] = {
        {YESCRYPT_OF_SECRET, true},
        {SHA512_OF_SECRET, true},
        {"", false},
        {"*", false},
        {"!", false},
        {"$y$", false},
        {"$6$", false},
        {"$6$rounds=1000$", false},
        {"$y$j9T$", false},
        {"$y$j9T$salt$", false},
        {"$y$j9T$salt", false},
        {"$5$rounds=5000$saltstring$0123456789012345678901234567890123456789012", false},
        {"$2b$05$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234", false},
        {"$y$j9T$95b01iEMJfbcPuYPHVY921$9vm5YOGXwkvDqNrdNvcvW82v4ZoNcogOgNE2l5Bb!O/", false},
        {"$y$j9T$95b0:iEMJfbcPuYPHVY921$9vm5YOGXwkvDqNrdNvcvW82v4ZoNcogOgNE2l5BbJO/", false},
        {"$y$j9T$$9vm5YOGXwkvDqNrdNvcvW82v4ZoNcogOgNE2l5BbJO/", false},
        {"$y$$95b01iEMJfbcPuYPHVY921$9vm5YOGXwkvDqNrdNvcvW82v4ZoNcogOgNE2l5BbJO/", false},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        if (crypt_hash_is_valid(cases[index].hash, strlen(cases[index].hash)) != cases[index].is_valid)
            fail_msg("%s", cases[index].hash);
    }
    /* No part of a valid one is valid. */
    for (size_t size = 0; size < strlen(SHA512_OF_SECRET); size++)
        assert_false(crypt_hash_is_valid(SHA512_OF_SECRET, size));
    for (size_t size = 0; size < strlen(YESCRYPT_OF_SECRET); size++)
        assert_false(crypt_hash_is_valid(YESCRYPT_OF_SECRET, size));
}

static void the_dummy_is_a_hash_that_nothing_matches(void **state)
{
    struct password_check check;
    password_check_init_dummy(&check);
    assert_true(crypt_hash_is_valid(check.crypt, strlen(check.crypt)));
    assert_false(password_check_run(&check, "secret"));
    assert_false(check.is_known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_hashes_of_others_are_understood),
        cmocka_unit_test(new_hashes_differ_and_match),
        cmocka_unit_test(scram_keys_are_those_of_the_rfc),
        cmocka_unit_test(only_whole_hashes_of_two_methods_are_valid),
        cmocka_unit_test(the_dummy_is_a_hash_that_nothing_matches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
