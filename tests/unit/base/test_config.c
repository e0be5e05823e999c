#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config_cases.h"
#include "gateway/base/routes.h"

/* What right files mean. What wrong ones are told is in test_config_errors.c. */

static const char *deployed_file;

static struct sockaddr_storage ip(const char *text)
{
    struct sockaddr_storage address;
    assert_int_equal(parse_ip(text, 25, &address), 0);
    return address;
}

static bool allows(const struct config *config, const char *client)
{
    struct sockaddr_storage address = ip(client);
    return config_relay_allows_client(config, (struct sockaddr *)&address);
}

static void assert_address(const struct sockaddr_storage *address, const char *expected)
{
    char text[ADDRESS_TEXT_SIZE];
    address_format((const struct sockaddr *)address, text);
    assert_string_equal(text, expected);
}

static void assert_admission_defaults(const struct config *config)
{
    static const struct config_rate no_rate;
    static const struct config_rate client_rate = {.connections = 100, .errors_per_minute = 100};
    const struct config_listener *listener = &config->listeners[0];
    assert_int_equal(listener->tls, CONFIG_TLS_OFF);
    assert_int_equal(listener->auth, CONFIG_AUTH_OFF);
    assert_int_equal(listener->client_certificate, CONFIG_CERTIFICATE_OFF);
    assert_false(listener->auth_without_tls || listener->submission || listener->proxy_protocol);
    assert_false(listener->xclient || listener->normalise_newlines);
    assert_int_equal(listener->proxy_network_count, 0);
    assert_int_equal(listener->extensions_off, 0);
    assert_int_equal(listener->greeting_delay_ms, 0);

    assert_int_equal(config->tls.certificate_count, 0);
    assert_int_equal(config->tls.version_min, 0x0303);
    assert_null(config->tls.client_ca);
    assert_null(config->auth.users);
    assert_null(config->auth.senders);
    assert_int_equal(config->auth.mechanisms, (1 << CONFIG_MECHANISM_COUNT) - 1);
    assert_int_equal(config->auth.failure_delay_ms, 2000);
    assert_int_equal(config->auth.failures_per_minute, 10);
    assert_int_equal(config->recipients_count, 0);
    assert_int_equal(config->recipient_delimiter, 0);
    assert_int_equal(config->admission.dry_run, 0);
    assert_false(config->admission.reject_null_mx_sender);
    assert_memory_equal(&config->rates[CONFIG_RATE_CLIENT], &client_rate, sizeof(client_rate));
    assert_memory_equal(&config->rates[CONFIG_RATE_NETWORK], &no_rate, sizeof(no_rate));
    assert_memory_equal(&config->rates[CONFIG_RATE_LOGIN], &no_rate, sizeof(no_rate));
}

static void assert_outbound_defaults(const struct config *config)
{
    char postmaster[300] = "postmaster@";
    assert_int_equal(config->site_limits_count, 1);
    const struct config_limits *limits = config_limits_find(config, "example.com", NULL, 0);
    assert_ptr_equal(limits, &config->site_limits[0]);
    assert_int_equal(limits->connections, 20);
    assert_int_equal(limits->messages_per_connection, 100);
    assert_int_equal(limits->recipients_per_message, 100);
    assert_int_equal(limits->connections_per_host | limits->connections_per_second, 0);
    assert_int_equal(limits->messages_per_second | limits->messages_per_minute, 0);
    assert_int_equal(limits->messages_per_hour | limits->recipients_per_connection, 0);
    assert_true(limits->tls == CONFIG_SECURITY_UNSET || limits->tls == CONFIG_SECURITY_MAY); /* the same */

    assert_null(config->route_file);
    assert_null(config->outbound.passwords);
    assert_null(config->outbound.ca_file);
    assert_null(config->outbound.certificate);
    assert_null(config->outbound.private_key);
    assert_null(config->outbound.classes);
    assert_false(config->outbound.convert_8bit);
    assert_int_equal(config->outbound.version_min, 0x0303);
    assert_string_equal(config->notices.postmaster, strcat(postmaster, config->hostname));
    assert_int_equal(config->notices.per_minute, 600);
    assert_int_equal(config->notices.per_address_per_minute, 10);
    assert_int_equal(config->notices.content_max_bytes, 50 << 10);
    assert_int_equal(config->retry.delay_warning_ms, 14400000);
    assert_int_equal(config->dns.server_count, 0);
    assert_false(config->dns.trust_ad);
}

