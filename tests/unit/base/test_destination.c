#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "cmocka_base.h"
#include "gateway/base/destination.h"

/* What a line of a route file says about where mail goes. */

enum { ERROR_SIZE = 512 };

static struct destination_text parsed;

static const struct destination *parse(const char *text)
{
    char error[ERROR_SIZE];
    memset(&parsed, 0xa5, sizeof(parsed)); /* nothing may be expected of it */
    if (destination_parse(text, strlen(text), &parsed, error, sizeof(error)) < 0)
        fail_msg("%s: %s", text, error);
    assert_int_equal(parsed.destination.index, UINT32_MAX);
    return &parsed.destination;
}

static void assert_address(const struct destination_host *host, const char *expected)
{
    char text[ADDRESS_TEXT_SIZE];
    assert_int_equal(host->address_count, 1);
    address_format((const struct sockaddr *)&host->addresses[0], text);
    assert_string_equal(text, expected);
}

static void hosts_have_names_and_ports(void **state)
{
    static const struct {
        const char *text;
        enum destination_kind kind;
        const char *host;
        uint16_t port;
        const char *name;
        const char *address; /* NULL: to be looked up */
    } cases[] = {
        {"smtp://10.0.0.1", DESTINATION_SMTP, "10.0.0.1", 25, "10.0.0.1", "10.0.0.1:25"},
        {"smtp://[10.0.0.1]", DESTINATION_SMTP, "10.0.0.1", 25, "10.0.0.1", "10.0.0.1:25"},
        {"smtp://10.0.0.1:25", DESTINATION_SMTP, "10.0.0.1", 25, "10.0.0.1", "10.0.0.1:25"},
        {"smtp://10.0.0.1:2525", DESTINATION_SMTP, "10.0.0.1", 2525, "10.0.0.1:2525", "10.0.0.1:2525"},
        {"smtp://[2001:DB8:0::1]", DESTINATION_SMTP, "2001:db8::1", 25, "[2001:db8::1]", "[2001:db8::1]:25"},
        {"smtp://[::1]:24", DESTINATION_SMTP, "::1", 24, "[::1]:24", "[::1]:24"},
        {"smtp://MX.Example.com", DESTINATION_SMTP, "mx.example.com", 25, "mx.example.com", NULL},
        {"smtp://mx.example.com:587", DESTINATION_SMTP, "mx.example.com", 587, "mx.example.com:587", NULL},
        {"smtp://b\xc3\xbc"
         "cher.example",
         DESTINATION_SMTP, "xn--bcher-kva.example", 25, "xn--bcher-kva.example", NULL},
        {"lmtp://10.0.0.1", DESTINATION_LMTP, "10.0.0.1", 24, "10.0.0.1", "10.0.0.1:24"},
        {"lmtp://10.0.0.1:25", DESTINATION_LMTP, "10.0.0.1", 25, "10.0.0.1:25", "10.0.0.1:25"},
        {"lmtp://store", DESTINATION_LMTP, "store", 24, "store", NULL},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        const struct destination *destination = parse(cases[index].text);
        const struct destination_host *host = &destination->hosts[0];
        assert_int_equal(destination->kind, cases[index].kind);
        assert_int_equal(destination->host_count, 1);
        assert_string_equal(destination->name, cases[index].name);
        assert_string_equal(host->name, cases[index].host);
        assert_int_equal(host->port, cases[index].port);
        assert_int_equal(host->weight, 0);
        if (cases[index].address != NULL)
            assert_address(host, cases[index].address);
        else
            assert_int_equal(host->address_count, 0);
        assert_int_equal(destination->tls, CONFIG_SECURITY_UNSET);
        assert_int_equal(destination->tls_name_count, 0);
        assert_string_equal(destination->text, "");
    }
}

static void sockets_have_paths(void **state)
{
    char text[256] = "lmtp:/";
    char error[ERROR_SIZE];
    const struct destination *destination = parse("lmtp:/run/Dovecot/lmtp");
    const struct sockaddr_un *address = (const void *)&destination->hosts[0].addresses[0];
    assert_int_equal(destination->kind, DESTINATION_LMTP);
    assert_string_equal(destination->name, "/run/Dovecot/lmtp");
    assert_string_equal(destination->hosts[0].name, "/run/Dovecot/lmtp");
    assert_int_equal(destination->hosts[0].port, 0);
    assert_int_equal(destination->hosts[0].address_count, 1);
    assert_int_equal(address->sun_family, AF_UNIX);
    assert_string_equal(address->sun_path, "/run/Dovecot/lmtp");

    memset(text + 6, 'x', 106);
    address = (const void *)&parse(text)->hosts[0].addresses[0];
    assert_int_equal(strlen(address->sun_path), 107);
    text[6 + 106] = 'x';
    assert_int_equal(destination_parse(text, strlen(text), &parsed, error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "is the path of a socket longer than 107 bytes"));
}

