#include "proto/path.h"

#include "proto/octet.h"

#include <assert.h>

/*
 *     Path           = "<" [ A-d-l ":" ] Mailbox ">"
 *     A-d-l          = "@" Domain *( "," "@" Domain )
 *     Mailbox        = Local-part "@" ( Domain / address-literal )
 *     Local-part     = Dot-string / Quoted-string
 *     Dot-string     = Atom *( "." Atom )
 *     Quoted-string  = DQUOTE *( qtext / "\" %d32-126 ) DQUOTE
 *     Domain         = label *( "." label )           ; labels also with "_", as hosts do have them
 *     address-literal = "[" ( IPv4 / "IPv6:" IPv6 ) "]"
 *
 * Where UTF-8 is allowed, its characters beyond ASCII may be in an Atom, be qtext, and be in a label (RFC
 * 6531 §3.3).
 *
 * Each take_ function moves `at` behind what it is named after, or answers false with `at` at the octet that
 * was wrong.
 */
struct cursor {
    const char *at;
    const char *end;
    bool allow_utf8;
    bool too_long;
    bool is_utf8;
};

static bool next_is(const struct cursor *c, char octet)
{
    return c->at < c->end && *c->at == octet;
}

static bool next_is_class(const struct cursor *c, enum octet_class class)
{
    return c->at < c->end && octet_is(*c->at, class);
}

static bool take_octet(struct cursor *c, char octet)
{
    if (!next_is(c, octet))
        return false;
    c->at++;
    return true;
}

/* One character beyond ASCII. */
static bool take_utf8(struct cursor *c)
{
    if (c->at == c->end || octet_is_ascii(*c->at) || !c->allow_utf8)
        return false;

    unsigned size = octet_utf8(c->at, (size_t)(c->end - c->at));

    c->at += size;
    c->is_utf8 |= size > 0;
    return size > 0;
}

/* Takes as many octets of the class as there are, perhaps none; the hottest loop of this file. */
static void take_all(struct cursor *c, enum octet_class class)
{
    const char *at = c->at;
    const char *end = c->end;

    while (at < end && octet_is(*at, class))
        at++;
    c->at = at;
}

static size_t take_run(struct cursor *c, enum octet_class class, size_t most)
{
    const char *start = c->at;

    while (next_is_class(c, class) && (size_t)(c->at - start) < most)
        c->at++;
    return (size_t)(c->at - start);
}

static bool within(struct cursor *c, const char *start, size_t limit)
{
    assert(c->at >= start);
    if ((size_t)(c->at - start) <= limit)
        return true;
    c->too_long = true;
    return false;
}

static bool take_dot_string(struct cursor *c)
{
    do {
        const char *atom = c->at;

        do
            take_all(c, OCTET_ATEXT);
        while (take_utf8(c));
        if (c->at == atom)
            return false;
    } while (take_octet(c, '.'));
    return true;
}

static bool take_quoted_string(struct cursor *c)
{
    bool quoted = take_octet(c, '"');

    assert(quoted);
    while (!take_octet(c, '"')) {
        bool pair = take_octet(c, '\\');
        bool any_graphic = pair && (next_is(c, '"') || next_is(c, '\\'));

        if (any_graphic || next_is_class(c, OCTET_QTEXT))
            c->at++;
        else if (pair || !take_utf8(c))
            return false;
    }
    return true;
}

static bool take_local_part(struct cursor *c)
{
    const char *start = c->at;
    bool taken = next_is(c, '"') ? take_quoted_string(c) : take_dot_string(c);

    return taken && within(c, start, SMTP_LOCAL_PART_MAX);
}

/* A label beyond ASCII is as long as its A-label lets it be, which may be more octets of UTF-8 than 63. */
static bool take_label(struct cursor *c)
{
    const char *start = c->at;
    bool has_utf8 = false;

    if (next_is(c, '-'))
        return false;
    for (;;) {
        take_all(c, OCTET_LABEL);
        if (!take_utf8(c))
            break;
        has_utf8 = true;
    }
    if (c->at == start || c->at[-1] == '-')
        return false;
    return has_utf8 || within(c, start, SMTP_LABEL_MAX);
}

static bool take_domain(struct cursor *c)
{
    const char *start = c->at;

    do {
        if (!take_label(c))
            return false;
    } while (take_octet(c, '.'));
    return within(c, start, SMTP_DOMAIN_MAX);
}

/* Snum 3( "." Snum ), Snum = 1*3DIGIT of value 0 to 255 */
static bool take_ipv4(struct cursor *c)
{
    for (int part = 0; part < 4; part++) {
        const char *digits = c->at + (part > 0);
        unsigned value = 0;

        if (part > 0 && !take_octet(c, '.'))
            return false;
        if (take_run(c, OCTET_DIGIT, 3) == 0)
            return false;
        for (; digits < c->at; digits++)
            value = value * 10 + (unsigned)(*digits - '0');
        if (value > 255)
            return false;
    }
    return true;
}

