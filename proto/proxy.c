#include "proto/proxy.h"

#include "proto/ip.h"
#include "proto/proxy_tlv.h"

#include <assert.h>

#define V1_MAX        107 /* octets of a line, with its CRLF */
#define V2_FIXED_SIZE 16  /* octets in front of the addresses */
#define V2_VERSION_AT 12  /* version and command */
#define V2_FAMILY_AT  13  /* family and transport */

static const char v1_begin[] = "PROXY ";
static const char v2_begin[V2_VERSION_AT] = {'\r', '\n', '\r', '\n', '\0', '\r',
                                             '\n', 'Q',  'U',  'I',  'T',  '\n'};

enum v2_command {
    V2_LOCAL = 0,
    V2_PROXY = 1,
};

enum v2_family {
    V2_UNSPEC = 0,
    V2_INET = 1,
    V2_INET6 = 2,
    V2_UNIX = 3,
};

enum v2_transport {
    V2_TRANSPORT_UNSPEC = 0,
    V2_STREAM = 1,
};

void smtp_proxy_parser_init(struct smtp_proxy_parser *parser)
{
    parser->size = 0;
    parser->is_over = false;
}

/* --- Version 1 --- */

/* Takes the word up to the next space, or all that is left; false if there is none. */
static bool next_word(struct smtp_slice *rest, struct smtp_slice *word)
{
    const char *space = rest->size > 0 ? memchr(rest->data, ' ', rest->size) : NULL;

    *word = *rest;
    *rest = (struct smtp_slice){0};
    if (space != NULL) {
        uint32_t size = (uint32_t)(space - word->data);

        *rest = (struct smtp_slice){space + 1, word->size - size - 1};
        word->size = size;
        if (rest->size == 0)
            return false; /* a space at the end */
    }
    return word->size > 0;
}

static bool parse_address(struct smtp_slice text, uint8_t family, uint8_t octets[16])
{
    return family == 4 ? smtp_ipv4_parse(text, octets) : smtp_ipv6_parse(text, octets);
}

/* The four words behind TCP4 or TCP6. */
static bool parse_v1_addresses(struct smtp_slice rest, struct smtp_proxy *out)
{
    struct smtp_slice source, destination, source_port, destination_port;
    uint32_t ports[2] = {0};

    if (!next_word(&rest, &source) || !next_word(&rest, &destination) || !next_word(&rest, &source_port) ||
        !next_word(&rest, &destination_port) || rest.size > 0)
        return false;
    if (!parse_address(source, out->family, out->source) ||
        !parse_address(destination, out->family, out->destination))
        return false;
    if (!smtp_decimal_parse(source_port, UINT16_MAX, &ports[0]) ||
        !smtp_decimal_parse(destination_port, UINT16_MAX, &ports[1]))
        return false;
    out->source_port = (uint16_t)ports[0];
    out->destination_port = (uint16_t)ports[1];
    return true;
}

/* A complete line. */
static bool parse_v1(const struct smtp_proxy_parser *parser, struct smtp_proxy *out)
{
    assert(parser->size >= sizeof(v1_begin) + 1 && parser->size <= V1_MAX);
    struct smtp_slice rest = {(const char *)parser->bytes + sizeof(v1_begin) - 1,
                              parser->size - (uint32_t)sizeof(v1_begin) - 1};
    struct smtp_slice protocol;

    out->version = 1;
    if (smtp_slice_equals(rest, SMTP_SLICE("UNKNOWN")) ||
        (rest.size > 7 && memcmp(rest.data, "UNKNOWN ", 8) == 0))
        return true;
    if (!next_word(&rest, &protocol))
        return false;
    if (smtp_slice_equals(protocol, SMTP_SLICE("TCP4")))
        out->family = 4;
    else if (smtp_slice_equals(protocol, SMTP_SLICE("TCP6")))
        out->family = 6;
    else
        return false;
    return parse_v1_addresses(rest, out);
}

/* Whether the octet may stand behind those that are in the parser. */
static bool fits_v1(const struct smtp_proxy_parser *parser, unsigned char octet)
{
    size_t size = parser->size;

    if (size < sizeof(v1_begin) - 1)
        return octet == (unsigned char)v1_begin[size];
    if (parser->bytes[size - 1] == '\r')
        return octet == '\n';
    if (octet == '\r')
        return size >= sizeof(v1_begin);
    /* Room must be left for CR LF. */
    return octet >= ' ' && octet < 0x7f && size + 2 < V1_MAX;
}

/* --- Version 2 --- */

static unsigned read_16(const unsigned char *bytes)
{
    return (unsigned)bytes[0] << 8 | bytes[1];
}

static bool is_v2_family(unsigned char octet)
{
    return octet >> 4 <= V2_UNIX && (octet & 15) <= V2_STREAM;
}

/* Octets behind the fixed part; once that is there. */
static unsigned v2_rest_size(const struct smtp_proxy_parser *parser)
{
    assert(parser->size >= V2_FIXED_SIZE);
    return read_16(parser->bytes + V2_FIXED_SIZE - 2);
}

static enum v2_command v2_command(const struct smtp_proxy_parser *parser)
{
    return parser->bytes[V2_VERSION_AT] & 15;
}

/* The family of the addresses that the header tells; V2_UNSPEC if what is behind the fixed part is skipped.
 */