static const struct destination nowhere;

/* Where mail to this domain from nobody goes by the configuration alone. */
static const struct destination *destination_of(const struct config *config, const char *domain)
{
    struct routes routes = {.config = config};
    struct route_found found;
    if (!routes_find(&routes, domain, strlen(domain), "", 0, &found))
        return &nowhere;
    assert_non_null(found.destination);
    return found.destination;
}

static void assert_defaults(const struct config *config)
{
    static const uint64_t schedule_ms[] = {60000, 300000, 900000, 3600000, 14400000};
    char hostname[256];
    gethostname(hostname, sizeof(hostname));
    assert_string_equal(config->hostname, hostname);
    assert_string_equal(config->data_dir, "/var/lib/sluice");
    assert_int_equal(config->workers, 0);

    assert_int_equal(config->listener_count, 1);
    assert_string_equal(config->listeners[0].name, "smtp");
    assert_int_equal(config->listeners[0].max_message_size_bytes, 50 << 20);
    assert_int_equal(config->listeners[0].max_recipients, 1000);

    assert_admission_defaults(config);
    assert_outbound_defaults(config);

    assert_true(allows(config, "127.1.2.3"));
    assert_true(allows(config, "::1"));
    assert_false(allows(config, "128.0.0.1"));
    assert_false(allows(config, "192.168.0.1"));
    assert_false(config_relay_domain(config, "example.com", 11));

    assert_int_equal(config->retry.schedule_count, 5);
    assert_memory_equal(config->retry.schedule_ms, schedule_ms, sizeof(schedule_ms));
    assert_int_equal(config->retry.max_age_ms, 432000000);
    assert_int_equal(config->retry.jitter_percent, 10);
    assert_int_equal(config->limits.memory_bytes, 1 << 30);
    assert_int_equal(config->limits.min_free_disk_percent, 5);
    assert_int_equal(config->limits.min_free_disk_bytes, 0);
    assert_int_equal(config->limits.connections, 10000);
    assert_int_equal(config->log.format, LOG_TEXT);
    assert_int_equal(config->log.level, LOG_INFO);
    assert_string_equal(config->log.destination, "stderr");
    assert_int_equal(config->queue.segment_size_bytes, 64 << 20);
    assert_int_equal(config->queue.commit_delay_us, 2000);
    assert_int_equal(config->timeouts.inbound_command_ms, 300000);
    assert_int_equal(config->timeouts.inbound_data_ms, 300000);
    assert_int_equal(config->timeouts.inbound_handshake_ms, 30000);
    assert_int_equal(config->timeouts.inbound_proxy_ms, 5000);
    assert_int_equal(config->timeouts.outbound_connect_ms, 30000);
    assert_int_equal(config->timeouts.outbound_greeting_ms, 300000);
    assert_int_equal(config->timeouts.outbound_mail_ms, 300000);
    assert_int_equal(config->timeouts.outbound_rcpt_ms, 300000);
    assert_int_equal(config->timeouts.outbound_data_ms, 120000);
    assert_int_equal(config->timeouts.outbound_block_ms, 180000);
    assert_int_equal(config->timeouts.outbound_end_ms, 600000);
    assert_int_equal(config->timeouts.outbound_idle_ms, 5000);
    assert_int_equal(config->timeouts.outbound_quit_ms, 5000);
}

static void what_is_left_out_has_its_default(void **state)
{
    struct config *config = load(LISTENER);
    assert_defaults(config);
    assert_string_equal(config->user, "");
    assert_int_equal(config->destination_count, 0);
    assert_ptr_equal(destination_of(config, "example.com"), &nowhere);
    config_free(config);
    config_free(NULL);
}

