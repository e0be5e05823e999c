/* Reads the table of classes: one rule a line (classes.h). */

#include "gateway/outbound/classes_inner.h"

#include "proto/ip.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PATTERNS_MAX = 16384,
    PIECES_MAX = 32768,
};

struct class_parser {
    struct classes *classes;
    const char *path;
    char *error;
    size_t error_size;
    uint32_t line;
};

static int fail(const struct class_parser *parser, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int fail(const struct class_parser *parser, const char *format, ...)
{
    char reason[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    snprintf(parser->error, parser->error_size, "%s:%u: %s", parser->path, parser->line, reason);
    return -EINVAL;
}

/* Room for one more of `count` elements, which doubles at each power of two. */
static int reserve(void **array, uint32_t count, uint32_t most, size_t element_size)
{
    if (count == most)
        return -ENOSPC;
    if ((count & (count - 1)) != 0)
        return 0;
    void *grown = realloc(*array, (count > 0 ? 2 * (size_t)count : 1) * element_size);
    if (grown == NULL)
        return -ENOMEM;
    *array = grown;
    return 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct smtp_slice trim(struct smtp_slice text)
{
    while (text.size > 0 && is_blank(text.data[0]))
        text = (struct smtp_slice){text.data + 1, text.size - 1};
    while (text.size > 0 && is_blank(text.data[text.size - 1]))
        text.size--;
    return text;
}

/* Cuts the next word off; empty at the end of the line. */
static struct smtp_slice next_word(struct smtp_slice *rest)
{
    uint32_t size = 0;
    *rest = trim(*rest);
    while (size < rest->size && !is_blank(rest->data[size]))
        size++;
    const struct smtp_slice word = {rest->data, size};
    *rest = (struct smtp_slice){rest->data + size, rest->size - size};
    return word;
}

/* Whether a word is "*" or "-", which mean the same in three columns. */
static uint8_t part_of(struct smtp_slice word)
{
    if (smtp_slice_equals(word, SMTP_SLICE("*")))
        return CLASSES_ANY;
    return smtp_slice_equals(word, SMTP_SLICE("-")) ? CLASSES_NONE : CLASSES_GIVEN;
}

static int parse_code(const struct class_parser *parser, struct smtp_slice word, struct classes_rule *rule)
{
    rule->code_part = part_of(word);
    if (rule->code_part != CLASSES_GIVEN)
        return 0;
    bool is_code = word.size == 3 && word.data[0] >= '2' && word.data[0] <= '5';
    for (uint32_t i = 0; is_code && i < 3; i++) {
        const char c = smtp_ascii_lower(word.data[i]);
        is_code = (c >= '0' && c <= '9') || c == 'x';
        rule->code[i] = c == 'x' ? CLASSES_ANY_DIGIT : (uint8_t)(c - '0');
    }
    if (!is_code)
        return fail(parser, "'%.*s' is no reply code; would be right: 550, 55x, 5xx, - or *", (int)word.size,
                    word.data);
    return 0;
}

static int parse_status(const struct class_parser *parser, struct smtp_slice word, struct classes_rule *rule)
{
    rule->status_part = part_of(word);
    if (rule->status_part != CLASSES_GIVEN)
        return 0;
    struct smtp_slice rest = word;
    bool is_status = true;
    for (uint32_t i = 0; is_status && i < 3; i++) {
        const char *dot = i < 2 && rest.size > 0 ? memchr(rest.data, '.', rest.size) : NULL;
        const struct smtp_slice number = {rest.data, dot != NULL ? (uint32_t)(dot - rest.data) : rest.size};
        uint32_t value = CLASSES_ANY_NUMBER;
        is_status = (dot != NULL) == (i < 2) &&
                    (smtp_slice_equals(number, SMTP_SLICE("*")) || smtp_decimal_parse(number, 999, &value));
        rule->status[i] = (uint16_t)value;
        if (dot != NULL)
            rest = (struct smtp_slice){dot + 1, rest.size - number.size - 1};
    }
    if (!is_status)
        return fail(parser, "'%.*s' is no enhanced status code; would be right: 5.1.1, 5.1.*, *.1.1, - or *",
                    (int)word.size, word.data);
    return 0;
}

static int translate(const struct class_parser *parser, int result)
{
    assert(result == -ENOSPC || result == -ENOMEM);
    return result == -ENOSPC ? fail(parser, "too many rules or patterns") : result;
}

static int add_piece(const struct class_parser *parser, struct smtp_slice text)
{
    struct classes *classes = parser->classes;
    uint32_t word;
    int result =
        reserve((void **)&classes->pieces, classes->piece_count, PIECES_MAX, sizeof(*classes->pieces));
    if (result == 0)
        result = words_add(classes->words, text, &word);
    if (result < 0)
        return translate(parser, result);
    classes->pieces[classes->piece_count++] = (struct classes_piece){text, word};
    return 0;
}

/* A bar at the edge of an alternative has nothing on its other side. */
static bool has_loose_bar(struct smtp_slice text)
{
    const char *end = text.data + text.size;
    return smtp_slice_equals(text, SMTP_SLICE("|")) ||
           (text.size >= 2 && (memcmp(text.data, "| ", 2) == 0 || memcmp(end - 2, " |", 2) == 0));
}

/* One alternative: pieces between stars, whose blanks at a star count. */
static int add_pattern(const struct class_parser *parser, struct smtp_slice text)
{
    struct classes *classes = parser->classes;
    int result = reserve((void **)&classes->patterns, classes->pattern_count, PATTERNS_MAX,
                         sizeof(*classes->patterns));
    if (result < 0)
        return translate(parser, result);
    struct classes_pattern pattern = {.first = classes->piece_count};
    const bool is_loose = has_loose_bar(text);
    while (text.size > 0) {
        const char *star = memchr(text.data, '*', text.size);
        const uint32_t size = star != NULL ? (uint32_t)(star - text.data) : text.size;
        if (size > 0 && (result = add_piece(parser, (struct smtp_slice){text.data, size})) < 0)
            return result;
        const uint32_t skipped = star != NULL ? size + 1 : size;
        text = (struct smtp_slice){text.data + skipped, text.size - skipped};
    }
    pattern.count = classes->piece_count - pattern.first;
    if (pattern.count == 0 || is_loose)
        return fail(parser, "an alternative is empty, or nothing but stars");
    classes->patterns[classes->pattern_count++] = pattern;
    return 0;
}

static int parse_text(const struct class_parser *parser, struct smtp_slice text, struct classes_rule *rule)
{
    rule->pattern = parser->classes->pattern_count;
    if (smtp_slice_equals(text, SMTP_SLICE("*")))
        return 0;
    while (true) {
        const char *bar = text.size > 0 ? memmem(text.data, text.size, " | ", 3) : NULL;
        const uint32_t size = bar != NULL ? (uint32_t)(bar - text.data) : text.size;
        const int result = add_pattern(parser, trim((struct smtp_slice){text.data, size}));
        if (result < 0)
            return result;
        rule->pattern_count++;
        if (bar == NULL)
            return 0;
        text = (struct smtp_slice){bar + 3, text.size - size - 3};
    }
}

static int parse_rule(const struct class_parser *parser, struct smtp_slice line)
{
    struct classes *classes = parser->classes;
    struct classes_rule rule = {0};
    enum notice_class class;
    const struct smtp_slice name = next_word(&line);
    if (!notice_class_find(name, &class))
        return fail(parser, "'%.*s' is no class; right would be one such as %s", (int)name.size, name.data,
                    notice_class_name(NOTICE_CLASS_BAD_MAILBOX));
    const struct smtp_slice code = next_word(&line);
    const struct smtp_slice status = next_word(&line);
    rule.class = (uint8_t) class;
    rule.host = next_word(&line);
    rule.host_part = part_of(rule.host);
    line = trim(line);
    if (line.size == 0)
        return fail(parser, "a rule has five parts: class, reply code, status code, host and text");
    int result = parse_code(parser, code, &rule);
    if (result == 0)
        result = parse_status(parser, status, &rule);
    if (result == 0)
        result = parse_text(parser, line, &rule);
    if (result < 0)
        return result;
    result =
        reserve((void **)&classes->rules, classes->rule_count, CLASSES_RULES_MAX, sizeof(*classes->rules));
    if (result < 0)
        return translate(parser, result);
    classes->rules[classes->rule_count++] = rule;
    return 0;
}

static bool has_controls(const char *line, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (((uint8_t)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f)
            return true;
    }
    return false;
}

/* A line without its end; it is folded where it lies. */
static int parse_line(struct class_parser *parser, char *line, size_t size)
{
    parser->line++;
    if (size > 0 && line[size - 1] == '\r')
        size--;
    if (has_controls(line, size))
        return fail(parser, "a control character");
    const uint32_t folded = classes_fold((struct smtp_slice){line, (uint32_t)size}, line);
    if (folded == 0 || line[0] == '#')
        return 0;
    return parse_rule(parser, (struct smtp_slice){line, folded});
}

static int parse_lines(struct class_parser *parser, char *text, size_t size)
{
    char *end = text + size;
    for (char *line = text; line < end;) {
        char *feed = memchr(line, '\n', (size_t)(end - line));
        char *stop = feed != NULL ? feed : end;
        const int result = parse_line(parser, line, (size_t)(stop - line));
        if (result < 0)
            return result;
        line = stop + 1;
    }
    return words_build(parser->classes->words);
}

int classes_parse(char *text, size_t size, const char *path, struct classes **classes, char *error,
                  size_t error_size)
{
    struct classes *parsed = calloc(1, sizeof(*parsed));
    struct class_parser parser = {.classes = parsed, .path = path, .error = error, .error_size = error_size};
    assert(size <= CLASSES_FILE_SIZE_MAX);
    int result = -ENOMEM;
    if (parsed != NULL && (parsed->words = words_new()) != NULL)
        result = parse_lines(&parser, text, size);
    if (result == -ENOMEM)
        snprintf(error, error_size, "%s: no memory for its rules", path);
    if (result < 0) {
        classes_free(parsed);
        return result;
    }
    parsed->text = text;
    *classes = parsed;
    return 0;
}

void classes_free(struct classes *classes)
{
    if (classes == NULL)
        return;
    words_free(classes->words);
    free(classes->rules);
    free(classes->patterns);
    free(classes->pieces);
    free(classes->text);
    free(classes);
}
