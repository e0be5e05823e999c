#include "gateway/base/config_scan.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/config_key.h"

/*
 * The words of a statement, and what may follow:
 *
 *   BEGIN ── name ──▶ NAME ── '=' ──▶ VALUE ── word ──▶ BEGIN
 *     ▲                │ │              └─ '{' ──▶ LIST ── word ──▶ LISTED ── ',' ──▶ LIST
 *     │                │ └─ word ──▶ TITLE           └── '}' ──▶ BEGIN  └── '}' ──▶ BEGIN
 *     └────── '{' ─────┴──────────────┘
 *   NAME ── '(' ──▶ CALL ── ')' ──▶ BEGIN
 */
enum state { STATE_BEGIN, STATE_NAME, STATE_TITLE, STATE_VALUE, STATE_LIST, STATE_LISTED, STATE_CALL };

enum { WORD = 'w', END = 0, WORD_SHOWN_MAX = 48, DEPTH_MAX = 16 };

struct token {
    int kind; /* WORD, END or the character itself; '+' for "+=" */
    unsigned line;
    const char *bytes; /* of a word, without quotes */
    size_t size;
};

struct scanner {
    struct config_scan *scan;
    char *cursor;
    char *end;
    unsigned line;
    enum state state;
    struct token name;     /* of the statement */
    struct token previous; /* the token before this one */
    unsigned open_lines[DEPTH_MAX];
    size_t depth;
};

static int fail(struct scanner *scanner, unsigned line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct scanner *scanner, unsigned line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(scanner->scan->error, sizeof(scanner->scan->error), format, arguments);
    va_end(arguments);
    scanner->scan->error_line = line;
    return -EINVAL;
}

static int shown(const struct token *token)
{
    return token->size < WORD_SHOWN_MAX ? (int)token->size : WORD_SHOWN_MAX;
}

static void blank_line_comment(struct scanner *scanner)
{
    while (scanner->cursor < scanner->end && *scanner->cursor != '\n')
        *scanner->cursor++ = ' ';
}

static int blank_block_comment(struct scanner *scanner)
{
    char *close = strstr(scanner->cursor + 2, "*/");
    if (close == NULL)
        return fail(scanner, scanner->line, "the comment that begins with '/*' is never closed");
    for (; scanner->cursor < close + 2; scanner->cursor++) {
        if (*scanner->cursor == '\n')
            scanner->line++;
        else
            *scanner->cursor = ' ';
    }
    return 0;
}

static int skip_blanks(struct scanner *scanner)
{
    while (scanner->cursor < scanner->end) {
        char *cursor = scanner->cursor;
        if (*cursor == '\n')
            scanner->line++;
        if (strchr(" \t\r\n", *cursor) != NULL) {
            scanner->cursor++;
        } else if (*cursor == '#' || (cursor[0] == '/' && cursor[1] == '/')) {
            blank_line_comment(scanner);
        } else if (cursor[0] == '/' && cursor[1] == '*') {
            int result = blank_block_comment(scanner);
            if (result < 0)
                return result;
        } else {
            return 0;
        }
    }
    return 0;
}

/* ${NAME} is replaced by the environment; its end must be found where the string ends, too. */
static int check_substitution(struct scanner *scanner, const char *dollar, char quote)
{
    const char *close = strchr(dollar, '}');
    const char *string_end = strchr(dollar, quote);
    if (close == NULL || string_end == NULL || close > string_end)
        return fail(scanner, scanner->line, "'${' is not closed; would be right: \"${NAME}\"");
    return 0;
}

static int check_escape(struct scanner *scanner, const char *backslash)
{
    char next = backslash[1];
    bool is_plain = next >= ' ' && next < 0x7f && next != 'x' && (next < '0' || next > '9');
    if (!is_plain)
        return fail(scanner, scanner->line,
                    "unknown escape after '\\'; would be right: \\\\ for a backslash");
    return 0;
}

static int read_string(struct scanner *scanner, struct token *token)
{
    char quote = *scanner->cursor++;
    token->kind = WORD;
    token->bytes = scanner->cursor;
    for (; scanner->cursor < scanner->end && *scanner->cursor != '\n'; scanner->cursor++) {
        const char *cursor = scanner->cursor;
        int result = 0;
        if (*cursor == quote) {
            token->size = (size_t)(cursor - token->bytes);
            scanner->cursor++;
            return 0;
        }
        if (*cursor == '\\') {
            result = check_escape(scanner, cursor);
            scanner->cursor++;
        } else if (quote == '"' && cursor[0] == '$' && cursor[1] == '{') {
            result = check_substitution(scanner, cursor, quote);
        }
        if (result < 0)
            return result;
    }
    return fail(scanner, token->line,
                "the string is not closed; would be right: %c at the end of the same line", quote);
}

