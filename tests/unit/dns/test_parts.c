/*
 * The parts of the resolver that need no server: names, the cache, the list of servers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/address.h"
#include "gateway/outbound/dns/cache.h"
#include "gateway/outbound/dns/name.h"
#include "gateway/outbound/dns/servers.h"

#define SECOND_US UINT64_C(1000000)

static void names_have_one_form(void **state)
{
    char name[DNS_NAME_SIZE];
    assert_int_equal(dns_name_from_text("Mail.EXAMPLE.com.", name), 16);
    assert_string_equal(name, "mail.example.com");
    assert_int_equal(dns_name_from_text("_25._tcp.a-b", name), 12);
    assert_int_equal(dns_name_from_text("com", name), 3);
    static const char *const bad[] = {"",     ".",   "..",   "a..b", ".a", "a b",
                                      "a\\b", "[a]", "\xff", "a..",  "*.a"};
    for (size_t index = 0; index < sizeof(bad) / sizeof(bad[0]); index++)
        assert_int_equal(dns_name_from_text(bad[index], name), -EINVAL);
    assert_string_equal(name, "com");
}

static void long_names_and_labels_are_refused(void **state)
{
    char text[300];
    char name[DNS_NAME_SIZE];
    memset(text, 'a', sizeof(text));
    text[63] = '\0';
    assert_int_equal(dns_name_from_text(text, name), 63);
    text[63] = 'a';
    text[64] = '\0';
    assert_int_equal(dns_name_from_text(text, name), -EINVAL);
    text[64] = 'a';
    for (size_t at = 1; at < sizeof(text); at += 2)
        text[at] = '.';
    text[253] = '\0'; /* "a.a. … .a" of 253 octets */
    assert_int_equal(dns_name_from_text(text, name), 253);
    text[253] = '.';
    text[254] = '\0';
    assert_int_equal(dns_name_from_text(text, name), 253);
    text[254] = 'a';
    text[255] = '\0';
    assert_int_equal(dns_name_from_text(text, name), -EINVAL);
}

static void names_are_read_from_the_wire(void **state)
{
    char name[DNS_NAME_SIZE];
    static const uint8_t good[] = "\4Mail\7example\3com";
    assert_int_equal(dns_name_from_wire(good, sizeof(good), name), 16);
    assert_string_equal(name, "mail.example.com");
    for (size_t size = 0; size < sizeof(good); size++)
        assert_int_equal(dns_name_from_wire(good, size, name), -EINVAL);
    assert_int_equal(dns_name_from_wire((const uint8_t *)"", 1, name), 0);
    assert_string_equal(name, "");
    assert_int_equal(dns_name_from_wire((const uint8_t *)"\3a.b", 5, name), -EINVAL);
    assert_int_equal(dns_name_from_wire((const uint8_t *)"\1\0", 3, name), -EINVAL);
    uint8_t label[66] = {64};
    memset(label + 1, 'a', 64);
    assert_int_equal(dns_name_from_wire(label, sizeof(label), name), -EINVAL);
    uint8_t full[256];
    for (size_t at = 0; at < 254; at += 2)
        memcpy(full + at, "\1a", 2);
    full[254] = 0;
    assert_int_equal(dns_name_from_wire(full, 255, name), 253);
    memcpy(full + 252, "\2ab", 4);
    assert_int_equal(dns_name_from_wire(full, 256, name), -EINVAL);
}

static const struct dns_records *make(struct pool *pool, const char *exchange, uint32_t ttl_s)
{
    struct dns_record record = {.mx = {.exchange = exchange, .preference = 7}};
    struct dns_records_draft draft = {
        .status = DNS_OK,
        .type = DNS_MX,
        .ttl_s = ttl_s,
        .now_us = SECOND_US,
        .reason = "",
        .name = "owner.test",
        .records = &record,
        .count = 1,
    };
    struct dns_records *records = dns_records_new(pool, &draft);
    assert_non_null(records);
    return records;
}

static void records_live_until_their_last_reference(void **state)
{
    struct pool pool;
    pool_init(&pool, NULL, SIZE_MAX);
    char exchange[] = "mx.test";
    const struct dns_records *records = make(&pool, exchange, 10);
    exchange[0] = 'X'; /* they are a copy */
    assert_ptr_equal(dns_records_ref(records), records);
    dns_records_release(&pool, records);
    assert_string_equal(records->records[0].mx.exchange, "mx.test");
    assert_string_equal(records->name, "owner.test");
    assert_int_equal(dns_records_ttl(records, SECOND_US), 10);
    assert_int_equal(dns_records_ttl(records, 10 * SECOND_US + 1), 1);
    assert_int_equal(dns_records_ttl(records, 11 * SECOND_US), 0);
    dns_records_release(&pool, records);
    assert_int_equal(pool.used_bytes, 0);
    dns_records_release(&pool, NULL);
    dns_records_release(&pool, dns_records_ref(dns_records_no_memory()));
    assert_int_equal(dns_records_no_memory()->status, DNS_TEMPORARY);
    pool_deinit(&pool);
}

