#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config_cases.h"
#include "gateway/base/routes.h"

/* Routes of the configuration and of a file, alone and together. */

static char file_path[] = "/tmp/sluice-routes-XXXXXX";

static struct table *load_file(const char *text)
{
    char error[TABLE_ERROR_SIZE];
    struct table *table;
    FILE *file = fopen(file_path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    if (table_load(file_path, TABLE_PAIRS, &table, error, sizeof(error)) < 0)
        fail_msg("%s", error);
    return table;
}

static struct routes make_routes(const char *config_text, const char *file_text)
{
    char text[TEXT_MAX];
    snprintf(text, sizeof(text), "%s%s", LISTENER, config_text);
    struct routes routes = {.config = load(text)};
    routes.file = file_text != NULL ? load_file(file_text) : NULL;
    return routes;
}

static void free_routes(struct routes *routes)
{
    config_free((struct config *)(uintptr_t)routes->config);
    table_free((struct table *)(uintptr_t)routes->file);
}

/* What stands for the found route: its site's name, or its text in the file; "-" is nowhere. */
static const char *route_of(const struct routes *routes, const char *domain, const char *sender)
{
    static char text[256];
    struct route_found found;
    if (!routes_find(routes, domain, strlen(domain), sender, strlen(sender), &found))
        return "-";
    if (found.destination != NULL) {
        assert_ptr_equal(found.destination, &routes->config->destinations[found.destination->index]);
        return found.destination->name;
    }
    assert_true(found.text_size < sizeof(text));
    memcpy(text, found.text, found.text_size);
    text[found.text_size] = '\0';
    return text;
}

static void the_configuration_alone(void **state)
{
    struct routes routes = make_routes("route \"Example.COM\" { to = \"smtp://10.0.0.1\" }\n"
                                       "route \".example.com\" { to = \"smtp://10.0.0.2\" }\n"
                                       "route \".deep.example.com\" { to = \"smtp://10.0.0.3\" }\n"
                                       "route \".org\" { to = \"smtp://10.0.0.4\" }\n"
                                       "route \"from:example.net\" { to = \"smtp://10.0.0.5\" }\n"
                                       "route \"from:.example.net\" { to = \"smtp://10.0.0.6\" }\n"
                                       "route \"*\" { to = \"smtp://10.0.0.7\" }\n",
                                       NULL);
    assert_string_equal(route_of(&routes, "example.com", ""), "10.0.0.1");
    assert_string_equal(route_of(&routes, "a.example.com", ""), "10.0.0.2");
    assert_string_equal(route_of(&routes, "deep.example.com", ""), "10.0.0.3");
    assert_string_equal(route_of(&routes, "a.b.c.deep.example.com", ""), "10.0.0.3");
    assert_string_equal(route_of(&routes, "notdeep.example.com", ""), "10.0.0.2");
    assert_string_equal(route_of(&routes, "notexample.com", ""), "10.0.0.7");
    assert_string_equal(route_of(&routes, "com", ""), "10.0.0.7");
    assert_string_equal(route_of(&routes, "org", ""), "10.0.0.4");
    assert_string_equal(route_of(&routes, "a.org", ""), "10.0.0.4");
    assert_string_equal(route_of(&routes, "", ""), "10.0.0.7");
    assert_string_equal(route_of(&routes, "*", ""), "10.0.0.7");
    assert_string_equal(route_of(&routes, "[192.0.2.1]", ""), "10.0.0.7");

    /* The recipient's domain goes before the sender's, the sender's before "*". */
    assert_string_equal(route_of(&routes, "a.org", "example.net"), "10.0.0.4");
    assert_string_equal(route_of(&routes, "a.invalid", "example.net"), "10.0.0.5");
    assert_string_equal(route_of(&routes, "a.invalid", "x.example.net"), "10.0.0.6");
    assert_string_equal(route_of(&routes, "a.invalid", "notexample.net"), "10.0.0.7");
    assert_string_equal(route_of(&routes, "example.net", ""), "10.0.0.7");
    assert_string_equal(route_of(&routes, "from:example.net", ""), "10.0.0.7");
    free_routes(&routes);

    routes = make_routes("route \"a.org\" { to = mx }\n", NULL);
    assert_string_equal(route_of(&routes, "b.org", "b.org"), "-");
    assert_string_equal(route_of(&routes, "a.org", ""), "");
    free_routes(&routes);
}

static void the_file_goes_before_the_configuration_at_each_step(void **state)
{
    struct routes routes = make_routes("route \"exact.org\" { to = \"smtp://10.1.0.1\" }\n"
                                       "route \".both.org\" { to = \"smtp://10.1.0.2\" }\n"
                                       "route \".x.deep.org\" { to = \"smtp://10.1.0.3\" }\n"
                                       "route \"from:s.org\" { to = \"smtp://10.1.0.4\" }\n"
                                       "route \"*\" { to = \"smtp://10.1.0.5\" }\n",
                                       "# routes\n"
                                       ".exact.org   smtp://f1\n"
                                       ".Both.ORG    smtp://f2  tls=verify\n"
                                       ".deep.org    smtp://f3\n"
                                       "from:s.org   smtp://f4\n"
                                       "from:t.org   smtp://f5\n");
    assert_string_equal(route_of(&routes, "exact.org", ""), "10.1.0.1");
    assert_string_equal(route_of(&routes, "a.exact.org", ""), "smtp://f1");
    assert_string_equal(route_of(&routes, "a.both.org", ""), "smtp://f2  tls=verify");
    assert_string_equal(route_of(&routes, "a.x.deep.org", ""), "10.1.0.3");
    assert_string_equal(route_of(&routes, "y.deep.org", ""), "smtp://f3");
    assert_string_equal(route_of(&routes, "z.org", "s.org"), "smtp://f4");
    assert_string_equal(route_of(&routes, "z.org", "t.org"), "smtp://f5");
    assert_string_equal(route_of(&routes, "exact.org", "t.org"), "10.1.0.1");
    assert_string_equal(route_of(&routes, "z.org", "z.org"), "10.1.0.5");
    free_routes(&routes);

    routes = make_routes("route \"*\" { to = \"smtp://10.1.0.9\" }\n", "* mx\n");
    assert_string_equal(route_of(&routes, "z.org", ""), "mx");
    free_routes(&routes);
}

static void routes_with_the_same_destination_share_it(void **state)
{
    struct routes routes =
        make_routes("route \"a.org\" { to = {\"smtp://10.0.0.1\", \"smtp://10.0.0.2:2525\"} }\n"
                    "route \"b.org\" { to = \"smtp://10.0.0.1\" }\n"
                    "route \"c.org\" { to = {\"smtp://10.0.0.1:25\", \"smtp://10.0.0.2:2525\"} }\n"
                    "route \"d.org\" { to = \"smtp://10.0.0.1\" tls = verify tls_names = X.org }\n"
                    "route \"e.org\" { weights = {3, 1}\n"
                    "  to = {\"smtp://10.0.0.1\", \"smtp://10.0.0.2:2525\"} }\n"
                    "route \"f.org\" { to = \"error:550 5.1.1 No one\" }\n"
                    "route \"g.org\" { to = \"lmtp:/run/lmtp\" }\n",
                    NULL);
    const struct config *config = routes.config;
    static const uint32_t expected[] = {0, 1, 0, 2, 3, 4, 5};
    assert_int_equal(config->destination_count, 6);
    for (uint32_t index = 0; index < 7; index++) {
        char domain[] = "a.org";
        struct route_found found;
        domain[0] = (char)('a' + index);
        assert_true(routes_find(&routes, domain, 5, "", 0, &found));
        assert_int_equal(found.destination->index, expected[index]);
    }
    const struct destination *destinations = config->destinations;
    assert_string_equal(destinations[0].hosts[1].name, "10.0.0.2");
    assert_int_equal(destinations[0].hosts[1].port, 2525);
    assert_int_equal(destinations[0].hosts[1].weight, 0);
    assert_int_equal(destinations[2].tls, CONFIG_SECURITY_VERIFY);
    assert_string_equal(destinations[2].tls_names[0], "x.org");
    assert_int_equal(destinations[3].hosts[0].weight, 3);
    assert_int_equal(destinations[3].hosts[1].weight, 1);
    assert_int_equal(destinations[4].code, 550);
    assert_string_equal(destinations[4].text, "5.1.1 No one");
    assert_string_equal(destinations[5].name, "/run/lmtp");
    assert_int_equal(destinations[5].hosts[0].addresses[0].ss_family, AF_UNIX);
    free_routes(&routes);
}

static void names_in_the_configuration_are_looked_up(void **state)
{
    struct routes routes = make_routes("route \"*\" { to = \"smtp://LocalHost:2525\" }\n", NULL);
    const struct destination *destination = &routes.config->destinations[0];
    assert_string_equal(destination->name, "localhost:2525");
    assert_true(destination->hosts[0].address_count >= 1);
    for (size_t index = 0; index < destination->hosts[0].address_count; index++) {
        char text[ADDRESS_TEXT_SIZE];
        address_format((const struct sockaddr *)&destination->hosts[0].addresses[index], text);
        assert_true(strcmp(text, "127.0.0.1:2525") == 0 || strcmp(text, "[::1]:2525") == 0);
    }
    free_routes(&routes);
}

static void assert_key(const struct routes *routes, const char *domain, const char *sender, bool has_sender)
{
    char key[ROUTES_KEY_MAX];
    struct routes_key parts;
    size_t size = routes_lane_key(routes, domain, strlen(domain), sender, strlen(sender), key);
    assert_int_equal(size, strlen(domain) + (has_sender ? 1 + strlen(sender) : 0));
    routes_split_key(key, size, &parts);
    assert_int_equal(parts.domain_size, strlen(domain));
    assert_memory_equal(parts.domain, domain, parts.domain_size);
    assert_int_equal(parts.sender_size, has_sender ? strlen(sender) : 0);
    assert_memory_equal(parts.sender, sender, parts.sender_size);
}

static void lanes_are_by_sender_where_the_sender_matters(void **state)
{
    struct routes routes = make_routes("route \"from:.s.org\" { to = mx }\n route \"*\" { to = mx }\n", NULL);
    char long_domain[256];
    assert_key(&routes, "a.org", "s.org", true);
    assert_key(&routes, "a.org", "x.s.org", true);
    assert_key(&routes, "a.org", "t.org", false);
    assert_key(&routes, "a.org", "", false);
    memset(long_domain, 'a', 255);
    long_domain[255] = '\0';
    for (size_t index = 1; index < 255; index += 2)
        long_domain[index] = '.';
    memcpy(long_domain + 255 - 6, ".s.org", 6);
    assert_key(&routes, long_domain, long_domain, true);
    free_routes(&routes);

    routes = make_routes("", "from:t.org mx\n");
    assert_key(&routes, "a.org", "t.org", true);
    assert_key(&routes, "a.org", "s.org", false);
    free_routes(&routes);

    routes = make_routes("route \"*\" { to = mx }\n", NULL);
    assert_key(&routes, "a.org", "s.org", false);
    free_routes(&routes);

    struct routes_key parts;
    routes_split_key("", 0, &parts);
    assert_int_equal(parts.domain_size + parts.sender_size, 0);
}

static void every_line_of_the_file_is_judged(void **state)
{
    static const struct {
        const char *text;
        const char *expected; /* after the path; NULL: it is fine */
    } cases[] = {
        {"# nothing\n", NULL},
        {"a.org mx\n.a.org discard\nfrom:a.org smtp://b:26 tls=encrypt\nfrom:.A.org lmtp:/s\n* error:550 "
         "No\n",
         NULL},
        {"a.org mx\nb.org nowhere\nc.org nothing\n",
         "route \"b.org\" to \"nowhere\" is not a next hop; would be right: "},
        {"a..org mx\n", "route \"a..org\" is not a pattern; would be right: \"example.com\", "},
        {"*.org mx\n", "route \"*.org\" is not a pattern; would be right: "},
        {". mx\n", "route \".\" is not a pattern; would be right: "},
        {"from: mx\n", "route \"from:\" is not a pattern; would be right: "},
        {"from:* mx\n", "route \"from:*\" is not a pattern; would be right: "},
        {".b\xc3\xbc"
         "cher.example mx\n",
         "route \".b\xc3\xbc"
         "cher.example\" would never be found as it is written; would be right: \"xn--bcher-kva.example\""},
        {"a.org smtp://x,mx tls=may\n",
         "route \"a.org\" to \"mx\" cannot stand beside another destination; would be right: "},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        char error[TABLE_ERROR_SIZE] = "";
        char expected[TABLE_ERROR_SIZE];
        struct table *table = load_file(cases[index].text);
        int result = routes_check(table, "/etc/routes", error, sizeof(error));
        snprintf(expected, sizeof(expected), "/etc/routes: %s", cases[index].expected);
        if (cases[index].expected == NULL && result != 0)
            fail_msg("%s: %s", cases[index].text, error);
        if (cases[index].expected != NULL &&
            (result != -EINVAL || strncmp(error, expected, strlen(expected)) != 0))
            fail_msg("%d\nexpected: %s\nis:       %s", result, expected, error);
        table_free(table);
    }
}

/* --- A naive search over random routes finds the same --- */

enum { RULES_MAX = 24, NAME_MAX_SIZE = 64, PATTERN_MAX_SIZE = NAME_MAX_SIZE + 8 };

struct rule {
    char pattern[PATTERN_MAX_SIZE];
    char site[48];
    bool is_in_file;
};

static uint64_t random_state;

static unsigned draw(unsigned count)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 33) % count;
}

