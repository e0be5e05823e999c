#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_cases.h"
#include "gateway/base/routes.h"

/* Who may use a listener and how: what right files mean. */

#define FILES                                                                                                \
    "tls { certificate = /c.pem private_key = /k.pem client_ca = /ca.pem }\n"                                \
    "auth { users = /users }\n"

static const char *manual; /* sluice.conf(5) */

static bool proxy_allows(const struct config_listener *listener, const char *peer)
{
    struct sockaddr_storage address;
    assert_int_equal(parse_ip(peer, 25, &address), 0);
    return config_proxy_allows(listener, (struct sockaddr *)&address);
}

static void every_key_of_a_listener_is_taken(void **state)
{
    struct config *config = load(
        FILES "listener a { bind = 127.0.0.1:25 tls = starttls auth = optional auth_without_tls = true\n"
              "  client_certificate = ask xclient = true proxy_networks = {192.0.2.10, \"[2001:db8::]/64\"}\n"
              "  extensions_off = {CHUNKING, DSN} bare_newlines = normalise greeting_delay = 1500ms }\n"
              "listener b { bind = 127.0.0.1:26 tls = implicit auth = required client_certificate = require\n"
              "  proxy_protocol = true proxy_networks = 10.0.0.0/8 extensions_off = 8BITMIME\n"
              "  greeting_delay = 30s }\n"
              "listener c { bind = 127.0.0.1:27 extensions_off = {PIPELINING, SIZE, ENHANCEDSTATUSCODES,\n"
              "  BINARYMIME, SMTPUTF8} submission = false xclient = false }\n");
    const struct config_listener *a = &config->listeners[0];
    assert_int_equal(a->tls, CONFIG_TLS_STARTTLS);
    assert_int_equal(a->auth, CONFIG_AUTH_OPTIONAL);
    assert_true(a->auth_without_tls && a->xclient && a->normalise_newlines);
    assert_false(a->proxy_protocol || a->submission);
    assert_int_equal(a->client_certificate, CONFIG_CERTIFICATE_ASK);
    assert_int_equal(a->extensions_off, CONFIG_EXT_CHUNKING | CONFIG_EXT_BINARYMIME | CONFIG_EXT_DSN);
    assert_int_equal(a->greeting_delay_ms, 1500);
    assert_true(proxy_allows(a, "192.0.2.10"));
    assert_true(proxy_allows(a, "::ffff:192.0.2.10"));
    assert_true(proxy_allows(a, "2001:db8::1"));
    assert_false(proxy_allows(a, "192.0.2.11"));
    assert_false(proxy_allows(a, "2001:db8:0:1::1"));
    assert_false(proxy_allows(a, "127.0.0.1"));

    const struct config_listener *b = &config->listeners[1];
    assert_int_equal(b->tls, CONFIG_TLS_IMPLICIT);
    assert_int_equal(b->auth, CONFIG_AUTH_REQUIRED);
    assert_int_equal(b->client_certificate, CONFIG_CERTIFICATE_REQUIRE);
    assert_true(b->proxy_protocol);
    assert_false(b->xclient || b->auth_without_tls || b->normalise_newlines);
    assert_int_equal(b->extensions_off, CONFIG_EXT_8BITMIME | CONFIG_EXT_BINARYMIME | CONFIG_EXT_SMTPUTF8);
    assert_int_equal(b->greeting_delay_ms, 30000);
    assert_true(proxy_allows(b, "10.1.2.3"));

    const struct config_listener *c = &config->listeners[2];
    assert_int_equal(c->extensions_off, CONFIG_EXT_PIPELINING | CONFIG_EXT_SIZE |
                                            CONFIG_EXT_ENHANCEDSTATUSCODES | CONFIG_EXT_BINARYMIME |
                                            CONFIG_EXT_SMTPUTF8);
    assert_false(proxy_allows(c, "10.1.2.3"));
    config_free(config);
}

static void submission_asks_for_a_login_unsaid(void **state)
{
    struct config *config = load(FILES "listener a { bind = 127.0.0.1:25 submission = true tls = starttls }\n"
                                       "listener b { bind = 127.0.0.1:26 submission = true tls = implicit\n"
                                       "  auth = required }\n"
                                       "listener c { bind = 127.0.0.1:27 submission = true\n"
                                       "  auth_without_tls = true }\n");
    for (size_t index = 0; index < 3; index++) {
        assert_true(config->listeners[index].submission);
        assert_int_equal(config->listeners[index].auth, CONFIG_AUTH_REQUIRED);
    }
    config_free(config);
}

