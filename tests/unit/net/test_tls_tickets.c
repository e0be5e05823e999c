/* Ticket keys: whose tickets open, for how long, and that readers never see half a rotation. */

#include "net_test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "gateway/net/tls_tickets.h"

#define HOUR_MS (UINT64_C(3600) * 1000)

static const uint8_t here[TLS_TICKET_CONTEXT] = "here";
static const uint8_t there[TLS_TICKET_CONTEXT] = "there";

struct ticket {
    uint8_t bytes[256];
    size_t size;
};

static void seal(struct tls_tickets *tickets, struct ticket *ticket)
{
    static const uint8_t session[100] = "a session";
    assert_true(tls_ticket_seal(tickets, here, ticket->bytes, &ticket->size, sizeof(ticket->bytes), session,
                                sizeof(session)));
    assert_int_equal(ticket->size, sizeof(session) + TLS_TICKET_OVERHEAD);
}

static bool opens(const struct tls_tickets *tickets, const uint8_t *context, const struct ticket *ticket)
{
    uint8_t session[256] = "";
    size_t size = 0;
    if (!tls_ticket_open(tickets, context, session, &size, sizeof(session), ticket->bytes, ticket->size))
        return false;
    assert_int_equal(size, 100);
    assert_string_equal((char *)session, "a session");
    return true;
}

static void a_ticket_opens_where_it_was_sealed_only(void **state)
{
    struct tls_tickets *tickets = tls_tickets_new();
    struct tls_tickets *others = tls_tickets_new();
    struct ticket ticket;
    seal(tickets, &ticket);
    assert_true(opens(tickets, here, &ticket));
    assert_false(opens(tickets, there, &ticket));
    assert_false(opens(others, here, &ticket));
    tls_tickets_free(tickets);
    tls_tickets_free(others);
}

static void a_ticket_is_sealed_and_opened_in_place(void **state)
{
    struct tls_tickets *tickets = tls_tickets_new();
    uint8_t bytes[256] = "in place";
    size_t size = 0;
    assert_true(tls_ticket_seal(tickets, here, bytes, &size, sizeof(bytes), bytes, 9));
    assert_memory_not_equal(bytes, "in place", 8);
    assert_true(tls_ticket_open(tickets, here, bytes, &size, sizeof(bytes), bytes, size));
    assert_int_equal(size, 9);
    assert_string_equal((char *)bytes, "in place");
    tls_tickets_free(tickets);
}

static void a_changed_or_cut_ticket_does_not_open(void **state)
{
    struct tls_tickets *tickets = tls_tickets_new();
    struct ticket ticket;
    seal(tickets, &ticket);
    for (size_t index = 0; index < ticket.size; index++) {
        ticket.bytes[index] ^= 0x40;
        assert_false(opens(tickets, here, &ticket));
        ticket.bytes[index] ^= 0x40;
    }
    assert_true(opens(tickets, here, &ticket));
    while (ticket.size > 0) {
        ticket.size--;
        assert_false(opens(tickets, here, &ticket));
    }
    tls_tickets_free(tickets);
}

/* The places of keys that do not exist yet hold zeros: nobody may use that as a key. */
static void a_ticket_under_the_name_of_no_key_does_not_open(void **state)
{
    struct tls_tickets *tickets = tls_tickets_new();
    struct ticket ticket = {.size = 200};
    assert_false(opens(tickets, here, &ticket));
    tls_tickets_free(tickets);
}

