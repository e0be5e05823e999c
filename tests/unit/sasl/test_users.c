/* The file of users: what is read, what is refused and in which words, and who is found. */

#include "sasl_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY44  "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
#define SALT24 "W22ZaJ0SNY7soEsUEjb6gQ=="
#define SCRAM  "SCRAM-SHA-256$"

static const struct user *find(const struct users *users, const char *name)
{
    return users_find(users, name, strlen(name));
}

static void a_file_is_read(void **state)
{
    struct users *users =
        make_users("# people\n"
                   "\n"
                   "alice@example.com:" YESCRYPT_OF_SECRET ":-\n"
                   "bob:" SHA512_OF_SECRET ":" SCRAM "1000000:" SALT24 "$" KEY44 ":" KEY44 "\n"
                   "locked:-:-\n"
                   "zo\xc3\xab:-:-\n" RFC7677_LINE "last:-:-");
    assert_int_equal(users_count(users), 6);
    const struct user *alice = find(users, "alice@example.com");
    assert_string_equal(alice->name, "alice@example.com");
    assert_int_equal(alice->name_size, 17);
    assert_string_equal(alice->crypt, YESCRYPT_OF_SECRET);
    assert_false(alice->has_scram);
    const struct user *bob = find(users, "bob");
    assert_string_equal(bob->crypt, SHA512_OF_SECRET);
    assert_true(bob->has_scram);
    assert_int_equal(bob->iterations, 1000000);
    const struct user *user = find(users, "user");
    assert_null(user->crypt);
    assert_int_equal(user->iterations, 4096);
    assert_int_equal(user->salt_size, 16);
    assert_memory_equal(user->salt, "\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81", 16);
    assert_int_equal(user->stored_key[0], 0x58);
    assert_int_equal(user->server_key[0], 0xc1);
    assert_non_null(find(users, "zo\xc3\xab"));
    assert_non_null(find(users, "last"));
    users_free(users);
}

static void only_the_very_name_is_found(void **state)
{
    struct users *users = make_users("alice:-:-\nbob:-:-\n");
    static const char *const others[] = {"", "alic", "alicee", "Alice", "carol", "alice\n", "# people"};
    for (size_t index = 0; index < sizeof(others) / sizeof(others[0]); index++)
        assert_null(find(users, others[index]));
    assert_null(users_find(users, "alice", 6));
    char longest[5000];
    memset(longest, 'a', sizeof(longest));
    assert_null(users_find(users, longest, sizeof(longest)));
    users_free(users);
}

