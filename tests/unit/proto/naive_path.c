#include "tests/unit/proto/naive_path.h"

#include "proto/path.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* RFC 3629 §4 but for C1 controls */
#define TAIL "[\x80-\xbf]"
#define UTF8                                                                                                 \
    "(\xc2[\xa0-\xbf]|[\xc3-\xdf]" TAIL "|\xe0[\xa0-\xbf]" TAIL "|[\xe1-\xec\xee\xef]" TAIL TAIL             \
    "|\xed[\x80-\x9f]" TAIL "|\xf0[\x90-\xbf]" TAIL TAIL "|[\xf1-\xf3]" TAIL TAIL TAIL                       \
    "|\xf4[\x80-\x8f]" TAIL TAIL ")"
#define NEVER "(\x01\x02\x01)" /* in place of UTF8 where it is not allowed */

#define ATOM(utf8)   "([A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|" utf8 ")+"
#define DOTS(utf8)   ATOM(utf8) "(\\." ATOM(utf8) ")*"
#define QUOTED(utf8) "\"([ !#-[]|[]-~]|\\\\[ -~]|" utf8 ")*\""
#define LABEL(utf8)  "([A-Za-z0-9_]|" utf8 ")(([A-Za-z0-9_-]|" utf8 ")*([A-Za-z0-9_]|" utf8 "))?"
#define DOMAIN(utf8) LABEL(utf8) "(\\." LABEL(utf8) ")*"
#define SNUM         "(25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])"
#define IPV4         SNUM "\\." SNUM "\\." SNUM "\\." SNUM
#define HEX          "[0-9A-Fa-f]{1,4}"
#define IPV6                                                                                                 \
    "(" HEX "(:" HEX "){7}|" HEX "(:" HEX "){5}:" IPV4 "|(" HEX "(:" HEX "){0,5})?::(" HEX "(:" HEX          \
    "){0,5})?|(" HEX "(:" HEX "){0,3})?::(" HEX "(:" HEX "){0,3}:)?" IPV4 ")"
#define LITERAL "\\[(" IPV4 "|[Ii][Pp][Vv]6:" IPV6 ")\\]"

struct grammar {
    regex_t route, local, domain, literal;
};

static void compile(regex_t *regex, const char *expression)
{
    char anchored[8192];

    snprintf(anchored, sizeof(anchored), "^(%s)", expression);
    if (regcomp(regex, anchored, REG_EXTENDED) != 0)
        abort();
}

#define COMPILE(grammar, utf8)                                                                               \
    do {                                                                                                     \
        compile(&(grammar)->route, "@" DOMAIN(utf8) "(,@" DOMAIN(utf8) ")*:");                               \
        compile(&(grammar)->local, DOTS(utf8) "|" QUOTED(utf8));                                             \
        compile(&(grammar)->domain, DOMAIN(utf8));                                                           \
        compile(&(grammar)->literal, LITERAL);                                                               \
    } while (0)

static const struct grammar *grammar_for(bool allow_utf8)
{
    static struct grammar grammars[2];
    static bool compiled;

    if (!compiled) {
        COMPILE(&grammars[0], NEVER);
        COMPILE(&grammars[1], UTF8);
        compiled = true;
    }
    return &grammars[allow_utf8];
}

/* The size of what the expression matches at the beginning, the longest there is; 0 if nothing. */
static size_t match(const regex_t *regex, const char *text)
{
    regmatch_t whole;

    return regexec(regex, text, 1, &whole, 0) == 0 ? (size_t)whole.rm_eo : 0;
}

static bool has_high(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] > 127)
            return true;
    }
    return false;
}

/* Of a domain without literals: each label, and the whole. */
static bool domain_fits(const char *text, size_t size)
{
    for (size_t start = 0, end; start < size; start = end + 1) {
        for (end = start; end < size && text[end] != '.';)
            end++;
        if (end - start > 63 && !has_high(text + start, end - start))
            return false;
    }
    return size <= 255;
}

static bool route_fits(const char *text, size_t size)
{
    for (size_t start = 1, end; start < size; start = end + 2) {
        end = start + strcspn(text + start, ",:");
        if (!domain_fits(text + start, end - start))
            return false;
    }
    return true;
}

