/* Next hops: what a site is called, what makes two of them one site, and who holds them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/address.h"
#include "gateway/outbound/next_hop.h"

enum { DRAFT_MAX = 4 };

/* A draft of MX hosts, each with one address; `ranks` says their preferences, a digit each. */
struct draft {
    struct next_hop hop;
    struct next_hop_host hosts[DRAFT_MAX];
    struct sockaddr_storage addresses[DRAFT_MAX];
};

static void set_draft(struct draft *draft, const char *ranks, const char *const *names)
{
    *draft = (struct draft){.hop = {.name = "site", .is_mx = true, .tls = CONFIG_SECURITY_MAY}};
    for (uint32_t i = 0; names[i] != NULL; i++) {
        char text[32];
        assert_true(i < DRAFT_MAX);
        snprintf(text, sizeof(text), "192.0.2.%u", i + 1);
        assert_int_equal(parse_ip(text, 25, &draft->addresses[i]), 0);
        draft->hosts[i] = (struct next_hop_host){
            .name = names[i],
            .preference = (uint16_t)(ranks[i] - '0'),
            .port = 25,
            .address_count = 1,
            .addresses = &draft->addresses[i],
        };
        draft->hop.host_count++;
    }
    draft->hop.hosts = draft->hosts;
}

static struct next_hop *made(const struct draft *draft)
{
    struct next_hop *hop = next_hop_new(&draft->hop);
    assert_non_null(hop);
    return hop;
}

static bool are_same(const struct draft *a, const struct draft *b)
{
    struct next_hop *left = made(a);
    struct next_hop *right = made(b);
    bool same = strcmp(left->key, right->key) == 0;

    assert_int_equal(same, left->hash == right->hash);
    next_hop_unref(left);
    next_hop_unref(right);
    return same;
}

#define NAMES(...)                                                                                           \
    (const char *const[])                                                                                    \
    {                                                                                                        \
        __VA_ARGS__, NULL                                                                                    \
    }

static void a_site_is_called_after_what_its_hosts_share(void **state)
{
    static const struct {
        const char *shared;
        const char *ranks;
        const char *names[DRAFT_MAX + 1];
    } cases[] = {
        {"google.com", "01", {"aspmx.l.google.com", "alt1.aspmx.l.google.com"}},
        {"google.com", "01", {"aspmx.l.google.com", "smtp.google.com"}},
        {"google.com", "012", {"aspmx.l.google.com", "alt1.aspmx.l.google.com", "aspmx2.googlemail.com"}},
        {"a.com", "01", {"mx.a.com", "mx.b.com"}},
        {"example.com", "0", {"mx.example.com"}},
        {"example.com", "00", {"example.com", "mx.example.com"}},
        {"example.com", "00", {"mx.example.com", "example.com"}},
        {"example.com", "00", {"mx.a.example.com", "mx.b.example.com"}},
        {"a.co.uk", "01", {"mx1.a.co.uk", "mx2.a.co.uk"}},
        {"mail", "0", {"mail"}},
        /* nothing but a top-level domain, or not even whole labels */
        {"mx.a.com", "00", {"mx.a.com", "mx.b.com"}},
        {"mx.aexample.com", "00", {"mx.example.com", "mx.aexample.com"}},
        {"a.test", "111", {"c.test", "a.test", "b.test"}},
    };
    struct draft draft;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_draft(&draft, cases[i].ranks, cases[i].names);
        assert_string_equal(next_hop_shared_name(&draft.hop), cases[i].shared);
    }
}

static void only_those_that_are_tried_first_give_their_name(void **state)
{
    struct draft draft;

    set_draft(&draft, "001", NAMES("c.one.test", "b.two.test", "a.three.test"));
    /* "test" is all that they share */
    assert_string_equal(next_hop_shared_name(&draft.hop), "b.two.test");
}

