#include "gateway/outbound/endpoint.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/next_hop.h"

enum { BACKOFF_GROWTH_MAX = 10 }; /* 30 s grow to 5 min */

static void write_text(struct endpoint *endpoint)
{
    char where[ADDRESS_TEXT_SIZE];
    struct sockaddr_storage literal;
    const char *name = endpoint->host;

    if (endpoint->port == 0) {
        snprintf(endpoint->text, sizeof(endpoint->text), "%.250s", name);
        return;
    }
    address_format((const struct sockaddr *)&endpoint->address, where);
    if (parse_ip(name, 25, &literal) == 0)
        snprintf(endpoint->text, sizeof(endpoint->text), "%s", where);
    else
        snprintf(endpoint->text, sizeof(endpoint->text), "%.250s[%.62s]", name, where);
}

struct endpoint *endpoint_new(const struct next_hop_host *host, const struct sockaddr_storage *address)
{
    struct endpoint *endpoint = calloc(1, sizeof(*endpoint));

    assert(address_size((const struct sockaddr *)address) > 0);
    if (endpoint == NULL)
        return NULL;
    endpoint->host = strdup(host->name);
    if (endpoint->host == NULL) {
        free(endpoint);
        return NULL;
    }
    list_init(&endpoint->link);
    endpoint->address = *address;
    endpoint->port = host->port;
    endpoint->preference = host->preference;
    endpoint->weight = host->weight;
    endpoint->is_authentic = host->is_authentic;
    endpoint->gear_max = GEAR_STREAM;
    tls_slot_init(&endpoint->slot);
    write_text(endpoint);
    return endpoint;
}

void endpoint_free(struct endpoint *endpoint)
{
    assert(endpoint->users == 0 && endpoint->established == 0);
    list_remove(&endpoint->link);
    tls_slot_drop(&endpoint->slot);
    free(endpoint->host);
    free(endpoint);
}

void endpoint_use(struct endpoint *endpoint)
{
    endpoint->users++;
    assert(endpoint->users != 0);
}

void endpoint_unuse(struct endpoint *endpoint)
{
    assert(endpoint->users > 0);
    endpoint->users--;
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
    assert(endpoint->gear_max >= GEAR_LOCKSTEP);
    if (gear > endpoint->gear_max || gear <= GEAR_LOCKSTEP)
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