/*
 * Eight groups of 1*4HEXDIG; "::" once for at least two of them (RFC 5321 §4.1.3, IPv6-comp); an IPv4 address
 * for the last two.
 */
static bool take_ipv6(struct cursor *c)
{
    unsigned group_count = 0;
    bool compressed = false;

    if (next_is(c, ':')) {
        c->at++;
        if (!take_octet(c, ':'))
            return false;
        compressed = true;
    }
    while (next_is_class(c, OCTET_HEX)) {
        const char *start = c->at;

        take_run(c, OCTET_HEX, 4);
        if (next_is(c, '.')) {
            c->at = start;
            if (!take_ipv4(c))
                return false;
            group_count += 2;
            break;
        }
        group_count++;
        if (!take_octet(c, ':'))
            break;
        if (next_is(c, ':')) {
            if (compressed)
                return false;
            compressed = true;
            c->at++;
        } else if (!next_is_class(c, OCTET_HEX)) {
            return false;
        }
    }
    return compressed ? group_count <= 6 : group_count == 8;
}

static bool take_literal_tag(struct cursor *c)
{
    static const char tag[] = "IPv6:";
    const size_t size = sizeof(tag) - 1;

    if ((size_t)(c->end - c->at) < size)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (smtp_ascii_lower(c->at[i]) != smtp_ascii_lower(tag[i]))
            return false;
    }
    c->at += size;
    return true;
}

static bool take_literal(struct cursor *c)
{
    bool open = take_octet(c, '[');

    assert(open);
    bool taken = take_literal_tag(c) ? take_ipv6(c) : take_ipv4(c);

    return taken && take_octet(c, ']');
}

static bool take_source_route(struct cursor *c)
{
    do {
        if (!take_octet(c, '@') || !take_domain(c))
            return false;
    } while (take_octet(c, ','));
    return take_octet(c, ':');
}

static struct smtp_slice slice_between(const char *start, const char *end)
{
    assert(start <= end);
    return (struct smtp_slice){start, (uint32_t)(end - start)};
}

/* Mailbox, or Postmaster alone where the caller lets it; up to, not including, ">". */
static bool take_mailbox(struct cursor *c, bool postmaster_allowed, struct smtp_path *path)
{
    const char *start = c->at;

    if (!take_local_part(c))
        return false;
    path->local = slice_between(start, c->at);
    path->domain = (struct smtp_slice){c->at, 0};

    bool postmaster = postmaster_allowed && smtp_slice_equals_nocase(path->local, SMTP_SLICE("postmaster"));

    if (!(postmaster && next_is(c, '>'))) {
        if (!take_octet(c, '@'))
            return false;

        const char *domain = c->at;

        if (!(next_is(c, '[') ? take_literal(c) : take_domain(c)))
            return false;
        path->domain = slice_between(domain, c->at);
    }
    path->text = slice_between(start, c->at);
    return true;
}

static bool take_path(struct cursor *c, enum smtp_path_kind kind, struct smtp_path *path)
{
    bool open = take_octet(c, '<');

    assert(open);
    if (kind == SMTP_PATH_REVERSE && next_is(c, '>')) {
        path->text = path->local = path->domain = (struct smtp_slice){c->at, 0};
    } else {
        bool routed = next_is(c, '@');

        if (routed && !take_source_route(c))
            return false;
        if (!take_mailbox(c, kind == SMTP_PATH_FORWARD && !routed, path))
            return false;
    }
    return take_octet(c, '>');
}

enum smtp_path_fault smtp_path_parse(struct smtp_slice text, enum smtp_path_kind kind, bool allow_utf8,
                                     struct smtp_path *path, uint32_t *used)
{
    struct cursor c = {.at = text.data, .end = text.data + text.size, .allow_utf8 = allow_utf8};
    struct smtp_path found;

    if (!next_is(&c, '<'))
        return SMTP_PATH_NO_BRACKET;
    if (!take_path(&c, kind, &found)) {
        if (c.too_long)
            return SMTP_PATH_TOO_LONG;
        return c.at < c.end && !octet_is_ascii(*c.at) && !allow_utf8 ? SMTP_PATH_NON_ASCII : SMTP_PATH_SYNTAX;
    }
    if (!within(&c, text.data, SMTP_PATH_MAX))
        return SMTP_PATH_TOO_LONG;

    assert(c.at[-1] == '>');
    assert(found.text.size + 2 <= (size_t)(c.at - text.data));
    assert(found.local.size <= SMTP_LOCAL_PART_MAX && found.domain.size <= SMTP_DOMAIN_MAX);
    *path = found;
    path->is_utf8 = c.is_utf8;
    *used = (uint32_t)(c.at - text.data);
    return SMTP_PATH_OK;
}