/* How many groups an IPv6 address with "::" has; RFC 5321 §4.1.3 lets it have six. */
static bool groups_fit(const char *text, size_t size)
{
    size_t groups = 0;
    bool compressed = false;

    for (size_t i = 6; i < size; i++) {
        compressed |= text[i] == ':' && text[i - 1] == ':' && i > 6;
        groups += text[i] == '.' || (text[i] != ':' && text[i - 1] == ':');
    }
    /* An IPv4 address counts for two groups, and has three dots beside the octet that begins it. */
    if (memchr(text, '.', size) != NULL)
        groups -= 2;
    return !compressed || groups <= 6;
}

static bool naive_mailbox(const struct grammar *grammar, const char *text, size_t at, bool postmaster,
                          struct naive_path *path)
{
    path->local_at = at;
    path->local_size = match(&grammar->local, text + at);
    at += path->local_size;
    if (path->local_size == 0 || path->local_size > 64)
        return false;
    if (postmaster && path->local_size == 10 && strncasecmp(text + at - 10, "postmaster>", 11) == 0) {
        path->used = at + 1;
        return true;
    }
    if (text[at++] != '@')
        return false;

    bool literal = text[at] == '[';
    size_t size = match(literal ? &grammar->literal : &grammar->domain, text + at);

    path->domain_at = at;
    path->domain_size = size;
    path->used = at + size + 1;
    if (size == 0 || text[at + size] != '>')
        return false;
    if (literal)
        return strncasecmp(text + at, "[IPv6:", 6) != 0 || groups_fit(text + at, size - 1);
    return domain_fits(text + at, size);
}

bool naive_path(const char *text, bool forward, bool allow_utf8, struct naive_path *path)
{
    const struct grammar *grammar = grammar_for(allow_utf8);
    size_t at = 1;

    *path = (struct naive_path){0};
    if (text[0] != '<')
        return false;
    if (!forward && text[1] == '>') {
        path->used = 2;
        return true;
    }

    size_t route = text[1] == '@' ? match(&grammar->route, text + 1) : 0;

    if (text[1] == '@' && (route == 0 || !route_fits(text + 1, route)))
        return false;
    at += route;
    if (!naive_mailbox(grammar, text, at, forward && route == 0, path) || path->used > 256)
        return false;
    path->is_utf8 = has_high(text, path->used);
    return true;
}

static bool same(const char *text, const struct naive_path *naive, const struct smtp_path *path,
                 uint32_t used)
{
    bool null = naive->used == 2;

    if (used != naive->used || path->is_utf8 != naive->is_utf8 || path->local.size != naive->local_size ||
        path->domain.size != naive->domain_size)
        return false;
    if (null)
        return path->text.size == 0;
    if (path->local.data != text + naive->local_at || path->text.data != path->local.data)
        return false;
    if (naive->domain_size == 0)
        return path->text.size == path->local.size;
    return path->domain.data == text + naive->domain_at &&
           path->text.size == path->local.size + 1 + path->domain.size;
}

bool naive_path_check(const char *text, size_t size)
{
    char *octets =
        malloc(size > 0 ? size : 1); /* of exactly the size, so that a sanitizer sees too long a look */
    char *string = malloc(size + 1);

    if (octets == NULL || string == NULL)
        abort();
    memcpy(octets, text, size);
    memcpy(string, text, size);
    string[size] = '\0';
    bool any = false;

    for (int variant = 0; variant < 4; variant++) {
        bool forward = variant & 1;
        bool allow_utf8 = variant & 2;
        struct smtp_path path;
        struct naive_path naive;
        uint32_t used = 0;
        enum smtp_path_fault fault =
            smtp_path_parse((struct smtp_slice){octets, (uint32_t)size},
                            forward ? SMTP_PATH_FORWARD : SMTP_PATH_REVERSE, allow_utf8, &path, &used);
        bool good = naive_path(string, forward, allow_utf8, &naive);

        any |= good;
        if (good == (fault == SMTP_PATH_OK) && (!good || same(octets, &naive, &path, used)))
            continue;
        fprintf(stderr, "%s: forward=%d utf8=%d fault=%u, and the plain grammar says %s\n", string, forward,
                allow_utf8, fault, good ? "yes" : "no");
        abort();
    }
    free(octets);
    free(string);
    return any;
}
