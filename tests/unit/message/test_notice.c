/* Delivery status notifications, to the octet, and whatever strangers put into them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/message/envelope.h"
#include "gateway/message/notice.h"
#include "tests/unit/message/notice_test.h"

static const struct smtp_slice original = {"Subject: hi\r\n\r\nhello\r\n..\r\n", 26};

static void assert_text(const struct notice *notice, struct smtp_slice returned, const char *expected)
{
    size_t size;
    const char *text = notice_text_of(notice, returned, &size);
    assert_string_equal(text, expected);
    assert_int_equal(strlen(text), size);
    assert_int_equal(notice_size(notice) + returned.size, size);
}

static void test_a_failure(void **state)
{
    assert_text(&notice_usual, original,
                "From: Mail Delivery System <mailer-daemon@relay.example>\r\n"
                "To: <alice@sender.example>\r\n"
                "Subject: Your message could not be delivered\r\n"
                "\tto user@example.com\r\n"
                "Date: Sat, 21 Nov 2026 22:20:12 +0000\r\n"
                "Message-ID: <0000000000abc@relay.example>\r\n"
                "Auto-Submitted: auto-replied\r\n"
                "MIME-Version: 1.0\r\n"
                "Content-Type: multipart/report; report-type=delivery-status;\r\n"
                "\tboundary=\"sluice-0123456789abcdeffedcba9876543210\"\r\n"
                "\r\n"
                "--sluice-0123456789abcdeffedcba9876543210\r\n"
                "Content-Type: text/plain; charset=us-ascii\r\n"
                "\r\n"
                "This is the mail system at relay.example.\r\n"
                "\r\n"
                "Your message could not be delivered to the address below, and will not be\r\n"
                "tried again.\r\n"
                "\r\n"
                "Your message came here on Sat, 21 Nov 2026 22:19:42 +0000.\r\n"
                "\r\n"
                "  <user@example.com>\r\n"
                "    There is no such address at the receiving system.\r\n"
                "    Check the spelling of the address, above all of what stands before the\r\n"
                "    @.\r\n"
                "    mx.example.com answered:\r\n"
                "      550 5.1.1 <user@example.com>: Recipient address rejected: User unknown\r\n"
                "\r\n"
                "Your message is attached.\r\n"
                "The same for programs is attached, too. Whoever looks after your mail can\r\n"
                "make use of it.\r\n"
                "Here your message was known as 0000000000abb.\r\n"
                "\r\n"
                "--sluice-0123456789abcdeffedcba9876543210\r\n"
                "Content-Type: message/delivery-status\r\n"
                "\r\n"
                "Original-Envelope-Id: QQ=314159\r\n"
                "Reporting-MTA: dns; relay.example\r\n"
                "Arrival-Date: Sat, 21 Nov 2026 22:19:42 +0000\r\n"
                "\r\n"
                "Original-Recipient: rfc822; Us+er@example.com\r\n"
                "Final-Recipient: rfc822; user@example.com\r\n"
                "Action: failed\r\n"
                "Status: 5.1.1\r\n"
                "Remote-MTA: dns; mx.example.com\r\n"
                "Diagnostic-Code: smtp; 550 5.1.1 <user@example.com>: Recipient address\r\n"
                "\trejected: User unknown\r\n"
                "Last-Attempt-Date: Sat, 21 Nov 2026 22:20:00 +0000\r\n"
                "Final-Log-ID: 0000000000abb\r\n"
                "\r\n"
                "--sluice-0123456789abcdeffedcba9876543210\r\n"
                "Content-Type: message/rfc822\r\n"
                "\r\n"
                "Subject: hi\r\n\r\nhello\r\n..\r\n"
                "\r\n"
                "--sluice-0123456789abcdeffedcba9876543210--\r\n");
}

static void assert_has(const struct notice *notice, const char *part)
{
    size_t size;
    const char *text = notice_text_of(notice, SMTP_SLICE("Subject: hi\r\n"), &size);
    if (strstr(text, part) == NULL)
        fail_msg("'%s' is not in:\n%s", part, text);
}

static void assert_has_not(const struct notice *notice, const char *part)
{
    size_t size;
    assert_null(strstr(notice_text_of(notice, SMTP_SLICE("Subject: hi\r\n"), &size), part));
}

static void test_a_delay(void **state)
{
    struct notice_recipient recipient = notice_usual_recipient;
    struct notice notice = notice_usual;
    notice.kind = NOTICE_DELAY;
    notice.recipients = &recipient;
    notice.original = NOTICE_ORIGINAL_HEADER;
    notice.expires_ms = INT64_C(1795731582000);
    recipient.action = NOTICE_DELAYED;
    recipient.class = NOTICE_CLASS_CONNECTION;
    recipient.code = 0;
    recipient.status = (struct smtp_status){0};
    recipient.reply = SMTP_SLICE("4.4.1 192.0.2.1:25: connection refused");
    assert_has(&notice, "Subject: Your message is delayed\r\n\tto user@example.com\r\n");
    assert_has(&notice, "You need not send it\r\nagain: it is still being tried.\r\n");
    assert_has(&notice, "If need be, it is tried until Thu, 26 Nov 2026 22:19:42 +0000.\r\n");
    assert_has(&notice,
               "    In the words of this system:\r\n      4.4.1 192.0.2.1:25: connection refused\r\n");
    assert_has(&notice, "Action: delayed\r\nStatus: 4.4.1\r\n");
    assert_has(&notice, "Diagnostic-Code: X-Sluice; 4.4.1 192.0.2.1:25: connection refused\r\n");
    assert_has(&notice, "Will-Retry-Until: Thu, 26 Nov 2026 22:19:42 +0000\r\n");
    assert_has(&notice, "The header of your message is attached.\r\n");
    assert_has(&notice, "Content-Type: text/rfc822-headers\r\n\r\nSubject: hi\r\n\r\n--");
    assert_has_not(&notice, notice_class_advice(NOTICE_CLASS_CONNECTION));
}

static void test_a_success(void **state)
{
    struct notice_recipient recipients[3] = {notice_usual_recipient, notice_usual_recipient,
                                             notice_usual_recipient};
    struct notice notice = notice_usual;
    notice.kind = NOTICE_SUCCESS;
    notice.recipients = recipients;
    notice.recipient_count = 3;
    notice.original = NOTICE_ORIGINAL_NOTHING;
    for (unsigned i = 0; i < 3; i++) {
        recipients[i].action = (enum notice_action)(NOTICE_DELIVERED + i);
        recipients[i].code = 250;
        recipients[i].status = (struct smtp_status){2, 1, 5};
        recipients[i].reply = SMTP_SLICE("2.1.5 ok");
    }
    assert_has(&notice, "Subject: What became of your message\r\n\tto 3 addresses\r\n");
    assert_has(&notice, "Action: delivered\r\nStatus: 2.1.5\r\n");
    assert_has(&notice, "Action: relayed\r\n");
    assert_has(&notice, "Action: expanded\r\n");
    assert_has(&notice, "Diagnostic-Code: smtp; 250 2.1.5 ok\r\n");
    assert_has_not(&notice, "attached.\r\n");
    assert_has_not(&notice, "rfc822-headers");
    assert_has_not(&notice, notice_class_why(NOTICE_CLASS_BAD_MAILBOX));
}

static void assert_status(enum notice_kind kind, enum notice_class class, struct smtp_status status,
                          const char *expected)
{
    struct notice_recipient recipient = notice_usual_recipient;
    struct notice notice = notice_usual;
    notice.kind = kind;
    notice.recipients = &recipient;
    recipient.class = class;
    recipient.status = status;
    recipient.action = kind == NOTICE_FAILURE ? NOTICE_FAILED
                       : kind == NOTICE_DELAY ? NOTICE_DELAYED
                                              : NOTICE_RELAYED;
    assert_has(&notice, expected);
}

/* RFC 3464 §2.3.4: the first number fits what became of the message, whatever was said last. */
static void test_status(void **state)
{
    const struct smtp_status none = {0};
    assert_status(NOTICE_FAILURE, NOTICE_CLASS_QUOTA, none, "\r\nStatus: 5.2.2\r\n");
    assert_status(NOTICE_FAILURE, NOTICE_CLASS_EXPIRED, none, "\r\nStatus: 4.4.7\r\n");
    assert_status(NOTICE_FAILURE, NOTICE_CLASS_QUOTA, (struct smtp_status){4, 2, 2}, "\r\nStatus: 4.2.2\r\n");
    assert_status(NOTICE_FAILURE, NOTICE_CLASS_QUOTA, (struct smtp_status){2, 0, 0}, "\r\nStatus: 5.0.0\r\n");
    assert_status(NOTICE_DELAY, NOTICE_CLASS_QUOTA, none, "\r\nStatus: 4.2.2\r\n");
    assert_status(NOTICE_DELAY, NOTICE_CLASS_OTHER, (struct smtp_status){5, 7, 1}, "\r\nStatus: 4.7.1\r\n");
    assert_status(NOTICE_SUCCESS, NOTICE_CLASS_OTHER, none, "\r\nStatus: 2.0.0\r\n");
    assert_status(NOTICE_SUCCESS, NOTICE_CLASS_OTHER, (struct smtp_status){2, 1, 5}, "\r\nStatus: 2.1.5\r\n");
}

