#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/outbound/dns/resolver_inner.h"

/* One question from its first attempt to its answer. */

enum { ROUNDS_DOUBLED_MAX = 4, SHORTEST_ATTEMPT_MS = 100 };

static size_t block_size(const char *name)
{
    return sizeof(struct lookup) + strlen(name) + 1;
}

static void free_lookup(struct lookup *lookup)
{
    struct pool *pool = lookup->resolver->options.pool;
    if (lookup->target != lookup->name)
        pool_free(pool, lookup->target, DNS_NAME_SIZE);
    pool_free(pool, lookup, block_size(lookup->name));
}

void lookup_finish(struct lookup *lookup, const struct dns_records *records, bool is_kept)
{
    struct resolver *resolver = lookup->resolver;
    assert(lookup->exchange == NULL && resolver->lookup_count > 0);
    for (struct list *link = list_pop_front(&lookup->queries); link != NULL;
         link = list_pop_front(&lookup->queries))
        resolver_answer(resolver, list_entry(link, struct resolver_query, link), records);
    list_remove(&lookup->waiting_link);
    question_remove(&lookup->question);
    resolver->lookup_count--;
    if (is_kept)
        dns_cache_put(&resolver->cache, lookup->name, lookup->question.type, records);
    free_lookup(lookup);
}

/* How long a failure is remembered: twice as long each time that it comes again soon. When no server has
 * said a word to anybody since the question began, it is not the zone's. */
static uint32_t failure_ttl_s(const struct lookup *lookup)
{
    struct resolver *resolver = lookup->resolver;
    const struct dns_records *last =
        dns_cache_find_failure(&resolver->cache, lookup->name, lookup->question.type);
    uint64_t recent_us = (uint64_t)RESOLVER_TTL_FAILURE_MAX_S * 1000000;
    if (last == NULL || resolver->servers.answered_us < lookup->begun_us ||
        lookup->begun_us > last->expires_us + recent_us)
        return RESOLVER_TTL_FAILURE_S;
    uint32_t doubled_s = last->ttl_s * 2;
    return doubled_s < RESOLVER_TTL_FAILURE_MAX_S ? doubled_s : RESOLVER_TTL_FAILURE_MAX_S;
}

/* The last word when no server could tell. It is remembered too, so that a dead zone is not asked for again
 * with every message. */
static void give_up(struct lookup *lookup)
{
    assert(lookup->reason != NULL);
    struct pool *pool = lookup->resolver->options.pool;
    struct dns_records_draft draft = {
        .status = DNS_TEMPORARY,
        .type = lookup->question.type,
        .ttl_s = failure_ttl_s(lookup),
        .now_us = resolver_now_us(lookup->resolver),
        .reason = lookup->reason,
        .name = lookup->target,
    };
    struct dns_records *records = dns_records_new(pool, &draft);
    lookup_finish(lookup, records != NULL ? records : dns_records_no_memory(), records != NULL);
    dns_records_release(pool, records);
}

/* What this attempt may take: longer in each round, within what is left. 0: nothing is left. In a crowd all
 * is shorter: a dead zone's question leaves its place to others, and a living one's answer, when it took too
 * long, waits in the name server's cache for the next attempt. */
static uint64_t attempt_ms(const struct lookup *lookup)
{
    const struct resolver_options *options = &lookup->resolver->options;
    uint32_t haste = resolver_is_crowded(lookup->resolver) ? RESOLVER_HASTE : 1;
    uint64_t past_ms = (resolver_now_us(lookup->resolver) - lookup->begun_us) / 1000;
    if (past_ms >= options->total_ms / haste)
        return 0;
    uint64_t left_ms = options->total_ms / haste - past_ms;
    uint32_t doublings = lookup->round < ROUNDS_DOUBLED_MAX ? lookup->round : ROUNDS_DOUBLED_MAX;
    uint64_t wanted_ms = (uint64_t)(options->attempt_ms / haste) << doublings;
    if (left_ms < SHORTEST_ATTEMPT_MS && left_ms < wanted_ms)
        return 0;
    return wanted_ms < left_ms ? wanted_ms : left_ms;
}

bool lookup_is_overdue(const struct lookup *lookup)
{
    return attempt_ms(lookup) == 0;
}