static void the_deployed_file_holds_the_defaults(void **state)
{
    struct config *config;
    struct config_error error;
    if (deployed_file == NULL)
        fail_msg("usage: test-base-config DEPLOYED_FILE");
    if (config_load(deployed_file, &config, &error) < 0)
        fail_msg("%s", error.text);
    assert_defaults(config);
    assert_string_equal(config->user, "sluice");
    assert_int_equal(config->listeners[0].bind_count, 2);
    assert_address(&config->listeners[0].binds[0], "0.0.0.0:25");
    assert_address(&config->listeners[0].binds[1], "[::]:25");
    assert_int_equal(config->destination_count, 1);
    assert_int_equal(destination_of(config, "example.com")->kind, DESTINATION_MX);
    config_free(config);
}

/* The deployed file shows each default in a comment; taken out of the comment it must be accepted and change
 * nothing. What names a domain or a file in /etc is an example instead. */
static void the_deployed_file_shows_the_defaults(void **state)
{
    static char text[1 << 16];
    FILE *file = fopen(deployed_file, "r");
    assert_non_null(file);
    char line[512];
    size_t used = 0;
    size_t uncommented = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        char *comment = strstr(line, "    # ");
        if (comment == line && strchr(line, '=') != NULL && strstr(line, "example.com") == NULL &&
            strstr(line, "/etc/sluice/") == NULL && strstr(line, "/etc/resolv.conf") == NULL) {
            line[4] = ' ';
            uncommented++;
        }
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s", line);
    }
    fclose(file);
    assert_int_equal(uncommented, 67);
    struct config *config = load(text);
    assert_defaults(config);
    config_free(config);
}

static void the_shipped_limits_are_accepted(void **state)
{
    char text[TEXT_MAX];
    const char *slash = strrchr(deployed_file, '/');
    assert_non_null(slash);
    size_t folder_size = (size_t)(slash - deployed_file);
    assert_true(folder_size < sizeof(text) / 2);
    int used = snprintf(text, sizeof(text), "%sinclude(\"", LISTENER);
    memcpy(text + used, deployed_file, folder_size);
    strcpy(text + (size_t)used + folder_size, "/sites.conf\")\n");
    struct config *config = load(text);
    assert_true(config->site_limits_count > 5);
    config_free(config);
}