static void assert_addresses(struct smtp_slice address, struct smtp_slice orcpt, bool is_utf8,
                             const char *expected)
{
    struct notice_recipient recipient = notice_usual_recipient;
    struct notice notice = notice_usual;
    notice.recipients = &recipient;
    notice.is_utf8 = is_utf8;
    recipient.address = address;
    recipient.orcpt = orcpt;
    assert_has(&notice, expected);
}

#define UTF8_ADDRESS "\xc3\xbc@b\xc3\xbc.example"

/* RFC 6533 §3. */
static void test_addresses_beyond_ascii(void **state)
{
    const struct smtp_slice none = {0};
    assert_addresses(SMTP_SLICE(UTF8_ADDRESS), none, true,
                     "\r\n\r\nFinal-Recipient: utf-8; " UTF8_ADDRESS "\r\n");
    assert_addresses(SMTP_SLICE(UTF8_ADDRESS), none, false,
                     "\r\n\r\nFinal-Recipient: utf-8; \\x{FC}@b\\x{FC}.example\r\n");
    assert_addresses(SMTP_SLICE("\xf0\x9f\x92\x8c+=\\@x"), none, false,
                     "Final-Recipient: utf-8; \\x{1F48C}\\x{2B}\\x{3D}\\x{5C}@x\r\n");
    assert_addresses(SMTP_SLICE("u@x"), SMTP_SLICE("utf-8;\\x{FC}@b\\x{fc}.example"), true,
                     "Original-Recipient: utf-8; " UTF8_ADDRESS "\r\nFinal-Recipient: rfc822; u@x\r\n");
    assert_addresses(SMTP_SLICE("u@x"), SMTP_SLICE("utf-8;\\x{FC}@b\\x{fc}.example"), false,
                     "Original-Recipient: utf-8; \\x{FC}@b\\x{FC}.example\r\n");
    assert_addresses(SMTP_SLICE("u@x"), SMTP_SLICE("utf-8;" UTF8_ADDRESS), true,
                     "Original-Recipient: utf-8; " UTF8_ADDRESS "\r\n");
    assert_addresses(SMTP_SLICE("u@x"), SMTP_SLICE("utf-8;a\\x{D}\\x{A}b\\x{202E}"), true,
                     "Original-Recipient: utf-8; a\\x{D}\\x{A}b\\x{202E}\r\n");
}