/* Forgets what is known by the index of a server, when the indices mean others. */
static void check_generation(struct lookup *lookup)
{
    struct resolver *resolver = lookup->resolver;
    if (servers_refresh(&resolver->servers, resolver_now_us(resolver)))
        dns_cache_flush(&resolver->cache);
    if (lookup->generation == resolver->servers.generation)
        return;
    lookup->generation = resolver->servers.generation;
    lookup->refused = 0;
    lookup->tried = 0;
    lookup->over_tcp = false;
    lookup->without_edns = false;
}

/* Chooses the server of the next attempt; false when none is left to ask. */
static bool choose_server(struct lookup *lookup)
{
    struct resolver *resolver = lookup->resolver;
    bool wraps = false;
    int index =
        servers_pick(&resolver->servers, lookup->refused, lookup->tried, resolver_now_us(resolver), &wraps);
    if (index < 0)
        return false;
    if (wraps) {
        lookup->tried = 0;
        lookup->round++;
    }
    lookup->server = (uint32_t)index;
    lookup->tried |= 1u << index;
    return true;
}

static struct packet_question question_of(const struct lookup *lookup)
{
    return (struct packet_question){
        .name = lookup->target,
        .type = lookup->question.type,
        .id = lookup->id,
        .has_edns = !lookup->without_edns,
        .wants_ad = lookup->wants_ad,
    };
}

/* Sends the question to the chosen server. A negative errno: it could not be sent. */
static int send_question(struct lookup *lookup, uint64_t timeout_ms)
{
    struct resolver *resolver = lookup->resolver;
    const struct server *server = &resolver->servers.servers[lookup->server];
    lookup->id = resolver_id(resolver);
    lookup->wants_ad = resolver->trust_ad;
    struct packet_question question = question_of(lookup);
    int error = 0;
    lookup->exchange = exchange_open(resolver, lookup, &question, (const struct sockaddr *)&server->address,
                                     lookup->over_tcp, timeout_ms, &error);
    if (lookup->exchange == NULL)
        return error;
    COUNTER_ADD(resolver->options.counters, dns_queries, 1);
    if (lookup->over_tcp)
        COUNTER_ADD(resolver->options.counters, dns_tcp, 1);
    return 0;
}

/* Asks the chosen server, or the next ones that can be sent to; gives up when there is none. */
static void ask(struct lookup *lookup)
{
    assert(lookup->exchange == NULL);
    for (;;) {
        uint64_t timeout_ms = attempt_ms(lookup);
        if (timeout_ms == 0)
            break;
        int result = send_question(lookup, timeout_ms);
        if (result == 0)
            return;
        lookup->reason = result == -ENOMEM || result == -EMFILE || result == -ENFILE
                             ? "no memory or no socket for a question to a name server"
                             : "no name server can be reached";
        lookup->refused |= 1u << lookup->server;
        lookup->over_tcp = false;
        if (!choose_server(lookup))
            break;
    }
    give_up(lookup);
}

/* The next server, over UDP. */
static void ask_next(struct lookup *lookup)
{
    check_generation(lookup);
    lookup->over_tcp = false;
    lookup->without_edns = false;
    if (choose_server(lookup))
        ask(lookup);
    else
        give_up(lookup);
}

/* The same server once more, in another way. */
static void ask_again(struct lookup *lookup)
{
    if (lookup->generation == lookup->resolver->servers.generation)
        ask(lookup);
    else
        ask_next(lookup);
}

void lookup_begin(struct lookup *lookup)
{
    assert(lookup->exchange == NULL && (lookup->begun_us == 0) == !lookup->is_slow);
    list_remove(&lookup->waiting_link);
    if (!lookup->is_slow) {
        lookup->begun_us = resolver_now_us(lookup->resolver);
        lookup->reason = "no name server answers";
    }
    ask_next(lookup);
}

/* Silence: the next attempt comes after those who have not asked at all. */
static void ask_slowly(struct lookup *lookup)
{
    lookup->is_slow = true;
    list_push_back(&lookup->resolver->slow, &lookup->waiting_link);
    resolver_start_waiting(lookup->resolver);
}

struct lookup *lookup_new(struct resolver *resolver, const char *name, enum dns_type type)
{
    struct lookup *lookup = pool_alloc(resolver->options.pool, block_size(name));
    if (lookup == NULL)
        return NULL;
    *lookup = (struct lookup){
        .resolver = resolver,
        .ttl_s = UINT32_MAX,
        .is_authentic = true,
        .target = lookup->name,
    };
    size_t name_size = strlen(name) + 1;
    assert(name_size > 1 && name_size <= DNS_NAME_SIZE);
    memcpy(lookup->name, name, name_size);
    list_init(&lookup->queries);
    list_init(&lookup->waiting_link);
    question_insert(&resolver->lookups, &lookup->question, lookup->name, type);
    resolver->lookup_count++;
    list_push_back(&resolver->waiting, &lookup->waiting_link);
    return lookup;
}

