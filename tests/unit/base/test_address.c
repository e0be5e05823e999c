#include <errno.h>
#include <string.h>

#include "cmocka_base.h"
#include "gateway/base/address.h"

static struct sockaddr_storage ip(const char *text, uint16_t port)
{
    struct sockaddr_storage address;
    if (parse_ip(text, port, &address) < 0)
        fail_msg("\"%s\" is no address", text);
    return address;
}

static void addresses_are_written_as_they_are_read(void **state)
{
    static const char *const texts[] = {"0.0.0.0:1", "192.0.2.255:25",     "255.255.255.255:65535",
                                        "[::]:25",   "[2001:db8::1]:2525", "[::ffff:192.0.2.1]:25"};
    for (size_t index = 0; index < sizeof(texts) / sizeof(texts[0]); index++) {
        char host[64];
        char text[ADDRESS_TEXT_SIZE];
        uint16_t port;
        assert_int_equal(parse_host_port(texts[index], 0, host, sizeof(host), &port), 0);
        struct sockaddr_storage address = ip(host, port);
        assert_int_equal(address_format((struct sockaddr *)&address, text), strlen(texts[index]));
        assert_string_equal(text, texts[index]);
    }
    struct sockaddr other = {.sa_family = AF_PACKET};
    char text[ADDRESS_TEXT_SIZE];
    assert_int_equal(address_format(&other, text), 7);
    assert_string_equal(text, "unknown");
    assert_int_equal(address_size(&other), 0);
}

static void hosts_with_and_without_port(void **state)
{
    static const struct {
        const char *text;
        uint16_t default_port;
        int result;
        const char *host;
        uint16_t port;
    } cases[] = {
        {"example.com", 25, 0, "example.com", 25},
        {"example.com:2525", 25, 0, "example.com", 2525},
        {"[::1]", 25, 0, "::1", 25},
        {"[::1]:65535", 25, 0, "::1", 65535},
        {"10.0.0.1", 0, -EINVAL, NULL, 0},
        {"::1", 25, -EINVAL, NULL, 0},
        {"::1:25", 25, -EINVAL, NULL, 0},
        {"[::1", 25, -EINVAL, NULL, 0},
        {"[::1]25", 25, -EINVAL, NULL, 0},
        {":25", 25, -EINVAL, NULL, 0},
        {"a:", 25, -EINVAL, NULL, 0},
        {"a:x", 25, -EINVAL, NULL, 0},
        {"a:0", 25, -ERANGE, NULL, 0},
        {"a:65536", 25, -ERANGE, NULL, 0},
        {"a:999999", 25, -EINVAL, NULL, 0},
        {"a-name-that-is-too-long-for-it", 25, -EINVAL, NULL, 0},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        char host[20];
        uint16_t port = 0;
        int result = parse_host_port(cases[index].text, cases[index].default_port, host, sizeof(host), &port);
        if (result != cases[index].result)
            fail_msg("\"%s\": %d", cases[index].text, result);
        if (result < 0)
            continue;
        assert_string_equal(host, cases[index].host);
        assert_int_equal(port, cases[index].port);
    }
}

static void networks_hold_their_addresses(void **state)
{
    static const struct {
        const char *network;
        const char *address;
        bool is_inside;
    } cases[] = {
        {"127.0.0.0/8", "127.255.0.1", true},
        {"127.0.0.0/8", "128.0.0.0", false},
        {"10.1.2.3", "10.1.2.3", true},
        {"10.1.2.3", "10.1.2.2", false},
        {"10.0.0.0/9", "10.127.255.255", true},
        {"10.0.0.0/9", "10.128.0.0", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "2001:db8::1", false}, /* all of IPv4, none of IPv6 */
        {"127.0.0.0/8", "::ffff:127.0.0.1", true},
        {"[::1]/128", "::1", true},
        {"::1", "::2", false},
        {"2001:db8::/32", "2001:db8:ffff::1", true},
        {"2001:db8::/32", "2001:db9::", false},
        {"2001:db8:0:0:8000::/65", "2001:db8::8000:0:0:1", true},
        {"2001:db8:0:0:8000::/65", "2001:db8::7fff:0:0:1", false},
        {"::/0", "2001:db8::1", true},
        {"::/0", "192.0.2.1", true},
    };
    for (size_t index = 0; index < sizeof(cases) / sizeof(cases[0]); index++) {
        struct ip_network network;
        struct sockaddr_storage address = ip(cases[index].address, 25);
        assert_int_equal(parse_network(cases[index].network, &network), 0);
        if (network_list_has(&network, 1, (struct sockaddr *)&address) != cases[index].is_inside)
            fail_msg("%s in %s", cases[index].address, cases[index].network);
    }
    struct ip_network everything[2];
    struct sockaddr local = {.sa_family = AF_UNIX};
    assert_int_equal(parse_network("::/0", &everything[0]), 0);
    assert_int_equal(parse_network("0.0.0.0/0", &everything[1]), 0);
    assert_false(network_list_has(everything, 2, &local));
    assert_false(network_list_has(NULL, 0, &local));
}

static void mistyped_networks_are_refused(void **state)
{
    static const char *const wrong[] = {
        "",     "/8",           "10.0.0.1/8",  "10.0.0.0/",  "10.0.0.0/x", "10.0.0/8", "2001:db8::1/32",
        "[::1", "[10.0.0.0]/8", "example.com", "10.0.0.0/-1"};
    struct ip_network network = {.address = {1, 2}, .mask = {3, 4}};
    for (size_t index = 0; index < sizeof(wrong) / sizeof(wrong[0]); index++) {
        if (parse_network(wrong[index], &network) != -EINVAL)
            fail_msg("\"%s\" is taken", wrong[index]);
    }
    assert_int_equal(parse_network("10.0.0.0/33", &network), -ERANGE);
    assert_int_equal(parse_network("::/129", &network), -ERANGE);
    assert_int_equal(network.mask[1], 4);
}

static void equality_means_address_and_port(void **state)
{
    struct sockaddr_storage a = ip("192.0.2.1", 25);
    struct sockaddr_storage b = ip("192.0.2.1", 26);
    struct sockaddr_storage c = ip("::1", 25);
    struct sockaddr_storage d = ip("::2", 25);
    assert_true(address_equals((struct sockaddr *)&a, (struct sockaddr *)&a));
    assert_true(address_equals((struct sockaddr *)&c, (struct sockaddr *)&c));
    assert_false(address_equals((struct sockaddr *)&a, (struct sockaddr *)&b));
    assert_false(address_equals((struct sockaddr *)&a, (struct sockaddr *)&c));
    assert_false(address_equals((struct sockaddr *)&c, (struct sockaddr *)&d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_written_as_they_are_read),
        cmocka_unit_test(hosts_with_and_without_port),
        cmocka_unit_test(networks_hold_their_addresses),
        cmocka_unit_test(mistyped_networks_are_refused),
        cmocka_unit_test(equality_means_address_and_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