/* 198.51.100.7 and 203.0.100.7 belong to nobody who is called 100.7. */
static void addresses_share_no_name(void **state)
{
    struct draft draft;

    set_draft(&draft, "01", NAMES("198.51.100.7", "203.0.100.7"));
    assert_string_equal(next_hop_shared_name(&draft.hop), "198.51.100.7");
    set_draft(&draft, "0", NAMES("198.51.100.7"));
    assert_string_equal(next_hop_shared_name(&draft.hop), "198.51.100.7");
}

static void the_order_among_equals_is_no_difference(void **state)
{
    struct draft a;
    struct draft b;

    set_draft(&a, "001", NAMES("a.test", "b.test", "c.test"));
    set_draft(&b, "001", NAMES("b.test", "a.test", "c.test"));
    assert_true(are_same(&a, &b));
    set_draft(&b, "000", NAMES("a.test", "b.test", "c.test"));
    assert_false(are_same(&a, &b));
    set_draft(&b, "011", NAMES("a.test", "b.test", "c.test"));
    assert_false(are_same(&a, &b));
    set_draft(&b, "00", NAMES("a.test", "b.test"));
    assert_false(are_same(&a, &b));
}

static void all_that_we_say_to_the_hosts_makes_a_site(void **state)
{
    static const char *const names[] = {"mx.other.test", "mx.third.test"};
    struct draft a;
    struct draft b;

    set_draft(&a, "00", NAMES("a.test", "b.test"));
    b = a;
    b.hop.hosts = b.hosts;
    assert_true(are_same(&a, &b));
    b.hop.tls = CONFIG_SECURITY_VERIFY;
    assert_false(are_same(&a, &b));
    a.hop.tls = CONFIG_SECURITY_VERIFY;
    b.hop.tls_names = names;
    b.hop.tls_name_count = 1;
    assert_false(are_same(&a, &b));
    a.hop.tls_names = names;
    a.hop.tls_name_count = 2;
    assert_false(are_same(&a, &b));
    b.hop.tls_name_count = 2;
    assert_true(are_same(&a, &b));
    b.hop.is_lmtp = true;
    assert_false(are_same(&a, &b));
    b.hop.is_lmtp = false;
    b.hosts[0].weight = b.hosts[1].weight = 1;
    assert_false(are_same(&a, &b));
    a.hosts[0].weight = 1;
    a.hosts[1].weight = 2;
    assert_false(are_same(&a, &b));
    b.hosts[1].weight = 2;
    assert_true(are_same(&a, &b));
    b.hosts[1].port = 2525;
    assert_false(are_same(&a, &b));
}

static void other_addresses_are_the_same_site(void **state)
{
    struct draft a;
    struct draft b;

    set_draft(&a, "01", NAMES("a.test", "b.test"));
    b = a;
    b.hop.hosts = b.hosts;
    b.hosts[0].addresses = a.addresses;
    b.hosts[0].address_count = 2;
    assert_true(are_same(&a, &b));
}

static void a_copy_needs_nothing_of_its_draft(void **state)
{
    char *name = strdup("mx.example.com");
    char *tls_name = strdup("other.example.com");
    const char *tls_names[] = {tls_name};
    struct draft *draft = malloc(sizeof(*draft));

    set_draft(draft, "10", NAMES(name, "a.example.com"));
    draft->hop.name = name;
    draft->hop.tls_names = tls_names;
    draft->hop.tls_name_count = 1;
    draft->hosts[0].addresses = draft->addresses;
    draft->hosts[0].address_count = 2;
    draft->hosts[0].is_authentic = true;
    struct next_hop *hop = made(draft);
    memset(name, 'x', strlen(name));
    memset(tls_name, 'x', strlen(tls_name));
    memset(draft, 0x5a, sizeof(*draft));
    free(name);
    free(tls_name);
    free(draft);
    tls_names[0] = NULL;

    assert_string_equal(hop->name, "mx.example.com");
    assert_string_equal(hop->tls_names[0], "other.example.com");
    assert_int_equal(hop->host_count, 2);
    assert_string_equal(hop->hosts[0].name, "a.example.com"); /* by preference */
    assert_int_equal(hop->hosts[0].address_count, 1);
    assert_string_equal(hop->hosts[1].name, "mx.example.com");
    assert_int_equal(hop->hosts[1].address_count, 2);
    assert_true(hop->hosts[1].is_authentic);
    char text[ADDRESS_TEXT_SIZE];
    address_format((const struct sockaddr *)&hop->hosts[1].addresses[1], text);
    assert_string_equal(text, "192.0.2.2:25");
    next_hop_unref(hop);
}