/* The answer says where to go on: asks the same server for that. */
static void follow_alias(struct lookup *lookup, const struct packet_answer *answer)
{
    if (lookup->target == lookup->name) {
        char *target = pool_alloc(lookup->resolver->options.pool, DNS_NAME_SIZE);
        if (target == NULL) {
            lookup_finish(lookup, dns_records_no_memory(), false);
            return;
        }
        lookup->target = target;
    }
    memcpy(lookup->target, answer->name, DNS_NAME_SIZE);
    lookup->over_tcp = false;
    ask_again(lookup);
}

static void take_answer(struct lookup *lookup, struct dns_records *records)
{
    assert(records != NULL);
    COUNTER_ADD(lookup->resolver->options.counters, dns_answers, 1);
    struct pool *pool = lookup->resolver->options.pool;
    lookup_finish(lookup, records, true);
    dns_records_release(pool, records);
}

/* What to do after a packet that is an answer of some kind. */
static void act(struct lookup *lookup, enum packet_verdict verdict, const struct packet_answer *answer)
{
    switch (verdict) {
    case PACKET_TRUNCATED:
        lookup->over_tcp = true;
        ask_again(lookup);
        break;
    case PACKET_NO_EDNS:
        lookup->without_edns = true;
        ask_again(lookup);
        break;
    case PACKET_FAILURE:
        lookup->reason = answer->reason;
        lookup->refused |= 1u << lookup->server;
        ask_next(lookup);
        break;
    case PACKET_ALIAS:
        follow_alias(lookup, answer);
        break;
    case PACKET_ANSWER:
        take_answer(lookup, answer->records);
        break;
    case PACKET_NO_MEMORY:
        lookup_finish(lookup, dns_records_no_memory(), false);
        break;
    case PACKET_STRAY:
        assert(!"a stray packet calls for nothing");
    }
}

bool lookup_on_packet(struct lookup *lookup, const uint8_t *bytes, size_t size)
{
    struct resolver *resolver = lookup->resolver;
    bool is_current = lookup->generation == resolver->servers.generation;
    /* What was asked of a server that is not trusted any more is not believed. */
    lookup->wants_ad = lookup->wants_ad && resolver->trust_ad && is_current;
    struct packet_question question = question_of(lookup);
    struct packet_answer answer = {
        .alias_count = lookup->alias_count,
        .ttl_s = lookup->ttl_s,
        .is_authentic = lookup->is_authentic,
    };
    enum packet_verdict verdict =
        packet_read(resolver->options.pool, &question, bytes, size, resolver_now_us(resolver), &answer);
    lookup->alias_count = answer.alias_count;
    lookup->ttl_s = answer.ttl_s;
    lookup->is_authentic = answer.is_authentic;
    if (verdict == PACKET_STRAY)
        return false;
    if (verdict == PACKET_TRUNCATED && lookup->over_tcp) {
        answer.reason = "the name server truncates even over TCP";
        verdict = PACKET_FAILURE;
    }
    exchange_drop(lookup->exchange);
    lookup->exchange = NULL;
    if (is_current)
        servers_answered(&resolver->servers, lookup->server, resolver_now_us(resolver));
    act(lookup, verdict, &answer);
    return true;
}

void lookup_on_end(struct lookup *lookup, enum exchange_end end)
{
    struct resolver *resolver = lookup->resolver;
    lookup->exchange = NULL;
    if (end == EXCHANGE_GUESSED && !lookup->over_tcp) {
        lookup->over_tcp = true;
        ask_again(lookup);
        return;
    }
    if (end == EXCHANGE_SILENT)
        COUNTER_ADD(resolver->options.counters, dns_timeouts, 1);
    lookup->reason =
        end == EXCHANGE_SILENT ? "no name server answers in time" : "the name server cannot be reached";
    /* A server that answers over UDP is well, whatever became of TCP. */
    if (!lookup->over_tcp && lookup->generation == resolver->servers.generation)
        servers_failed(&resolver->servers, lookup->server, end == EXCHANGE_GONE, resolver_now_us(resolver));
    if (end == EXCHANGE_SILENT) {
        ask_slowly(lookup);
        return;
    }
    if (end == EXCHANGE_GONE)
        lookup->refused |= 1u << lookup->server;
    ask_next(lookup);
}