static void certificates_and_logins_are_taken(void **state)
{
    struct config *config = load(
        LISTENER "tls { certificate = {/c1.pem, /c2.pem} private_key = {/k1.pem, /k2.pem}\n"
                 "  min_version = 1.3 client_ca = /ca.pem }\n"
                 "auth { users = /users auth_senders = /senders mechanisms = {SCRAM-SHA-256-PLUS, LOGIN}\n"
                 "  failure_delay = 0 failures_per_minute = 0 }\n"
                 "recipient_delimiter = \"+\"\n"
                 "timeouts { inbound_handshake = 100ms inbound_proxy = 1d }\n"
                 "admission { dry_run = {early-talker, auth-sender} reject_null_mx_sender = true }\n");
    assert_int_equal(config->tls.certificate_count, 2);
    assert_string_equal(config->tls.certificates[0], "/c1.pem");
    assert_string_equal(config->tls.certificates[1], "/c2.pem");
    assert_string_equal(config->tls.private_keys[0], "/k1.pem");
    assert_string_equal(config->tls.private_keys[1], "/k2.pem");
    assert_int_equal(config->tls.version_min, 0x0304);
    assert_string_equal(config->tls.client_ca, "/ca.pem");
    assert_string_equal(config->auth.users, "/users");
    assert_string_equal(config->auth.senders, "/senders");
    assert_int_equal(config->auth.mechanisms,
                     1 << CONFIG_MECHANISM_SCRAM_SHA_256_PLUS | 1 << CONFIG_MECHANISM_LOGIN);
    assert_int_equal(config->auth.failure_delay_ms, 0);
    assert_int_equal(config->auth.failures_per_minute, 0);
    assert_int_equal(config->recipient_delimiter, '+');
    assert_int_equal(config->timeouts.inbound_handshake_ms, 100);
    assert_int_equal(config->timeouts.inbound_proxy_ms, 86400000);
    assert_int_equal(config->admission.dry_run, 1 << CONFIG_RULE_EARLY_TALKER | 1 << CONFIG_RULE_AUTH_SENDER);
    assert_true(config->admission.reject_null_mx_sender);
    config_free(config);
}

static void rates_are_taken_over_their_defaults(void **state)
{
    struct config *config =
        load(LISTENER "rate client { connections_per_minute = 2 messages_per_minute = 3\n"
                      "  recipients_per_minute = 4 errors_per_minute = 0 handshakes_per_minute = 6 }\n"
                      "rate network { connections = 1000000 }\n"
                      "rate login { connections = 5 connections_per_minute = 6 errors_per_minute = 7\n"
                      "  messages_per_minute = 8 recipients_per_minute = 9 }\n");
    static const struct config_rate client = {100, 2, 3, 4, 0, 6};
    static const struct config_rate network = {.connections = 1000000};
    static const struct config_rate login = {5, 6, 8, 9, 7, 0};
    assert_memory_equal(&config->rates[CONFIG_RATE_CLIENT], &client, sizeof(client));
    assert_memory_equal(&config->rates[CONFIG_RATE_NETWORK], &network, sizeof(network));
    assert_memory_equal(&config->rates[CONFIG_RATE_LOGIN], &login, sizeof(login));
    config_free(config);
}

static void rules_have_the_names_of_the_log(void **state)
{
    static const char *const names[CONFIG_RULE_COUNT] = {"early-talker",  "client-rate",    "network-rate",
                                                         "login-rate",    "recipient-list", "auth-sender",
                                                         "null-mx-sender"};
    for (int rule = 0; rule < CONFIG_RULE_COUNT; rule++) {
        char text[256];
        snprintf(text, sizeof(text), LISTENER "admission { dry_run = %s }\n", names[rule]);
        struct config *config = load(text);
        assert_string_equal(config_rule_name((enum config_rule)rule), names[rule]);
        assert_int_equal(config->admission.dry_run, 1 << rule);
        config_free(config);
    }
}

static void assert_list(const struct config *config, const char *domain, const char *file)
{
    ptrdiff_t index = config_recipients_find(config, domain, strlen(domain));
    if (file == NULL)
        assert_int_equal(index, -1);
    else
        assert_string_equal(config->recipients[index].file, file);
}

static void the_nearest_recipient_list_is_found(void **state)
{
    struct config *config =
        load(LISTENER "relay { domains = {\".example.com\", example.net, a.example.org} }\n"
                      "recipients \"Example.COM\" { file = /exact }\n"
                      "recipients \".example.com\" { file = /parent }\n"
                      "recipients \".deep.example.com\" { file = /deep }\n"
                      "recipients \".example.org\" { file = /above }\n");
    assert_int_equal(config->recipients_count, 4);
    assert_string_equal(config->recipients[0].domain, "example.com");
    assert_list(config, "EXAMPLE.com", "/exact");
    assert_list(config, "a.example.com", "/parent");
    assert_list(config, "deep.example.com", "/deep");
    assert_list(config, "a.b.deep.example.com", "/deep");
    assert_list(config, "a.example.org", "/above");
    assert_list(config, "example.net", NULL);
    assert_list(config, "com", NULL);
    assert_list(config, "", NULL);
    config_free(config);

    config = load(LISTENER);
    assert_list(config, "example.com", NULL);
    config_free(config);
}

