#include "gateway/outbound/flight.h"

#include <assert.h>
#include <string.h>

void flight_begin(struct flight *flight, struct client *client)
{
    flight->client = client;
    flight->size = 0;
}

void flight_end(struct flight *flight)
{
    assert(flight->size <= FLIGHT_SIZE);
    if (flight->size > 0)
        conn_send_copy(&flight->client->conn, flight->bytes, flight->size);
    client_count_queued(flight->client, flight->size);
    flight->size = 0;
}

void flight_add(struct flight *flight, const char *bytes, size_t size)
{
    if (FLIGHT_SIZE - flight->size < size)
        flight_end(flight);
    assert(size <= FLIGHT_SIZE);
    memcpy(flight->bytes + flight->size, bytes, size);
    flight->size += size;
}

void flight_slice(struct flight *flight, struct smtp_slice slice)
{
    if (slice.size > 0)
        flight_add(flight, slice.data, slice.size);
}

void flight_text(struct flight *flight, const char *text)
{
    flight_add(flight, text, strlen(text));
}

void flight_number(struct flight *flight, uint64_t number)
{
    char digits[20];
    size_t first = sizeof(digits);

    do {
        assert(first > 0);
        digits[--first] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    flight_add(flight, digits + first, sizeof(digits) - first);
}
