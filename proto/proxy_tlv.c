#include "proto/proxy_tlv.h"

#include <assert.h>

#define TLV_FIXED_SIZE 3 /* octets of type and length */
#define TLS_FIXED_SIZE 5 /* octets of flags and verdict */

enum tlv_type {
    TLV_AUTHORITY = 0x02,
    TLV_CRC32C = 0x03,
    TLV_TLS = 0x20,
    TLV_TLS_VERSION = 0x21,
    TLV_TLS_COMMON_NAME = 0x22,
    TLV_TLS_CIPHER = 0x23,
};

enum tls_client {
    TLS_CLIENT_TLS = 1 << 0,
    TLS_CLIENT_CERTIFICATE = 1 << 1,         /* on this connection */
    TLS_CLIENT_SESSION_CERTIFICATE = 1 << 2, /* at least once in the TLS session */
};

/* One type, length and value. */
struct tlv {
    uint8_t type;
    struct smtp_slice value;
};

/* Takes a TLV off the front of *rest; false if it does not fit. */
static bool next_tlv(struct smtp_slice *rest, struct tlv *tlv)
{
    const unsigned char *bytes = (const unsigned char *)rest->data;

    if (rest->size < TLV_FIXED_SIZE)
        return false;

    uint32_t size = (uint32_t)bytes[1] << 8 | bytes[2];

    if (size > rest->size - TLV_FIXED_SIZE)
        return false;
    *tlv = (struct tlv){bytes[0], {rest->data + TLV_FIXED_SIZE, size}};
    *rest = (struct smtp_slice){rest->data + TLV_FIXED_SIZE + size, rest->size - TLV_FIXED_SIZE - size};
    return true;
}

/* Sets a text that may come once, of octets that do no harm in a log or a header field. */
static bool set_text(struct smtp_slice *text, struct smtp_slice value)
{
    if (text->data != NULL)
        return false;
    for (uint32_t i = 0; i < value.size; i++) {
        if ((unsigned char)value.data[i] < ' ' || value.data[i] == 0x7f)
            return false;
    }
    *text = value;
    return true;
}

static bool set_tls_text(struct smtp_proxy *out, const struct tlv *tlv)
{
    switch (tlv->type) {
    case TLV_TLS_VERSION:
        return set_text(&out->tls_version, tlv->value);
    case TLV_TLS_COMMON_NAME:
        return set_text(&out->tls_common_name, tlv->value);
    case TLV_TLS_CIPHER:
        return set_text(&out->tls_cipher, tlv->value);
    default:
        return true;
    }
}

/* One octet of flags, four of the verdict on the certificate, then TLVs. */
static bool parse_tls(struct smtp_slice value, struct smtp_proxy *out)
{
    static const char verified[4] = {0};

    if (value.size < TLS_FIXED_SIZE)
        return false;

    struct smtp_slice rest = {value.data + TLS_FIXED_SIZE, value.size - TLS_FIXED_SIZE};
    unsigned char client = (unsigned char)value.data[0];

    out->has_tls = (client & TLS_CLIENT_TLS) != 0;
    out->tls_has_certificate =
        out->has_tls && (client & (TLS_CLIENT_CERTIFICATE | TLS_CLIENT_SESSION_CERTIFICATE)) != 0;
    out->tls_verified = out->tls_has_certificate && memcmp(value.data + 1, verified, sizeof(verified)) == 0;
    while (rest.size > 0) {
        struct tlv tlv;

        if (!next_tlv(&rest, &tlv) || !set_tls_text(out, &tlv))
            return false;
    }
    return true;
}

/* CRC32C (RFC 9260 appendix A), bit by bit: a header is short, and comes once a connection. */
static uint32_t add_to_crc(uint32_t crc, unsigned char octet)
{
    crc ^= octet;
    for (int bit = 0; bit < 8; bit++)
        crc = crc >> 1 ^ (UINT32_C(0x82f63b78) & -(crc & 1));
    return crc;
}

/* The sum is over the whole header, with zeros where the sum itself is. */
static bool is_crc_right(const struct smtp_proxy_parser *parser, struct smtp_slice value)
{
    size_t at = (size_t)((const unsigned char *)value.data - parser->bytes);
    uint32_t crc = UINT32_MAX;
    uint32_t told = 0;

    if (value.size != sizeof(told))
        return false;
    assert(at + sizeof(told) <= parser->size);
    for (size_t i = 0; i < parser->size; i++) {
        bool is_sum = i >= at && i < at + sizeof(told);

        crc = add_to_crc(crc, is_sum ? 0 : parser->bytes[i]);
        if (is_sum)
            told = told << 8 | parser->bytes[i];
    }
    return ~crc == told;
}

bool smtp_proxy_tlvs_parse(const struct smtp_proxy_parser *parser, size_t at, struct smtp_proxy *out)
{
    assert(at <= parser->size);
    struct smtp_slice rest = {(const char *)parser->bytes + at, parser->size - (uint32_t)at};
    bool has_tls = false;

    while (rest.size > 0) {
        struct tlv tlv;
        bool is_good = true;

        if (!next_tlv(&rest, &tlv))
            return false;
        if (tlv.type == TLV_AUTHORITY) {
            is_good = set_text(&out->authority, tlv.value);
        } else if (tlv.type == TLV_CRC32C) {
            is_good = is_crc_right(parser, tlv.value);
        } else if (tlv.type == TLV_TLS) {
            is_good = !has_tls && parse_tls(tlv.value, out);
            has_tls = true;
        }
        if (!is_good)
            return false;
    }
    return true;
}