static void lists_keep_their_order_and_weights(void **state)
{
    const struct destination *destination =
        parse("smtp://b:26,smtp://10.0.0.1,smtp://a  weights=3,1000,1 \ttls=verify "
              "tls_names=X.example.com,y.example.com");
    assert_int_equal(destination->host_count, 3);
    assert_string_equal(destination->name, "b:26");
    assert_string_equal(destination->hosts[0].name, "b");
    assert_string_equal(destination->hosts[1].name, "10.0.0.1");
    assert_string_equal(destination->hosts[2].name, "a");
    assert_address(&destination->hosts[1], "10.0.0.1:25");
    assert_int_equal(destination->hosts[0].weight, 3);
    assert_int_equal(destination->hosts[1].weight, 1000);
    assert_int_equal(destination->hosts[2].weight, 1);
    assert_int_equal(destination->tls, CONFIG_SECURITY_VERIFY);
    assert_int_equal(destination->tls_name_count, 2);
    assert_string_equal(destination->tls_names[0], "x.example.com");
    assert_string_equal(destination->tls_names[1], "y.example.com");

    assert_int_equal(parse("mx tls=none")->tls, CONFIG_SECURITY_NONE);
    assert_int_equal(parse("mx tls=may")->tls, CONFIG_SECURITY_MAY);
    assert_int_equal(parse("mx tls=encrypt")->tls, CONFIG_SECURITY_ENCRYPT);
    assert_int_equal(parse("smtp://h tls_names=a.org")->tls, CONFIG_SECURITY_UNSET);
    assert_int_equal(parse("lmtp:/s tls=verify tls_names=a.org")->tls_name_count, 1);
}

static void some_lead_nowhere(void **state)
{
    static const struct {
        const char *text;
        uint16_t code;
        const char *reply;
    } errors[] = {
        {"error:550 5.7.1 We do not take this, sorry", 550, "5.7.1 We do not take this, sorry"},
        {"error:450 4.2.100 tls=may", 450, "4.2.100 tls=may"},
        {"error:550 Gone", 550, "5.0.0 Gone"},
        {"error:421   Later", 421, "4.0.0 Later"},
        {"error:599 5.1 is no code", 599, "5.0.0 5.1 is no code"},
        {"error:400 4.1.1x", 400, "4.0.0 4.1.1x"},
    };
    for (size_t index = 0; index < sizeof(errors) / sizeof(errors[0]); index++) {
        const struct destination *destination = parse(errors[index].text);
        assert_int_equal(destination->kind, DESTINATION_ERROR);
        assert_int_equal(destination->code, errors[index].code);
        assert_string_equal(destination->text, errors[index].reply);
        assert_int_equal(destination->host_count, 0);
        assert_string_equal(destination->name, "");
    }
    assert_int_equal(parse("mx")->kind, DESTINATION_MX);
    assert_int_equal(parse("discard")->kind, DESTINATION_DISCARD);
    assert_string_equal(parse("discard")->name, "");
    assert_int_equal(parse("discard")->host_count, 0);
}

static void the_longest_text_fits(void **state)
{
    char text[DESTINATION_ERROR_TEXT_MAX + 16] = "error:550 ";
    char error[ERROR_SIZE];
    memset(text + 10, 'x', DESTINATION_ERROR_TEXT_MAX);
    assert_int_equal(strlen(parse(text)->text), DESTINATION_ERROR_TEXT_MAX + 6);
    text[10 + DESTINATION_ERROR_TEXT_MAX] = 'x';
    assert_int_equal(destination_parse(text, strlen(text), &parsed, error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "has a text longer than 400 bytes"));
}

/* `what` follows the piece that is wrong, in quotes. */
static void assert_wrong(const char *text, size_t size, const char *piece, const char *what)
{
    char error[ERROR_SIZE];
    char expected[ERROR_SIZE];
    int result = destination_parse(text, size, &parsed, error, sizeof(error));
    snprintf(expected, sizeof(expected), "\"%s\" %s; would be right: ", piece, what);
    if (result != -EINVAL || strncmp(error, expected, strlen(expected)) != 0)
        fail_msg("%d\ntext:     %s\nexpected: %s\nis:       %s", result, text, expected, error);
}