static int read_word(struct scanner *scanner, struct token *token)
{
    token->kind = WORD;
    token->bytes = scanner->cursor;
    while (scanner->cursor < scanner->end && strchr(" \t\r\n#\"'={}()+,*$;", *scanner->cursor) == NULL)
        scanner->cursor++;
    token->size = (size_t)(scanner->cursor - token->bytes);
    if (token->size == 0 && *scanner->cursor == '+' && scanner->cursor[1] == '=') {
        token->kind = '+';
        scanner->cursor += 2;
        return 0;
    }
    if (token->size == 0)
        return fail(scanner, token->line, "unexpected '%c'; would be right: such characters within quotes",
                    *scanner->cursor);
    return 0;
}

static int next_token(struct scanner *scanner, struct token *token)
{
    int result = skip_blanks(scanner);
    if (result < 0)
        return result;
    *token = (struct token){.kind = END, .line = scanner->line};
    if (scanner->cursor == scanner->end)
        return 0;
    switch (*scanner->cursor) {
    case '{':
    case '}':
    case '(':
    case ')':
    case '=':
    case ',':
        token->kind = *scanner->cursor++;
        return 0;
    case '"':
    case '\'':
        return read_string(scanner, token);
    default:
        return read_word(scanner, token);
    }
}

/* Within a section a name may be both: `tls` in a listener is a key. */
static enum config_section section_of_name(const struct scanner *scanner)
{
    char name[WORD_SHOWN_MAX + 1];
    snprintf(name, sizeof(name), "%.*s", shown(&scanner->name), scanner->name.bytes);
    bool is_key = scanner->depth > 0 && config_name_is_key(name);
    return is_key ? SECTION_COUNT : config_section_find(name);
}

static int enter_section(struct scanner *scanner)
{
    struct config_scan *scan = scanner->scan;
    if (scanner->depth == DEPTH_MAX)
        return fail(scanner, scanner->line, "sections are nested too deeply");
    scanner->open_lines[scanner->depth++] = scanner->name.line;
    scanner->state = STATE_BEGIN;
    if (scanner->depth > 1)
        return 0;

    unsigned *lines = realloc(scan->section_lines, (scan->section_count + 1) * sizeof(*lines));
    if (lines == NULL)
        return -ENOMEM;
    lines[scan->section_count++] = scanner->name.line;
    scan->section_lines = lines;
    return 0;
}

static int at_begin(struct scanner *scanner, const struct token *token)
{
    const struct token *name = &scanner->name;
    switch (token->kind) {
    case WORD:
        scanner->name = *token;
        scanner->state = STATE_NAME;
        return 0;
    case '}':
        if (scanner->depth == 0)
            return fail(scanner, token->line, "'}' without a '{' before it");
        scanner->depth--;
        return 0;
    case END:
        if (scanner->depth > 0)
            return fail(scanner, scanner->open_lines[scanner->depth - 1],
                        "the section's '{' is never closed");
        return 0;
    case '=':
        if (scanner->previous.kind == WORD && name->bytes != NULL)
            return fail(scanner, name->line, "no value after '%.*s ='", shown(name), name->bytes);
        return fail(scanner, token->line, "unexpected '='; would be right: NAME = VALUE");
    default:
        return fail(scanner, token->line, "unexpected '%c'; would be right: NAME = VALUE", token->kind);
    }
}

static int at_name(struct scanner *scanner, const struct token *token)
{
    const struct token *name = &scanner->name;
    enum config_section section = section_of_name(scanner);
    bool is_section = section != SECTION_COUNT;
    if (token->kind == '{' && is_section && config_section_has_title(section))
        return fail(scanner, name->line, "section '%.*s' has no title; would be right: %.*s \"NAME\" {",
                    shown(name), name->bytes, shown(name), name->bytes);
    if (token->kind == WORD && is_section && !config_section_has_title(section))
        return fail(scanner, name->line, "section '%.*s' takes no title; would be right: %.*s {", shown(name),
                    name->bytes, shown(name), name->bytes);
    switch (token->kind) {
    case '+':
        return fail(scanner, name->line, "'+=' is unknown; would be right: '=' with the whole list");
    case '=':
        scanner->state = STATE_VALUE;
        return 0;
    case '{':
        return enter_section(scanner);
    case '(':
        scanner->state = STATE_CALL;
        return 0;
    case WORD:
        if (is_section) {
            scanner->state = STATE_TITLE;
            return 0;
        }
        break;
    default:
        break;
    }
    return fail(scanner, name->line, "'%c' is missing after '%.*s'", is_section ? '{' : '=', shown(name),
                name->bytes);
}