static void test_an_orcpt_that_makes_no_sense_is_left_out(void **state)
{
    static const struct smtp_slice table[] = {
        {"rfc822", 6},          {"rfc822;", 7},     {";u@x", 4}, {"rfc 822;u@x", 11},
        {"rfc822;a+0D+0A", 14}, {"rfc822;a+2", 10}, {"", 0},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        assert_addresses(SMTP_SLICE("u@x"), table[i], false, "\r\n\r\nFinal-Recipient: rfc822; u@x\r\n");
    assert_addresses(SMTP_SLICE("u@x"), SMTP_SLICE("X400;c+3Dus"), false,
                     "\r\n\r\nOriginal-Recipient: X400; c=us\r\nFinal-Recipient: rfc822; u@x\r\n");
}

/* What is declared is what there is. */
static void test_types_beyond_ascii(void **state)
{
    struct notice notice = notice_usual;
    notice.is_utf8 = true;
    notice.original_is_8bit = true;
    notice.sender = SMTP_SLICE(UTF8_ADDRESS);
    assert_has(&notice, "To: <" UTF8_ADDRESS ">\r\n");
    assert_has(&notice, "report-type=global-delivery-status;");
    assert_has(&notice, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
    assert_has(&notice,
               "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n");
    assert_has(&notice, "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
    assert_int_equal(notice_envelope_flags(&notice),
                     ENVELOPE_SMTPUTF8 | ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME);
    notice.original = NOTICE_ORIGINAL_HEADER;
    assert_has(&notice, "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");

    notice = notice_usual;
    notice.original_is_8bit = true;
    assert_has(&notice, "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
    assert_has(&notice, "\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--");
    assert_int_equal(notice_envelope_flags(&notice), ENVELOPE_HAS_8BIT | ENVELOPE_8BITMIME);
    assert_int_equal(notice_envelope_flags(&notice_usual), 0);
    assert_has_not(&notice_usual, "8bit");
}

static void test_a_sender_that_is_no_address_breaks_no_field(void **state)
{
    static const char *const table[] = {"a@b>\r\nBcc: c@d", "a b@c", "@", "a@b>,<c@d", UTF8_ADDRESS};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct notice notice = notice_usual;
        notice.sender = (struct smtp_slice){table[i], (uint32_t)strlen(table[i])};
        assert_has(&notice, "\r\nTo: undisclosed-recipients:;\r\n");
        assert_has_not(&notice, "\r\nBcc");
    }
}

static void assert_reply(struct smtp_slice reply, bool is_utf8, const char *expected)
{
    struct notice_recipient recipient = notice_usual_recipient;
    struct notice notice = notice_usual;
    notice.recipients = &recipient;
    notice.is_utf8 = is_utf8;
    recipient.reply = reply;
    assert_has(&notice, expected);
}

static void test_replies(void **state)
{
    assert_reply(SMTP_SLICE(""), false, "Diagnostic-Code: smtp; 550\r\nLast");
    assert_reply(SMTP_SLICE("550"), false, "Diagnostic-Code: smtp; 550\r\nLast");
    assert_reply(SMTP_SLICE("5.1.1 no"), false, "Diagnostic-Code: smtp; 550 5.1.1 no\r\n");
    assert_reply(SMTP_SLICE("5501 no"), false, "Diagnostic-Code: smtp; 550 5501 no\r\n");
    assert_reply(SMTP_SLICE("550-one\r\n550 two\r\n"), false, "Diagnostic-Code: smtp; 550 one two\r\n");
    assert_reply(SMTP_SLICE("550-5.1.1 a 5.1.1 b"), false, "Diagnostic-Code: smtp; 550 5.1.1 a b\r\n");
    assert_reply(SMTP_SLICE("550-5.1.1 a\r\n550-\r\n550 5.1.1 b 5.1.2"), false,
                 "Diagnostic-Code: smtp; 550 5.1.1 a b 5.1.2\r\n");
    assert_reply(SMTP_SLICE("550-5.1.1 a 5.1.1 b"), false, "answered:\r\n      550 5.1.1 a b\r\n");
    assert_reply(SMTP_SLICE("550 a 550 b 551\r\n551 c"), false, "smtp; 550 a 550 b 551 551 c\r\n");
    assert_reply(SMTP_SLICE("550 a\x01\x1b[31m\x7f\xc3\xa4"), false,
                 "Diagnostic-Code: smtp; 550 a??[31m??\r\n");
    assert_reply(SMTP_SLICE("550 \xc3\xa4\xe2\x80\xae\xff"), true,
                 "Diagnostic-Code: smtp; 550 \xc3\xa4??\r\n");
    assert_reply(SMTP_SLICE("550 \xe0\x80\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xf0\x9f\x92\x8c|\xe2\x82"), true,
                 "Diagnostic-Code: smtp; 550 ???|???|????|\xf0\x9f\x92\x8c|??\r\n");
    assert_reply((struct smtp_slice){"550 a\0b", 7}, false, "Diagnostic-Code: smtp; 550 a?b\r\n");
    assert_reply(SMTP_SLICE("550 x\r\n.\r\nx"), false, "      550 x . x\r\n");
}

/* RFC 3464 §2.3.5: a name of the DNS, or an address in brackets; a socket has neither. */
static void test_hosts(void **state)
{
    static const struct {
        struct smtp_slice host;
        const char *field;
        const char *told;
    } rows[] = {
        {SMTP_SLICE("mx.one.test"), "Remote-MTA: dns; mx.one.test\r\n", "    mx.one.test answered:"},
        {SMTP_SLICE("127.0.0.1"), "Remote-MTA: dns; [127.0.0.1]\r\n", "    [127.0.0.1] answered:"},
        {SMTP_SLICE("[127.0.0.1]"), "Remote-MTA: dns; [127.0.0.1]\r\n", "    [127.0.0.1] answered:"},
        {SMTP_SLICE("::1"), "Remote-MTA: dns; [IPv6:::1]\r\n", "    [IPv6:::1] answered:"},
        {SMTP_SLICE("/run/a b\r\n\x7f"), "Remote-MTA: x-unix; /run/a b  ?\r\n", "    /run/a b  ? answered:"},
        {SMTP_SLICE("mx\r\nX: y"), "Remote-MTA: dns; [IPv6:mx??X:?y]\r\n", NULL},
    };
    struct notice_recipient recipient = notice_usual_recipient;
    struct notice notice = notice_usual;

    notice.recipients = &recipient;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        recipient.host = rows[i].host;
        assert_has(&notice, rows[i].field);
        if (rows[i].told != NULL)
            assert_has(&notice, rows[i].told);
    }
}

/* Line ends, lengths, dots, octets: what must hold whatever was said. */
static void check_lines(const char *text, size_t size, const struct notice *notice)
{
    const char *end = text + size;
    while (text < end) {
        const char *feed = memchr(text, '\n', (size_t)(end - text));
        assert_non_null(feed);
        assert_true(feed > text && feed[-1] == '\r');
        const size_t line_size = (size_t)(feed - text) - 1;
        assert_true(line_size <= 998);
        assert_true(line_size == 0 || text[0] != '.' || strncmp(text, "..dots", 6) == 0);
        for (size_t i = 0; i < line_size; i++) {
            const uint8_t octet = (uint8_t)text[i];
            assert_true(octet >= ' ' || octet == '\t');
            assert_true(octet < 0x7f || (octet > 0x7f && notice->is_utf8));
        }
        text = feed + 1;
    }
}

static uint32_t count(const char *text, const char *part)
{
    uint32_t found = 0;
    for (; (text = strstr(text, part)) != NULL; text++)
        found++;
    return found;
}

static void test_no_stranger_can_break_a_notice(void **state)
{
    for (unsigned seed = 0; seed < 4000; seed++) {
        struct smtp_slice returned;
        const struct notice *notice = notice_random(seed, &returned);
        size_t size;
        const char *text = notice_text_of(notice, returned, &size);
        check_lines(text, size, notice);
        assert_int_equal(notice_size(notice) + returned.size, size);
        assert_int_equal(count(text, "\r\nAction: "), notice->recipient_count);
        assert_int_equal(count(text, "\r\nFinal-Recipient: "), notice->recipient_count);
        assert_int_equal(count(text, "\r\nBcc: "), 0);
        char boundary[64];
        snprintf(boundary, sizeof(boundary), "\r\n--sluice-%016llx", (unsigned long long)notice->nonce[0]);
        assert_int_equal(count(text, boundary), notice->original == NOTICE_ORIGINAL_NOTHING ? 3 : 4);
    }
}

/* The worst that each part can be fits into a piece: notice_next asserts it. */
static void test_the_largest_pieces(void **state)
{
    static const char *const units[] = {"x",
                                        "\xc3\xa4",
                                        "\xf0\x9f\x92\x8c",
                                        "a ",
                                        "\xff",
                                        "=",
                                        "\r\n",
                                        "0123456789012345678901234567890123456 0 "};
    char texts[8][2048];
    for (size_t unit = 0; unit < sizeof(units) / sizeof(units[0]); unit++) {
        const size_t unit_size = strlen(units[unit]);
        for (size_t i = 0; i < sizeof(texts[0]); i++)
            texts[unit][i] = units[unit][i % unit_size];
        for (unsigned is_utf8 = 0; is_utf8 < 2; is_utf8++) {
            struct notice_recipient recipient = notice_usual_recipient;
            struct notice notice = notice_usual;
            char orcpt[500] = "utf-8;";
            size_t size;
            memcpy(orcpt + 6, texts[unit], sizeof(orcpt) - 6);
            notice.recipients = &recipient;
            notice.is_utf8 = is_utf8 != 0;
            notice.hostname = notice.sender = notice.postmaster = notice.original_id = notice.envid =
                (struct smtp_slice){texts[unit], 2000};
            recipient.address = recipient.host = recipient.reply = notice.hostname;
            recipient.orcpt = (struct smtp_slice){orcpt, sizeof(orcpt)};
            const char *text = notice_text_of(&notice, SMTP_SLICE(""), &size);
            check_lines(text, size, &notice);
        }
    }
}

static void test_who_writes(void **state)
{
    static const struct {
        const char *postmaster;
        const char *from;
    } rows[] = {
        {"help@relay.example", "From: Mail Delivery System <help@relay.example>\r\nTo: "},
        {"", "From: Mail Delivery System <mailer-daemon@relay.example>\r\nTo: "},
        {"postmaster", "From: Mail Delivery System <mailer-daemon@relay.example>\r\nTo: "},
        {"a@b>\r\nX: y", "From: Mail Delivery System <mailer-daemon@relay.example>\r\nTo: "},
        {"gr\xc3\xbc\xc3\x9f@relay.example",
         "From: Mail Delivery System <mailer-daemon@relay.example>\r\nTo: "},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct notice notice = notice_usual;
        size_t size;
        notice.postmaster = (struct smtp_slice){rows[i].postmaster, (uint32_t)strlen(rows[i].postmaster)};
        const char *text = notice_text_of(&notice, original, &size);
        assert_memory_equal(text, rows[i].from, strlen(rows[i].from));
    }
}

static void test_how_much_is_returned(void **state)
{
    bool is_cut;
    assert_int_equal(notice_original_choose(NOTICE_FAILURE, 0, 100, 100, &is_cut), NOTICE_ORIGINAL_CONTENT);
    assert_false(is_cut);
    assert_int_equal(notice_original_choose(NOTICE_FAILURE, ENVELOPE_RET_FULL, 101, 100, &is_cut),
                     NOTICE_ORIGINAL_HEADER);
    assert_true(is_cut);
    assert_int_equal(notice_original_choose(NOTICE_FAILURE, ENVELOPE_RET_HDRS, 101, 100, &is_cut),
                     NOTICE_ORIGINAL_HEADER);
    assert_false(is_cut);
    assert_int_equal(notice_original_choose(NOTICE_FAILURE, ENVELOPE_BINARYMIME, 1, 100, &is_cut),
                     NOTICE_ORIGINAL_HEADER);
    assert_int_equal(notice_original_choose(NOTICE_DELAY, ENVELOPE_RET_FULL, 1, 100, &is_cut),
                     NOTICE_ORIGINAL_HEADER);
    assert_int_equal(notice_original_choose(NOTICE_SUCCESS, ENVELOPE_RET_FULL, 1, 100, &is_cut),
                     NOTICE_ORIGINAL_HEADER);
    assert_false(is_cut);
}

static void assert_header(const char *content, size_t size, uint32_t expected, bool is_8bit)
{
    char *exact = malloc(size > 0 ? size : 1);
    assert_non_null(exact);
    memcpy(exact, content, size);
    const struct notice_header header = notice_header_find(exact, size);
    free(exact);
    assert_int_equal(header.size, expected);
    assert_int_equal(header.is_8bit, is_8bit);
}

static void test_what_counts_as_header(void **state)
{
    assert_header("", 0, 0, false);
    assert_header("A: 1\r\nB: 2\r\n\r\nbody\xff\r\n", 22, 12, false);
    assert_header("A: \xc3\xa4\r\n 2\r\n\r\n", 13, 11, true);
    assert_header("A: 1\r\nB: 2\r\n", 12, 12, false);
    assert_header("A: 1\r\nB: 2", 10, 6, false);
    assert_header("A: 1\r\nno field\r\n", 16, 6, false);
    assert_header("no field\r\n", 10, 0, false);
    assert_header("A: 1\r\n.B: 2\r\n\r\n", 15, 6, false); /* stored with two dots, or BINARYMIME */
    assert_header("\r\nbody\r\n", 8, 0, false);
    assert_header("A: 1\r\nB: 2\nC: 3\r\n\r\n", 19, 6, false);
    assert_header("A: 1\r\nB: \r2\r\n\r\n", 15, 6, false);
    assert_header("A: 1\r\nB: \0\r\n\r\n", 14, 6, false);

    char line[6 + 999 + 2] = "A: 1\r\nB:";
    memset(line + 8, 'x', 997);
    memcpy(line + 6 + 998, "\r\n", 2);
    assert_header(line, 6 + 998 + 2, 6 + 998 + 2, false);
    memcpy(line + 6 + 998, "x\r\n", 3);
    assert_header(line, 6 + 999 + 2, 6, false);

    char *many = malloc(NOTICE_HEADER_MAX + 5);
    assert_non_null(many);
    for (uint32_t i = 0; i < NOTICE_HEADER_MAX + 5; i++)
        many[i] = "A: 1\r\n"[i % 6];
    assert_header(many, NOTICE_HEADER_MAX + 5, NOTICE_HEADER_MAX / 6 * 6, false);
    free(many);
}

static void test_classes(void **state)
{
    for (unsigned i = 0; i < NOTICE_CLASS_COUNT; i++) {
        const char *name = notice_class_name((enum notice_class)i);
        enum notice_class class = NOTICE_CLASS_COUNT;
        assert_true(notice_class_find((struct smtp_slice){name, (uint32_t)strlen(name)}, &class));
        assert_int_equal(class, i);
        assert_int_equal(notice_class_why(class)[strlen(notice_class_why(class)) - 1], '.');
        assert_int_equal(notice_class_advice(class)[strlen(notice_class_advice(class)) - 1], '.');
    }
    enum notice_class class = NOTICE_CLASS_TLS;
    assert_false(notice_class_find(SMTP_SLICE("bad"), &class));
    assert_false(notice_class_find(SMTP_SLICE(""), &class));
    assert_int_equal(class, NOTICE_CLASS_TLS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failure),
        cmocka_unit_test(test_who_writes),
        cmocka_unit_test(test_a_delay),
        cmocka_unit_test(test_a_success),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_addresses_beyond_ascii),
        cmocka_unit_test(test_an_orcpt_that_makes_no_sense_is_left_out),
        cmocka_unit_test(test_types_beyond_ascii),
        cmocka_unit_test(test_a_sender_that_is_no_address_breaks_no_field),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_no_stranger_can_break_a_notice),
        cmocka_unit_test(test_the_largest_pieces),
        cmocka_unit_test(test_how_much_is_returned),
        cmocka_unit_test(test_what_counts_as_header),
        cmocka_unit_test(test_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