static void draw_domain(char *into)
{
    static const char *const labels[] = {"a", "b", "ab", "from", "x-a"};
    into[0] = '\0';
    for (unsigned left = 1 + draw(4); left > 0; left--) {
        strcat(into, labels[draw(5)]);
        if (left > 1)
            strcat(into, ".");
    }
}

static void draw_pattern(char into[static PATTERN_MAX_SIZE])
{
    char domain[NAME_MAX_SIZE];
    draw_domain(domain);
    if (draw(12) == 0)
        strcpy(into, "*");
    else
        snprintf(into, PATTERN_MAX_SIZE, "%s%s%s", draw(3) == 0 ? "from:" : "", draw(2) == 0 ? "." : "",
                 domain);
}

/* How well a pattern fits: more is better, 0: not at all. Below 1000 only "*". */
static unsigned rank(const char *pattern, const char *domain, const char *sender)
{
    bool is_sender = strncmp(pattern, "from:", 5) == 0;
    const char *name = is_sender ? sender : domain;
    unsigned base = is_sender ? 1000 : 10000;
    if (strcmp(pattern, "*") == 0)
        return 1;
    if (is_sender)
        pattern += 5;
    if (name[0] == '\0')
        return 0;
    if (strcmp(pattern, name) == 0)
        return base + 900;
    char dotted[NAME_MAX_SIZE + 1];
    snprintf(dotted, sizeof(dotted), ".%s", name);
    size_t size = strlen(pattern);
    bool is_end =
        pattern[0] == '.' && size <= strlen(dotted) && strcmp(dotted + strlen(dotted) - size, pattern) == 0;
    return is_end ? base + (unsigned)size : 0;
}