static void the_last_holder_frees_it(void **state)
{
    struct draft draft;

    set_draft(&draft, "0", NAMES("a.test"));
    struct next_hop *hop = made(&draft);
    assert_int_equal(hop->references, 1);
    for (int i = 0; i < 100; i++)
        assert_ptr_equal(next_hop_ref(hop), hop);
    for (int i = 0; i < 100; i++)
        next_hop_unref(hop);
    assert_int_equal(hop->references, 1);
    assert_string_equal(hop->hosts[0].name, "a.test");
    next_hop_unref(hop);
    next_hop_unref(NULL);
}

/* --- Of a configuration --- */

static struct config *load(const char *more)
{
    char text[2048];
    struct config *config;
    struct config_error error;

    snprintf(text, sizeof(text),
             "hostname = \"relay.test\"\nlistener \"l\" { bind = {\"127.0.0.1:2525\"} }\n%s\n", more);
    if (config_load_text("test", text, &config, &error) < 0)
        fail_msg("%s", error.text);
    return config;
}

static struct next_hop *listed(const struct config *config, size_t index)
{
    assert_true(index < config->destination_count);
    struct next_hop *hop = next_hop_of_destination(config, &config->destinations[index]);
    assert_non_null(hop);
    return hop;
}

static void a_list_keeps_its_order_unless_it_has_weights(void **state)
{
    struct config *config =
        load("route \"a.test\" { to = {\"smtp://192.0.2.9\", \"smtp://192.0.2.1:587\"} }\n"
             "route \"b.test\" { to = {\"lmtp://192.0.2.9\", \"lmtp://192.0.2.1\"} weights = {3, 1} }");
    struct next_hop *by_order = listed(config, 0);
    struct next_hop *by_weight = listed(config, 1);

    assert_string_equal(by_order->hosts[0].name, "192.0.2.9");
    assert_int_equal(by_order->hosts[0].preference, 0);
    assert_int_equal(by_order->hosts[1].preference, 1);
    assert_int_equal(by_order->hosts[1].port, 587);
    assert_false(by_order->is_lmtp);
    assert_int_equal(by_order->tls, CONFIG_SECURITY_MAY);
    assert_true(by_weight->is_lmtp);
    assert_int_equal(by_weight->hosts[0].preference, by_weight->hosts[1].preference);
    assert_int_equal(by_weight->hosts[0].weight, 3);
    assert_int_equal(by_weight->hosts[1].weight, 1);
    next_hop_unref(by_order);
    next_hop_unref(by_weight);
    config_free(config);
}

/* --- Sections --- */

static void backups_elsewhere_leave_a_site_in_its_section(void **state)
{
    struct config *config = load("site \"google.com\" { connections = 1 }\n"
                                 "site \".mail.protection.test\" { connections = 2 }\n"
                                 "site \"mx.backup.test\" { connections = 3 }");
    static const struct {
        uint32_t connections;
        const char *ranks;
        const char *names[DRAFT_MAX + 1];
    } cases[] = {
        {1, "011", {"aspmx.l.google.com", "alt1.aspmx.l.google.com", "aspmx2.googlemail.com"}},
        {2, "01", {"a.mail.protection.test", "mx.backup.test"}},
        {3, "01", {"mx.backup.test", "a.mail.protection.test"}},
        {20, "00", {"a.mail.protection.test", "mx.backup.test"}},
    };
    struct draft draft;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_draft(&draft, cases[i].ranks, cases[i].names);
        draft.hop.name = next_hop_shared_name(&draft.hop);
        assert_int_equal(next_hop_limits(config, &draft.hop)->connections, cases[i].connections);
    }
    config_free(config);
}

