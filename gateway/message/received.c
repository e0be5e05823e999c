#include "gateway/message/received.h"

#include <assert.h>
#include <string.h>
#include <time.h>

/* All that is constant in the longest field, counted generously. */
#define FRAME_SIZE 128

static_assert(FRAME_SIZE + RECEIVED_TLS_MAX + 2 * RECEIVED_NAME_MAX + RECEIVED_CLIENT_MAX + SMTP_PATH_MAX +
                      RECEIVED_DATE_SIZE <=
                  RECEIVED_SIZE_MAX,
              "the longest field fits");

static char *put_digits(char *to, unsigned number, unsigned count)
{
    for (unsigned i = count; i-- > 0; number /= 10)
        to[i] = (char)('0' + number % 10);
    return to + count;
}

static char *put_bytes(char *to, const char *bytes, size_t size)
{
    if (size > 0)
        memcpy(to, bytes, size);
    return to + size;
}

/* Names of days and months are the standard's, not the locale's, so strftime will not do. */
static void date_write(int64_t second, char text[static RECEIVED_DATE_SIZE])
{
    static const char weekdays[] = "Sun, Mon, Tue, Wed, Thu, Fri, Sat, ";
    static const char months[] = " Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec ";
    const time_t time = second;
    struct tm utc;
    const struct tm *known = gmtime_r(&time, &utc);
    assert(known != NULL);
    assert(utc.tm_year >= 70 && utc.tm_year <= 9999 - 1900);

    char *to = put_bytes(text, weekdays + 5 * utc.tm_wday, 5);
    to = put_digits(to, (unsigned)utc.tm_mday, 2);
    to = put_bytes(to, months + 4 * utc.tm_mon, 5);
    to = put_digits(to, (unsigned)utc.tm_year + 1900, 4);
    to = put_bytes(to, " ", 1);
    to = put_digits(to, (unsigned)utc.tm_hour, 2);
    to = put_bytes(to, ":", 1);
    to = put_digits(to, (unsigned)utc.tm_min, 2);
    to = put_bytes(to, ":", 1);
    to = put_digits(to, (unsigned)utc.tm_sec, 2);
    to = put_bytes(to, " +0000", 6);
    assert(to == text + RECEIVED_DATE_SIZE);
}

struct smtp_slice received_date_text(struct received_date *date, int64_t now_ms)
{
    assert(now_ms >= 0);
    const int64_t second = now_ms / 1000;
    if (date->second != second || date->text[0] == '\0') {
        date_write(second, date->text);
        date->second = second;
    }
    return (struct smtp_slice){date->text, RECEIVED_DATE_SIZE};
}

static uint32_t name_size(struct smtp_slice name)
{
    return name.size < RECEIVED_NAME_MAX ? name.size : RECEIVED_NAME_MAX;
}

/* Letters, digits and what stands in host names and address literals: nothing that means something in a
 * header. */
static bool is_harmless(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_' || c == ':' || c == '[' || c == ']';
}

static char *put_name(char *to, struct smtp_slice name)
{
    const uint32_t size = name_size(name);
    if (size == 0)
        return put_bytes(to, "unknown", 7);
    for (uint32_t i = 0; i < size; i++)
        *to++ = is_harmless(name.data[i]) ? name.data[i] : '?';
    return to;
}

/* TCP-info of RFC 5321 §4.4: the address literal, which for IPv6 says so (§4.1.3). */
static char *put_client(char *to, struct smtp_slice client)
{
    assert(client.size <= RECEIVED_CLIENT_MAX);
    if (client.size == 0)
        return to;
    to = put_bytes(to, " ([", 3);
    if (memchr(client.data, ':', client.size) != NULL)
        to = put_bytes(to, "IPv6:", 5);
    to = put_bytes(to, client.data, client.size);
    return put_bytes(to, "])", 2);
}

size_t received_bound(const struct received *received)
{
    size_t bound = FRAME_SIZE + name_size(received->helo) + name_size(received->hostname) +
                   received->client.size + received->recipient.size + received->date.size +
                   received->tls.size;
    assert(received->tls.size <= RECEIVED_TLS_MAX);
    assert(received->id.size <= 16);
    assert(received->recipient.size <= SMTP_PATH_MAX);
    assert(bound <= RECEIVED_SIZE_MAX);
    return bound;
}

/* UTF8SMTP stands in for ESMTP, and is followed by the same letters: S for TLS, A for a login. */
static char *put_protocol(char *to, const struct received *received)
{
    if (!received->is_esmtp)
        return put_bytes(to, " with SMTP", 10);
    to = received->is_utf8 ? put_bytes(to, " with UTF8SMTP", 14) : put_bytes(to, " with ESMTP", 11);
    if (received->tls.size > 0)
        to = put_bytes(to, "S", 1);
    return received->is_authenticated ? put_bytes(to, "A", 1) : to;
}

size_t received_write(const struct received *received, char *into)
{
    assert(received->date.size == RECEIVED_DATE_SIZE);
    char *to = put_bytes(into, "Received: from ", 15);
    to = put_name(to, received->helo);
    to = put_client(to, received->client);
    if (received->tls.size > 0) {
        to = put_bytes(to, "\r\n\t(using ", 10);
        to = put_bytes(to, received->tls.data, received->tls.size);
        to = put_bytes(to, ")", 1);
    }
    to = put_bytes(to, "\r\n\tby ", 6);
    to = put_name(to, received->hostname);
    to = put_protocol(to, received);
    if (received->id.size > 0) {
        to = put_bytes(to, " id ", 4);
        to = put_bytes(to, received->id.data, received->id.size);
    }
    if (received->recipient.size > 0) {
        to = put_bytes(to, "\r\n\tfor <", 8);
        to = put_bytes(to, received->recipient.data, received->recipient.size);
        to = put_bytes(to, ">; ", 3);
    } else {
        to = put_bytes(to, ";\r\n\t", 4);
    }
    to = put_bytes(to, received->date.data, received->date.size);
    to = put_bytes(to, "\r\n", 2);
    const size_t size = (size_t)(to - into);
    assert(size <= received_bound(received));
    return size;
}
