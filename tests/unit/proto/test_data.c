#include "tests/unit/proto/test.h"

#include "tests/unit/proto/cuts.h"
#include "tests/unit/proto/naive.h"

#include "proto/data_kernel.h"

#include <stdlib.h>

struct kernel {
    const char *name;
    smtp_data_kernel *run;
};

static struct kernel kernels[4];
static size_t kernel_count;

static void find_kernels(void)
{
    kernels[kernel_count++] = (struct kernel){"portable", smtp_data_kernel_portable};
#if defined(__x86_64__)
    kernels[kernel_count++] = (struct kernel){"sse2", smtp_data_kernel_sse2};
    if (__builtin_cpu_supports("avx2"))
        kernels[kernel_count++] = (struct kernel){"avx2", smtp_data_kernel_avx2};
#endif
    kernels[kernel_count++] = (struct kernel){"best", smtp_data_kernel_best()};
}

struct content {
    const char *input;
    const char *wanted; /* the beginning; all of it is compared with naive_data(), too */
};

static void check_content(const struct content *content, enum smtp_data_mode mode)
{
    size_t size = strlen(content->input);

    transcript_data_mode = mode;

    for (size_t i = 0; i < kernel_count; i++) {
        struct transcript whole, naive;

        transcript_init(&whole);
        transcript_init(&naive);
        transcript_data_kernel = kernels[i].run;
        cuts_check(transcript_run_data, content->input, size, 50, &whole);
        naive_data(&naive, content->input, size);
        assert_string_equal(whole.text, naive.text);
        if (strncmp(whole.text, content->wanted, strlen(content->wanted)) != 0)
            fail_msg("wanted %s, got %s", content->wanted, whole.text);
        transcript_deinit(&whole);
        transcript_deinit(&naive);
    }
    transcript_data_kernel = NULL;
    transcript_data_mode = SMTP_DATA_STRICT;
}

#define CHECK_ALL(table, mode)                                                                               \
    for (size_t i = 0; i < sizeof(table) / sizeof((table)[0]); i++)                                          \
    check_content(&(table)[i], (mode))

static void test_ends(void **state)
{
    static const struct content table[] = {
        {".\r\n", "3 content size=0 dots=0 high=0"},
        {".\r\nQUIT\r\n", "3 content size=0 dots=0"},
        {"\r\n.\r\n", "5 content size=2 dots=0"},
        {"a\r\n.\r\nMAIL FROM:<>\r\n", "6 content size=3 dots=0"},
        {"a\r\n.\r\n\xff\n\r", "6 content size=3 dots=0 high=0"},
        {"a\r\n.\r\n.\r\n.\r\n", "6 content size=3"},
        {"\xc3\xa9\r\n.\r\n", "7 content size=4 dots=0 high=1"},
        {"a\r\n..\r\n.\r\n", "10 content size=7 dots=1"},
        {"..\r\n.\r\n", "7 content size=4 dots=1"},
        {".a\r\n.\r\n", "7 content size=4 dots=1"},
        {"a.\r\n.\r\n", "7 content size=4 dots=0"},
        {"a\r\n. \r\n.\r\n", "10 content size=7 dots=1"},
        {"a\r\n.\t\r\n.\r\n", "10 content size=7 dots=1"},
        {"a\r\n..\r\n", "unfinished content size=7 dots=1"},
        {"a\r\n.", "unfinished content size=3 dots=0"},
        {"a\r\n.\r", "unfinished content size=3 dots=0"},
        {"a\r", "unfinished content size=2"},
        {"", "unfinished content size=0"},
    };

    CHECK_ALL(table, SMTP_DATA_STRICT);
}

/* Each of these once ended a message for one program and did not for another. Here each is refused where it
 * is bare. */