static const char *naive(const struct rule *rules, size_t count, const char *domain, const char *sender)
{
    const struct rule *best = NULL;
    unsigned best_rank = 0;
    for (size_t index = 0; index < count; index++) {
        unsigned found = 2 * rank(rules[index].pattern, domain, sender);
        found += found > 0 && rules[index].is_in_file;
        if (found > best_rank) {
            best_rank = found;
            best = &rules[index];
        }
    }
    return best != NULL ? best->site : "-";
}

static size_t draw_rules(struct rule *rules)
{
    size_t count = 0;
    for (unsigned left = draw(RULES_MAX); left > 0; left--) {
        struct rule *rule = &rules[count];
        draw_pattern(rule->pattern);
        rule->is_in_file = draw(2) == 0;
        bool is_there = false;
        for (size_t index = 0; index < count; index++)
            is_there = is_there || (rules[index].is_in_file == rule->is_in_file &&
                                    strcmp(rules[index].pattern, rule->pattern) == 0);
        if (!is_there)
            snprintf(rule->site, sizeof(rule->site), "%s10.0.0.%zu", rule->is_in_file ? "smtp://" : "",
                     count++);
    }
    return count;
}

static void a_naive_search_finds_the_same(void **state)
{
    static struct rule rules[RULES_MAX];
    random_state = 0x9e3779b97f4a7c15;
    for (int round = 0; round < 200; round++) {
        char config_text[TEXT_MAX] = "";
        char file_text[TEXT_MAX] = "";
        size_t count = draw_rules(rules);
        for (size_t index = 0; index < count; index++) {
            char *text = rules[index].is_in_file ? file_text : config_text;
            sprintf(text + strlen(text),
                    rules[index].is_in_file ? "%s %s\n" : "route \"%s\" { to = \"smtp://%s\" }\n",
                    rules[index].pattern, rules[index].site);
        }
        struct routes routes = make_routes(config_text, file_text);
        for (int question = 0; question < 200; question++) {
            char domain[NAME_MAX_SIZE];
            char sender[NAME_MAX_SIZE] = "";
            draw_domain(domain);
            if (draw(4) > 0)
                draw_domain(sender);
            const char *expected = naive(rules, count, domain, sender);
            const char *is = route_of(&routes, domain, sender);
            if (strcmp(is, expected) != 0)
                fail_msg("%s from %s goes to %s instead of %s by\n%s%s", domain, sender, is, expected,
                         config_text, file_text);
        }
        free_routes(&routes);
    }
}

