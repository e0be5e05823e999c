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
    if (endpoint->gear_max < GEAR_STREAM && now_us >= endpoint->rest_until_us) {
        endpoint->gear_max++;
        endpoint->rest_until_us = now_us + ENDPOINT_REST_MIN_US; /* for the next one to show what it does */
    }
    return endpoint->gear_max;
}

static uint64_t next_rest_us(const struct endpoint *endpoint, uint64_t now_us)
{
    bool has_held = now_us >= endpoint->rest_until_us + ENDPOINT_REST_MAX_US;

    if (endpoint->rest_us == 0 || has_held)
        return ENDPOINT_REST_MIN_US;
    return endpoint->rest_us < ENDPOINT_REST_MAX_US / 2 ? endpoint->rest_us * 2 : ENDPOINT_REST_MAX_US;
}

void endpoint_confused(struct endpoint *endpoint, enum gear gear, uint64_t now_us)
{
    assert(endpoint->gear_max >= GEAR_LOCKSTEP && endpoint->gear_max <= GEAR_STREAM);
    if (gear > endpoint->gear_max || gear <= GEAR_LOCKSTEP)
        return; /* it is lowered already, or cannot be */
    endpoint->gear_max = gear - 1;
    endpoint->proven_until_us = 0; /* what comes back may be another program */
    endpoint->gear_failed = gear;
    endpoint->lowered_us = now_us;
    endpoint->rest_us = next_rest_us(endpoint, now_us);
    endpoint->rest_until_us = now_us + endpoint->rest_us;
}

void endpoint_counted(struct endpoint *endpoint, uint64_t now_us)
{
    endpoint->proven_until_us = now_us + ENDPOINT_PROVEN_US;
}

void endpoint_miscounted(struct endpoint *endpoint, uint64_t now_us)
{
    endpoint_confused(endpoint, GEAR_STREAM, now_us);
    assert(endpoint->gear_max < GEAR_STREAM);
    endpoint->proven_until_us = 0;
    endpoint->gear_failed = GEAR_STREAM;
    endpoint->lowered_us = now_us;
    endpoint->rest_us = ENDPOINT_REST_MAX_US;
    endpoint->rest_until_us = now_us + ENDPOINT_REST_MAX_US;
}

void endpoint_broke(struct endpoint *endpoint, enum gear gear, uint64_t ready_us, uint64_t now_us)
{
    assert(ready_us <= now_us);
    if (ready_us > endpoint->lowered_us)
        endpoint_confused(endpoint, gear, now_us);
}

void endpoint_held(struct endpoint *endpoint, enum gear gear, uint64_t ready_us)
{
    if (gear >= endpoint->gear_failed && ready_us > endpoint->lowered_us)
        endpoint->rest_us = 0;
}