static void put(struct dns_cache *cache, const char *name, const char *exchange, uint32_t ttl_s)
{
    const struct dns_records *records = make(cache->pool, exchange, ttl_s);
    dns_cache_put(cache, name, DNS_MX, records);
    dns_records_release(cache->pool, records);
}

static bool has(struct dns_cache *cache, const char *name, uint64_t now_us)
{
    return dns_cache_find(cache, name, DNS_MX, now_us) != NULL;
}

static void the_cache_forgets_the_least_recent(void **state)
{
    static const struct siphash_key key = {{1, 2}};
    struct pool pool;
    struct dns_cache cache;
    pool_init(&pool, NULL, SIZE_MAX);
    assert_int_equal(dns_cache_init(&cache, &pool, &key, 3, 1 << 20), 0);
    put(&cache, "a.test", "x", 100);
    put(&cache, "b.test", "x", 100);
    put(&cache, "c.test", "x", 100);
    assert_true(has(&cache, "a.test", SECOND_US));
    put(&cache, "d.test", "x", 100);
    assert_false(has(&cache, "b.test", SECOND_US));
    assert_true(has(&cache, "a.test", SECOND_US));
    put(&cache, "a.test", "newer", 100);
    assert_int_equal(cache.count, 3);
    assert_string_equal(dns_cache_find(&cache, "a.test", DNS_MX, SECOND_US)->records[0].mx.exchange, "newer");
    assert_null(dns_cache_find(&cache, "a.test", DNS_A, SECOND_US));
    dns_cache_flush(&cache);
    assert_false(has(&cache, "a.test", SECOND_US));
    dns_cache_deinit(&cache);
    dns_cache_deinit(&cache);
    assert_int_equal(pool.used_bytes, 0);
    pool_deinit(&pool);
}

static void the_cache_counts_bytes_and_time(void **state)
{
    static const struct siphash_key key = {{1, 2}};
    struct pool pool;
    struct dns_cache cache;
    pool_init(&pool, NULL, SIZE_MAX);
    assert_int_equal(dns_cache_init(&cache, &pool, &key, 1000, 1000), 0);
    char name[32];
    for (int index = 0; index < 100; index++) {
        snprintf(name, sizeof(name), "n%d.test", index);
        put(&cache, name, "x", 100);
        assert_true(cache.bytes <= 1000 && cache.count > 0);
        assert_true(pool.used_bytes <= 1000);
        assert_true(has(&cache, name, SECOND_US));
    }
    static char large[3000];
    memset(large, 'a', sizeof(large) - 1);
    put(&cache, "large.test", large, 100);
    assert_false(has(&cache, "large.test", SECOND_US));
    put(&cache, "short.test", "x", 5);
    assert_true(has(&cache, "short.test", 6 * SECOND_US - 1));
    assert_false(has(&cache, "short.test", 6 * SECOND_US));
    size_t count = cache.count;
    assert_false(has(&cache, "short.test", SECOND_US)); /* it is gone, not only hidden */
    assert_int_equal(cache.count, count);
    dns_cache_deinit(&cache);
    pool_deinit(&pool);
}

static struct server_list *new_list(size_t count)
{
    static struct server_list list;
    struct sockaddr_storage addresses[RESOLVER_SERVERS_MAX + 1];
    for (size_t index = 0; index <= RESOLVER_SERVERS_MAX; index++) {
        char text[32];
        snprintf(text, sizeof(text), "192.0.2.%zu", index + 1);
        assert_int_equal(parse_ip(text, 53, &addresses[index]), 0);
    }
    memset(&list, 0, sizeof(list));
    servers_set(&list, addresses, count, "/nonexistent", 0);
    return &list;
}

static int pick(const struct server_list *list, uint32_t refused, uint32_t tried, uint64_t now_us, bool wraps)
{
    bool found_wraps = false;
    int index = servers_pick(list, refused, tried, now_us, &found_wraps);
    assert_int_equal(found_wraps, wraps);
    return index;
}

