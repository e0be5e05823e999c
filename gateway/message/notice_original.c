/* What a notice returns of the message that it is about. */

#include "gateway/message/envelope.h"
#include "gateway/message/notice.h"
#include "proto/header.h"

#include <assert.h>

enum { LINE_MAX = 998 }; /* octets without CRLF (RFC 5322 §2.1.1) */

enum notice_original notice_original_choose(enum notice_kind kind, uint32_t envelope_flags,
                                            uint64_t content_size, uint64_t content_max, bool *is_cut)
{
    *is_cut = false;
    if (kind != NOTICE_FAILURE || (envelope_flags & (ENVELOPE_RET_HDRS | ENVELOPE_BINARYMIME)) != 0)
        return NOTICE_ORIGINAL_HEADER;
    *is_cut = content_size > content_max;
    return *is_cut ? NOTICE_ORIGINAL_HEADER : NOTICE_ORIGINAL_CONTENT;
}

/* The octets of the line, its CRLF included; 0: it has no end yet, or cannot be returned. */
static uint32_t line_size(const char *line, uint32_t size)
{
    const char *feed = size > 0 ? memchr(line, '\n', size) : NULL;
    if (feed == NULL || feed == line || feed[-1] != '\r')
        return 0;
    const uint32_t text_size = (uint32_t)(feed - line) - 1;
    if (text_size > LINE_MAX || (text_size > 0 && line[0] == '.'))
        return 0;
    if (text_size > 0 && (memchr(line, '\r', text_size) != NULL || memchr(line, '\0', text_size) != NULL))
        return 0;
    return text_size + 2;
}

static bool has_8bit(const char *octets, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        if ((uint8_t)octets[i] > 127)
            return true;
    }
    return false;
}

struct notice_header notice_header_find(const char *content, size_t size)
{
    struct smtp_header_scan scan;
    struct notice_header header = {0};
    smtp_header_scan_init(&scan);
    const size_t seen = size < NOTICE_HEADER_MAX ? size : NOTICE_HEADER_MAX;
    const uint32_t end = (uint32_t)smtp_header_scan_feed(&scan, content, seen);
    assert(end <= seen);
    while (header.size < end) {
        const uint32_t next = line_size(content + header.size, end - header.size);
        if (next == 0)
            break;
        header.size += next;
    }
    header.is_8bit = has_8bit(content, header.size);
    return header;
}

uint32_t notice_envelope_flags(const struct notice *notice)
{
    uint32_t flags = 0;
    if (notice->is_utf8)
        flags |= ENVELOPE_SMTPUTF8;
    if (notice->is_utf8 || notice->original_is_8bit)
        flags |= ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME;
    return flags;
}
