#include "gateway/outbound/classes.h"

#include "gateway/outbound/classes_inner.h"

#include <assert.h>

/* A reply in the form in which rules look at it. */
struct question {
    char text[CLASSES_TEXT_MAX];
    uint32_t text_size;
    struct smtp_slice host; /* without a final dot */
    uint16_t code[3];       /* digits */
    uint16_t status[3];
    bool has_code;
    bool has_status;
    struct words_found found;
};

uint32_t classes_count(const struct classes *classes)
{
    return classes->rule_count;
}

uint32_t classes_fold(struct smtp_slice text, char *into)
{
    uint32_t size = 0;
    for (uint32_t i = 0; i < text.size; i++) {
        const uint8_t octet = (uint8_t)text.data[i];
        if (octet > ' ' && octet != 0x7f)
            into[size++] = smtp_ascii_lower(text.data[i]);
        else if (size > 0 && into[size - 1] != ' ')
            into[size++] = ' ';
    }
    return size;
}

static bool code_matches(const struct classes_rule *rule, const struct question *question)
{
    if (rule->code_part != CLASSES_GIVEN)
        return rule->code_part == CLASSES_ANY || !question->has_code;
    if (!question->has_code)
        return false;
    for (uint32_t i = 0; i < 3; i++) {
        if (rule->code[i] != CLASSES_ANY_DIGIT && rule->code[i] != question->code[i])
            return false;
    }
    return true;
}

static bool status_matches(const struct classes_rule *rule, const struct question *question)
{
    if (rule->status_part != CLASSES_GIVEN)
        return rule->status_part == CLASSES_ANY || !question->has_status;
    if (!question->has_status)
        return false;
    for (uint32_t i = 0; i < 3; i++) {
        if (rule->status[i] != CLASSES_ANY_NUMBER && rule->status[i] != question->status[i])
            return false;
    }
    return true;
}

/* Each piece at its first place behind the one before: if any places are in order, these are. */
static bool pieces_are_in_order(const struct classes_piece *pieces, uint32_t count,
                                const struct question *question)
{
    const char *at = question->text;
    const char *end = question->text + question->text_size;
    for (uint32_t i = 0; i < count; i++) {
        const char *place = memmem(at, (size_t)(end - at), pieces[i].text.data, pieces[i].text.size);
        if (place == NULL)
            return false;
        at = place + pieces[i].text.size;
    }
    return true;
}

static bool pattern_matches(const struct classes *classes, const struct classes_pattern *pattern,
                            const struct question *question)
{
    const struct classes_piece *pieces = classes->pieces + pattern->first;
    assert(pattern->count > 0 && pattern->first + pattern->count <= classes->piece_count);
    for (uint32_t i = 0; i < pattern->count; i++) {
        if (!words_has(&question->found, pieces[i].word))
            return false;
    }
    return pattern->count == 1 || pieces_are_in_order(pieces, pattern->count, question);
}

static bool text_matches(const struct classes *classes, const struct classes_rule *rule,
                         const struct question *question)
{
    for (uint32_t i = 0; i < rule->pattern_count; i++) {
        if (pattern_matches(classes, &classes->patterns[rule->pattern + i], question))
            return true;
    }
    return rule->pattern_count == 0;
}

/* After a mismatch only the last star can still take more: what earlier ones took fits already. */
static bool glob_matches(struct smtp_slice pattern, struct smtp_slice name)
{
    uint32_t p = 0, n = 0;
    uint32_t star = UINT32_MAX, taken = 0;
    while (n < name.size) {
        if (p < pattern.size && pattern.data[p] == '*') {
            star = p++;
            taken = n;
        } else if (p < pattern.size && pattern.data[p] == smtp_ascii_lower(name.data[n])) {
            p++;
            n++;
        } else if (star != UINT32_MAX) {
            p = star + 1;
            n = ++taken;
        } else {
            return false;
        }
    }
    while (p < pattern.size && pattern.data[p] == '*')
        p++;
    return p == pattern.size;
}

static bool host_matches(const struct classes_rule *rule, const struct question *question)
{
    if (rule->host_part != CLASSES_GIVEN)
        return rule->host_part == CLASSES_ANY || question->host.size == 0;
    return question->host.size > 0 && glob_matches(rule->host, question->host);
}

static void ask(const struct classes *classes, const struct classes_reply *reply, struct question *question)
{
    assert(reply->code == 0 || (reply->code >= 200 && reply->code <= 599));
    question->has_code = reply->code != 0;
    question->code[0] = reply->code / 100;
    question->code[1] = reply->code / 10 % 10;
    question->code[2] = reply->code % 10;
    question->has_status = reply->status.class != 0;
    question->status[0] = reply->status.class;
    question->status[1] = reply->status.subject;
    question->status[2] = reply->status.detail;
    question->host = reply->host;
    if (question->host.size > 0 && question->host.data[question->host.size - 1] == '.')
        question->host.size--;

    struct smtp_slice text = reply->text;
    if (text.size > CLASSES_TEXT_MAX)
        text.size = CLASSES_TEXT_MAX;
    question->text_size = classes_fold(text, question->text);
    words_find(classes->words, (struct smtp_slice){question->text, question->text_size}, &question->found);
}

enum notice_class classes_find(const struct classes *classes, const struct classes_reply *reply)
{
    struct question question;
    ask(classes, reply, &question);
    for (uint32_t i = 0; i < classes->rule_count; i++) {
        const struct classes_rule *rule = &classes->rules[i];
        if (code_matches(rule, &question) && status_matches(rule, &question) &&
            text_matches(classes, rule, &question) && host_matches(rule, &question)) {
            assert(rule->class < NOTICE_CLASS_COUNT);
            return (enum notice_class)rule->class;
        }
    }
    return NOTICE_CLASS_OTHER;
}