static void mistakes_are_named_with_their_line(void **state)
{
    static const struct {
        const char *line;
        const char *wanted;
    } cases[] = {
        {"alice", "not of the form NAME:HASH:SCRAM"},
        {"alice:-", "not of the form NAME:HASH:SCRAM"},
        {":-:-", "this name cannot be used"},
        {"al ice:-:-", "this name cannot be used"},
        {"al\tice:-:-", "this name cannot be used"},
        {"*:-:-", "this name cannot be used"},
        {"al\xffice:-:-", "this name cannot be used"},
        {"bob:-:-", "bob has a line above already"},
        {"alice::-", "the hash of alice is neither"},
        {"alice:secret:-", "the hash of alice is neither"},
        {"alice:$1$salt$0123456789012345678901:-", "the hash of alice is neither"},
        {"alice:$y$j9T$95b01iEMJfbcPuYPHVY921:-", "the hash of alice is neither"},
        {"alice:" YESCRYPT_OF_SECRET "x:-", "the hash of alice is neither"},
        {"alice:" YESCRYPT_OF_SECRET ":", "the SCRAM part of alice: it does not begin"},
        {"alice:-:SCRAM-SHA-1$4096:" SALT24 "$" KEY44 ":" KEY44, "it does not begin"},
        {"alice:-:" SCRAM "4096:" SALT24 "$" KEY44, "its form is not"},
        {"alice:-:" SCRAM "4096:" SALT24, "its form is not"},
        {"alice:-:" SCRAM, "its form is not"},
        {"alice:-:" SCRAM "4095:" SALT24 "$" KEY44 ":" KEY44, "its iterations are not"},
        {"alice:-:" SCRAM "1000001:" SALT24 "$" KEY44 ":" KEY44, "its iterations are not"},
        {"alice:-:" SCRAM "99999999999999999999:" SALT24 "$" KEY44 ":" KEY44, "its iterations are not"},
        {"alice:-:" SCRAM "04096:" SALT24 "$" KEY44 ":" KEY44, "its iterations are not"},
        {"alice:-:" SCRAM "+4096:" SALT24 "$" KEY44 ":" KEY44, "its iterations are not"},
        {"alice:-:" SCRAM ":" SALT24 "$" KEY44 ":" KEY44, "its iterations are not"},
        {"alice:-:" SCRAM "4096:$" KEY44 ":" KEY44, "its salt is not"},
        {"alice:-:" SCRAM "4096:W22Z=$" KEY44 ":" KEY44, "its salt is not"},
        {"alice:-:" SCRAM "4096:" KEY44 KEY44 "$" KEY44 ":" KEY44, "its salt is not"},
        {"alice:-:" SCRAM "4096:" SALT24 "$" SALT24 ":" KEY44, "its keys are not"},
        {"alice:-:" SCRAM "4096:" SALT24 "$" KEY44 ":" KEY44 "\r", "its keys are not"},
        {"alice:-:" SCRAM "4096:" SALT24 "$" KEY44 ":", "its keys are not"},
        {"alice:-:-:-", "it does not begin"},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        char text[1024], error[512] = "", wanted[128];
        struct users *users = NULL;
        int size = snprintf(text, sizeof(text), "# comment\nbob:-:-\n\n%s\ncarol:-:-\n", cases[index].line);
        const char *path = make_file(text, (size_t)size);
        snprintf(wanted, sizeof(wanted), "%s:4: ", path);
        if (users_load(path, &users, error, sizeof(error)) != -EINVAL ||
            strncmp(error, wanted, strlen(wanted)) != 0 || strstr(error, cases[index].wanted) == NULL)
            fail_msg("%s: \"%s\"", cases[index].line, error);
        assert_null(users);
    }
    remove_file();
}

static void a_zero_octet_is_a_mistake(void **state)
{
    char error[512];
    struct users *users = NULL;
    const char *path = make_file("alice:-:-\nbob\0:-:-\n", 20);
    assert_int_equal(users_load(path, &users, error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, ":2: a zero octet"));
    remove_file();
}

static void a_file_that_others_may_read_is_refused(void **state)
{
    static const struct {
        mode_t mode;
        int result;
    } cases[] = {{0600, 0},      {0640, 0},      {0400, 0},      {0440, 0},      {0644, -EPERM},
                 {0604, -EPERM}, {0602, -EPERM}, {0660, -EPERM}, {0620, -EPERM}, {0601, -EPERM}};
    const char *path = make_file("alice:-:-\n", 10);
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        char error[512] = "";
        struct users *users = NULL;
        assert_int_equal(chmod(path, cases[index].mode), 0);
        assert_int_equal(users_load(path, &users, error, sizeof(error)), cases[index].result);
        if (cases[index].result != 0)
            assert_non_null(strstr(error, "lets others in"));
        users_free(users);
    }
    remove_file();
}

static void what_is_no_file_is_refused(void **state)
{
    char error[64];
    struct users *users = NULL;
    assert_int_equal(users_load("/tmp/no/such/file", &users, error, sizeof(error)), -ENOENT);
    assert_string_equal(error, "/tmp/no/such/file: cannot be opened: No such file or directory");
    assert_int_equal(users_load("/tmp", &users, error, sizeof(error)), -EINVAL);
    assert_string_equal(error, "/tmp: is not a regular file");
    /* an error is cut, never overrun */
    char few[10];
    assert_int_equal(users_load("/tmp/no/such/file", &users, few, sizeof(few)), -ENOENT);
    assert_string_equal(few, "/tmp/no/s");
    assert_null(users);
}

