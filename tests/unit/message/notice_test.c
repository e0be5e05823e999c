#include "tests/unit/message/notice_test.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/path.h"

enum { RECIPIENTS_MAX = 40, TEXT_MAX = 1200, NOTICE_MAX = 1 << 20 };

const struct notice_recipient notice_usual_recipient = {
    .address = {"user@example.com", 16},
    .orcpt = {"rfc822;Us+2Ber@example.com", 26},
    .action = NOTICE_FAILED,
    .class = NOTICE_CLASS_BAD_MAILBOX,
    .code = 550,
    .status = {5, 1, 1},
    .reply = {"550 5.1.1 <user@example.com>: Recipient address rejected: User unknown", 70},
    .host = {"mx.example.com", 14},
    .last_attempt_ms = INT64_C(1795299600000),
};

const struct notice notice_usual = {
    .kind = NOTICE_FAILURE,
    .hostname = {"relay.example", 13},
    .id = {"0000000000abc", 13},
    .sender = {"alice@sender.example", 20},
    .envid = {"QQ+3D314159", 11},
    .original_id = {"0000000000abb", 13},
    .now_ms = INT64_C(1795299612000),
    .arrival_ms = INT64_C(1795299582000),
    .nonce = {UINT64_C(0x0123456789abcdef), UINT64_C(0xfedcba9876543210)},
    .recipients = &notice_usual_recipient,
    .recipient_count = 1,
    .original = NOTICE_ORIGINAL_CONTENT,
};

static void append(char *into, size_t *size, const char *octets, size_t count)
{
    if (*size + count >= NOTICE_MAX)
        abort();
    if (count > 0)
        memcpy(into + *size, octets, count);
    *size += count;
}

const char *notice_text_of(const struct notice *notice, struct smtp_slice original, size_t *size)
{
    static char text[NOTICE_MAX];
    struct notice_writer writer;
    size_t total = 0;
    notice_writer_init(&writer, notice);
    while (true) {
        char *piece = malloc(NOTICE_PIECE_MAX); /* so that a sanitizer sees what goes beyond */
        size_t piece_size = 0;
        const enum notice_step step = notice_next(&writer, piece, &piece_size);
        if (step == NOTICE_PIECE)
            append(text, &total, piece, piece_size);
        else if (step == NOTICE_RETURNED)
            append(text, &total, original.data, original.size);
        free(piece);
        if (step == NOTICE_END)
            break;
    }
    text[total] = '\0';
    *size = total;
    return text;
}

static uint64_t random_state;

static uint32_t pick(uint32_t count)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 20) % count;
}

/* What might end a line, a field, a part or an address. */
static struct smtp_slice make_hostile(char *into, uint32_t most)
{
    static const char *const pieces[] = {
        "\r\n",
        "\r\n\r\n",
        "\n.\n",
        "\r\n.\r\n",
        "\r\n--sluice-",
        "--",
        "Bcc: x@y\r\n",
        "\xc3\xa4",
        "\xe2\x80\xa8",
        "\xe2\x80\xae",
        "\xf0\x9f\x92\x8c",
        "\xed\xa0\x80",
        "\xc0\xaf",
        "\xff",
        "\x1b[31m",
        "\\x{",
        "\\x{E9}",
        "\\x{a}",
        "+0D+0A",
        "+2B",
        "<",
        ">",
        "\"",
        ";",
        "=?utf-8?q?x?=",
        " ",
        "\t",
        ".",
        "550 5.1.1 user unknown ",
        "https://errors.example/very/long/path?with=many&letters=0123456789",
    };
    uint32_t size = 0;
    const uint32_t wanted = pick(4) == 0 ? most : pick(most + 1);
    while (size < wanted) {
        const char *piece = pieces[pick(sizeof(pieces) / sizeof(pieces[0]))];
        if (size + strlen(piece) < wanted) {
            memcpy(into + size, piece, strlen(piece));
            size += (uint32_t)strlen(piece);
        }
        into[size++] = pick(3) == 0 ? (char)pick(256) : 'x';
    }
    return (struct smtp_slice){into, size};
}

