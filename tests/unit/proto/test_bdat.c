#include "tests/unit/proto/test.h"

#include "tests/unit/proto/cuts.h"
#include "tests/unit/proto/naive.h"

#include "proto/data_kernel.h"

#include <stdlib.h>

static smtp_data_kernel *kernels[4];
static size_t kernel_count;

static void find_kernels(void)
{
    kernels[kernel_count++] = smtp_data_kernel_portable;
#if defined(__x86_64__)
    kernels[kernel_count++] = smtp_data_kernel_sse2;
    if (__builtin_cpu_supports("avx2"))
        kernels[kernel_count++] = smtp_data_kernel_avx2;
#endif
}

struct content {
    const char *input;
    const char *wanted;
};

static void check_all(const struct content *table, size_t count, enum smtp_bdat_mode mode)
{
    transcript_bdat_mode = mode;
    for (size_t i = 0; i < count * kernel_count; i++) {
        const struct content *content = &table[i / kernel_count];
        size_t size = strlen(content->input);
        struct transcript naive;

        transcript_data_kernel = kernels[i % kernel_count];
        cuts_expect(transcript_run_bdat, content->input, size, 50, content->wanted);
        transcript_init(&naive);
        naive_bdat(&naive, content->input, size);
        assert_string_equal(naive.text, content->wanted);
        transcript_deinit(&naive);
    }
    transcript_data_kernel = NULL;
}

#define CHECK_ALL(table, mode) check_all((table), sizeof(table) / sizeof((table)[0]), (mode))

static void test_text(void **state)
{
    static const struct content table[] = {
        {"", "content size=0 dots=0 high=0 nul=0\n"},
        {"a\r\n", "content size=3 dots=0 high=0 nul=0\na\r\n"},
        {"a", "content size=3 dots=0 high=0 nul=0\na\r\n"},
        {"a\r\nb", "content size=6 dots=0 high=0 nul=0\na\r\nb\r\n"},
        {".", "content size=4 dots=1 high=0 nul=0\n..\r\n"},
        {".\r\n", "content size=4 dots=1 high=0 nul=0\n..\r\n"},
        {"a\r\n.\r\nb\r\n", "content size=10 dots=1 high=0 nul=0\na\r\n..\r\nb\r\n"},
        {"..\r\n.a\r\na.\r\n", "content size=14 dots=1 high=0 nul=0\n...\r\n..a\r\na.\r\n"},
        {"\r\n\r\n.", "content size=8 dots=1 high=0 nul=0\n\r\n\r\n..\r\n"},
        {"caf\xc3\xa9\r\n", "content size=7 dots=0 high=1 nul=0\ncaf\xc3\xa9\r\n"},
        {"a\nb\r\n", "2 bare LF in content\n"},
        {"\n", "1 bare LF in content\n"},
        {"a\r\n\n", "4 bare LF in content\n"},
        {"a\rb\r\n", "2 bare CR in content\n"},
        {"a\r\r\n", "2 bare CR in content\n"},
        {"a\r", "2 bare CR in content\n"},
        {"\r", "1 bare CR in content\n"},
        {"a\r\n.\n", "5 bare LF in content\n"},
    };

    CHECK_ALL(table, SMTP_BDAT_TEXT);
}

static void test_normalise(void **state)
{
    static const struct content table[] = {
        {"", "content size=0 dots=0 high=0 nul=0\n"},
        {"a\nb\n", "content size=6 dots=0 high=0 nul=0\na\r\nb\r\n"},
        {"a\rb", "content size=6 dots=0 high=0 nul=0\na\r\nb\r\n"},
        {"a\r", "content size=3 dots=0 high=0 nul=0\na\r\n"},
        {"\n", "content size=2 dots=0 high=0 nul=0\n\r\n"},
        {"\r\r\n\n", "content size=6 dots=0 high=0 nul=0\n\r\n\r\n\r\n"},
        {"a\n.\nb\r\n", "content size=10 dots=1 high=0 nul=0\na\r\n..\r\nb\r\n"},
        {"a\r.\rb", "content size=10 dots=1 high=0 nul=0\na\r\n..\r\nb\r\n"},
        {"a\r\n.\r\n", "content size=7 dots=1 high=0 nul=0\na\r\n..\r\n"},
        {".\n.\r.", "content size=12 dots=1 high=0 nul=0\n..\r\n..\r\n..\r\n"},
        {"a\r\nb", "content size=6 dots=0 high=0 nul=0\na\r\nb\r\n"},
    };

    CHECK_ALL(table, SMTP_BDAT_TEXT_NORMALISE);
}

static void test_binary_is_not_touched(void **state)
{
    static const struct content table[] = {
        {"", "content size=0 dots=0 high=0 nul=0\n"},
        {".\n.\r.", "content size=5 dots=0 high=0 nul=0\n.\n.\r."},
        {"a\r\n.\r\n", "content size=6 dots=0 high=0 nul=0\na\r\n.\r\n"},
        {"\xff", "content size=1 dots=0 high=1 nul=0\n\xff"},
    };

    CHECK_ALL(table, SMTP_BDAT_BINARY);
    transcript_bdat_mode = SMTP_BDAT_BINARY;
    cuts_expect(transcript_run_bdat, "\0", 1, 0, "content size=1 dots=0 high=0 nul=1\n");
}