static void test_smuggling(void **state)
{
    static const struct content table[] = {
        {"a\n.\nMAIL FROM:<>\r\n\r\n.\r\n", "2 bare LF in content\n"},
        {"a\n.\r\nMAIL FROM:<>\r\n\r\n.\r\n", "2 bare LF in content\n"},
        {"a\r\n.\nMAIL FROM:<>\r\n\r\n.\r\n", "5 bare LF in content\n"},
        {"a\r.\rMAIL FROM:<>\r\n\r\n.\r\n", "2 bare CR in content\n"},
        {"a\r.\r\nMAIL FROM:<>\r\n\r\n.\r\n", "2 bare CR in content\n"},
        {"a\r\n.\rMAIL FROM:<>\r\n\r\n.\r\n", "5 bare CR in content\n"},
        {"a\r\n.\r\r\nMAIL FROM:<>\r\n\r\n.\r\n", "5 bare CR in content\n"},
        {"a\r\r\n.\r\nMAIL FROM:<>\r\n\r\n.\r\n", "2 bare CR in content\n"},
        {"a\n\n.\n\nMAIL FROM:<>\r\n\r\n.\r\n", "2 bare LF in content\n"},
        {"a\n\r.\r\nMAIL FROM:<>\r\n\r\n.\r\n", "2 bare LF in content\n"},
        {"a\r\n\n.\r\nMAIL FROM:<>\r\n\r\n.\r\n", "4 bare LF in content\n"},
        {"a\r\n\r.\r\nMAIL FROM:<>\r\n\r\n.\r\n", "4 bare CR in content\n"},
        {".\nMAIL FROM:<>\r\n\r\n.\r\n", "2 bare LF in content\n"},
        {".\rMAIL FROM:<>\r\n\r\n.\r\n", "2 bare CR in content\n"},
        {"\n.\r\nMAIL FROM:<>\r\n\r\n.\r\n", "1 bare LF in content\n"},
        {"\r.\r\nMAIL FROM:<>\r\n\r\n.\r\n", "1 bare CR in content\n"},
        {"a\r\n.\r\n\nMAIL FROM:<>\r\n", "6 content size=3"},
    };

    CHECK_ALL(table, SMTP_DATA_STRICT);
    for (size_t i = 0; i < kernel_count; i++) {
        transcript_data_kernel = kernels[i].run;
        cuts_expect(transcript_run_data, "a\r\0\n.\r\n", 7, 0, "2 bare CR in content\n");
        cuts_expect(
            transcript_run_data, "a\r\n.\0\r\n", 7, 0,
            "unfinished content size=7 dots=1 high=0 received=0 delivered_to=0 header=1 nul=1\na\r\n.");
    }
    transcript_data_kernel = NULL;
}

/* What each means when it is made whole: the end is where a strict reader finds it, and no dot that did not
 * end the message ends it now. */