static void no_mx_host_is_asked_for_less_than_it_would_be_alone(void **state)
{
    static const char sections[] = "site \"default\" { tls = \"%s\" }\n"
                                   "site \"easy.test\" { tls = \"none\" }\n"
                                   "site \".hard.test\" { tls = \"verify\" }\n";
    static const struct {
        const char *otherwise;
        enum config_security tls;
        const char *ranks;
        const char *names[DRAFT_MAX + 1];
    } cases[] = {
        {"encrypt", CONFIG_SECURITY_NONE, "01", {"mx1.easy.test", "mx2.easy.test"}},
        {"encrypt", CONFIG_SECURITY_ENCRYPT, "01", {"mx1.easy.test", "mx.other.test"}},
        {"may", CONFIG_SECURITY_MAY, "01", {"mx1.easy.test", "mx.other.test"}},
        {"may", CONFIG_SECURITY_VERIFY, "01", {"mx1.easy.test", "mx.hard.test"}},
        {"may", CONFIG_SECURITY_VERIFY, "00", {"mx.hard.test", "mx1.easy.test"}},
        {"none", CONFIG_SECURITY_VERIFY, "01", {"mx.hard.test", "mx.other.test"}},
    };
    struct draft draft;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), sections, cases[i].otherwise);
        struct config *config = load(text);
        set_draft(&draft, cases[i].ranks, cases[i].names);
        draft.hop.name = next_hop_shared_name(&draft.hop);
        assert_int_equal(next_hop_security(config, &draft.hop, CONFIG_SECURITY_UNSET), cases[i].tls);
        assert_int_equal(next_hop_security(config, &draft.hop, CONFIG_SECURITY_MAY), CONFIG_SECURITY_MAY);
        config_free(config);
    }
}

static void a_route_says_more_about_tls_than_a_section(void **state)
{
    struct config *config = load("route \"a.test\" { to = \"smtp://192.0.2.1\" }\n"
                                 "route \"b.test\" { to = \"smtp://192.0.2.1\" tls = \"none\" }\n"
                                 "route \"c.test\" { to = \"smtp://192.0.2.2\" }\n"
                                 "site \"default\" { tls = \"encrypt\" }\n"
                                 "site \"192.0.2.1\" { tls = \"verify\" }");
    static const enum config_security expected[] = {CONFIG_SECURITY_VERIFY, CONFIG_SECURITY_NONE,
                                                    CONFIG_SECURITY_ENCRYPT};

    for (size_t i = 0; i < 3; i++) {
        struct next_hop *hop = listed(config, i);
        assert_int_equal(hop->tls, expected[i]);
        next_hop_unref(hop);
    }
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_site_is_called_after_what_its_hosts_share),
        cmocka_unit_test(only_those_that_are_tried_first_give_their_name),
        cmocka_unit_test(addresses_share_no_name),
        cmocka_unit_test(the_order_among_equals_is_no_difference),
        cmocka_unit_test(all_that_we_say_to_the_hosts_makes_a_site),
        cmocka_unit_test(other_addresses_are_the_same_site),
        cmocka_unit_test(a_copy_needs_nothing_of_its_draft),
        cmocka_unit_test(the_last_holder_frees_it),
        cmocka_unit_test(a_list_keeps_its_order_unless_it_has_weights),
        cmocka_unit_test(backups_elsewhere_leave_a_site_in_its_section),
        cmocka_unit_test(no_mx_host_is_asked_for_less_than_it_would_be_alone),
        cmocka_unit_test(a_route_says_more_about_tls_than_a_section),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