static void servers_are_asked_in_their_order(void **state)
{
    struct server_list *list = new_list(3);
    assert_int_equal(pick(list, 0, 0, 0, false), 0);
    assert_int_equal(pick(list, 0, 1, 0, false), 1);
    assert_int_equal(pick(list, 2, 1, 0, false), 2);
    assert_int_equal(pick(list, 2, 5, 0, true), 0);
    assert_int_equal(pick(list, 7, 0, 0, false), -1);
    assert_int_equal(new_list(RESOLVER_SERVERS_MAX + 1)->count, RESOLVER_SERVERS_MAX);
}

static void a_silent_server_rests(void **state)
{
    struct server_list *list = new_list(2);
    servers_failed(list, 0, false, 0);
    servers_failed(list, 0, false, 0);
    assert_int_equal(pick(list, 0, 0, 0, false), 0);
    servers_failed(list, 0, false, 0);
    assert_int_equal(pick(list, 0, 0, 0, false), 1);
    assert_int_equal(pick(list, 0, 2, 0, false), 0); /* rather than none */
    assert_int_equal(pick(list, 0, 0, 5 * SECOND_US, false), 0);
    servers_failed(list, 0, false, 5 * SECOND_US);
    assert_int_equal(pick(list, 0, 0, 15 * SECOND_US - 1, false), 1);
    servers_answered(list, 0, 0);
    assert_int_equal(pick(list, 0, 0, 6 * SECOND_US, false), 0);
    servers_failed(list, 0, true, 0);
    assert_int_equal(pick(list, 0, 0, 0, false), 1);
    for (int times = 0; times < 20; times++)
        servers_failed(list, 1, true, (uint64_t)times * 60 * SECOND_US);
    assert_int_equal(list->servers[1].rest_ms, SERVER_REST_MAX_MS);
}

static void write_file(const char *path, const char *text)
{
    char beside[128];
    snprintf(beside, sizeof(beside), "%s.new", path);
    FILE *file = fopen(beside, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    fclose(file);
    assert_int_equal(rename(beside, path), 0);
}

static void expect_server(const struct server_list *list, uint32_t index, const char *wanted)
{
    char text[ADDRESS_TEXT_SIZE];
    assert_true(index < list->count);
    address_format((const struct sockaddr *)&list->servers[index].address, text);
    assert_string_equal(text, wanted);
}

static void resolv_conf_is_read_and_read_again(void **state)
{
    char path[] = "/tmp/sluice-resolv-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_file(path, "# nameserver 192.0.2.9\nsearch a.test\n nameserver\t192.0.2.1 # first\n"
                     "nameserver 2001:db8::1\nnameserver not-an-address\noptions edns0\nnameserver\n"
                     "nameserver fe80::1%eth0\n");
    struct server_list list = {0};
    servers_set(&list, NULL, 0, path, 0);
    assert_int_equal(list.count, 2);
    expect_server(&list, 0, "192.0.2.1:53");
    expect_server(&list, 1, "[2001:db8::1]:53");
    assert_false(servers_refresh(&list, 100 * SECOND_US));

    write_file(path, "nameserver 192.0.2.7");
    assert_false(servers_refresh(&list, 101 * SECOND_US)); /* it is not time to look yet */
    uint32_t generation = list.generation;
    assert_true(servers_refresh(&list, 105 * SECOND_US));
    assert_int_not_equal(list.generation, generation);
    assert_int_equal(list.count, 1);
    expect_server(&list, 0, "192.0.2.7:53");

    /* The same servers in a new file: what is known of them stays. */
    servers_failed(&list, 0, true, 105 * SECOND_US);
    write_file(path, "options rotate\nnameserver 192.0.2.7\n");
    assert_false(servers_refresh(&list, 110 * SECOND_US));
    assert_true(list.servers[0].rest_ms > 0);

    assert_int_equal(unlink(path), 0);
    assert_false(servers_refresh(&list, 120 * SECOND_US));
    expect_server(&list, 0, "192.0.2.7:53");
    write_file(path, "nothing here\n");
    assert_true(servers_refresh(&list, 130 * SECOND_US));
    expect_server(&list, 0, "127.0.0.1:53");
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_have_one_form),
        cmocka_unit_test(long_names_and_labels_are_refused),
        cmocka_unit_test(names_are_read_from_the_wire),
        cmocka_unit_test(records_live_until_their_last_reference),
        cmocka_unit_test(the_cache_forgets_the_least_recent),
        cmocka_unit_test(the_cache_counts_bytes_and_time),
        cmocka_unit_test(servers_are_asked_in_their_order),
        cmocka_unit_test(a_silent_server_rests),
        cmocka_unit_test(resolv_conf_is_read_and_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