static void test_normalise(void **state)
{
    static const struct content table[] = {
        {"a\nb\r\n.\r\n", "8 content size=6 dots=0 high=0 received=0 delivered_to=0 header=1\na\r\nb\r\n"},
        {"a\rb\r\n.\r\n", "8 content size=6 dots=0 high=0 received=0 delivered_to=0 header=1\na\r\nb\r\n"},
        {"a\n.\nb\r\n.\r\n",
         "10 content size=10 dots=1 high=0 received=0 delivered_to=0 header=1\na\r\n..\r\nb\r\n"},
        {"a\n.\r\nb\r\n.\r\n",
         "11 content size=10 dots=1 high=0 received=0 delivered_to=0 header=1\na\r\n..\r\nb\r\n"},
        {"a\r\n.\nb\r\n.\r\n",
         "11 content size=8 dots=0 high=0 received=0 delivered_to=0 header=1\na\r\n\r\nb\r\n"},
        {"a\r\n.\rb\r\n.\r\n",
         "11 content size=8 dots=0 high=0 received=0 delivered_to=0 header=1\na\r\n\r\nb\r\n"},
        {"a\r\n.\r\r\nb\r\n.\r\n",
         "13 content size=10 dots=0 high=0 received=0 delivered_to=0 header=1\na\r\n\r\n\r\nb\r\n"},
        {"a\r.\r\r.\r\n.\r\n",
         "11 content size=13 dots=1 high=0 received=0 delivered_to=0 header=1\na\r\n..\r\n\r\n..\r\n"},
        {"a\r\n..\nb\r\n.\r\n",
         "12 content size=10 dots=1 high=0 received=0 delivered_to=0 header=1\na\r\n..\r\nb\r\n"},
        {".\n.\r\n.\r\n", "8 content size=6 dots=1 high=0 received=0 delivered_to=0 header=1\n\r\n..\r\n"},
        {".\r.\r\n.\r\n", "8 content size=6 dots=1 high=0 received=0 delivered_to=0 header=1\n\r\n..\r\n"},
        {"\n.\r\n.\r\n", "7 content size=6 dots=1 high=0 received=0 delivered_to=0 header=1\n\r\n..\r\n"},
        {"a\n\r\n.\r\n", "7 content size=5 dots=0 high=0 received=0 delivered_to=0 header=1\na\r\n\r\n"},
        {"a\r\r\n.\r\n", "7 content size=5 dots=0 high=0 received=0 delivered_to=0 header=1\na\r\n\r\n"},
        {"a\n\n\n", "unfinished content size=7 dots=0 high=0 received=0 delivered_to=0 header=1\n"},
        {"a\r\r", "unfinished content size=4 dots=0 high=0 received=0 delivered_to=0 header=1\na\r\n\r"},
        {"a\n.", "unfinished content size=5 dots=1 high=0 received=0 delivered_to=0 header=1\na\r\n.."},
        {"a\n.\r", "unfinished content size=6 dots=1 high=0 received=0 delivered_to=0 header=1\na\r\n..\r"},
        {".\r\n", "3 content size=0"},
        {"\xc3\xa9\n\r\n.\r\n", "8 content size=6 dots=0 high=1"},
    };

    CHECK_ALL(table, SMTP_DATA_NORMALISE);
}

/* The end, a stuffed dot, and each kind of bareness at every place around the borders of blocks. */
static void test_every_place_in_a_block(void **state)
{
    static const char *const marks[] = {"\r\n.\r\nQUIT\r\n",
                                        "\r\n..\r\n",
                                        "\n",
                                        "\r",
                                        "\r\n.\n",
                                        "\r\n.\r",
                                        "\r\n.\rx",
                                        "\n.\r\n",
                                        "\r.\n.\r\n.",
                                        "\xff",
                                        "\r\n\xff\r\n.\r\n",
                                        "\r\n.\r\n\xff",
                                        "NUL",
                                        "\r\nNUL\r\n.\r\n",
                                        "\r\n.\r\nNUL",
                                        "NUL\nNUL"};
    char input[300];

    for (size_t mark = 0; mark < sizeof(marks) / sizeof(marks[0]); mark++) {
        for (size_t at = 0; at < 2 * SMTP_DATA_BLOCK_SIZE + 4; at++) {
            for (size_t behind = 0; behind < 130; behind += 43) {
                size_t size = at + strlen(marks[mark]) + behind;

                memset(input, 'x', sizeof(input));
                memcpy(input + at, marks[mark], strlen(marks[mark]));
                for (char *nul = input; (nul = memmem(nul, (size_t)(input + size - nul), "NUL", 3)) != NULL;)
                    memset(nul, '\0', 3);
                for (size_t i = 0; i < 2 * kernel_count; i++) {
                    struct transcript whole, naive;

                    transcript_init(&whole);
                    transcript_init(&naive);
                    transcript_data_kernel = kernels[i / 2].run;
                    transcript_data_mode = i % 2 == 0 ? SMTP_DATA_STRICT : SMTP_DATA_NORMALISE;
                    transcript_run_data(&whole, input, size, &at, 1);
                    naive_data(&naive, input, size);
                    assert_string_equal(whole.text, naive.text);
                    assert_true(transcript_equal(&whole, &naive));
                    transcript_deinit(&whole);
                    transcript_deinit(&naive);
                }
            }
        }
    }
    transcript_data_kernel = NULL;
    transcript_data_mode = SMTP_DATA_STRICT;
}

