/*
 * Asks a name server through the resolver, for test_real.py:
 *
 *     ask ADDRESS:PORT trust|doubt QUESTION...      QUESTION is "mx NAME", "a NAME" or "aaaa NAME"
 *
 * All are asked at once. Prints a line for each, in their order: the question, the outcome, "authentic" or
 * "plain", and what was found; then the counters.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/address.h"
#include "gateway/outbound/dns/mx.h"

struct asked {
    const char *question;
    struct resolver_query query;
    struct mx_query mx;
    bool is_answered;
    const struct dns_records *records;
    struct mx_result *result;
};

static struct counters counters;
static struct pool pool;

static void on_records(struct resolver_query *query, const struct dns_records *records)
{
    struct asked *asked = query->ctx;
    asked->records = dns_records_ref(records);
    asked->is_answered = true;
}

static void on_result(struct mx_query *query, struct mx_result *result)
{
    struct asked *asked = query->ctx;
    assert(result != NULL);
    asked->result = result;
    asked->is_answered = true;
}

static void ask(struct resolver *resolver, struct asked *asked)
{
    asked->query.ctx = asked;
    asked->mx.ctx = asked;
    if (strncmp(asked->question, "mx ", 3) == 0)
        mx_ask(resolver, &asked->mx, asked->question + 3, on_result);
    else if (strncmp(asked->question, "a ", 2) == 0)
        resolver_ask(resolver, &asked->query, asked->question + 2, DNS_A, on_records);
    else if (strncmp(asked->question, "aaaa ", 5) == 0)
        resolver_ask(resolver, &asked->query, asked->question + 5, DNS_AAAA, on_records);
    else
        exit(EXIT_FAILURE);
}

static void print_records(const struct dns_records *records)
{
    static const char *const names[] = {"ok", "nodata", "nxdomain", "temporary"};
    printf(" %s %s", names[records->status], records->is_authentic ? "authentic" : "plain");
    for (uint32_t index = 0; index < records->count; index++) {
        char text[INET6_ADDRSTRLEN];
        int family = records->type == DNS_A ? AF_INET : AF_INET6;
        printf(" %s", inet_ntop(family, &records->records[index].a, text, sizeof(text)));
    }
}

static void print_result(const struct mx_result *result)
{
    static const char *const names[] = {"ok", "null", "none", "nxdomain", "loop", "temporary"};
    printf(" %s %s", names[result->status], result->is_authentic ? "authentic" : "plain");
    for (uint32_t index = 0; index < result->host_count; index++) {
        const struct mx_host *host = &result->hosts[index];
        printf(" %u:%s", host->preference, host->name);
        for (uint32_t at = 0; at < host->address_count; at++) {
            char text[ADDRESS_TEXT_SIZE];
            address_format((const struct sockaddr *)&host->addresses[at], text);
            printf("%s%s", at > 0 ? "," : "=", text);
        }
    }
}

static void print(struct asked *asked)
{
    printf("%s:", asked->question);
    if (asked->result != NULL)
        print_result(asked->result);
    else
        print_records(asked->records);
    printf("\n");
    mx_result_free(asked->result);
    dns_records_release(&pool, asked->records);
}

int main(int argc, char **argv)
{
    char host[64];
    uint16_t port;
    struct sockaddr_storage server;
    if (argc < 4 || parse_host_port(argv[1], 53, host, sizeof(host), &port) < 0 ||
        parse_ip(host, port, &server) < 0)
        return EXIT_FAILURE;
    struct loop *loop = NULL;
    struct resolver *resolver = NULL;
    counters_init(&counters);
    pool_init(&pool, NULL, SIZE_MAX);
    if (loop_new(NULL, &loop) < 0)
        return EXIT_FAILURE;
    loop_turn(loop, 0);
    struct resolver_options options = {
        .loop = loop,
        .counters = &counters,
        .pool = &pool,
        .settings = {.servers = &server, .server_count = 1, .trust_ad = strcmp(argv[2], "trust") == 0},
    };
    if (resolver_new(&options, &resolver) < 0)
        return EXIT_FAILURE;
    size_t count = (size_t)argc - 3;
    struct asked *all = calloc(count, sizeof(*all));
    assert(all != NULL);
    for (size_t index = 0; index < count; index++) {
        all[index].question = argv[index + 3];
        ask(resolver, &all[index]);
    }
    for (size_t done = 0; done < count;) {
        loop_turn(loop, 10000);
        while (done < count && all[done].is_answered)
            done++;
    }
    for (size_t index = 0; index < count; index++)
        print(&all[index]);
    printf("queries %lu answers %lu timeouts %lu tcp %lu\n",
           (unsigned long)counter_get(&counters, COUNTER_dns_queries),
           (unsigned long)counter_get(&counters, COUNTER_dns_answers),
           (unsigned long)counter_get(&counters, COUNTER_dns_timeouts),
           (unsigned long)counter_get(&counters, COUNTER_dns_tcp));
    while (!resolver_is_idle(resolver))
        loop_turn(loop, 1000);
    resolver_free(resolver);
    loop_free(loop);
    free(all);
    assert(pool.used_bytes == 0);
    pool_deinit(&pool);
    return EXIT_SUCCESS;
}