static int at_title(struct scanner *scanner, const struct token *token)
{
    if (token->kind == '{')
        return enter_section(scanner);
    return fail(scanner, scanner->previous.line, "'{' is missing after %.*s \"%.*s\"", shown(&scanner->name),
                scanner->name.bytes, shown(&scanner->previous), scanner->previous.bytes);
}

static int at_value(struct scanner *scanner, const struct token *token)
{
    if (token->kind == WORD) {
        scanner->state = STATE_BEGIN;
        return 0;
    }
    if (token->kind == '{') {
        scanner->state = STATE_LIST;
        return 0;
    }
    return fail(scanner, scanner->previous.line, "no value after '%.*s ='", shown(&scanner->name),
                scanner->name.bytes);
}

/* An empty list calls none of libConfuse's callbacks, so the keys that need a value are looked at here. */
static int check_empty_list(struct scanner *scanner)
{
    const struct token *name = &scanner->name;
    for (size_t index = 0; index < config_key_count; index++) {
        const struct config_key *key = &config_keys[index];
        bool is_named = strlen(key->name) == name->size && memcmp(key->name, name->bytes, name->size) == 0;
        if (is_named && config_key_needs_value(key))
            return fail(scanner, scanner->previous.line, "the list of '%s' is empty; would be right: %s",
                        key->name, key->right);
    }
    return 0;
}

static int at_list(struct scanner *scanner, const struct token *token)
{
    if (token->kind == WORD) {
        scanner->state = STATE_LISTED;
        return 0;
    }
    if (token->kind == '}') {
        scanner->state = STATE_BEGIN;
        return scanner->previous.kind == '{' ? check_empty_list(scanner) : 0;
    }
    return fail(scanner, scanner->previous.line, "a value or '}' is missing in the list of '%.*s'",
                shown(&scanner->name), scanner->name.bytes);
}

static int at_listed(struct scanner *scanner, const struct token *token)
{
    if (token->kind == ',' || token->kind == '}') {
        scanner->state = token->kind == ',' ? STATE_LIST : STATE_BEGIN;
        return 0;
    }
    return fail(scanner, scanner->previous.line, "',' or '}' is missing in the list of '%.*s'",
                shown(&scanner->name), scanner->name.bytes);
}

/* Strict, because libConfuse loses memory when a call breaks off after its first argument. */
static int at_call(struct scanner *scanner, const struct token *token)
{
    bool is_argument = scanner->previous.kind == '(' && token->kind == WORD;
    bool is_end = scanner->previous.kind == WORD && token->kind == ')';
    if (!is_argument && !is_end)
        return fail(scanner, scanner->name.line, "'%.*s(' is not complete; would be right: include(\"FILE\")",
                    shown(&scanner->name), scanner->name.bytes);
    if (is_end)
        scanner->state = STATE_BEGIN;
    return 0;
}

static int step(struct scanner *scanner, const struct token *token)
{
    switch (scanner->state) {
    case STATE_BEGIN:
        return at_begin(scanner, token);
    case STATE_NAME:
        return at_name(scanner, token);
    case STATE_TITLE:
        return at_title(scanner, token);
    case STATE_VALUE:
        return at_value(scanner, token);
    case STATE_LIST:
        return at_list(scanner, token);
    case STATE_LISTED:
        return at_listed(scanner, token);
    case STATE_CALL:
        return at_call(scanner, token);
    }
    return fail(scanner, token->line, "unexpected state");
}

/* libConfuse reads text: a zero byte would end it early, and with it the checks. */
static int check_zero_bytes(struct scanner *scanner, const char *text, size_t size)
{
    const char *zero = memchr(text, '\0', size);
    if (zero == NULL)
        return 0;
    unsigned line = 1;
    for (const char *cursor = text; cursor < zero; cursor++)
        line += *cursor == '\n';
    return fail(scanner, line, "a zero byte; would be right: plain text");
}

int config_scan(struct config_scan *scan, char *text, size_t size)
{
    assert(text[size] == '\0');
    *scan = (struct config_scan){0};
    struct scanner scanner = {.scan = scan, .cursor = text, .end = text + size, .line = 1};
    int result = check_zero_bytes(&scanner, text, size);
    struct token token = {.kind = WORD};
    while (result == 0 && token.kind != END) {
        scanner.previous = token;
        result = next_token(&scanner, &token);
        if (result == 0)
            result = step(&scanner, &token);
    }
    return result;
}

void config_scan_deinit(struct config_scan *scan)
{
    free(scan->section_lines);
    *scan = (struct config_scan){0};
}
