#include "proto/header.h"

#include "proto/octet.h"
#include "proto/slice.h"

#include <assert.h>

/*
 *     field = 1*ftext *WSP ":" unstructured, and folded lines that begin with white space
 *
 *                ftext    white space    ":"              CR            LF          other
 *     FIRST      NAME     no field       no field         empty line    no field    no field
 *     START      NAME     REST           no field         empty line    no field    no field
 *     NAME       NAME     GAP            REST, counted    no field      no field    no field
 *     GAP        no field GAP            REST, counted    no field      no field    no field
 *     REST       REST     REST           REST             REST          START       REST
 */
enum header_state {
    HEADER_FIRST, /* no field is there yet that a folded line could belong to */
    HEADER_START,
    HEADER_NAME,
    HEADER_GAP,
    HEADER_REST,
};

enum {
    NAME_RECEIVED,
    NAME_DELIVERED_TO,
    NAME_DATE,
    NAME_MESSAGE_ID,
    NAME_FROM,
    NAME_COUNT,
};

static const struct smtp_slice names[NAME_COUNT] = {
    [NAME_RECEIVED] = {"received", 8}, [NAME_DELIVERED_TO] = {"delivered-to", 12},
    [NAME_DATE] = {"date", 4},         [NAME_MESSAGE_ID] = {"message-id", 10},
    [NAME_FROM] = {"from", 4},
};

void smtp_header_scan_init(struct smtp_header_scan *scan)
{
    *scan = (struct smtp_header_scan){.state = HEADER_FIRST};
}

static bool is_white(char octet)
{
    return octet == ' ' || octet == '\t';
}

/* Takes one octet of a field name off the names that the field may still have. */
static void match_name(struct smtp_header_scan *scan, char octet)
{
    if (scan->candidates == 0)
        return;
    for (unsigned i = 0; i < NAME_COUNT; i++) {
        bool same =
            scan->name_size < names[i].size && names[i].data[scan->name_size] == smtp_ascii_lower(octet);

        if (!same)
            scan->candidates &= (uint8_t) ~(1u << i);
    }
    scan->name_size++;
    assert(scan->candidates == 0 || scan->name_size <= names[NAME_DELIVERED_TO].size);
}

static void note_field(struct smtp_header_scan *scan, unsigned name)
{
    switch (name) {
    case NAME_RECEIVED:
        scan->received_count++;
        break;
    case NAME_DELIVERED_TO:
        scan->delivered_to_count++;
        break;
    case NAME_DATE:
        scan->has_date = true;
        break;
    case NAME_MESSAGE_ID:
        scan->has_message_id = true;
        break;
    case NAME_FROM:
        scan->has_from = true;
        break;
    default:
        assert(false);
    }
}

/* The name is complete: a colon is behind it. */
static void end_name(struct smtp_header_scan *scan)
{
    for (unsigned i = 0; i < NAME_COUNT; i++) {
        if ((scan->candidates & 1u << i) != 0 && scan->name_size == names[i].size)
            note_field(scan, i);
    }
    scan->state = HEADER_REST;
}

static void begin_line(struct smtp_header_scan *scan, char octet)
{
    if (octet_is(octet, OCTET_FIELD)) {
        scan->state = HEADER_NAME;
        scan->name_size = 0;
        scan->candidates = (1u << NAME_COUNT) - 1;
        match_name(scan, octet);
    } else if (scan->state == HEADER_START && is_white(octet)) {
        scan->state = HEADER_REST;
    } else {
        scan->end = octet == '\r' ? SMTP_HEADER_EMPTY_LINE : SMTP_HEADER_NO_FIELD;
    }
}

/* An octet of a field name or of the white space that old mail has between it and the colon. */
static void continue_name(struct smtp_header_scan *scan, char octet)
{
    if (octet == ':')
        end_name(scan);
    else if (is_white(octet))
        scan->state = HEADER_GAP;
    else if (scan->state == HEADER_NAME && octet_is(octet, OCTET_FIELD))
        match_name(scan, octet);
    else
        scan->end = SMTP_HEADER_NO_FIELD;
}

size_t smtp_header_scan_feed(struct smtp_header_scan *scan, const char *bytes, size_t size)
{
    bool is_in_line = scan->state > HEADER_START;
    size_t line = 0; /* where the line at hand begins, as far as it is in this input */
    size_t at = 0;

    assert(scan->state <= HEADER_REST);
    if (scan->end != SMTP_HEADER_OPEN)
        return 0;
    while (at < size && scan->end == SMTP_HEADER_OPEN) {
        if (scan->state == HEADER_REST) {
            const char *lf = memchr(bytes + at, '\n', size - at);

            if (lf == NULL)
                return size;
            scan->state = HEADER_START;
            at = line = (size_t)(lf - bytes) + 1;
            is_in_line = false;
        } else if (scan->state == HEADER_NAME || scan->state == HEADER_GAP) {
            continue_name(scan, bytes[at++]);
        } else {
            begin_line(scan, bytes[at++]);
        }
    }
    if (scan->end == SMTP_HEADER_OPEN)
        return size;
    scan->is_split = is_in_line;
    assert(line < size && (scan->end == SMTP_HEADER_NO_FIELD || bytes[line] == '\r'));
    return line;
}