/* A megabyte of ordinary lines costs one call a buffer, each with one body. */
static void test_ordinary_text_is_one_body(void **state)
{
    enum { SIZE = 1 << 20, BUFFER = 1 << 14 };
    char *text = malloc(SIZE);
    struct smtp_bdat_scanner scanner;

    assert_non_null(text);
    memset(text, 'a', SIZE);
    for (size_t at = 70; at + 2 <= SIZE; at += 72)
        memcpy(text + at, "\r\n", 2);
    memcpy(text + SIZE - 2, "\r\n", 2);
    smtp_bdat_scanner_init(&scanner, SMTP_BDAT_TEXT);
    for (size_t at = 0; at < SIZE; at += BUFFER) {
        struct smtp_data_chunk chunk;

        assert_int_equal(smtp_bdat_scan(&scanner, text + at, BUFFER, &chunk), SMTP_DATA_MORE);
        assert_int_equal(chunk.consumed, BUFFER);
        assert_int_equal(chunk.lead_size, 0);
        assert_int_equal(chunk.body_size, BUFFER);
        assert_ptr_equal(chunk.body, text + at);
    }
    assert_int_equal(scanner.size, SIZE);
    free(text);
}

static size_t random_content(char *content, size_t capacity, uint64_t *seed)
{
    static const char *const words[] = {"\r\n", ".",  "\r\n.", "some text of a line", "\xc3\xa9", "\r\n", "a",
                                        "NUL",  "\n", "\r"};
    uint64_t kind = transcript_random(seed) % 10;
    size_t limit = transcript_random(seed) % (capacity - 32);
    size_t size = 0;

    while (size < limit) {
        const char *word = words[transcript_random(seed) % (kind == 0 ? 10 : 8)];
        bool is_nul = strcmp(word, "NUL") == 0;

        memcpy(content + size, is_nul ? "\0" : word, is_nul ? 1 : strlen(word));
        size += is_nul ? 1 : strlen(word);
    }
    return size;
}

static void test_random_content_against_naive(void **state)
{
    enum { RUNS = 100000, CAPACITY = 400 };
    struct transcript real, naive;
    char content[CAPACITY];
    uint64_t seed = 9;

    transcript_init(&real);
    transcript_init(&naive);
    for (size_t run = 0; run < RUNS; run++) {
        size_t size = random_content(content, CAPACITY, &seed);
        size_t cuts[2] = {transcript_random(&seed) % (size + 1)};

        cuts[1] = cuts[0] + transcript_random(&seed) % (size - cuts[0] + 1);
        transcript_bdat_mode = (enum smtp_bdat_mode)(run % 3);
        transcript_data_kernel = kernels[run / 3 % kernel_count];
        transcript_clear(&real);
        transcript_clear(&naive);
        transcript_run_bdat(&real, content, size, cuts, transcript_random(&seed) % 3);
        naive_bdat(&naive, content, size);
        if (!transcript_equal(&real, &naive))
            fail_msg("run %zu: %s and %s", run, real.text, naive.text);
    }
    transcript_data_kernel = NULL;
    transcript_deinit(&real);
    transcript_deinit(&naive);
}

/* What BDAT brings, sent on by DATA, is one message and ends where it should. */
static void test_stored_form_serves_data(void **state)
{
    char content[300];
    uint64_t seed = 13;

    for (size_t run = 0; run < 50000; run++) {
        size_t size = random_content(content, sizeof(content), &seed);
        struct transcript stored;
        struct smtp_bdat_scanner scanner;
        struct smtp_data_scanner strict;
        struct smtp_data_chunk chunk;

        transcript_init(&stored);
        smtp_bdat_scanner_init(&scanner, SMTP_BDAT_TEXT_NORMALISE);
        for (size_t at = 0; at < size; at += chunk.consumed) {
            assert_int_equal(smtp_bdat_scan(&scanner, content + at, size - at, &chunk), SMTP_DATA_MORE);
            transcript_add_octets(&stored, chunk.lead, chunk.lead_size);
            transcript_add_octets(&stored, chunk.body, chunk.body_size);
        }
        assert_int_equal(smtp_bdat_end(&scanner, &chunk), SMTP_DATA_END);
        transcript_add_octets(&stored, chunk.lead, chunk.lead_size);
        transcript_add(&stored, ".\r\n");

        smtp_data_scanner_init(&strict, SMTP_DATA_STRICT);
        assert_int_equal(smtp_data_scan(&strict, stored.text, stored.size, &chunk), SMTP_DATA_END);
        assert_int_equal(chunk.consumed, stored.size);
        assert_int_equal(strict.size, scanner.size);
        assert_int_equal(strict.dot_lines, scanner.dot_lines);
        assert_int_equal(strict.has_8bit, scanner.has_8bit);
        assert_int_equal(strict.has_nul, scanner.has_nul);
        transcript_deinit(&stored);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_normalise),
        cmocka_unit_test(test_binary_is_not_touched),
        cmocka_unit_test(test_ordinary_text_is_one_body),
        cmocka_unit_test(test_random_content_against_naive),
        cmocka_unit_test(test_stored_form_serves_data),
    };

    find_kernels();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
