#include "gateway/outbound/endpoint.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { BACKOFF_GROWTH_MAX = 10 }; /* 30 s grow to 5 min */

void endpoint_init(struct endpoint *endpoint, const char *name, const struct sockaddr_storage *address)
{
    char where[ADDRESS_TEXT_SIZE];
    struct sockaddr_storage literal;

    assert(name != NULL && address_size((const struct sockaddr *)address) > 0);
    *endpoint = (struct endpoint){.address = *address, .gear_max = GEAR_OVERLAP};
    address_format((const struct sockaddr *)address, where);
    if (parse_ip(name, 25, &literal) == 0)
        snprintf(endpoint->text, sizeof(endpoint->text), "%s", where);
    else
        snprintf(endpoint->text, sizeof(endpoint->text), "%.250s[%.62s]", name, where);
}

void endpoint_fail(struct endpoint *endpoint, uint64_t now_us, uint32_t first_ms)
{
    assert(first_ms > 0);
    uint32_t longest_ms = first_ms * BACKOFF_GROWTH_MAX;
    uint32_t next_ms = endpoint->backoff_ms == 0 ? first_ms : endpoint->backoff_ms * 2;
    endpoint->backoff_ms = next_ms < longest_ms ? next_ms : longest_ms;
    endpoint->left_out_until_us = now_us + (uint64_t)endpoint->backoff_ms * 1000;
    assert(!endpoint_is_usable(endpoint, now_us));
}

void endpoint_succeed(struct endpoint *endpoint)
{
    endpoint->backoff_ms = 0;
    endpoint->left_out_until_us = 0;
}

void endpoint_overlap_broke(struct endpoint *endpoint)
{
    assert(endpoint->gear_max >= GEAR_LOCKSTEP);
    endpoint->breaks++;
    if (endpoint->breaks >= ENDPOINT_BREAKS_MAX && endpoint->gear_max == GEAR_OVERLAP)
        endpoint->gear_max = GEAR_ENVELOPE;
}