static struct smtp_slice make_address(char *into, bool is_utf8)
{
    static const char *const addresses[] = {"user@example.com", "\"a b\"@example.com",
                                            "o'neil+tag=1@[192.0.2.1]", "x@[IPv6:2001:db8::1]",
                                            "\xc3\xbcser@b\xc3\xbc"
                                            "cher.example"};
    if (pick(3) == 0)
        return make_hostile(into, SMTP_PATH_MAX);
    const char *address = addresses[pick(is_utf8 ? 5 : 4)];
    return (struct smtp_slice){address, (uint32_t)strlen(address)};
}

static enum notice_action make_action(enum notice_kind kind)
{
    if (kind == NOTICE_SUCCESS)
        return (enum notice_action)(NOTICE_DELIVERED + pick(3));
    return kind == NOTICE_FAILURE ? NOTICE_FAILED : NOTICE_DELAYED;
}

static void make_recipient(struct notice_recipient *recipient, enum notice_kind kind, bool is_utf8,
                           char (*texts)[TEXT_MAX])
{
    static const char *const types[] = {"rfc822;", "utf-8;", "UTF-8;", "x400;", "bad type;", ""};
    *recipient = (struct notice_recipient){
        .address = make_address(texts[0], is_utf8),
        .action = make_action(kind),
        .class = (enum notice_class)pick(NOTICE_CLASS_COUNT),
        .code = (uint16_t)(pick(3) == 0 ? 0 : 200 + pick(400)),
        .status = {(uint16_t)pick(6), (uint16_t)pick(65536), (uint16_t)pick(65536)},
        .reply = make_hostile(texts[1], TEXT_MAX - 100),
        .host = make_hostile(texts[2], 300),
        .last_attempt_ms = pick(4) == 0 ? INT64_MAX : (int64_t)pick(1u << 31) * 1000,
    };
    const char *type = types[pick(sizeof(types) / sizeof(types[0]))];
    const struct smtp_slice rest = make_hostile(texts[3] + strlen(type), 500);
    memcpy(texts[3], type, strlen(type));
    recipient->orcpt = (struct smtp_slice){texts[3], rest.size + (uint32_t)strlen(type)};
}

const struct notice *notice_random(unsigned seed, struct smtp_slice *original)
{
    static struct notice notice;
    static struct notice_recipient recipients[RECIPIENTS_MAX];
    static char texts[RECIPIENTS_MAX][4][TEXT_MAX];
    static char sender[TEXT_MAX], envid[TEXT_MAX], original_id[TEXT_MAX];
    random_state = UINT64_C(88172645463325252) + seed;
    for (int i = 0; i < 16; i++)
        pick(2);
    notice = notice_usual;
    notice.kind = (enum notice_kind)pick(3);
    notice.is_utf8 = pick(2) == 0;
    notice.sender = make_address(sender, notice.is_utf8);
    if (notice.sender.size == 0)
        notice.sender = notice_usual.sender;
    if (pick(2) == 0)
        notice.hostname = SMTP_SLICE("mx-1.under_score.relay.example");
    notice.envid = make_hostile(envid, 300);
    notice.original_id = make_hostile(original_id, 20);
    notice.expires_ms = pick(2) == 0 ? INT64_C(1795731582000) : INT64_MAX;
    notice.arrival_ms = pick(4) == 0 ? INT64_MIN : notice.arrival_ms;
    notice.nonce[0] = seed;
    notice.original = (enum notice_original)pick(3);
    notice.original_is_8bit = notice.is_utf8;
    notice.original_is_cut = pick(2) == 0;
    notice.recipient_count = pick(4) != 0 ? 1 : 1 + pick(RECIPIENTS_MAX);
    notice.recipients = recipients;
    for (uint32_t i = 0; i < notice.recipient_count; i++)
        make_recipient(&recipients[i], notice.kind, notice.is_utf8, texts[i]);
    *original = notice.original == NOTICE_ORIGINAL_NOTHING ? SMTP_SLICE("")
                : notice.original == NOTICE_ORIGINAL_HEADER
                    ? SMTP_SLICE("From: alice@sender.example\r\nSubject: hello\r\n")
                    : SMTP_SLICE("From: alice@sender.example\r\nSubject: hello\r\n\r\n"
                                 "--sluice-0123456789abcdeffedcba9876543210--\r\n..dots\r\n");
    return &notice;
}
