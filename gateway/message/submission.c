#include "gateway/message/submission.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

enum { HOSTNAME_MAX = 255, DATE_MAX = 31, ID_MAX = 16 };

static_assert(sizeof("Date: \r\nMessage-ID: <@>\r\n") + HOSTNAME_MAX + DATE_MAX + ID_MAX <=
                  SUBMISSION_FIELDS_MAX,
              "both fields fit");

static char *put(char *to, struct smtp_slice text)
{
    memcpy(to, text.data, text.size);
    return to + text.size;
}

static char *put_hostname(char *to, struct smtp_slice hostname)
{
    for (uint32_t i = 0; i < hostname.size && i < HOSTNAME_MAX; i++) {
        const uint8_t octet = (uint8_t)hostname.data[i];
        const bool is_letter = (octet | 0x20) >= 'a' && (octet | 0x20) <= 'z';
        const bool is_plain = is_letter || (octet >= '0' && octet <= '9') || octet == '.' || octet == '-';
        *to++ = is_plain ? (char)octet : '-';
    }
    return to;
}

size_t submission_fields_write(const struct submission_fields *fields,
                               char into[static SUBMISSION_FIELDS_MAX])
{
    char *to = into;
    assert(fields->date.size <= DATE_MAX && fields->id.size <= ID_MAX);
    if (fields->date.size > 0) {
        to = put(to, SMTP_SLICE("Date: "));
        to = put(to, fields->date);
        to = put(to, SMTP_SLICE("\r\n"));
    }
    if (fields->id.size > 0) {
        assert(fields->hostname.size > 0);
        to = put(to, SMTP_SLICE("Message-ID: <"));
        to = put(to, fields->id);
        to = put(to, SMTP_SLICE("@"));
        to = put_hostname(to, fields->hostname);
        to = put(to, SMTP_SLICE(">\r\n"));
    }
    const size_t size = (size_t)(to - into);
    assert(size <= SUBMISSION_FIELDS_MAX);
    return size;
}