/* The same domain in the file, at RCPT and in the table, however it is written. */
static void domains_beyond_ascii_are_kept_as_their_keys(void **state)
{
    struct config *config = load(LISTENER "relay { domains = {\"B\xc3\x9c"
                                          "CHER.example\"} }\n"
                                          "recipients \".b\xc3\xbc"
                                          "cher.example\" { file = /r }\n"
                                          "route \"b\xc3\xbc"
                                          "cher.example\" { to = smtp://10.0.0.1 }\n");
    static const char key[] = "xn--bcher-kva.example";
    assert_true(config_relay_domain(config, key, strlen(key)));
    struct routes routes = {.config = config};
    struct route_found found;
    assert_true(routes_find(&routes, key, strlen(key), "", 0, &found));
    assert_int_equal(found.destination->index, 0);
    assert_string_equal(config->recipients[0].domain, ".xn--bcher-kva.example");
    assert_list(config, key, "/r");
    config_free(config);
}

static void client_certificates_are_known_by_name_or_fingerprint(void **state)
{
    uint8_t first[32];
    uint8_t second[32];
    uint8_t other[32] = {0};
    for (size_t index = 0; index < 32; index++) {
        first[index] = (uint8_t)(index * 8 + 1);
        second[index] = (uint8_t)(255 - index);
    }
    struct config *config = load(
        FILES
        "listener a { bind = 127.0.0.1:25 tls = starttls client_certificate = ask }\n"
        "relay { client_certificates = {\"Client.example.com\",\n"
        "\"sha256:01:09:11:19:21:29:31:39:41:49:51:59:61:69:71:79:81:89:91:99:A1:a9:b1:b9:c1:c9:d1:d9:e1:"
        "e9:f1:f9\",\n"
        "\"SHA256:fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0\"} }\n");
    assert_true(config_relay_allows_certificate(config, "client.EXAMPLE.com", other));
    assert_true(config_relay_allows_certificate(config, "", first));
    assert_true(config_relay_allows_certificate(config, "nobody.example.com", second));
    assert_false(config_relay_allows_certificate(config, "", other));
    assert_false(config_relay_allows_certificate(config, "a.client.example.com", other));
    assert_false(config_relay_allows_certificate(config, "lient.example.com", other));
    first[31] ^= 1;
    assert_false(config_relay_allows_certificate(config, "", first));
    config_free(config);

    config = load("listener a { bind = 127.0.0.1:25 proxy_protocol = true proxy_networks = 10.0.0.1 }\n"
                  "relay { client_certificates = a.example.com }\n");
    assert_true(config_relay_allows_certificate(config, "a.example.com", other));
    config_free(config);

    config = load(LISTENER);
    assert_false(config_relay_allows_certificate(config, "", other));
    assert_false(config_relay_allows_certificate(config, "client.example.com", second));
    config_free(config);
}

static void all_of_it_may_change_while_running(void **state)
{
    struct config_error error;
    struct config *old_config = load(LISTENER);
    struct config *new_config =
        load(FILES "listener smtp { bind = 127.0.0.1:2525 tls = implicit auth = required xclient = true\n"
                   "  proxy_networks = 10.0.0.1 client_certificate = require greeting_delay = 1s }\n"
                   "relay { domains = example.com client_certificates = a.example.com }\n"
                   "recipients example.com { file = /r }\nrate client { connections = 1 }\n"
                   "admission { dry_run = client-rate }\nrecipient_delimiter = \"-\"\n");
    assert_int_equal(config_reload_check(old_config, new_config, &error), 0);
    assert_int_equal(config_reload_check(new_config, old_config, &error), 0);
    config_free(old_config);
    config_free(new_config);
}

static void write_file(const char *folder, const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
}