static void every_key_is_taken(void **state)
{
    struct config *config =
        load("hostname = relay.example.com  // without quotes\n"
             "data_dir = '/tmp/x y'  workers = 4  user = \"nobody\"\n"
             "listener \"a\" {\n"
             "  bind = {\"192.0.2.1:25\", \"[2001:db8::1]:2525\"}  tls = \"off\"  auth = off\n"
             "  max_message_size = 1G max_recipients = 100 }\n"
             "listener \"b\" { bind = 127.0.0.1:26 }\n"
             "retry { schedule = {100ms} max_age = 1s jitter = \"0%\" delay_warning = 0 }\n"
             "route_file = /r\n"
             "outbound { passwords = /p ca_file = /ca certificate = /c private_key = /k\n"
             "  min_version = \"1.0\" classes = /classes convert_8bit = true }\n"
             "notices { postmaster = \"Post.Master+x@example.com\" per_minute = 1\n"
             "  per_address_per_minute = 2 content_max = 0 }\n"
             "dns { servers = {\"127.0.0.1:5353\", \"2001:db8::53\", \"[2001:db8::53]:54\"}\n"
             "  trust_ad = true }\n"
             "limits { memory = 16M min_free_disk = 2G connections = 1 }\n"
             "log { format = json level = error destination = /tmp/log }\n"
             "timeouts { inbound_command = 100ms inbound_data = 1s outbound_connect = 2s\n"
             "  outbound_greeting = 3s outbound_mail = 4s outbound_rcpt = 5s outbound_data = 6s\n"
             "  outbound_block = 7s outbound_end = 8s outbound_idle = 0 outbound_quit = 1d }\n"
             "queue { segment_size = 1M commit_delay = 50us }\n");
    assert_string_equal(config->hostname, "relay.example.com");
    assert_string_equal(config->data_dir, "/tmp/x y");
    assert_int_equal(config->workers, 4);
    assert_string_equal(config->user, "nobody");
    assert_int_equal(config->listener_count, 2);
    assert_int_equal(config->listeners[0].bind_count, 2);
    assert_address(&config->listeners[0].binds[1], "[2001:db8::1]:2525");
    assert_int_equal(config->listeners[0].max_message_size_bytes, 1 << 30);
    assert_int_equal(config->listeners[0].max_recipients, 100);
    assert_string_equal(config->listeners[1].name, "b");
    assert_int_equal(config->listeners[1].max_recipients, 1000);
    assert_int_equal(config->retry.schedule_count, 1);
    assert_int_equal(config->retry.schedule_ms[0], 100);
    assert_int_equal(config->retry.max_age_ms, 1000);
    assert_int_equal(config->retry.jitter_percent, 0);
    assert_int_equal(config->retry.delay_warning_ms, 0);
    assert_string_equal(config->route_file, "/r");
    assert_string_equal(config->outbound.passwords, "/p");
    assert_string_equal(config->outbound.ca_file, "/ca");
    assert_string_equal(config->outbound.certificate, "/c");
    assert_string_equal(config->outbound.private_key, "/k");
    assert_string_equal(config->outbound.classes, "/classes");
    assert_true(config->outbound.convert_8bit);
    assert_int_equal(config->outbound.version_min, 0x0301);
    assert_string_equal(config->notices.postmaster, "Post.Master+x@example.com");
    assert_int_equal(config->notices.per_minute, 1);
    assert_int_equal(config->notices.per_address_per_minute, 2);
    assert_int_equal(config->notices.content_max_bytes, 0);
    assert_int_equal(config->dns.server_count, 3);
    assert_address(&config->dns.servers[0], "127.0.0.1:5353");
    assert_address(&config->dns.servers[1], "[2001:db8::53]:53");
    assert_address(&config->dns.servers[2], "[2001:db8::53]:54");
    assert_true(config->dns.trust_ad);
    assert_int_equal(config->limits.memory_bytes, 16 << 20);
    assert_int_equal(config->limits.min_free_disk_percent, 0);
    assert_int_equal(config->limits.min_free_disk_bytes, 2ULL << 30);
    assert_int_equal(config->limits.connections, 1);
    assert_int_equal(config->log.format, LOG_JSON);
    assert_int_equal(config->log.level, LOG_ERROR);
    assert_string_equal(config->log.destination, "/tmp/log");
    assert_int_equal(config->timeouts.inbound_command_ms, 100);
    assert_int_equal(config->timeouts.inbound_data_ms, 1000);
    assert_int_equal(config->timeouts.outbound_connect_ms, 2000);
    assert_int_equal(config->timeouts.outbound_greeting_ms, 3000);
    assert_int_equal(config->timeouts.outbound_mail_ms, 4000);
    assert_int_equal(config->timeouts.outbound_rcpt_ms, 5000);
    assert_int_equal(config->timeouts.outbound_data_ms, 6000);
    assert_int_equal(config->timeouts.outbound_block_ms, 7000);
    assert_int_equal(config->timeouts.outbound_end_ms, 8000);
    assert_int_equal(config->timeouts.outbound_idle_ms, 0);
    assert_int_equal(config->timeouts.outbound_quit_ms, 86400000);
    assert_int_equal(config->queue.segment_size_bytes, 1 << 20);
    assert_int_equal(config->queue.commit_delay_us, 50);
    config_free(config);
}

/* A long domain must neither overrun nor be mistaken for another. */
static void domains_beyond_the_limit_match_nothing(void **state)
{
    struct config *config = load(LISTENER "relay { domains = {\".com\"} }\n");
    char domain[400];
    memset(domain, 'a', sizeof(domain));
    for (size_t index = 1; index < sizeof(domain); index += 2)
        domain[index] = '.';
    memcpy(domain + 255 - 4, ".com", 4);
    assert_true(config_relay_domain(config, domain, 255));
    memcpy(domain + 256 - 4, ".com", 4);
    assert_false(config_relay_domain(config, domain, 256));
    assert_false(config_relay_domain(config, domain, sizeof(domain)));
    assert_false(config_relay_domain(config, "", 0));
    config_free(config);
}