static size_t random_content(char *content, size_t capacity, uint64_t *seed)
{
    static const char alphabet[] = {'\r', '\n', '.', 'a', '\xff', '\0'};
    static const char *const words[] = {"\r\n",     "\r\n.", "\r\n..",   "line of text",
                                        "\xc3\xa9", ".",     "\r\n\r\n", "a\r\n.a"};
    uint64_t kind = transcript_random(seed) % 4;
    size_t limit = transcript_random(seed) % (kind == 0 ? 12 : capacity - 16);
    size_t size = 0;

    while (size < limit) {
        uint64_t number = transcript_random(seed);

        if (kind <= 1 || number % 200 == 0) {
            content[size++] = alphabet[(number >> 8) % 6];
        } else {
            const char *word = words[(number >> 8) % (kind == 2 ? 8 : 5)];

            memcpy(content + size, word, strlen(word));
            size += strlen(word);
        }
    }
    if (transcript_random(seed) % 2 == 0) {
        memcpy(content + size, "\r\n.\r\n", 5);
        size += 5;
    }
    return size;
}

/* What the scanner says of one input, in numbers only: fast enough for millions. */
struct outcome {
    enum smtp_data result;
    size_t consumed;
    uint64_t size;
    uint64_t sum; /* over the octets of the content, in order */
    struct naive_flags flags;
};

static uint64_t add_to_sum(uint64_t sum, const char *octets, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ (uint8_t)octets[i]) * UINT64_C(0x100000001b3);
    return sum;
}

static void scan_piece(struct smtp_data_scanner *scanner, struct outcome *outcome, const char *input,
                       size_t end)
{
    do {
        struct smtp_data_chunk chunk;

        outcome->result = smtp_data_scan(scanner, input + outcome->consumed, end - outcome->consumed, &chunk);
        outcome->consumed += chunk.consumed;
        outcome->sum = add_to_sum(outcome->sum, chunk.lead, chunk.lead_size);
        outcome->sum = add_to_sum(outcome->sum, chunk.body, chunk.body_size);
    } while (outcome->result == SMTP_DATA_MORE && outcome->consumed < end);
}

static struct outcome scan_pieces(smtp_data_kernel *kernel, enum smtp_data_mode mode, const char *input,
                                  size_t size, const size_t *cuts, size_t cut_count)
{
    struct smtp_data_scanner scanner;
    struct outcome outcome = {.result = SMTP_DATA_MORE};

    smtp_data_scanner_init(&scanner, mode);
    scanner.kernel = kernel;
    for (size_t i = 0; i <= cut_count && outcome.result == SMTP_DATA_MORE; i++)
        scan_piece(&scanner, &outcome, input, i < cut_count ? cuts[i] : size);
    if (outcome.result == SMTP_DATA_MORE || outcome.result == SMTP_DATA_END) {
        outcome.size = scanner.size;
        outcome.flags = (struct naive_flags){scanner.dot_lines, scanner.has_8bit, scanner.has_nul};
    } else {
        outcome.sum = 0;
    }
    return outcome;
}

static bool same_outcome(const struct outcome *a, const struct outcome *b)
{
    return a->result == b->result && a->consumed == b->consumed && a->size == b->size && a->sum == b->sum &&
           a->flags.dot_lines == b->flags.dot_lines && a->flags.has_8bit == b->flags.has_8bit &&
           a->flags.has_nul == b->flags.has_nul;
}

/* The rules once more, octet by octet, in the form of an outcome. */
static struct outcome naive_outcome(const char *input, size_t size)
{
    size_t line = 0;
    size_t content = size;
    struct outcome outcome = {.result = SMTP_DATA_MORE, .consumed = size};

    for (size_t i = 0; i < size && outcome.result == SMTP_DATA_MORE; i++) {
        bool after_cr = i > 0 && input[i - 1] == '\r';

        if (after_cr && input[i] != '\n')
            return (struct outcome){.result = SMTP_DATA_BARE_CR, .consumed = i};
        if (!after_cr && input[i] == '\n')
            return (struct outcome){.result = SMTP_DATA_BARE_LF, .consumed = i + 1};
        if (input[i] != '\n')
            continue;
        if (i == line + 2 && input[line] == '.') {
            outcome = (struct outcome){.result = SMTP_DATA_END, .consumed = i + 1};
            content = line;
        }
        line = i + 1;
    }
    if (outcome.result == SMTP_DATA_MORE && size - line <= 2 && size > line && input[line] == '.' &&
        (size - line == 1 || input[line + 1] == '\r'))
        content = line;
    outcome.size = content;
    outcome.sum = add_to_sum(0, input, content);
    outcome.flags = naive_flags(input, content);
    return outcome;
}

