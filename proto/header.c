#include "proto/header.h"

#include "proto/octet.h"
#include "proto/slice.h"

#include <assert.h>

/*
 *     field = 1*ftext *WSP ":" unstructured, and folded lines that begin with white space
 *
 *                ftext    white space    ":"              LF       other
 *     FIRST      NAME     done           done             done     done
 *     START      NAME     REST           done             done     done
 *     NAME       NAME     GAP            REST, counted    done     done
 *     GAP        done     GAP            REST, counted    done     done
 *     REST       REST     REST           REST             START    REST
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
    NAME_COUNT,
};

static const struct smtp_slice names[NAME_COUNT] = {
    [NAME_RECEIVED] = {"received", 8},
    [NAME_DELIVERED_TO] = {"delivered-to", 12},
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

static void count_field(struct smtp_header_scan *scan)
{
    if ((scan->candidates & 1u << NAME_RECEIVED) != 0 && scan->name_size == names[NAME_RECEIVED].size)
        scan->received_count++;
    if ((scan->candidates & 1u << NAME_DELIVERED_TO) != 0 && scan->name_size == names[NAME_DELIVERED_TO].size)
        scan->delivered_to_count++;
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
        scan->done = true;
    }
}

/* An octet of a field name or of the white space that old mail has between it and the colon. */
static void continue_name(struct smtp_header_scan *scan, char octet)
{
    if (octet == ':') {
        count_field(scan);
        scan->state = HEADER_REST;
    } else if (is_white(octet)) {
        scan->state = HEADER_GAP;
    } else if (scan->state == HEADER_NAME && octet_is(octet, OCTET_FIELD)) {
        match_name(scan, octet);
    } else {
        scan->done = true;
    }
}

void smtp_header_scan_feed(struct smtp_header_scan *scan, const char *bytes, size_t size)
{
    const char *end = bytes + size;

    assert(scan->state <= HEADER_REST);
    while (bytes < end && !scan->done) {
        if (scan->state == HEADER_REST) {
            const char *lf = memchr(bytes, '\n', (size_t)(end - bytes));

            if (lf == NULL)
                return;
            scan->state = HEADER_START;
            bytes = lf + 1;
        } else if (scan->state == HEADER_NAME || scan->state == HEADER_GAP) {
            continue_name(scan, *bytes++);
        } else {
            begin_line(scan, *bytes++);
        }
    }
}