static void relay_lists_replace_the_defaults(void **state)
{
    struct config *config = load(LISTENER "relay { networks = {\"10.0.0.0/8\", \"[2001:db8::]/32\"}\n"
                                          "domains = {\"example.com\", \".Example.NET\"} }\n");
    assert_true(allows(config, "10.255.0.1"));
    assert_true(allows(config, "::ffff:10.1.1.1"));
    assert_true(allows(config, "2001:db8:1::1"));
    assert_false(allows(config, "127.0.0.1"));
    assert_true(config_relay_domain(config, "EXAMPLE.com", 11));
    assert_false(config_relay_domain(config, "a.example.com", 13));
    assert_true(config_relay_domain(config, "example.net", 11));
    assert_true(config_relay_domain(config, "a.b.EXAMPLE.net", 15));
    assert_false(config_relay_domain(config, "anexample.net", 13));
    config_free(config);

    config = load(LISTENER "relay { networks = {} }\n");
    assert_false(allows(config, "127.0.0.1"));
    assert_false(allows(config, "::1"));
    config_free(config);
}

static void many_routes_and_domains_are_found(void **state)
{
    enum { COUNT = 3000 };
    static char text[COUNT * 128];
    size_t used = (size_t)snprintf(text, sizeof(text), "%srelay { domains = {", LISTENER);
    for (int index = 0; index < COUNT; index++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "\"d%d.example\",\n", index);
    used += (size_t)snprintf(text + used, sizeof(text) - used, "} }\n");
    for (int index = 0; index < COUNT; index++)
        used += (size_t)snprintf(text + used, sizeof(text) - used,
                                 "route \".r%d.example\" { to = smtp://10.0.0.%d }\n", index, index % 200);
    struct config *config = load(text);
    assert_int_equal(config->destination_count, 200);
    for (int index = 0; index < COUNT; index++) {
        char domain[64];
        snprintf(domain, sizeof(domain), "mail.r%d.example", index);
        assert_int_equal(destination_of(config, domain)->index, index % 200);
        int size = snprintf(domain, sizeof(domain), "d%d.example", index);
        assert_true(config_relay_domain(config, domain, (size_t)size));
        assert_ptr_equal(destination_of(config, domain), &nowhere);
    }
    config_free(config);
}

static void sections_may_come_in_pieces(void **state)
{
    struct config *config =
        load(LISTENER "log { level = debug }\nretry { max_age = 1d }\nlog { format = json }\n");
    assert_int_equal(config->log.level, LOG_DEBUG);
    assert_int_equal(config->log.format, LOG_JSON);
    config_free(config);
}

