/*
 * The two encodings (RFC 2045 §6.7, §6.8), octet by octet, so that it does not matter how lines are cut.
 *
 * Nothing that is written here can be taken for a delimiter or needs a dot to be stuffed: a line never begins
 * with '-' or '.', not even where a soft line break made it.
 */
#include "gateway/message/recode_inner.h"

#include <assert.h>
#include <string.h>

enum {
    LINE_MAX = 76, /* octets of an encoded line without CRLF */
    QUOTED_SIZE = 3,
};

void recode_write(struct recode *recode, struct smtp_slice text)
{
    if (!recode->is_converting || text.size == 0)
        return;
    assert(text.size <= (size_t)(recode->out_end - recode->out));
    memcpy(recode->out, text.data, text.size);
    recode->out += text.size;
}

/* --- Quoted-printable --- */

static void write_token(struct recode *recode, struct smtp_slice token)
{
    recode_write(recode, token);
    recode->column = (uint8_t)(recode->column + token.size);
    assert(recode->column < LINE_MAX);
}

/* A soft line break, unless so many octets fit before the '=' that may have to be the line's last. */
static void make_room(struct recode *recode, uint32_t size)
{
    if (recode->column + size < LINE_MAX)
        return;
    recode_write(recode, SMTP_SLICE("=\r\n"));
    recode->column = 0;
}

static void write_literal(struct recode *recode, char c)
{
    make_room(recode, 1);
    write_token(recode, (struct smtp_slice){&c, 1});
}

static void write_coded(struct recode *recode, char c)
{
    static const char digits[] = "0123456789ABCDEF";
    const uint8_t octet = (uint8_t)c;
    const char token[QUOTED_SIZE] = {'=', digits[octet >> 4], digits[octet & 15]};

    make_room(recode, sizeof(token));
    write_token(recode, (struct smtp_slice){token, sizeof(token)});
}

/* A character that ends no line: only the first column can make it special. */
static void write_inner(struct recode *recode, char c)
{
    const bool is_first = recode->column == 0 || recode->column + 1 >= LINE_MAX;
    const uint8_t octet = (uint8_t)c;

    assert(c != ' ' && c != '\t');
    if (octet < ' ' || octet > '~' || c == '=' || (is_first && (c == '.' || c == '-')))
        write_coded(recode, c);
    else
        write_literal(recode, c);
}

static void write_blank(struct recode *recode, bool is_last)
{
    if (recode->blank == 0)
        return;
    if (is_last)
        write_coded(recode, recode->blank);
    else
        write_literal(recode, recode->blank);
    recode->blank = 0;
}

void recode_write_quoted(struct recode *recode, struct smtp_slice text, bool ends)
{
    const uint32_t size = ends ? text.size - 2 : text.size;

    for (uint32_t i = 0; i < size; i++) {
        const char c = text.data[i];
        write_blank(recode, false);
        if (c == ' ' || c == '\t')
            recode->blank = c;
        else
            write_inner(recode, c);
    }
    if (!ends)
        return;
    write_blank(recode, true);
    recode_write(recode, SMTP_SLICE("\r\n"));
    recode->column = 0;
}

/* --- Base64 --- */

/* Writes what waits, three octets or, at the end, less. */
static void write_triple(struct recode *recode)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *triple = recode->triple;
    const uint8_t size = recode->triple_size;

    assert(size > 0 && size <= sizeof(recode->triple));
    memset(recode->triple + size, 0, sizeof(recode->triple) - size);
    const char quad[4] = {
        digits[triple[0] >> 2],
        digits[(triple[0] & 3) << 4 | triple[1] >> 4],
        size > 1 ? digits[(triple[1] & 15) << 2 | triple[2] >> 6] : '=',
        size > 2 ? digits[triple[2] & 63] : '=',
    };
    if (recode->column == LINE_MAX) {
        recode_write(recode, SMTP_SLICE("\r\n"));
        recode->column = 0;
    }
    recode_write(recode, (struct smtp_slice){quad, sizeof(quad)});
    recode->column = (uint8_t)(recode->column + sizeof(quad));
    recode->triple_size = 0;
    assert(recode->column <= LINE_MAX);
}

static void write_octets(struct recode *recode, struct smtp_slice text)
{
    for (uint32_t i = 0; i < text.size; i++) {
        recode->triple[recode->triple_size++] = (uint8_t)text.data[i];
        if (recode->triple_size == sizeof(recode->triple))
            write_triple(recode);
    }
}

static void write_held(struct recode *recode)
{
    if (recode->holds_crlf)
        write_octets(recode, SMTP_SLICE("\r\n"));
    recode->holds_crlf = false;
}

void recode_write_base64(struct recode *recode, struct smtp_slice text, bool ends)
{
    write_held(recode);
    recode->holds_crlf = ends;
    write_octets(recode, (struct smtp_slice){text.data, ends ? text.size - 2 : text.size});
}

void recode_write_base64_end(struct recode *recode, bool at_boundary)
{
    if (!at_boundary)
        write_held(recode);
    recode->holds_crlf = false;
    if (recode->triple_size > 0)
        write_triple(recode);
    if (recode->column > 0)
        recode_write(recode, SMTP_SLICE("\r\n"));
    recode->column = 0;
}