static void keys_change_and_retire_in_time(void **state)
{
    const uint64_t start_ms = 1000;
    struct tls_tickets *tickets = tls_tickets_new();
    struct ticket first;
    struct ticket second;
    tls_tickets_rotate(tickets, start_ms);
    seal(tickets, &first);
    tls_tickets_rotate(tickets, start_ms + 6 * HOUR_MS - 1);
    seal(tickets, &second);
    const size_t name_at = second.size - 28;
    assert_memory_equal(first.bytes + name_at, second.bytes + name_at, 16); /* the same key */
    tls_tickets_rotate(tickets, start_ms + 6 * HOUR_MS);
    seal(tickets, &second);
    assert_memory_not_equal(first.bytes + name_at, second.bytes + name_at, 16);
    for (uint64_t hour = 7; hour < 18; hour++) {
        tls_tickets_rotate(tickets, start_ms + hour * HOUR_MS);
        assert_true(opens(tickets, here, &first));
        assert_true(opens(tickets, here, &second));
    }
    tls_tickets_rotate(tickets, start_ms + 18 * HOUR_MS);
    assert_false(opens(tickets, here, &first));
    assert_true(opens(tickets, here, &second));
    tls_tickets_rotate(tickets, start_ms + 24 * HOUR_MS);
    assert_false(opens(tickets, here, &second));
    tls_tickets_free(tickets);
}

static void a_long_silence_retires_the_key_only_then(void **state)
{
    struct tls_tickets *tickets = tls_tickets_new();
    struct ticket ticket;
    tls_tickets_rotate(tickets, 0);
    seal(tickets, &ticket);
    tls_tickets_rotate(tickets, 100 * HOUR_MS);
    assert_true(opens(tickets, here, &ticket));
    tls_tickets_rotate(tickets, 112 * HOUR_MS);
    assert_false(opens(tickets, here, &ticket));
    tls_tickets_free(tickets);
}

struct reader {
    struct tls_tickets *tickets;
    atomic_bool stop;
    atomic_uint rotations; /* begun */
    uint64_t opened;
    uint64_t torn;
};

/*
 * What a reader sealed it can open, unless the key has retired meanwhile, which takes three rotations. A copy
 * that is half of one key and half of another seals what no key opens.
 */
static void *read_all_the_time(void *ctx)
{
    struct reader *reader = ctx;
    while (!atomic_load(&reader->stop)) {
        uint8_t bytes[64] = "x";
        size_t size = 0;
        unsigned before = atomic_load(&reader->rotations);
        bool done = tls_ticket_seal(reader->tickets, here, bytes, &size, sizeof(bytes), bytes, 2);
        done = done && tls_ticket_open(reader->tickets, here, bytes, &size, sizeof(bytes), bytes, size);
        unsigned after = atomic_load(&reader->rotations);
        reader->opened += done;
        reader->torn += !done && after - before <= 1;
    }
    return NULL;
}

static void readers_see_whole_keys(void **state)
{
    struct reader reader = {.tickets = tls_tickets_new()};
    pthread_t thread;
    uint64_t now_ms = 0;
    tls_tickets_rotate(reader.tickets, now_ms);
    assert_int_equal(pthread_create(&thread, NULL, read_all_the_time, &reader), 0);
    uint64_t until_us = net_test_now_us() + 500000;
    while (net_test_now_us() < until_us) {
        now_ms += TLS_TICKET_KEY_MS;
        atomic_fetch_add(&reader.rotations, 1);
        tls_tickets_rotate(reader.tickets, now_ms);
        uint64_t pause_us = net_test_now_us() + 10;
        while (net_test_now_us() < pause_us)
            continue;
    }
    atomic_store(&reader.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(reader.opened > 100);
    assert_int_equal(reader.torn, 0);
    tls_tickets_free(reader.tickets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ticket_opens_where_it_was_sealed_only),
        cmocka_unit_test(a_ticket_is_sealed_and_opened_in_place),
        cmocka_unit_test(a_changed_or_cut_ticket_does_not_open),
        cmocka_unit_test(a_ticket_under_the_name_of_no_key_does_not_open),
        cmocka_unit_test(keys_change_and_retire_in_time),
        cmocka_unit_test(a_long_silence_retires_the_key_only_then),
        cmocka_unit_test(readers_see_whole_keys),
    };
    return cmocka_run_group_tests_name("net/tls tickets", tests, NULL, NULL);
}
