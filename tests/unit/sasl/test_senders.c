/* Which reverse-paths a login may use. */

#include "sasl_test.h"

#include "gateway/sasl/senders.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct senders *make_senders(const char *text)
{
    char error[512] = "";
    struct senders *senders = NULL;
    int result = senders_load(make_file(text, strlen(text)), &senders, error, sizeof(error));
    assert_string_equal(error, "");
    assert_int_equal(result, 0);
    remove_file();
    return senders;
}

static struct smtp_slice slice(const char *text)
{
    return (struct smtp_slice){text, (uint32_t)strlen(text)};
}

struct question {
    const char *login;
    const char *reverse_path;
    bool is_allowed;
};

static void ask_all(const char *text, const struct question *questions, size_t count)
{
    struct senders *senders = make_senders(text);
    for (size_t index = 0; index < count; index++) {
        const struct question *question = &questions[index];
        if (senders_allow(senders, slice(question->login), slice(question->reverse_path)) !=
            question->is_allowed)
            fail_msg("%s as <%s>: expected %d", question->login, question->reverse_path,
                     question->is_allowed);
    }
    senders_free(senders);
}

#define ASK_ALL(text, questions) ask_all((text), (questions), sizeof(questions) / sizeof((questions)[0]))

static void each_pattern_covers_what_it_says(void **state)
{
    static const struct question questions[] = {
        {"alice", "alice@example.com", true},
        {"alice", "alice@EXAMPLE.com", true},
        {"alice", "Alice@example.com", false}, /* local parts are their domain's business */
        {"alice", "sales@example.com", true},
        {"alice", "bob@example.com", false},
        {"alice", "alice@example.com.evil", false},
        {"alice", "alice@sub.example.com", false},
        {"alice", "", false},
        {"news", "anybody@example.com", true},
        {"news", "anybody@sub.example.com", false},
        {"news", "x@y@example.com", true}, /* a quoted local part may hold an "@" */
        {"news", "x@a.example.net", true},
        {"news", "x@a.b.Example.Net", true},
        {"news", "x@example.net", true},
        {"news", "x@badexample.net", false},
        {"news", "x@.example.net.", false},
        {"news", "", false},
        {"news", "postmaster", false},
        {"bouncer", "", true},
        {"bouncer", "bouncer@example.com", false},
        {"admin", "", true},
        {"admin", "who@ever.example", true},
        {"twice", "a@example.org", true},
        {"twice", "b@example.org", true},
        {"twice", "c@example.org", true},
        {"twice", "d@example.org", false},
        {"Alice", "alice@example.com", false},
    };
    ASK_ALL("# login  what it may use\n"
            "alice  alice@Example.com  sales@example.com\n"
            "   \t \n"
            "news\t@example.com \t @.example.NET  \n"
            "  bouncer <>\n"
            "admin *\n"
            "twice a@example.org\n"
            "twice b@example.org c@example.org",
            questions);
}

static void who_has_no_line_may_use_its_own_name(void **state)
{
    static const struct question questions[] = {
        {"carol@example.com", "carol@example.com", true},
        {"carol@example.com", "carol@EXAMPLE.COM", true},
        {"carol@example.com", "dave@example.com", false},
        {"carol@example.com", "", false},
        {"carol", "carol@example.com", false},
        {"carol", "carol", false},
        {"carol", "", false},
        {"erin@example.com", "erin@example.com", false}, /* has a line */
        {"erin@example.com", "boss@example.com", true},
    };
    ASK_ALL("erin@example.com boss@example.com\n", questions);
}

static void a_line_of_star_is_for_all_without_a_line(void **state)
{
    static const struct question questions[] = {
        {"carol@example.com", "carol@example.com", false},
        {"carol@example.com", "info@example.org", true},
        {"carol", "info@example.org", true},
        {"alice", "info@example.org", false},
        {"alice", "alice@example.com", true},
    };
    ASK_ALL("* @example.org\nalice alice@example.com\n", questions);
}

static void mistakes_are_named_with_their_line(void **state)
{
    static const struct {
        const char *line;
        const char *wanted;
    } cases[] = {
        {"alice", "'alice' has nothing that it may use"},
        {"alice alice", "'alice' is none of"},
        {"alice @", "'@' is none of"},
        {"alice @.", "'@.' is none of"},
        {"alice @..com", "'@..com' is none of"},
        {"alice a@", "'a@' is none of"},
        {"alice a@.example.com", "'a@.example.com' is none of"},
        {"alice @a@b", "'@a@b' is none of"},
        {"alice **", "'**' is none of"},
        {"alice <a@b>", "'<a@b>' is none of"},
        {"alice *  # all", "'#' is none of"},
        {"alice a\xff@b", "is none of"},
        {"al:ice a@b", "no user can have this name"},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        char text[256], error[512] = "", wanted[128];
        struct senders *senders = NULL;
        int size = snprintf(text, sizeof(text), "bob *\n%s\ncarol *\n", cases[index].line);
        const char *path = make_file(text, (size_t)size);
        int result = senders_load(path, &senders, error, sizeof(error));
        snprintf(wanted, sizeof(wanted), "%s:2: ", path);
        if (result != -EINVAL || strncmp(error, wanted, strlen(wanted)) != 0 ||
            strstr(error, cases[index].wanted) == NULL)
            fail_msg("%s: \"%s\"", cases[index].line, error);
        assert_null(senders);
    }
    remove_file();
}

static void a_file_that_others_may_write_is_refused(void **state)
{
    char error[512];
    struct senders *senders = NULL;
    const char *path = make_file("bob *\n", 6);
    assert_int_equal(chmod(path, 0646), 0);
    assert_int_equal(senders_load(path, &senders, error, sizeof(error)), -EPERM);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(senders_load(path, &senders, error, sizeof(error)), 0);
    senders_free(senders);
    remove_file();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_pattern_covers_what_it_says),
        cmocka_unit_test(who_has_no_line_may_use_its_own_name),
        cmocka_unit_test(a_line_of_star_is_for_all_without_a_line),
        cmocka_unit_test(mistakes_are_named_with_their_line),
        cmocka_unit_test(a_file_that_others_may_write_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
