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
    *endpoint = (struct endpoint){.address = *address, .gear_max = GEAR_STREAM};
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

enum gear endpoint_gear(struct endpoint *endpoint, uint64_t now_us)
{
    if (endpoint->gear_max < GEAR_STREAM && now_us - endpoint->lowered_us >= ENDPOINT_GEAR_REST_US) {
        endpoint->gear_max = GEAR_STREAM;
        endpoint->breaks = 0;
    }
    return endpoint->gear_max;
}

void endpoint_confused(struct endpoint *endpoint, enum gear gear, uint64_t now_us)
{
    assert(endpoint->gear_max >= GEAR_ENVELOPE);
    if (gear > endpoint->gear_max || gear <= GEAR_ENVELOPE)
        return; /* it is lowered already, or cannot be */
    endpoint->gear_max = gear - 1;
    endpoint->lowered_us = now_us;
    endpoint->breaks = 0;
}

void endpoint_broke(struct endpoint *endpoint, enum gear gear, uint64_t ready_us, uint64_t now_us)
{
    assert(ready_us <= now_us);
    if (endpoint->broke_us != 0 && ready_us <= endpoint->broke_us)
        return;
    endpoint->broke_us = now_us;
    endpoint->breaks++;
    if (endpoint->breaks >= ENDPOINT_BREAKS_MAX)
        endpoint_confused(endpoint, gear, now_us);
}
