#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmocka_base.h"
#include "gateway/base/clock.h"
#include "gateway/base/table.h"

static char path[64];

static int make_path(void **state)
{
    snprintf(path, sizeof(path), "/tmp/sluice-table-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int remove_path(void **state)
{
    return unlink(path);
}

static void write_bytes(const char *text, size_t size)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static struct table *load(const char *text, enum table_form form)
{
    char error[TABLE_ERROR_SIZE] = "";
    struct table *table = NULL;
    write_bytes(text, strlen(text));
    if (table_load(path, form, &table, error, sizeof(error)) < 0)
        fail_msg("%s", error);
    return table;
}

static void expect_failure(const char *text, size_t size, enum table_form form, unsigned line,
                           const char *reason)
{
    char error[TABLE_ERROR_SIZE] = "";
    char expected[TABLE_ERROR_SIZE];
    struct table *table = NULL;
    write_bytes(text, size);
    int result = table_load(path, form, &table, error, sizeof(error));
    if (result == 0)
        fail_msg("loaded \"%.60s\"", text);
    assert_int_equal(result, -EINVAL);
    assert_null(table);
    snprintf(expected, sizeof(expected), "%s:%u: %s", path, line, reason);
    assert_int_equal(strncmp(error, expected, strlen(expected)), 0);
}

static bool has(const struct table *table, const char *key)
{
    return table_has(table, key, strlen(key));
}

static bool has_address(const struct table *table, const char *local, const char *domain, char delimiter)
{
    return table_has_address(table, local, strlen(local), domain, strlen(domain), delimiter);
}

static void check_value(const struct table *table, const char *key, const char *expected)
{
    const char *value;
    size_t size;
    if (!table_find(table, key, strlen(key), &value, &size))
        fail_msg("\"%s\" is not there", key);
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(value, expected, size);
}

static void lines_as_people_write_them(void **state)
{
    struct table *table = load("\xef\xbb\xbf# recipients\n"
                               "\n"
                               "  \t \n"
                               "Alice@Example.COM\r\n"
                               "\tbob@example.com  \n"
                               "  # indented\n"
                               "carol@example.com # left in May\n"
                               "dave#1@example.com\n"
                               "alice@example.com\n"
                               "postmaster\n"
                               "@example.org\n"
                               "last@example.com",
                               TABLE_ADDRESSES);
    assert_int_equal(table_count(table), 7);
    assert_true(has(table, "alice@example.com"));
    assert_true(has(table, "ALICE@EXAMPLE.com"));
    assert_true(has(table, "bob@example.com"));
    assert_true(has(table, "carol@example.com"));
    assert_true(has(table, "dave#1@example.com"));
    assert_true(has(table, "postmaster"));
    assert_true(has(table, "@example.org"));
    assert_true(has(table, "last@example.com"));
    assert_false(has(table, "dave"));
    assert_false(has(table, "dave@example.com"));
    assert_false(has(table, "alice"));
    assert_false(has(table, "alice@example.co"));
    assert_false(has(table, ""));
    table_free(table);
}

static void empty_files_are_empty_tables(void **state)
{
    static const char *const texts[] = {"", "\n", "# nothing", "\r\n \r\n"};
    for (size_t index = 0; index < sizeof(texts) / sizeof(texts[0]); index++) {
        struct table *table = load(texts[index], TABLE_ADDRESSES);
        assert_int_equal(table_count(table), 0);
        assert_false(has_address(table, "a", "example.com", '+'));
        table_free(table);
    }
    table_free(NULL);
}

static void an_address_is_covered_in_three_ways(void **state)
{
    struct table *table =
        load("alice@example.com\npostmaster\n@example.org\nx@[192.0.2.1]\n", TABLE_ADDRESSES);
    assert_true(has_address(table, "alice", "example.com", 0));
    assert_true(has_address(table, "Alice", "example.com", 0));
    assert_false(has_address(table, "alice", "example.net", 0));
    assert_false(has_address(table, "alic", "example.com", 0));
    assert_true(has_address(table, "postmaster", "example.com", 0));
    assert_true(has_address(table, "PostMaster", "", 0));
    assert_false(has_address(table, "alice", "", 0));
    assert_true(has_address(table, "anybody", "example.org", 0));
    assert_false(has_address(table, "anybody", "sub.example.org", 0));
    assert_true(has_address(table, "x", "[192.0.2.1]", 0));
    assert_false(has_address(table, "", "example.org", 0));
    assert_false(has_address(table, "", "", 0));
    table_free(table);
}

static void extensions_only_with_a_delimiter(void **state)
{
    struct table *table =
        load("alice@example.com\nbob+list@example.com\nroot\n\"odd one\"@example.com\n", TABLE_ADDRESSES);
    assert_false(has_address(table, "alice+shop", "example.com", 0));
    assert_true(has_address(table, "alice+shop", "example.com", '+'));
    assert_true(has_address(table, "alice+a+b", "example.com", '+'));
    assert_false(has_address(table, "alice-shop", "example.com", '+'));
    assert_true(has_address(table, "alice-shop", "example.com", '-'));
    assert_true(has_address(table, "bob+list", "example.com", '+'));
    assert_false(has_address(table, "bob", "example.com", '+'));
    assert_false(has_address(table, "bob+other", "example.com", '+'));
    assert_true(has_address(table, "root+x", "example.net", '+'));
    assert_true(has_address(table, "root+x", "", '+'));
    assert_false(has_address(table, "+alice", "example.com", '+'));
    assert_false(has_address(table, "\"odd one+x\"", "example.com", '+'));
    table_free(table);
}

static void quotes_do_not_make_another_mailbox(void **state)
{
    struct table *table = load("alice@example.com\n"
                               "\"bob\"@example.com\n"
                               "\"john doe\"@example.com\n"
                               "\"a\\\"b\\\\c\"@example.com # quotes inside\n"
                               "\"x@y\"@example.com\n",
                               TABLE_ADDRESSES);
    assert_true(has_address(table, "\"alice\"", "example.com", 0));
    assert_true(has_address(table, "\"a\\lice\"", "example.com", 0));
    assert_true(has_address(table, "bob", "example.com", 0));
    assert_true(has_address(table, "\"John Doe\"", "example.com", 0));
    assert_true(has_address(table, "\"john\\ doe\"", "example.com", 0));
    assert_true(has_address(table, "\"a\\\"b\\\\c\"", "example.com", 0));
    assert_true(has_address(table, "\"x\\@y\"", "example.com", 0));
    assert_false(has_address(table, "\"john\"", "example.com", 0));
    /* Not what a strict parser gives, but it must not be read as something else. */
    assert_false(has_address(table, "john doe", "example.com", 0));
    assert_false(has_address(table, "\"alice", "example.com", 0));
    assert_false(has_address(table, "\"", "example.com", 0));
    assert_false(has_address(table, "\"alice\\\"", "example.com", 0));
    assert_false(has_address(table, "\"al\"ice\"", "example.com", 0));
    table_free(table);
}

/* A local part that looks like a whole address or a whole domain must not be taken for one. */
static void a_quoted_at_sign_opens_no_door(void **state)
{
    struct table *table = load("boss@example.com\n@example.org\n", TABLE_ADDRESSES);
    assert_false(has_address(table, "\"boss@example.com\"", "example.net", 0));
    assert_false(has_address(table, "boss@example.com", "example.net", 0));
    assert_false(has_address(table, "\"@example.org\"", "example.net", 0));
    assert_false(has_address(table, "@example.org", "example.net", 0));
    assert_false(has_address(table, "\"boss@example.com+x\"", "", '+'));
    table_free(table);
}

static void domains_beyond_ascii(void **state)
{
    struct table *table = load("info@bücher.example\n@пример.испытание\nüser@example.com\n", TABLE_ADDRESSES);
    assert_true(has_address(table, "info", "xn--bcher-kva.example", 0));
    assert_true(has_address(table, "x", "xn--e1afmkfd.xn--80akhbyknj4f", 0));
    assert_true(has_address(table, "üser", "example.com", 0));
    assert_false(has_address(table, "üser", "xn--bcher-kva.example", 0));
    table_free(table);
}

static void addresses_that_are_too_long_are_not_there(void **state)
{
    char local[129 + 1];
    char domain[256 + 1];
    char line[512];
    memset(local, 'l', sizeof(local));
    memset(domain, 'd', sizeof(domain));
    for (size_t index = 63; index < sizeof(domain); index += 64)
        domain[index] = '.';
    snprintf(line, sizeof(line), "%.128s@%.255s\n", local, domain);
    struct table *table = load(line, TABLE_ADDRESSES);
    assert_true(table_has_address(table, local, 128, domain, 255, 0));
    assert_false(table_has_address(table, local, 129, domain, 255, 0));
    assert_false(table_has_address(table, local, 128, domain, 256, 0));
    assert_false(table_has(table, line, 513));
    table_free(table);

    snprintf(line, sizeof(line), "%.129s@example.com\n", local);
    expect_failure(line, strlen(line), TABLE_ADDRESSES, 1, "the local part is longer than 128 bytes");
    snprintf(line, sizeof(line), "a@%.256s\n", domain);
    expect_failure(line, strlen(line), TABLE_ADDRESSES, 1, "what follows \"@\" is no domain");
}

static void wrong_lines_are_named(void **state)
{
    static const struct {
        const char *line;
        const char *reason;
    } cases[] = {
        {"alice@example.com OK", "more than one word"},
        {"alice example.com", "more than one word"},
        {"\"john doe\" @example.com", "more than one word"},
        {"<alice@example.com>", "not an address"},
        {"alice,bob@example.com", "not an address"},
        {"\"alice@example.com", "not an address"},
        {"al\"ic\"e@example.com", "not an address"},
        {"alice@", "what follows \"@\" is no domain"},
        {"@", "what follows \"@\" is no domain"},
        {"alice@example..com", "what follows \"@\" is no domain"},
        {"alice@example.com.", "what follows \"@\" is no domain"},
        {"alice@bob@example.com", "what follows \"@\" is no domain"},
        {"alice@example.com,", "what follows \"@\" is no domain"},
        {"alice@b\xfc"
         "cher.example",
         "what follows \"@\" is no domain"},
        {"al\x01ice@example.com", "a control character"},
        {"alice@example.com\x7f", "a control character"},
        {"alice@example.com\r\r", "a control character"},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        char text[128];
        snprintf(text, sizeof(text), "# one\nbob@example.com\n\n%s\ncarol@example.com\n", cases[index].line);
        expect_failure(text, strlen(text), TABLE_ADDRESSES, 4, cases[index].reason);
    }
    static const char zero[] = "a@example.com\nb\0c@example.com\n";
    expect_failure(zero, sizeof(zero) - 1, TABLE_ADDRESSES, 2, "a control character");
}

static void pairs_keep_the_text_of_the_value(void **state)
{
    struct table *table = load("# login and its senders\n"
                               "Alice   alice@Example.com, Team@example.com  \n"
                               "\tbob\t\t# is no comment here\r\n"
                               "c#d e",
                               TABLE_PAIRS);
    assert_int_equal(table_count(table), 3);
    check_value(table, "alice", "alice@Example.com, Team@example.com");
    check_value(table, "BOB", "# is no comment here");
    check_value(table, "c#d", "e");
    assert_false(has(table, "c"));
    table_free(table);

    table = load("a@example.com\n", TABLE_ADDRESSES);
    check_value(table, "a@example.com", "");
    table_free(table);

    expect_failure("a 1\nb\n", 6, TABLE_PAIRS, 2, "a key without a value");
    expect_failure("a 1\nb 2\nA 1\n", 12, TABLE_PAIRS, 3, "the key is given twice");
    char text[600];
    memset(text, 'k', sizeof(text));
    memcpy(text + 513, " v\n", 3);
    expect_failure(text, 516, TABLE_PAIRS, 1, "the key is longer than 512 bytes");
    memcpy(text + 512, " v\n", 3);
    write_bytes(text, 515);
    char error[TABLE_ERROR_SIZE];
    assert_int_equal(table_load(path, TABLE_PAIRS, &table, error, sizeof(error)), 0);
    assert_true(table_has(table, text, 512));
    table_free(table);
}

/* Lines of many sizes, so that the ends of the reading buffer fall everywhere. */
static void all_entries_in_the_order_of_the_file(void **state)
{
    static const struct {
        const char *key;
        const char *value;
    } expected[] = {{"b", "2"}, {"a", "1  and more"}, {"c.org", "3"}};
    struct table_entry entry;
    size_t position = 0;
    struct table *table = load("B 2\n# none\na  1  and more\nC.org\t3\n", TABLE_PAIRS);
    for (size_t index = 0; index < 3; index++) {
        assert_true(table_next(table, &position, &entry));
        assert_int_equal(entry.key_size, strlen(expected[index].key));
        assert_memory_equal(entry.key, expected[index].key, entry.key_size);
        assert_int_equal(entry.value_size, strlen(expected[index].value));
        assert_memory_equal(entry.value, expected[index].value, entry.value_size);
    }
    assert_false(table_next(table, &position, &entry));
    assert_false(table_next(table, &position, &entry));
    table_free(table);

    position = 0;
    table = load("info@example.com\n", TABLE_ADDRESSES);
    assert_true(table_next(table, &position, &entry));
    assert_memory_equal(entry.key, "info@example.com", entry.key_size);
    assert_int_equal(entry.value_size, 0);
    assert_false(table_next(table, &position, &entry));
    table_free(table);

    position = 0;
    table = load("", TABLE_PAIRS);
    assert_false(table_next(table, &position, &entry));
    table_free(table);
}

static void long_lines_and_the_buffer(void **state)
{
    enum { LINES = 400 };
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (unsigned index = 0; index < LINES; index++)
        fprintf(file, "key%u %0*u\n", index, (int)(index * 163 + 1), index);
    assert_int_equal(fclose(file), 0);
    struct table *table;
    char error[TABLE_ERROR_SIZE];
    assert_int_equal(table_load(path, TABLE_PAIRS, &table, error, sizeof(error)), 0);
    assert_int_equal(table_count(table), LINES);
    for (unsigned index = 0; index < LINES; index++) {
        char key[16];
        const char *value;
        size_t size;
        snprintf(key, sizeof(key), "key%u", index);
        assert_true(table_find(table, key, strlen(key), &value, &size));
        size_t expected = index * 163 + 1;
        unsigned digits = index < 10 ? 1 : index < 100 ? 2 : 3;
        assert_int_equal(size, expected > digits ? expected : digits);
        assert_memory_equal(value + size - digits, key + 3, digits);
    }
    table_free(table);
}

static void a_line_of_64_kib_is_too_long(void **state)
{
    static char text[TABLE_LINE_SIZE_MAX + 32] = "first 1\nkey ";
    struct table *table;
    char error[TABLE_ERROR_SIZE];
    char *line = text + 8;
    memset(line + 4, 'v', TABLE_LINE_SIZE_MAX);
    line[TABLE_LINE_SIZE_MAX - 1] = '\n';
    write_bytes(text, 8 + TABLE_LINE_SIZE_MAX);
    assert_int_equal(table_load(path, TABLE_PAIRS, &table, error, sizeof(error)), 0);
    const char *value;
    size_t size;
    assert_true(table_find(table, "key", 3, &value, &size));
    assert_int_equal(size, TABLE_LINE_SIZE_MAX - 5);
    table_free(table);
    line[TABLE_LINE_SIZE_MAX - 1] = 'v';
    line[TABLE_LINE_SIZE_MAX] = '\n';
    expect_failure(text, 8 + TABLE_LINE_SIZE_MAX + 1, TABLE_PAIRS, 2, "the line is longer than 64 KiB");
    expect_failure(text, 8 + TABLE_LINE_SIZE_MAX, TABLE_PAIRS, 2, "the line is longer than 64 KiB");
}

static void what_is_no_file(void **state)
{
    struct table *table = NULL;
    char error[TABLE_ERROR_SIZE] = "";
    assert_int_equal(table_load("/nowhere/at\nall", TABLE_PAIRS, &table, error, sizeof(error)), -ENOENT);
    assert_string_equal(error, "/nowhere/at?all: No such file or directory");
    assert_int_equal(table_load("/tmp", TABLE_PAIRS, &table, error, sizeof(error)), -EINVAL);
    assert_string_equal(error, "/tmp: not a regular file");
    char small[12] = "";
    assert_int_equal(table_load("/nowhere/at/all", TABLE_PAIRS, &table, small, sizeof(small)), -ENOENT);
    assert_string_equal(small, "/nowhere/at");

    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(table_load(path, TABLE_PAIRS, &table, error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "not a regular file"));
    assert_null(table);
}

static void a_stamp_tells_every_change(void **state)
{
    struct table_stamp first, second;
    write_bytes("a\n", 2);
    assert_int_equal(table_stamp_read(path, &first), 0);
    assert_int_equal(table_stamp_read(path, &second), 0);
    assert_true(table_stamp_equals(&first, &second));

    usleep(20000); /* more than a tick of the kernel's clock */
    write_bytes("b\n", 2);
    assert_int_equal(table_stamp_read(path, &second), 0);
    assert_false(table_stamp_equals(&first, &second));

    /* Replaced by one of the same size and time. */
    char other[80];
    snprintf(other, sizeof(other), "%s.new", path);
    FILE *file = fopen(other, "w");
    assert_non_null(file);
    assert_true(fputs("c\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    struct timespec times[2] = {{second.modified_ns / 1000000000, second.modified_ns % 1000000000},
                                {second.modified_ns / 1000000000, second.modified_ns % 1000000000}};
    assert_int_equal(utimensat(AT_FDCWD, other, times, 0), 0);
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(table_stamp_read(path, &first), 0);
    assert_int_equal(first.modified_ns, second.modified_ns);
    assert_int_equal(first.size, second.size);
    assert_false(table_stamp_equals(&first, &second));

    assert_int_equal(unlink(path), 0);
    assert_int_equal(table_stamp_read(path, &second), -ENOENT);
    write_bytes("", 0);
}

enum { MILLION = 1000000, READERS = 3 };

static void *look_up_all(void *context)
{
    const struct table *table = context;
    size_t wrong = 0;
    for (unsigned index = 0; index < MILLION; index += 7) {
        char local[32];
        int size = snprintf(local, sizeof(local), "first.last%07u", index);
        wrong += !table_has_address(table, local, (size_t)size, "example.com", 11, 0);
        wrong += table_has_address(table, local, (size_t)size, "example.net", 11, 0);
    }
    return wrong == 0 ? NULL : context;
}

/* The budgets are 1 s and 48 MB; the limit of time leaves room for slow and busy machines, and for
 * sanitizers. */
static void a_million_addresses(void **state)
{
    enum { BYTES_MAX = 48000000, LOAD_US_MAX = 20000000 };
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (unsigned index = 0; index < MILLION; index++)
        fprintf(file, "First.Last%07u@example.com\n", index);
    assert_int_equal(fclose(file), 0);

    struct table *table;
    char error[TABLE_ERROR_SIZE];
    uint64_t begin = clock_monotonic_us();
    assert_int_equal(table_load(path, TABLE_ADDRESSES, &table, error, sizeof(error)), 0);
    uint64_t load_us = clock_monotonic_us() - begin;
    print_message("%llu ms to load, %zu bytes\n", (unsigned long long)load_us / 1000, table_bytes(table));
    assert_int_equal(table_count(table), MILLION);
    assert_true(table_bytes(table) <= BYTES_MAX);
    assert_true(load_us < LOAD_US_MAX);

    pthread_t threads[READERS];
    for (unsigned index = 0; index < READERS; index++)
        assert_int_equal(pthread_create(&threads[index], NULL, look_up_all, table), 0);
    for (unsigned index = 0; index < READERS; index++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[index], &wrong), 0);
        assert_null(wrong);
    }
    table_free(table);
}

#define WITH_FILE(name) cmocka_unit_test_setup_teardown(name, make_path, remove_path)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILE(lines_as_people_write_them),
        WITH_FILE(empty_files_are_empty_tables),
        WITH_FILE(an_address_is_covered_in_three_ways),
        WITH_FILE(extensions_only_with_a_delimiter),
        WITH_FILE(quotes_do_not_make_another_mailbox),
        WITH_FILE(a_quoted_at_sign_opens_no_door),
        WITH_FILE(domains_beyond_ascii),
        WITH_FILE(addresses_that_are_too_long_are_not_there),
        WITH_FILE(wrong_lines_are_named),
        WITH_FILE(pairs_keep_the_text_of_the_value),
        WITH_FILE(all_entries_in_the_order_of_the_file),
        WITH_FILE(long_lines_and_the_buffer),
        WITH_FILE(a_line_of_64_kib_is_too_long),
        WITH_FILE(what_is_no_file),
        WITH_FILE(a_stamp_tells_every_change),
        WITH_FILE(a_million_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