static void what_is_wrong_is_told(void **state)
{
    static const char no_host[] = "has no host, or no port from 1 to 65535";
    static const char no_name[] = "has no host's name or IP address";
    static const struct {
        const char *text;
        const char *piece;
        const char *what;
    } cases[] = {
        {"", "", "is not a next hop"},
        {"10.0.0.1", "10.0.0.1", "is not a next hop"},
        {"SMTP://a", "SMTP://a", "is not a next hop"},
        {"mx.example.com", "mx.example.com", "is not a next hop"},
        {"smtp:/a", "smtp:/a", "is not a next hop"},
        {"smtp://", "smtp://", no_host},
        {"smtp://a:", "smtp://a:", no_host},
        {"smtp://a:0", "smtp://a:0", no_host},
        {"smtp://a:65536", "smtp://a:65536", no_host},
        {"smtp://2001:db8::1", "smtp://2001:db8::1", no_host},
        {"smtp://10.0.0.300", "smtp://10.0.0.300", no_name},
        {"smtp://a..b", "smtp://a..b", no_name},
        {"smtp://[a.org]", "smtp://[a.org]", no_name},
        {"smtp://user@a", "smtp://user@a", no_name},
        {"smtp://a,", "", "is not a next hop"},
        {"smtp://a,,smtp://b", "", "is not a next hop"},
        {"smtp://a,lmtp://b", "lmtp://b", "is of another kind than the host before it"},
        {"lmtp:/s,smtp://b", "smtp://b", "is of another kind than the host before it"},
        {"smtp://a,mx", "mx", "cannot stand beside another destination"},
        {"mx,smtp://a", "smtp://a", "cannot stand beside another destination"},
        {"mx,mx", "mx", "cannot stand beside another destination"},
        {"discard,discard", "discard", "cannot stand beside another destination"},
        {"lmtp:", "lmtp:", "is not the full path of a socket"},
        {"lmtp:run/s", "lmtp:run/s", "is not the full path of a socket"},
        {"error:", "error:", "has no code from 400 to 599"},
        {"error:250 2.0.0 Ok", "error:250 2.0.0 Ok", "has no code from 400 to 599"},
        {"error:600 Ok", "error:600 Ok", "has no code from 400 to 599"},
        {"error:5500 x", "error:5500 x", "has no code from 400 to 599"},
        {"error:550", "error:550", "has no text"},
        {"error:550 5.1.1", "error:550 5.1.1", "has no text"},
        {"error:550 4.1.1 x", "error:550 4.1.1 x", "has an enhanced code of another class"},
        {"error:550 2.0.0 x", "error:550 2.0.0 x", "has an enhanced code of another class"},
        {"error:550 \xc3\xbc", "error:550 \xc3\xbc", "has a text with other than printable ASCII"},
        {"mx tls", "tls", "is unknown"},
        {"mx port=25", "port=25", "is unknown"},
        {"mx tls=", "", "is unknown"},
        {"mx tls=off", "off", "is unknown"},
        {"mx tls=may tls=may", "tls=may", "is given twice"},
        {"mx tls_names=", "", "is not a host's name"},
        {"mx tls_names=a,,b", "", "is not a host's name"},
        {"mx tls_names=a", "tls_names",
         "has no use beside \"mx\", whose hosts are verified by their own names"},
        {"mx tls=may tls_names=a", "tls_names",
         "has no use beside \"mx\", whose hosts are verified by their own names"},
        {"smtp://h tls=may tls_names=a", "may", "has no use for tls_names, which count under \"verify\""},
        {"discard tls=may", "may", "has no meaning where no connection is made"},
        {"discard tls_names=a", "tls_names", "has no meaning where no connection is made"},
        {"lmtp:/s tls=verify", "verify", "needs tls_names for a socket, which has no name of its own"},
        {"mx weights=1", "1", "are not as many as the hosts"},
        {"smtp://a weights=", "", "is no weight, or one too many"},
        {"smtp://a weights=0", "0", "is no weight, or one too many"},
        {"smtp://a weights=1001", "1001", "is no weight, or one too many"},
        {"smtp://a weights=65537", "65537", "is no weight, or one too many"},
        {"smtp://a weights=1,2", "1,2", "are not as many as the hosts"},
        {"smtp://a,smtp://b weights=1", "1", "are not as many as the hosts"},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++)
        assert_wrong(cases[index].text, strlen(cases[index].text), cases[index].piece, cases[index].what);
    assert_wrong("smtp://a\0b", 10, "smtp://a", no_host);
}