/* --- Size --- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void a_million_routes(void **state)
{
    enum { COUNT = 1000000 };
    char error[TABLE_ERROR_SIZE];
    struct table *table;
    FILE *file = fopen(file_path, "w");
    assert_non_null(file);
    for (int index = 0; index < COUNT; index++)
        fprintf(file, "%sd%d.example smtp://10.%d.%d.1:2525,smtp://mx%d.example tls=encrypt\n",
                index % 2 == 0 ? "" : ".", index, index >> 8 & 255, index & 255, index % 1000);
    assert_int_equal(fclose(file), 0);
    double begin = seconds();
    assert_int_equal(table_load(file_path, TABLE_PAIRS, &table, error, sizeof(error)), 0);
    double loaded = seconds();
    assert_int_equal(routes_check(table, file_path, error, sizeof(error)), 0);
    double checked = seconds();

    struct routes routes = {.config = load(LISTENER), .file = table};
    for (int index = 0; index < COUNT; index++) {
        char domain[64];
        char expected[64];
        struct route_found found;
        int size = snprintf(domain, sizeof(domain), "%sd%d.example", index % 2 == 0 ? "" : "a.b.", index);
        int expected_size =
            snprintf(expected, sizeof(expected), "smtp://10.%d.%d.1:", index >> 8 & 255, index & 255);
        assert_true(routes_find(&routes, domain, (size_t)size, "", 0, &found));
        assert_memory_equal(found.text, expected, (size_t)expected_size);
    }
    double found = seconds();
    print_message("a million routes: loaded in %.2f s, checked in %.2f s, found in %.2f s\n", loaded - begin,
                  checked - loaded, found - checked);
    assert_true(checked - loaded < 20); /* a sanitizer's build on a busy machine */
    free_routes(&routes);
}

static int remove_file(void **state)
{
    return unlink(file_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_configuration_alone),
        cmocka_unit_test(the_file_goes_before_the_configuration_at_each_step),
        cmocka_unit_test(routes_with_the_same_destination_share_it),
        cmocka_unit_test(names_in_the_configuration_are_looked_up),
        cmocka_unit_test(lanes_are_by_sender_where_the_sender_matters),
        cmocka_unit_test(every_line_of_the_file_is_judged),
        cmocka_unit_test(a_naive_search_finds_the_same),
        cmocka_unit_test(a_million_routes),
    };
    int file = mkstemp(file_path);
    if (file < 0)
        return 1;
    close(file);
    return cmocka_run_group_tests(tests, NULL, remove_file);
}
