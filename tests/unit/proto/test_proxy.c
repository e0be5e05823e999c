#include "tests/unit/proto/test.h"

#include "tests/unit/proto/cuts.h"

#include "proto/proxy.h"

#include <stdio.h>
#include <stdlib.h>

/* --- Version 1 --- */

struct line {
    const char *input;
    const char *wanted;
};

static void test_lines(void **state)
{
    static const struct line table[] = {
        {"PROXY TCP4 192.0.2.1 198.51.100.25 56324 25\r\nEHLO x\r\n",
         "45 v1 source=c0000201:56324 destination=c6336419:25\n"},
        {"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
         "44 v1 source=ffffffff:65535 destination=00000000:0\n"},
        {"PROXY TCP6 2001:db8::1 ::1 1 2\r\n\r\n",
         "32 v1 source=20010db8000000000000000000000001:1 destination=00000000000000000000000000000001:2\n"},
        {"PROXY TCP6 ::ffff:192.0.2.1 ABCD:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
         "81 v1 source=00000000000000000000ffffc0000201:65535 "
         "destination=abcdffffffffffffffffffffffffffff:65535\n"},
        {"PROXY UNKNOWN\r\nEHLO x\r\n", "15 v1 unknown\n"},
        {"PROXY UNKNOWN \r\n", "16 v1 unknown\n"},
        {"PROXY UNKNOWN what ever 1 2 3\r\n", "31 v1 unknown\n"},
        {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
         "65535 65535\r\nx",
         "107 v1 unknown\n"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        cuts_expect(transcript_run_proxy, table[i].input, strlen(table[i].input), 50, table[i].wanted);
}

/* In front of the number stands the first octet that cannot be right, or the whole line. */
static void test_bad_lines(void **state)
{
    static const struct line table[] = {
        {"EHLO client.example\r\n", "0 bad\n"},
        {"\n", "0 bad\n"},
        {"proxy TCP4", "0 bad\n"},
        {"PROXYTCP4", "5 bad\n"},
        {"PROXX", "4 bad\n"},
        {"PROXY\r\n", "5 bad\n"},
        {"PROXY \r\n", "6 bad\n"},
        {"PROXY TCP4 \t", "11 bad\n"},
        {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "30 bad\n"},
        {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx", "31 bad\n"},
        {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r\n", "31 bad\n"},
        {"PROXY UNKNOWN \x80\r\n", "14 bad\n"},
        {"PROXY x\r\n", "9 bad\n"},
        {"PROXY UNKNOWNX\r\n", "16 bad\n"},
        {"PROXY unknown\r\n", "15 bad\n"},
        {"PROXY TCP4\r\n", "12 bad\n"},
        {"PROXY TCP4 1.2.3.4\r\n", "20 bad\n"},
        {"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "30 bad\n"},
        {"PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", "31 bad\n"},
        {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "33 bad\n"},
        {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "34 bad\n"},
        {"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", "33 bad\n"},
        {"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "33 bad\n"},
        {"PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", "33 bad\n"},
        {"PROXY TCP4 1.2.3.4 1.2.3.256 1 2\r\n", "34 bad\n"},
        {"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "33 bad\n"},
        {"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "36 bad\n"},
        {"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "33 bad\n"},
        {"PROXY TCP4 ::1 ::1 1 2\r\n", "24 bad\n"},
        {"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "32 bad\n"},
        {"PROXY TCP6 ::1 1.2.3.4 1 2\r\n", "28 bad\n"},
        {"PROXY TCP6 ::1 ::1%lo 1 2\r\n", "27 bad\n"},
        {"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "32 bad\n"},
        {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
         "65535 655350\r\n",
         "105 bad\n"},
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        cuts_expect(transcript_run_proxy, table[i].input, strlen(table[i].input), 50, table[i].wanted);
    cuts_expect(transcript_run_proxy, "PROXY UNKNOWN \0\r\n", 17, 0, "14 bad\n");
}

/* --- Version 2 --- */

enum {
    LOCAL = 0x20,
    PROXY = 0x21,
    UNSPEC = 0x00,
    TCP4 = 0x11,
    UDP4 = 0x12,
    TCP6 = 0x21,
    UDP6 = 0x22,
    UNIX_STREAM = 0x31,
    UNIX_DGRAM = 0x32,
};

#define IPV4_ADDRESSES "\xc0\x00\x02\x01\xc6\x33\x64\x19\xdc\x04\x00\x19"
#define IPV4_WANTED    " source=c0000201:56324 destination=c6336419:25"
#define IPV6_ADDRESSES                                                                                       \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\xdc\x04\x00\x19"
#define IPV6_WANTED                                                                                          \
    " source=20010db8000000000000000000000001:56324 destination=20010db8000000000000000000000002:25"

struct header {
    char bytes[4096];
    size_t size;
};

static void add(struct header *header, const void *bytes, size_t size)
{
    assert_true(header->size + size <= sizeof(header->bytes));
    memcpy(header->bytes + header->size, bytes, size);
    header->size += size;
}

static void begin(struct header *header, int command, int family, const char *addresses, size_t size)
{
    const char fixed[4] = {(char)command, (char)family, 0, 0};

    header->size = 0;
    add(header, "\r\n\r\n\0\r\nQUIT\n", 12);
    add(header, fixed, sizeof(fixed));
    add(header, addresses, size);
}

#define BEGIN(header, command, family, addresses)                                                            \
    begin((header), (command), (family), (addresses), sizeof(addresses) - 1)

static void add_tlv(struct header *header, int type, const char *value, size_t size)
{
    const char fixed[3] = {(char)type, (char)(size >> 8), (char)size};

    add(header, fixed, sizeof(fixed));
    add(header, value, size);
}

#define ADD_TLV(header, type, value) add_tlv((header), (type), (value), sizeof(value) - 1)

static void set_size(struct header *header, size_t size)
{
    header->bytes[14] = (char)(size >> 8);
    header->bytes[15] = (char)size;
}

static void finish(struct header *header)
{
    set_size(header, header->size - 16);
}

/* The header, with the beginning of a session behind it, must be `wanted`; each part of it is unfinished. */
static void expect(struct header *header, const char *wanted)
{
    char events[600];
    struct transcript part;
    const size_t size = header->size;

    snprintf(events, sizeof(events), "%zu %s\n", size, wanted);
    add(header, "EHLO x\r\n", 8);
    cuts_expect(transcript_run_proxy, header->bytes, header->size, 50, events);
    for (size_t cut = 0; cut < size; cut++) {
        transcript_init(&part);
        transcript_run_proxy(&part, header->bytes, cut, NULL, 0);
        assert_string_equal(part.text, "unfinished\n");
        transcript_deinit(&part);
    }
    header->size = size;
}

static void expect_bad_at(struct header *header, size_t place)
{
    char events[40];

    snprintf(events, sizeof(events), "%zu bad\n", place);
    cuts_expect(transcript_run_proxy, header->bytes, header->size, 50, events);
}

static void expect_bad(struct header *header)
{
    expect_bad_at(header, header->size);
}

static void test_addresses(void **state)
{
    char unix_paths[216];
    struct header header;

    BEGIN(&header, PROXY, TCP4, IPV4_ADDRESSES);
    finish(&header);
    expect(&header, "v2" IPV4_WANTED);
    BEGIN(&header, PROXY, TCP6, IPV6_ADDRESSES);
    finish(&header);
    expect(&header, "v2" IPV6_WANTED);
    memset(unix_paths, 'u', sizeof(unix_paths));
    begin(&header, PROXY, UNIX_STREAM, unix_paths, sizeof(unix_paths));
    ADD_TLV(&header, 0x02, "mail.example");
    finish(&header);
    expect(&header, "v2 unknown authority=[mail.example]");
}

/* What is behind LOCAL or UNSPEC is skipped, whatever it is. */
static void test_no_address_is_told(void **state)
{
    struct header header;

    BEGIN(&header, LOCAL, UNSPEC, "");
    finish(&header);
    expect(&header, "v2 local");
    BEGIN(&header, LOCAL, TCP4, "abc");
    finish(&header);
    expect(&header, "v2 local");
    BEGIN(&header, LOCAL, 0xff, "\x03\0\x04....");
    finish(&header);
    expect(&header, "v2 local");
    BEGIN(&header, PROXY, UNSPEC, "");
    finish(&header);
    expect(&header, "v2 unknown");
    BEGIN(&header, PROXY, UNSPEC, "\x20\xff\xff");
    finish(&header);
    expect(&header, "v2 unknown");
    BEGIN(&header, PROXY, 0x10, IPV4_ADDRESSES);
    finish(&header);
    expect(&header, "v2 unknown");
}

static void test_bad_fixed_part(void **state)
{
    static const struct {
        int command;
        int family;
        size_t size;
        size_t bad_at;
    } table[] = {
        {0x11, TCP4, 12, 12},
        {0x30, TCP4, 12, 12},
        {0x22, TCP4, 12, 12},
        {0x2f, TCP4, 12, 12},
        {0x01, TCP4, 12, 12},
        {PROXY, UDP4, 12, 13},
        {PROXY, UDP6, 36, 13},
        {PROXY, UNIX_DGRAM, 216, 13},
        {PROXY, 0x13, 12, 13},
        {PROXY, 0x41, 12, 13},
        {PROXY, 0xff, 12, 13},
        {PROXY, 0x02, 12, 13},
        {PROXY, TCP4, 11, 15},
        {PROXY, TCP4, 0, 15},
        {PROXY, TCP6, 35, 15},
        {PROXY, TCP6, 12, 15},
        {PROXY, UNIX_STREAM, 215, 15},
        {PROXY, TCP4, SMTP_PROXY_MAX - 15, 15},
        {LOCAL, 0, SMTP_PROXY_MAX - 15, 15},
        {PROXY, TCP4, 0x800, 14},
        {PROXY, TCP4, 0xffff, 14},
    };
    struct header header;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char rest[300] = {0};

        begin(&header, table[i].command, table[i].family, rest, sizeof(rest));
        set_size(&header, table[i].size);
        expect_bad_at(&header, table[i].bad_at);
    }
    for (size_t i = 1; i < 12; i++) {
        BEGIN(&header, LOCAL, UNSPEC, "");
        header.bytes[i] ^= 0x40;
        expect_bad_at(&header, i);
    }
}

static void test_tls(void **state)
{
    struct header header;

    BEGIN(&header, PROXY, TCP4, IPV4_ADDRESSES);
    ADD_TLV(&header, 0x01, "smtp");
    ADD_TLV(&header, 0x02, "mail.example");
    ADD_TLV(&header, 0x04, "\0\0\0");
    ADD_TLV(&header, 0x04, "");
    ADD_TLV(&header, 0x05, "\1\2\3");
    ADD_TLV(&header, 0x20,
            "\7\0\0\0\0\x21\0\7TLSv1.3\x23\0\6CIPHER\x22\0\xe"
            "client.example\x24\0\3RSA");
    ADD_TLV(&header, 0xe0, "\r\n");
    finish(&header);
    expect(&header, "v2" IPV4_WANTED " tls certificate verified version=[TLSv1.3] cipher=[CIPHER] "
                    "name=[client.example] authority=[mail.example]");

    BEGIN(&header, PROXY, TCP6, IPV6_ADDRESSES);
    ADD_TLV(&header, 0x20, "\1\0\0\0\0\x21\0\7TLSv1.2");
    finish(&header);
    expect(&header, "v2" IPV6_WANTED " tls version=[TLSv1.2]");

    BEGIN(&header, PROXY, TCP4, IPV4_ADDRESSES);
    ADD_TLV(&header, 0x20, "\3\0\0\0\x12");
    finish(&header);
    expect(&header, "v2" IPV4_WANTED " tls certificate");

    BEGIN(&header, PROXY, TCP4, IPV4_ADDRESSES);
    ADD_TLV(&header, 0x20, "\5\0\0\0\0");
    finish(&header);
    expect(&header, "v2" IPV4_WANTED " tls certificate verified");

    /* Without TLS there is no certificate, whatever the other bits say. */
    BEGIN(&header, PROXY, TCP4, IPV4_ADDRESSES);
    ADD_TLV(&header, 0x20, "\6\0\0\0\0");
    finish(&header);
    expect(&header, "v2" IPV4_WANTED);
}

static void test_bad_tlvs(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } table[] = {
#define TAIL(bytes) {(bytes), sizeof(bytes) - 1}
        TAIL("\x04"),     /* no size */
        TAIL("\x04\0"),   /* half a size */
        TAIL("\x04\0\1"), /* no value */
        TAIL("\x04\xff\xff"
             "abc"),                    /* a value beyond the header */
        TAIL("\x04\0\0\x04"),           /* an octet too many */
        TAIL("\x20\0\0"),               /* TLS without its fixed part */
        TAIL("\x20\0\4\1\0\0\0"),       /* or with a part of it */
        TAIL("\x20\0\6\1\0\0\0\0\x21"), /* TLVs that do not fill it */
        TAIL("\x20\0\x8\1\0\0\0\0\x21\0\1"
             "abc"),                                   /* or reach behind it */
        TAIL("\x20\0\x5\1\0\0\0\0\x20\0\5\1\0\0\0\0"), /* TLS twice */
        TAIL("\x20\0\xd\1\0\0\0\0\x21\0\1a\x21\0\1b"), /* the version twice */
        TAIL("\x20\0\x9\1\0\0\0\0\x22\0\1\n"),         /* a name with a line end */
        TAIL("\x20\0\x9\1\0\0\0\0\x23\0\1\x7f"),       /* a cipher with DEL */
        TAIL("\x02\0\1\0"),                            /* a host name with NUL */
        TAIL("\x02\0\1a\x02\0\1a"),                    /* the host name twice */
        TAIL("\x02\0\0\x02\0\1a"),                     /* even if it was empty */
        TAIL("\x03\0\3abc"),                           /* a sum of three octets */
        TAIL("\x03\0\4abcd"),                          /* a wrong sum */
#undef TAIL
    };
    struct header header;

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        BEGIN(&header, PROXY, TCP4, IPV4_ADDRESSES);
        add(&header, table[i].bytes, table[i].size);
        finish(&header);
        expect_bad(&header);
    }
}

/* By polynomial division, from the most significant bit: the mirror image of what the parser does. */
static uint32_t naive_crc(const char *bytes, size_t size)
{
    uint32_t crc = UINT32_MAX;
    uint32_t mirrored = 0;

    for (size_t i = 0; i < 8 * size; i++) {
        unsigned bit = (unsigned char)bytes[i / 8] >> i % 8 & 1;
        bool carry = (crc >> 31 ^ bit) != 0;

        crc = crc << 1 ^ (carry ? UINT32_C(0x1edc6f41) : 0);
    }
    for (int i = 0; i < 32; i++)
        mirrored |= (crc >> i & 1) << (31 - i);
    return ~mirrored;
}

static void test_sum(void **state)
{
    struct header header;
    uint32_t sum;

    assert_true(naive_crc("123456789", 9) == UINT32_C(0xe3069283));
    BEGIN(&header, PROXY, TCP6, IPV6_ADDRESSES);
    ADD_TLV(&header, 0x02, "mail.example");
    ADD_TLV(&header, 0x03, "\0\0\0\0");
    ADD_TLV(&header, 0x04, "padding");
    finish(&header);
    sum = naive_crc(header.bytes, header.size);
    for (int i = 0; i < 4; i++)
        header.bytes[header.size - 14 + (size_t)i] = (char)(sum >> (24 - 8 * i));
    expect(&header, "v2" IPV6_WANTED " authority=[mail.example]");
    for (size_t i = 16; i < header.size; i++) {
        struct transcript transcript;

        if (i == header.size - 17)
            continue; /* the sum's type: with another one it is no sum */
        header.bytes[i] ^= 0x10;
        transcript_init(&transcript);
        transcript_run_proxy(&transcript, header.bytes, header.size, NULL, 0);
        assert_non_null(strstr(transcript.text, "bad"));
        transcript_deinit(&transcript);
        header.bytes[i] ^= 0x10;
    }
    /* Each must be right, and the second is not. */
    ADD_TLV(&header, 0x03, "\0\0\0\0");
    finish(&header);
    expect_bad(&header);
}

static void test_biggest(void **state)
{
    struct header *header = malloc(sizeof(*header));
    char padding[SMTP_PROXY_MAX] = {0};

    assert_non_null(header);
    BEGIN(header, PROXY, TCP4, IPV4_ADDRESSES);
    add_tlv(header, 0x04, padding, SMTP_PROXY_MAX - header->size - 3);
    finish(header);
    assert_int_equal(header->size, SMTP_PROXY_MAX);
    expect(header, "v2" IPV4_WANTED);
    free(header);
}

/* Whatever comes, in whatever pieces: the same answer, and no more than a header is taken. */
static void test_random_headers(void **state)
{
    uint64_t seed = 17;
    size_t good = 0;

    for (size_t run = 0; run < 300000; run++) {
        struct header header;
        struct transcript whole, pieces;
        size_t cut;

        begin(&header, transcript_random(&seed) % 20 == 0 ? LOCAL : PROXY, TCP4, IPV4_ADDRESSES, 12);
        for (uint64_t i = transcript_random(&seed) % 4; i > 0; i--) {
            static const uint8_t types[] = {0x02, 0x04, 0x20, 0x20, 0x21, 0xe1};
            char value[40];

            for (size_t at = 0; at < sizeof(value); at++)
                value[at] = (char)(transcript_random(&seed) % (at % 8 < 3 ? 4 : 256));
            memcpy(value + 5, "\x21\0\4TLSv\x22\0\3abc", 13);
            add_tlv(&header, types[transcript_random(&seed) % 6], value, transcript_random(&seed) % 40);
        }
        finish(&header);
        if (transcript_random(&seed) % 4 == 0)
            header.bytes[transcript_random(&seed) % header.size] ^= (char)(1 << transcript_random(&seed) % 8);
        add(&header, "EHLO x\r\n", transcript_random(&seed) % 9);
        cut = transcript_random(&seed) % (header.size + 1);
        transcript_init(&whole);
        transcript_init(&pieces);
        transcript_run_proxy(&whole, header.bytes, header.size, NULL, 0);
        transcript_run_proxy(&pieces, header.bytes, header.size, &cut, 1);
        assert_true(transcript_equal(&whole, &pieces));
        good += strstr(whole.text, "source") != NULL;
        transcript_deinit(&whole);
        transcript_deinit(&pieces);
    }
    assert_true(good > 30000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),          cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_addresses),      cmocka_unit_test(test_no_address_is_told),
        cmocka_unit_test(test_bad_fixed_part), cmocka_unit_test(test_tls),
        cmocka_unit_test(test_bad_tlvs),       cmocka_unit_test(test_sum),
        cmocka_unit_test(test_biggest),        cmocka_unit_test(test_random_headers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