static enum v2_family v2_family(const struct smtp_proxy_parser *parser)
{
    unsigned char octet = parser->bytes[V2_FAMILY_AT];

    if (v2_command(parser) == V2_LOCAL || (octet & 15) == V2_TRANSPORT_UNSPEC)
        return V2_UNSPEC;
    return octet >> 4;
}

static unsigned v2_addresses_size(const struct smtp_proxy_parser *parser)
{
    static const uint8_t sizes[] = {
        [V2_UNSPEC] = 0, [V2_INET] = 2 * 4 + 2 * 2, [V2_INET6] = 2 * 16 + 2 * 2, [V2_UNIX] = 2 * 108};

    return sizes[v2_family(parser)];
}

/* Whether the octet may stand behind those that are in the parser; for the fixed part. */
static bool fits_v2(const struct smtp_proxy_parser *parser, unsigned char octet)
{
    assert(parser->size < V2_FIXED_SIZE);
    if (parser->size < V2_VERSION_AT)
        return octet == (unsigned char)v2_begin[parser->size];
    switch (parser->size) {
    case V2_VERSION_AT:
        return octet >> 4 == 2 && (octet & 15) <= V2_PROXY;
    case V2_FAMILY_AT:
        /* The family of LOCAL means nothing. */
        return v2_command(parser) == V2_LOCAL || is_v2_family(octet);
    case V2_FIXED_SIZE - 2:
        return octet <= (SMTP_PROXY_MAX - V2_FIXED_SIZE) >> 8;
    default: {
        unsigned size = (unsigned)parser->bytes[V2_FIXED_SIZE - 2] << 8 | octet;

        return size <= SMTP_PROXY_MAX - V2_FIXED_SIZE && size >= v2_addresses_size(parser);
    }
    }
}

static void copy_addresses(const unsigned char *bytes, size_t size, struct smtp_proxy *out)
{
    assert(size == 4 || size == 16);
    memcpy(out->source, bytes, size);
    memcpy(out->destination, bytes + size, size);
    out->source_port = (uint16_t)read_16(bytes + 2 * size);
    out->destination_port = (uint16_t)read_16(bytes + 2 * size + 2);
    out->family = size == 4 ? 4 : 6;
}

/* A complete header, whose fixed part was found good as it came. */
static bool parse_v2(const struct smtp_proxy_parser *parser, struct smtp_proxy *out)
{
    const unsigned char *addresses = parser->bytes + V2_FIXED_SIZE;
    enum v2_family family = v2_family(parser);
    unsigned size = v2_addresses_size(parser);

    assert(parser->size == V2_FIXED_SIZE + v2_rest_size(parser) && size <= v2_rest_size(parser));
    out->version = 2;
    out->is_local = v2_command(parser) == V2_LOCAL;
    if (family == V2_UNSPEC)
        return true;
    if (family == V2_INET || family == V2_INET6)
        copy_addresses(addresses, family == V2_INET ? 4 : 16, out);
    return smtp_proxy_tlvs_parse(parser, V2_FIXED_SIZE + size, out);
}

/* --- Both --- */

static enum smtp_proxy_result finish(struct smtp_proxy_parser *parser, bool is_good,
                                     const struct smtp_proxy *parsed, struct smtp_proxy *out)
{
    parser->is_over = true;
    if (!is_good)
        return SMTP_PROXY_BAD;
    *out = *parsed;
    return SMTP_PROXY_DONE;
}

/* Takes what is behind the fixed part of version 2, whatever it is; returns how many octets. */
static size_t take_v2_rest(struct smtp_proxy_parser *parser, const char *bytes, size_t size)
{
    size_t left = V2_FIXED_SIZE + v2_rest_size(parser) - parser->size;
    size_t taken = left < size ? left : size;

    assert(parser->size + taken <= SMTP_PROXY_MAX);
    memcpy(parser->bytes + parser->size, bytes, taken);
    parser->size += (uint16_t)taken;
    return taken;
}

enum smtp_proxy_result smtp_proxy_parse(struct smtp_proxy_parser *parser, const char *bytes, size_t size,
                                        size_t *consumed, struct smtp_proxy *out)
{
    struct smtp_proxy parsed = {0};
    size_t at = 0;

    assert(!parser->is_over);
    while (at < size) {
        unsigned char octet = (unsigned char)bytes[at];
        bool is_v2 = (parser->size > 0 ? parser->bytes[0] : octet) == (unsigned char)v2_begin[0];

        if (is_v2 && parser->size >= V2_FIXED_SIZE) {
            at += take_v2_rest(parser, bytes + at, size - at);
        } else {
            *consumed = at;
            if (!(is_v2 ? fits_v2(parser, octet) : fits_v1(parser, octet)))
                return finish(parser, false, &parsed, out);
            parser->bytes[parser->size++] = octet;
            at++;
        }
        *consumed = at;
        if (!is_v2 && octet == '\n')
            return finish(parser, parse_v1(parser, &parsed), &parsed, out);
        if (is_v2 && parser->size >= V2_FIXED_SIZE && parser->size == V2_FIXED_SIZE + v2_rest_size(parser))
            return finish(parser, parse_v2(parser, &parsed), &parsed, out);
    }
    *consumed = at;
    return SMTP_PROXY_MORE;
}