static struct outcome naive_normalised_outcome(struct transcript *content, const char *input, size_t size)
{
    struct outcome outcome = {.result = SMTP_DATA_MORE};

    transcript_clear(content);
    if (naive_normalise(content, input, size, &outcome.consumed))
        outcome.result = SMTP_DATA_END;
    outcome.size = content->size;
    outcome.sum = add_to_sum(0, content->text, content->size);
    outcome.flags = naive_flags(content->text, content->size);
    return outcome;
}

static size_t random_cuts(size_t *cuts, size_t most, size_t size, uint64_t *seed)
{
    size_t count = transcript_random(seed) % (most + 1);
    size_t at = 0;

    for (size_t i = 0; i < count; i++)
        cuts[i] = at += transcript_random(seed) % (size - at + 1) / (1 + transcript_random(seed) % 3);
    return count;
}

static void check_kernels(enum smtp_data_mode mode, const struct outcome *naive, const char *content,
                          size_t size, uint64_t *seed)
{
    size_t cuts[4];
    size_t cut_count = random_cuts(cuts, 4, size, seed);

    for (size_t i = 0; i + 1 < kernel_count; i++) {
        struct outcome whole = scan_pieces(kernels[i].run, mode, content, size, NULL, 0);
        struct outcome pieces = scan_pieces(kernels[i].run, mode, content, size, cuts, cut_count);

        if (!same_outcome(&whole, naive) || !same_outcome(&pieces, naive))
            fail_msg("kernel %s differs in mode %d", kernels[i].name, mode);
    }
}

static void test_millions_of_contents_against_naive(void **state)
{
    enum { RUNS = 1000000, CAPACITY = 400 };
    char *memory = malloc(CAPACITY + 64);
    struct transcript normalised;
    uint64_t seed = 7;
    size_t ended = 0;

    assert_non_null(memory);
    transcript_init(&normalised);
    for (size_t run = 0; run < RUNS; run++) {
        char *content = memory + transcript_random(&seed) % 64;
        size_t size = random_content(content, CAPACITY, &seed);
        struct outcome naive = naive_outcome(content, size);

        ended += naive.result == SMTP_DATA_END;
        check_kernels(SMTP_DATA_STRICT, &naive, content, size, &seed);
        if (run % 4 == 0) {
            naive = naive_normalised_outcome(&normalised, content, size);
            check_kernels(SMTP_DATA_NORMALISE, &naive, content, size, &seed);
        }
    }
    assert_true(ended > RUNS / 10);
    transcript_deinit(&normalised);
    free(memory);
}

/* Takes the stuffing off, as the one who reads the message at last does. */
static void unstuff(struct transcript *plain, const char *content, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bool is_line_start = i == 0 || (i >= 2 && memcmp(content + i - 2, "\r\n", 2) == 0);

        if (!(is_line_start && content[i] == '.'))
            transcript_add_octets(plain, content + i, 1);
    }
}

static void make_newlines_whole(struct transcript *plain)
{
    struct transcript whole;

    transcript_init(&whole);
    for (size_t i = 0; i < plain->size; i++) {
        char octet = plain->text[i];

        if (octet == '\r' && plain->text[i + 1] == '\n')
            i++;
        if (octet == '\r' || octet == '\n')
            transcript_add_octets(&whole, "\r\n", 2);
        else
            transcript_add_octets(&whole, &octet, 1);
    }
    transcript_deinit(plain);
    *plain = whole;
}