static void many_users_are_all_found(void **state)
{
    enum { COUNT = 20000, LINE_MAX_SIZE = 32 };
    char *text = malloc(COUNT * LINE_MAX_SIZE);
    size_t size = 0;
    assert_non_null(text);
    for (unsigned index = 0; index < COUNT; index++)
        size += (size_t)snprintf(text + size, LINE_MAX_SIZE, "user%u@example.com:-:-\n", index);
    struct users *users = make_users(text);
    free(text);
    assert_int_equal(users_count(users), COUNT);
    for (unsigned index = 0; index < COUNT; index++) {
        char name[LINE_MAX_SIZE];
        snprintf(name, sizeof(name), "user%u@example.com", index);
        assert_string_equal(find(users, name)->name, name);
    }
    assert_null(find(users, "user20000@example.com"));
    users_free(users);
}

static void decoys_are_those_that_could_log_in(void **state)
{
    struct users *users = make_users("locked:-:-\n"
                                     "hashed:" YESCRYPT_OF_SECRET ":-\n" RFC7677_LINE "locked2:-:-\n");
    assert_string_equal(users_decoy(users, 0)->name, "hashed");
    assert_string_equal(users_decoy(users, UINT32_MAX / 2)->name, "hashed");
    assert_string_equal(users_decoy(users, UINT32_MAX / 2 + 1)->name, "user");
    assert_string_equal(users_decoy(users, UINT32_MAX)->name, "user");
    assert_string_equal(users_scram_decoy(users, 0)->name, "user");
    assert_string_equal(users_scram_decoy(users, UINT32_MAX)->name, "user");
    users_free(users);
    users = make_users("locked:-:-\n");
    assert_null(users_decoy(users, 7));
    assert_null(users_scram_decoy(users, 7));
    users_free(users);
}

static void a_line_is_written_as_it_is_read(void **state)
{
    static const char *const lines[] = {
        "alice:" YESCRYPT_OF_SECRET ":-",
        "locked:-:-",
        "bob:" SHA512_OF_SECRET ":" SCRAM "4096:" SALT24 "$" KEY44 ":" KEY44,
    };
    for (size_t index = 0; index < sizeof(lines) / sizeof(lines[0]); index++) {
        char line[USER_LINE_MAX];
        struct users *users = make_users(lines[index]);
        const struct user *user = users_find(users, lines[index], strcspn(lines[index], ":"));
        assert_non_null(user);
        assert_int_equal(user_format(user, line, sizeof(line)), strlen(lines[index]));
        assert_string_equal(line, lines[index]);
        assert_int_equal(user_format(user, line, strlen(lines[index])), -ENOSPC);
        users_free(users);
    }
}

static void what_the_file_cannot_hold_is_not_written(void **state)
{
    char line[USER_LINE_MAX];
    struct user user = {.name = "a:b", .name_size = 3};
    assert_int_equal(user_format(&user, line, sizeof(line)), -EINVAL);
    user = (struct user){.name = "a", .name_size = 1, .crypt = "secret"};
    assert_int_equal(user_format(&user, line, sizeof(line)), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read),
        cmocka_unit_test(only_the_very_name_is_found),
        cmocka_unit_test(mistakes_are_named_with_their_line),
        cmocka_unit_test(a_zero_octet_is_a_mistake),
        cmocka_unit_test(a_file_that_others_may_read_is_refused),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(many_users_are_all_found),
        cmocka_unit_test(decoys_are_those_that_could_log_in),
        cmocka_unit_test(a_line_is_written_as_it_is_read),
        cmocka_unit_test(what_the_file_cannot_hold_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
