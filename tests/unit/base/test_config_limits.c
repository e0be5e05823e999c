#include <string.h>

#include "config_cases.h"

/* Which `site` section is whose. */

static const char *find(const struct config *config, const char *name, const char *const *hosts)
{
    size_t count = 0;
    while (hosts[count] != NULL)
        count++;
    const struct config_limits *limits = config_limits_find(config, name, hosts, count);
    assert_ptr_equal(limits, &config->site_limits[limits->index]);
    return limits->pattern;
}

#define FIND(name, ...) find(config, name, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void what_a_section_leaves_out_is_the_defaults(void **state)
{
    struct config *config =
        load(LISTENER "site \"a.org\" { connections = 3 tls = verify }\n"
                      "site \"b.org\" { messages_per_connection = 0 }\n"
                      "site \"default\" { connections = 7 messages_per_second = 5\n"
                      "  messages_per_minute = 6 messages_per_hour = 8 tls = encrypt\n"
                      "  connections_per_host = 2 connections_per_second = 9\n"
                      "  recipients_per_connection = 1000 recipients_per_message = 50 }\n");
    const struct config_limits *a = config_limits_find(config, "a.org", NULL, 0);
    const struct config_limits *b = config_limits_find(config, "b.org", NULL, 0);
    const struct config_limits *other = config_limits_find(config, "c.org", NULL, 0);
    assert_int_equal(config->site_limits_count, 3);
    assert_int_equal(other->index, 0);
    assert_string_equal(other->pattern, "default");
    assert_int_equal(other->connections, 7);
    assert_int_equal(other->messages_per_connection, 100);
    assert_int_equal(other->tls, CONFIG_SECURITY_ENCRYPT);

    assert_string_equal(a->pattern, "a.org");
    assert_int_equal(a->index, 1);
    assert_int_equal(a->connections, 3);
    assert_int_equal(a->messages_per_connection, 100);
    assert_int_equal(a->messages_per_second, 5);
    assert_int_equal(a->messages_per_minute, 6);
    assert_int_equal(a->messages_per_hour, 8);
    assert_int_equal(a->connections_per_host, 2);
    assert_int_equal(a->connections_per_second, 9);
    assert_int_equal(a->recipients_per_connection, 1000);
    assert_int_equal(a->recipients_per_message, 50);
    assert_int_equal(a->tls, CONFIG_SECURITY_VERIFY);

    assert_int_equal(b->index, 2);
    assert_int_equal(b->connections, 7);
    assert_int_equal(b->messages_per_connection, 0);
    assert_int_equal(b->tls, CONFIG_SECURITY_ENCRYPT);
    config_free(config);
}

static void a_site_is_known_by_its_name_and_then_by_its_hosts(void **state)
{
    struct config *config = load(LISTENER "site \"Google.com\" { }\n"
                                          "site \".l.google.com\" { }\n"
                                          "site \".google.com\" { }\n"
                                          "site \"mx.example.com\" { }\n"
                                          "site \"relay.example.net:587\" { }\n"
                                          "site \"mx.example.org:25\" { }\n"
                                          "site \"/run/Dovecot/lmtp\" { }\n"
                                          "site \"[2001:DB8::1]\" { }\n"
                                          "site \"[2001:db8::1]:2525\" { }\n"
                                          "site \"10.0.0.5\" { }\n"
                                          "site \".b\xc3\xbc"
                                          "cher.example\" { }\n");
    /* By name, whatever the hosts are. */
    assert_string_equal(FIND("google.com"), "google.com");
    assert_string_equal(FIND("google.com", "mx.example.com"), "google.com");
    assert_string_equal(FIND("relay.example.net:587", "relay.example.net"), "relay.example.net:587");
    assert_string_equal(FIND("mx.example.org", "mx.example.org"), "mx.example.org");
    assert_string_equal(FIND("/run/Dovecot/lmtp", "/run/Dovecot/lmtp"), "/run/Dovecot/lmtp");
    assert_string_equal(FIND("[2001:db8::1]:2525", "2001:db8::1"), "[2001:db8::1]:2525");
    assert_string_equal(FIND("10.0.0.5", "10.0.0.5"), "10.0.0.5");

    /* By hosts: the longest pattern, and one that covers all. */
    assert_string_equal(FIND("x", "a.l.google.com", "b.l.google.com"), ".l.google.com");
    assert_string_equal(FIND("x", "a.l.google.com", "smtp.google.com"), ".google.com");
    assert_string_equal(FIND("x", "smtp.google.com", "a.l.google.com"), ".google.com");
    assert_string_equal(FIND("x", "l.google.com"), ".l.google.com");
    assert_string_equal(FIND("x", "a.l.google.com", "google.com"), ".google.com");
    assert_string_equal(FIND("x", "a.l.google.com", "mx.example.com"), "default");
    assert_string_equal(FIND("x", "mx.example.com", "mx.example.com"), "mx.example.com");
    assert_string_equal(FIND("x", "mx.example.com", "mx2.example.com"), "default");
    assert_string_equal(FIND("mx.example.com:26", "mx.example.com"), "mx.example.com");
    assert_string_equal(FIND("x", "notgoogle.com"), "default");
    assert_string_equal(FIND("x", "relay.example.net"), "default");
    assert_string_equal(FIND("x", "10.0.0.5"), "10.0.0.5");
    assert_string_equal(FIND("x", "10.0.0.5", "10.0.0.6"), "default");
    assert_string_equal(FIND("x", "2001:db8::1"), "[2001:db8::1]");
    assert_string_equal(FIND("x", "2001:db8::1", "2001:db8::2"), "default");
    assert_string_equal(FIND("x", "a.xn--bcher-kva.example"), ".xn--bcher-kva.example");
    assert_string_equal(FIND("x"), "default");
    assert_string_equal(FIND("", ""), "default");
    config_free(config);
}

/* Such a section is divided among the workers as a whole. */
static void a_section_knows_whether_a_route_names_its_hosts(void **state)
{
    struct config *config =
        load(LISTENER "site \"a.org\" { }\nsite \"10.0.0.5\" { }\nsite \"10.0.0.6:2525\" { }\n"
                      "site \"10.0.0.7\" { }\nsite \"10.0.0.8\" { }\n"
                      "route \"b.org\" { to = { \"smtp://10.0.0.5:26\", \"smtp://10.0.0.5:27\" } }\n"
                      "route \"c.org\" { to = \"smtp://10.0.0.6:2525\" }\n"
                      "route \"d.org\" { to = { \"smtp://10.0.0.9\", \"smtp://10.0.0.8\" } }\n"
                      "route \"*\" { to = \"mx\" }\n");
    assert_true(config->site_limits[0].has_list); /* 10.0.0.9 and 10.0.0.8 together are nobody's */
    assert_false(config->site_limits[1].has_list);
    assert_true(config->site_limits[2].has_list);
    assert_true(config->site_limits[3].has_list);
    assert_false(config->site_limits[4].has_list);
    assert_false(config->site_limits[5].has_list);
    config_free(config);
}

static void a_host_may_be_called_default(void **state)
{
    struct config *config = load(LISTENER "site \"default\" { connections = 1 }\nsite \"a.org\" { }\n");
    assert_int_equal(config_limits_find(config, "default", (const char *const[]){"a.org"}, 1)->index, 1);
    assert_string_equal(FIND("default", "default"), "default");
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_section_leaves_out_is_the_defaults),
        cmocka_unit_test(a_site_is_known_by_its_name_and_then_by_its_hosts),
        cmocka_unit_test(a_section_knows_whether_a_route_names_its_hosts),
        cmocka_unit_test(a_host_may_be_called_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