static void normalise(struct transcript *handed_out, const char *input, size_t size)
{
    struct smtp_data_scanner scanner;
    enum smtp_data result = SMTP_DATA_MORE;

    smtp_data_scanner_init(&scanner, SMTP_DATA_NORMALISE);
    for (size_t at = 0; result == SMTP_DATA_MORE;) {
        struct smtp_data_chunk chunk;

        result = smtp_data_scan(&scanner, input + at, size - at, &chunk);
        transcript_add_octets(handed_out, chunk.lead, chunk.lead_size);
        transcript_add_octets(handed_out, chunk.body, chunk.body_size);
        at += chunk.consumed;
        assert_true(result == SMTP_DATA_END || at < size);
    }
    assert_int_equal(result, SMTP_DATA_END);
}

/* To who reads strictly, what is handed out is the message that came in, with its newlines made whole. */
static void test_normalised_content_reads_the_same(void **state)
{
    enum { RUNS = 200000, CAPACITY = 100 };
    char input[CAPACITY + 32];
    uint64_t seed = 3;
    size_t checked = 0;

    for (size_t run = 0; run < RUNS; run++) {
        size_t size = random_content(input, CAPACITY, &seed);
        const char *end = memmem(input, size, "\r\n.\r\n", 5);
        struct transcript out, got, wanted;
        struct smtp_data_scanner strict;
        struct smtp_data_chunk chunk;

        if (end == NULL || memcmp(input, ".\r\n", 3) == 0)
            continue;
        checked++;
        transcript_init(&out);
        transcript_init(&got);
        transcript_init(&wanted);
        normalise(&out, input, size);
        unstuff(&got, out.text, out.size);
        unstuff(&wanted, input, (size_t)(end - input) + 2);
        make_newlines_whole(&wanted);
        if (!transcript_equal(&got, &wanted))
            fail_msg("run %zu: [%s] became [%s]", run, input, out.text);

        transcript_add(&out, ".\r\n");
        smtp_data_scanner_init(&strict, SMTP_DATA_STRICT);
        assert_int_equal(smtp_data_scan(&strict, out.text, out.size, &chunk), SMTP_DATA_END);
        assert_int_equal(chunk.consumed, out.size);
        transcript_deinit(&out);
        transcript_deinit(&got);
        transcript_deinit(&wanted);
    }
    assert_true(checked > RUNS / 10);
}

/* The kernels agree on the blocks they pass, on the masks where they stop, and on the carry. */
static void test_kernels_agree(void **state)
{
    char content[6 * SMTP_DATA_BLOCK_SIZE + 16];
    uint64_t seed = 11;

    for (size_t run = 0; run < 200000; run++) {
        struct smtp_data_carry start = {.after_cr = 0, .line_start = transcript_random(&seed) % 2};
        struct smtp_data_carry first_carry = start;
        struct smtp_data_block first_block = {0};

        for (size_t i = 0; i < sizeof(content); i++)
            content[i] = (char)transcript_random(&seed);
        for (size_t i = transcript_random(&seed) % 8; i > 0; i--)
            memcpy(content + transcript_random(&seed) % (sizeof(content) - 2), "\r\n", 2);
        if (run % 2 == 0) {
            for (size_t i = 0; i + 1 < sizeof(content); i++) {
                if ((content[i] == '\r') != (content[i + 1] == '\n'))
                    content[i] = content[i + 1] = 'x';
            }
        }

        size_t first = kernels[0].run(content, 6, &first_carry, &first_block);

        for (size_t i = 1; i < kernel_count; i++) {
            struct smtp_data_carry carry = start;
            struct smtp_data_block block = {0};

            assert_int_equal(kernels[i].run(content, 6, &carry, &block), first);
            assert_memory_equal(&block, &first_block, sizeof(block));
            assert_int_equal(carry.after_cr, first_carry.after_cr);
            assert_int_equal(carry.line_start, first_carry.line_start);
            assert_int_equal(carry.high, first_carry.high);
            assert_int_equal(carry.nul != 0, first_carry.nul != 0);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_normalise),
        cmocka_unit_test(test_every_place_in_a_block),
        cmocka_unit_test(test_millions_of_contents_against_naive),
        cmocka_unit_test(test_normalised_content_reads_the_same),
        cmocka_unit_test(test_kernels_agree),
    };

    find_kernels();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
