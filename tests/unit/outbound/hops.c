#include "tests/unit/outbound/hops.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/outbound/site.h"
#include "tests/unit/outbound/world.h"

enum { ADDRESSES_MAX = 64 };

struct builder {
    struct next_hop draft;
    struct next_hop_host hosts[NEXT_HOP_HOSTS_MAX];
    struct sockaddr_storage addresses[ADDRESSES_MAX];
    uint32_t address_count;
};

static void add_host(struct builder *builder, char *text, uint16_t port)
{
    struct next_hop_host *host = &builder->hosts[builder->draft.host_count++];
    char *rest = NULL;
    char *word = strtok_r(text, " ", &rest);
    unsigned preference = 0;
    unsigned weight = 0;

    assert_true(builder->draft.host_count <= NEXT_HOP_HOSTS_MAX);
    assert_true(sscanf(word, "%u/%u", &preference, &weight) >= 1);
    *host = (struct next_hop_host){
        .preference = (uint16_t)preference,
        .weight = (uint16_t)weight,
        .port = port,
        .name = strtok_r(NULL, " ", &rest),
        .addresses = &builder->addresses[builder->address_count],
    };
    while ((word = strtok_r(NULL, " ", &rest)) != NULL) {
        assert_true(builder->address_count < ADDRESSES_MAX);
        assert_int_equal(parse_ip(word, port, &builder->addresses[builder->address_count++]), 0);
        host->address_count++;
    }
    assert_true(host->address_count > 0);
}

struct next_hop *hop_of(const char *text, uint16_t port)
{
    struct builder builder = {.draft = {.is_mx = true, .tls = CONFIG_SECURITY_NONE}};
    char *copy = strdup(text);
    char *rest = NULL;

    builder.draft.hosts = builder.hosts;
    for (char *part = strtok_r(copy, ";", &rest); part != NULL; part = strtok_r(NULL, ";", &rest))
        add_host(&builder, part, port);
    builder.draft.name = next_hop_shared_name(&builder.draft);
    struct next_hop *hop = next_hop_new(&builder.draft);
    assert_non_null(hop);
    free(copy);
    return hop;
}

struct site *site_at(struct world *world, const char *text, uint16_t port)
{
    struct next_hop *hop = hop_of(text, port);
    struct site *site = site_of_hop(&world->outbound, hop);

    assert_non_null(site);
    next_hop_unref(hop);
    return site;
}

struct endpoint *endpoint_at(struct site *site, const char *address)
{
    list_each(link, &site->endpoints)
    {
        struct endpoint *endpoint = list_entry(link, struct endpoint, link);
        char text[ADDRESS_TEXT_SIZE];
        address_format((const struct sockaddr *)&endpoint->address, text);
        if (strncmp(text, address, strlen(address)) == 0 && text[strlen(address)] == ':')
            return endpoint;
    }
    fail_msg("%s has no address %s", site->name, address);
    abort();
}

int mute_open(uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 4096), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return listener;
}

void mute_close(int listener)
{
    close(listener);
}