static void the_environment_is_read_within_quotes(void **state)
{
    setenv("SLUICE_TEST_PORT", "2527", 1);
    struct config *config = load("listener \"a\" { bind = \"127.0.0.1:${SLUICE_TEST_PORT}\" }\n");
    assert_address(&config->listeners[0].binds[0], "127.0.0.1:2527");
    config_free(config);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void files_include_others_beside_them(void **state)
{
    char folder[] = "/tmp/sluice-config-XXXXXX";
    char path[128];
    char included[128];
    char expected[256];
    struct config *config;
    struct config_error error;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/main.conf", folder);
    snprintf(included, sizeof(included), "%s/routes.conf", folder);

    write_file(included, "# routes\nroute \"*\" { to = smtp://10.0.0.1 }\n");
    write_file(path, "# main\n" LISTENER "include(\"routes.conf\")\nlog { level = debug }\n");
    assert_int_equal(config_load(path, &config, &error), 0);
    assert_int_equal(config->destination_count, 1);
    assert_int_equal(config->log.level, LOG_DEBUG);
    config_free(config);

    write_file(included, "# routes\n\nroute \"*\" { to = smtp://10.0.0.1:0 }\n");
    assert_int_equal(config_load(path, &config, &error), -EINVAL);
    snprintf(expected, sizeof(expected), "%s:3: route.to \"smtp://10.0.0.1:0\" ", included);
    assert_memory_equal(error.text, expected, strlen(expected));

    write_file(included, "# fine\n# so far\n");
    write_file(path, "# main\n" LISTENER "include(\"routes.conf\")\n\nlog { level = x }\n");
    assert_int_equal(config_load(path, &config, &error), -EINVAL);
    snprintf(expected, sizeof(expected), "%s:5: log.level \"x\" ", path);
    assert_memory_equal(error.text, expected, strlen(expected));

    write_file(included, "include(\"main.conf\")\n");
    write_file(path, "include(\"routes.conf\")\n");
    assert_int_equal(config_load(path, &config, &error), -EINVAL);
    assert_non_null(strstr(error.text, ".conf:1: files include each other more than 8 deep"));

    write_file(path, "\n\ninclude(\"missing.conf\")\n");
    assert_int_equal(config_load(path, &config, &error), -EINVAL);
    snprintf(expected, sizeof(expected),
             "%s:3: cannot include \"%s/missing.conf\": No such file or directory", path, folder);
    assert_string_equal(error.text, expected);

    unlink(path);
    unlink(included);
    assert_int_equal(config_load(path, &config, &error), -ENOENT);
    snprintf(expected, sizeof(expected), "%s: No such file or directory", path);
    assert_string_equal(error.text, expected);
    rmdir(folder);
}

/* libConfuse's scanner is global: what a bad file leaves in it must not reach the next one. */
static void a_bad_file_does_not_spoil_the_next(void **state)
{
    static const char *const bad[] = {"user = \"x",     "user = 'x",      "/* x",      "log { level = ",
                                      "user = \"\\9\"", "user = \"${x\"", "nosuch = 1"};
    for (size_t index = 0; index < sizeof(bad) / sizeof(bad[0]); index++) {
        struct config *config;
        struct config_error error;
        assert_int_equal(config_load_text("bad.conf", bad[index], &config, &error), -EINVAL);
        config_free(load(LISTENER));
    }
}

static int check_reload(const char *old_text, const char *new_text, struct config_error *error)
{
    struct config *old_config = load(old_text);
    struct config *new_config = load(new_text);
    int result = config_reload_check(old_config, new_config, error);
    config_free(old_config);
    config_free(new_config);
    return result;
}

static void only_a_restart_changes_some_values(void **state)
{
    static const struct {
        const char *text;
        const char *expected;
    } cases[] = {
        {LISTENER "\ndata_dir = /x\n",
         "test.conf:3: data_dir cannot change while running; would be right: the old value, or a restart"},
        {"# x\nworkers = 2\n" LISTENER,
         "test.conf:2: workers cannot change while running; would be right: the old value, or a restart"},
        {LISTENER "user = nobody\n",
         "test.conf:2: user cannot change while running; would be right: the old value, or a restart"},
        {LISTENER "queue {\nsegment_size = 1M }\n", "test.conf:3: queue.segment_size cannot change while "
                                                    "running; would be right: the old value, or a restart"},
        {"\nlistener \"smtp\" { bind = 127.0.0.1:2526 }\n",
         "test.conf:2: the addresses of listener \"smtp\" cannot change while running; would be right: the "
         "old addresses "
         "in their old order, or a restart"},
        {LISTENER "listener \"b\" { bind = 127.0.0.1:2526 }\n",
         "test.conf:2: the addresses of listener \"b\" cannot change while running; would be right: the old "
         "addresses in "
         "their old order, or a restart"},
    };
    struct config_error error;
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        assert_int_equal(check_reload(LISTENER, cases[index].text, &error), -EINVAL);
        assert_string_equal(error.text, cases[index].expected);
    }
    assert_int_equal(check_reload(cases[1].text, LISTENER, &error), -EINVAL);
    assert_string_equal(
        error.text,
        "test.conf: workers cannot change while running; would be right: the old value, or a restart");
    assert_int_equal(check_reload(cases[5].text, LISTENER, &error), -EINVAL);
    assert_string_equal(error.text,
                        "test.conf: listener \"b\" cannot go away while running; would be right: the old "
                        "listeners, or a restart");
    assert_int_equal(
        check_reload(LISTENER,
                     "listener \"renamed\" { bind = 127.0.0.1:2525 max_recipients = 500 }\n"
                     "hostname = other.example\nroute \"*\" { to = smtp://10.0.0.1 }\n"
                     "site \"default\" { connections = 3 } route_file = /r dns { trust_ad = true }\n"
                     "outbound { ca_file = /ca } notices { per_minute = 1 } retry { delay_warning = 1h }\n"
                     "log { level = debug } limits { connections = 5 } queue { commit_delay = 0 }\n",
                     &error),
        0);
}