/* Each file in its turn is missing, and then there. */
static void files_are_looked_for_on_the_machine(void **state)
{
    static const struct {
        const char *name;
        const char *error; /* after the file's name and before its path */
    } files[] = {
        {"c1", ":2: tls.certificate"},        {"c2", ":3: tls.certificate"},   {"k1", ":4: tls.private_key"},
        {"k2", ":4: tls.private_key"},        {"ca", ":5: tls.client_ca"},     {"users", ":6: auth.users"},
        {"senders", ":7: auth.auth_senders"}, {"list", ":9: recipients.file"},
    };
    char folder[] = "/tmp/sluice-files-XXXXXX";
    assert_non_null(mkdtemp(folder));
    setenv("SLUICE_TEST_FILES", folder, 1);
    struct config *config =
        load(LISTENER "tls { certificate = {\"${SLUICE_TEST_FILES}/c1\",\n"
                      "\"${SLUICE_TEST_FILES}/c2\"}\n"
                      "private_key = {\"${SLUICE_TEST_FILES}/k1\", \"${SLUICE_TEST_FILES}/k2\"}\n"
                      "client_ca = \"${SLUICE_TEST_FILES}/ca\" }\n"
                      "auth { users = \"${SLUICE_TEST_FILES}/users\"\n"
                      "auth_senders = \"${SLUICE_TEST_FILES}/senders\" }\n"
                      "relay { domains = example.com }\n"
                      "recipients example.com { file = \"${SLUICE_TEST_FILES}/list\" }\n");
    struct config_error error;
    for (size_t index = 0; index < sizeof(files) / sizeof(files[0]); index++) {
        char expected[256];
        snprintf(
            expected, sizeof(expected),
            "test.conf%s \"%s/%s\" cannot be read: No such file or directory; would be right: a file that "
            "is there and may be read",
            files[index].error, folder, files[index].name);
        assert_int_equal(config_check_machine(config, &error), -EINVAL);
        assert_string_equal(error.text, expected);
        write_file(folder, files[index].name);
    }
    assert_int_equal(config_check_machine(config, &error), 0);

    for (size_t index = 0; index < sizeof(files) / sizeof(files[0]); index++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", folder, files[index].name);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(index % 2 == 0 ? mkdir(path, 0700) : mkfifo(path, 0600), 0);
        assert_int_equal(config_check_machine(config, &error), -EINVAL);
        assert_non_null(strstr(error.text, index % 2 == 0 ? ": Is a directory;" : ": Invalid argument;"));
        assert_int_equal(remove(path), 0);
        write_file(folder, files[index].name);
        assert_int_equal(config_check_machine(config, &error), 0);
    }
    for (size_t index = 0; index < sizeof(files) / sizeof(files[0]); index++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", folder, files[index].name);
        unlink(path);
    }
    rmdir(folder);
    config_free(config);
}

/* The next literal block behind `cursor`, cut out of the page; NULL: there is none. */
static char *next_example(char **cursor)
{
    char *begin = strstr(*cursor, "\n.Bd -literal");
    if (begin == NULL)
        return NULL;
    begin = strchr(begin + 1, '\n') + 1;
    char *end = strstr(begin, "\n.Ed");
    assert_non_null(end);
    end[1] = '\0';
    *cursor = end + 2;
    return begin;
}

static void the_examples_of_the_manual_are_right(void **state)
{
    static char page[1 << 17];
    FILE *file = manual != NULL ? fopen(manual, "r") : NULL;
    if (file == NULL)
        fail_msg("usage: test-base-config_admission SLUICE.CONF.5");
    page[fread(page, 1, sizeof(page) - 1, file)] = '\0';
    fclose(file);

    char *cursor = strstr(page, "\n.Sh EXAMPLES");
    assert_non_null(cursor);
    struct config *servers = load(next_example(&cursor));
    assert_list(servers, "example.com", "/etc/sluice/recipients");
    assert_int_equal(servers->listeners[0].auth, CONFIG_AUTH_OFF);
    config_free(servers);

    struct config *world = load(next_example(&cursor));
    assert_int_equal(world->destination_count, 3);
    assert_string_equal(world->site_limits[1].pattern, ".partner.example");
    assert_int_equal(world->dns.server_count, 1);
    config_free(world);

    struct config *applications = load(next_example(&cursor));
    assert_int_equal(applications->listener_count, 2);
    for (size_t index = 0; index < 2; index++)
        assert_int_equal(applications->listeners[index].auth, CONFIG_AUTH_REQUIRED);
    config_free(applications);
    assert_null(next_example(&cursor));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_of_a_listener_is_taken),
        cmocka_unit_test(submission_asks_for_a_login_unsaid),
        cmocka_unit_test(certificates_and_logins_are_taken),
        cmocka_unit_test(rates_are_taken_over_their_defaults),
        cmocka_unit_test(rules_have_the_names_of_the_log),
        cmocka_unit_test(the_nearest_recipient_list_is_found),
        cmocka_unit_test(domains_beyond_ascii_are_kept_as_their_keys),
        cmocka_unit_test(client_certificates_are_known_by_name_or_fingerprint),
        cmocka_unit_test(all_of_it_may_change_while_running),
        cmocka_unit_test(files_are_looked_for_on_the_machine),
        cmocka_unit_test(the_examples_of_the_manual_are_right),
    };
    manual = argc == 2 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