static void lists_are_bounded(void **state)
{
    char text[DESTINATION_VALUE_SIZE_MAX + 2];
    char error[ERROR_SIZE];
    size_t used = 0;
    for (int index = 0; index < 16; index++)
        used +=
            (size_t)snprintf(text + used, sizeof(text) - used, "%ssmtp://h%d", index > 0 ? "," : "", index);
    assert_int_equal(parse(text)->host_count, 16);
    snprintf(text + used, sizeof(text) - used, ",smtp://h16");
    assert_wrong(text, strlen(text), "smtp://h16", "is the 17th host of this route, 16 are allowed");

    used = (size_t)snprintf(text, sizeof(text), "smtp://h tls_names=n0");
    for (int index = 1; index < 16; index++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, ",n%d", index);
    assert_int_equal(parse(text)->tls_name_count, 16);
    snprintf(text + used, sizeof(text) - used, ",n16");
    assert_wrong(text, strlen(text), "n16", "is the 17th name of this route, 16 are allowed");

    memset(text, ' ', sizeof(text));
    memcpy(text, "mx", 2);
    assert_int_equal(destination_parse(text, DESTINATION_VALUE_SIZE_MAX, &parsed, error, sizeof(error)), 0);
    assert_int_equal(destination_parse(text, DESTINATION_VALUE_SIZE_MAX + 1, &parsed, error, sizeof(error)),
                     -EINVAL);
    assert_non_null(strstr(error, "is longer than 4096 bytes"));
}

/* Names may be longer as A-labels than they were written; what does not fit is refused, not cut. */
static void names_that_grow_do_not_overrun(void **state)
{
    char text[DESTINATION_VALUE_SIZE_MAX + 1];
    char error[ERROR_SIZE];
    size_t used = 0;
    for (int index = 0; index < 16; index++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%ssmtp://", index > 0 ? "," : "");
        for (int label = 0; label < 20; label++)
            used += (size_t)snprintf(text + used, sizeof(text) - used, "\xc3\xbc%c.", 'a' + label);
        used += (size_t)snprintf(text + used, sizeof(text) - used, "org");
    }
    assert_true(used < sizeof(text));
    const struct destination *destination = parse(text);
    assert_true(strlen(destination->hosts[15].name) > 180);
    assert_memory_equal(destination->hosts[15].name, "xn--", 4);
    assert_true(parsed.used <= sizeof(parsed.text));

    /* The same, cut anywhere, reads no byte beyond; a copy of exactly that size lets the sanitizer see it. */
    for (size_t size = 0; size < used; size += 7) {
        char *copy = malloc(size > 0 ? size : 1);
        assert_non_null(copy);
        memcpy(copy, text, size);
        int result = destination_parse(copy, size, &parsed, error, sizeof(error));
        assert_true(result == 0 || result == -EINVAL);
        free(copy);
    }
}

static void short_rooms_for_errors_are_kept_to(void **state)
{
    char error[8] = "1234567";
    assert_int_equal(destination_parse("gopher://x", 10, &parsed, error, 5), -EINVAL);
    assert_string_equal(error, "\"gop");
    assert_int_equal(error[5], '6');
    assert_int_equal(destination_parse("\x01\x7f", 2, &parsed, error, sizeof(error)), -EINVAL);
    assert_memory_equal(error, "\"?\?\" is", 7);
}

static void the_same_is_the_same(void **state)
{
    static const char *const texts[] = {
        "smtp://a",
        "smtp://b",
        "smtp://a:26",
        "lmtp://a",
        "smtp://a,smtp://b",
        "smtp://b,smtp://a",
        "smtp://a tls=may",
        "smtp://a weights=1",
        "smtp://a weights=2",
        "mx",
        "mx tls=verify",
        "smtp://a tls=verify tls_names=x",
        "smtp://a tls_names=x,y",
        "discard",
        "error:550 5.0.0 x",
        "error:551 5.0.0 x",
        "error:550 5.0.0 y",
        "lmtp:/a",
        "smtp://10.0.0.1",
    };
    enum { COUNT = sizeof(texts) / sizeof(texts[0]) };
    static struct destination_text all[COUNT];
    char error[ERROR_SIZE];
    for (size_t index = 0; index < COUNT; index++)
        assert_int_equal(
            destination_parse(texts[index], strlen(texts[index]), &all[index], error, sizeof(error)), 0);
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t j = 0; j < COUNT; j++)
            assert_int_equal(destination_equals(&all[i].destination, &all[j].destination), i == j);
    }
    assert_true(destination_equals(&all[0].destination, parse("smtp://A:25")));
    assert_true(destination_equals(&all[14].destination, parse("error:550 x")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_have_names_and_ports),
        cmocka_unit_test(sockets_have_paths),
        cmocka_unit_test(lists_keep_their_order_and_weights),
        cmocka_unit_test(some_lead_nowhere),
        cmocka_unit_test(the_longest_text_fits),
        cmocka_unit_test(what_is_wrong_is_told),
        cmocka_unit_test(lists_are_bounded),
        cmocka_unit_test(names_that_grow_do_not_overrun),
        cmocka_unit_test(short_rooms_for_errors_are_kept_to),
        cmocka_unit_test(the_same_is_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