static void the_library_tells_its_version(void **state)
{
    assert_true(config_library_version()[0] >= '0' && config_library_version()[0] <= '9');
}

static void the_machine_is_checked_apart(void **state)
{
    struct config_error error;
    struct config *config = load(LISTENER "\nuser = \"no-such-user-here\"\n");
    assert_int_equal(config_check_machine(config, &error), -EINVAL);
    assert_string_equal(error.text,
                        "test.conf:3: user \"no-such-user-here\" does not exist; would be right: the name of "
                        "a user, or \"\" to stay who we are");
    config_free(config);

    config = load(LISTENER "log { destination = /nonexistent/log }\n");
    assert_int_equal(config_check_machine(config, &error), -EINVAL);
    assert_string_equal(
        error.text, "test.conf:2: log.destination \"/nonexistent/log\" is in no folder; would be right: a "
                    "file in a folder that exists");
    config_free(config);

    config = load(LISTENER "\nroute_file = /nonexistent/routes\n");
    assert_int_equal(config_check_machine(config, &error), -EINVAL);
    assert_string_equal(error.text,
                        "test.conf:3: route_file \"/nonexistent/routes\" cannot be read: No such file or "
                        "directory; would be right: a file that is there and may be read");
    config_free(config);

    config = load(LISTENER "user = root log { destination = /sluice.log }\n");
    assert_int_equal(config_check_machine(config, &error), 0);
    config_free(config);
}

static void passwords_are_nobody_elses_business(void **state)
{
    static const mode_t open_modes[] = {0640, 0604, 0620, 0601};
    char path[] = "/tmp/sluice-passwords-XXXXXX";
    char text[256];
    char expected[512];
    struct config_error error;
    int file = mkstemp(path);
    assert_true(file >= 0);
    snprintf(text, sizeof(text), LISTENER "outbound {\n passwords = \"%s\"\n}\n", path);
    struct config *config = load(text);
    assert_int_equal(config_check_machine(config, &error), 0);
    for (size_t index = 0; index < sizeof(open_modes) / sizeof(open_modes[0]); index++) {
        assert_int_equal(fchmod(file, open_modes[index]), 0);
        assert_int_equal(config_check_machine(config, &error), -EINVAL);
        snprintf(
            expected, sizeof(expected),
            "test.conf:3: outbound.passwords \"%s\" is open to others than its owner (mode %03o); would be "
            "right: chmod 600",
            path, (unsigned)open_modes[index]);
        assert_string_equal(error.text, expected);
    }
    assert_int_equal(fchmod(file, 0400), 0);
    assert_int_equal(config_check_machine(config, &error), 0);
    config_free(config);
    close(file);
    unlink(path);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(the_deployed_file_holds_the_defaults),
        cmocka_unit_test(the_deployed_file_shows_the_defaults),
        cmocka_unit_test(the_shipped_limits_are_accepted),
        cmocka_unit_test(every_key_is_taken),
        cmocka_unit_test(domains_beyond_the_limit_match_nothing),
        cmocka_unit_test(relay_lists_replace_the_defaults),
        cmocka_unit_test(many_routes_and_domains_are_found),
        cmocka_unit_test(sections_may_come_in_pieces),
        cmocka_unit_test(the_environment_is_read_within_quotes),
        cmocka_unit_test(files_include_others_beside_them),
        cmocka_unit_test(a_bad_file_does_not_spoil_the_next),
        cmocka_unit_test(only_a_restart_changes_some_values),
        cmocka_unit_test(the_machine_is_checked_apart),
        cmocka_unit_test(passwords_are_nobody_elses_business),
        cmocka_unit_test(the_library_tells_its_version),
    };
    deployed_file = argc == 2 ? argv[1] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
