/* The part of a notice that people read. */

#include "gateway/message/notice_inner.h"
#include "proto/path.h"

#include <assert.h>
#include <stdio.h>

static void put_sentence(struct notice_text *text, const char *sentence, const char *indent)
{
    notice_put(text, indent);
    notice_put_folded(text, (struct smtp_slice){sentence, (uint32_t)strlen(sentence)}, UINT32_MAX, indent);
    notice_put(text, "\r\n");
}

static void put_happened(struct notice_text *text, const struct notice *notice)
{
    const bool is_one = notice->recipient_count == 1;
    switch (notice->kind) {
    case NOTICE_FAILURE:
        put_sentence(text,
                     is_one ? "Your message could not be delivered to the address below, and will not be "
                              "tried again."
                            : "Your message could not be delivered to the addresses below, and will not be "
                              "tried again.",
                     "");
        break;
    case NOTICE_DELAY:
        put_sentence(text,
                     is_one ? "Your message has not reached the address below yet. You need not send it "
                              "again: it is still being tried."
                            : "Your message has not reached the addresses below yet. You need not send it "
                              "again: it is still being tried.",
                     "");
        break;
    case NOTICE_SUCCESS:
        put_sentence(text, "You asked to hear what becomes of your message. This is known of it:", "");
        break;
    }
}

void notice_put_opening(struct notice_text *text, const struct notice *notice)
{
    notice_put(text, "This is the mail system at ");
    notice_put_name(text, notice->hostname);
    notice_put(text, ".\r\n\r\n");
    put_happened(text, notice);
    notice_put(text, "\r\n");
    const bool has_arrival = notice_is_time(notice->arrival_ms);
    const bool has_end = notice->kind == NOTICE_DELAY && notice_is_time(notice->expires_ms);
    if (has_arrival) {
        notice_put(text, "Your message came here on ");
        notice_put_date(text, notice->arrival_ms);
        notice_put(text, ".\r\n");
    }
    if (has_end) {
        notice_put(text, "If need be, it is tried until ");
        notice_put_date(text, notice->expires_ms);
        notice_put(text, ".\r\n");
    }
    if (has_arrival || has_end)
        notice_put(text, "\r\n");
}

static bool begins_with_code(struct smtp_slice reply, uint16_t code)
{
    const char digits[3] = {(char)('0' + code / 100), (char)('0' + code / 10 % 10), (char)('0' + code % 10)};
    return reply.size >= 3 && memcmp(reply.data, digits, 3) == 0 &&
           (reply.size == 3 || reply.data[3] < '0' || reply.data[3] > '9');
}

static bool is_blank(char octet)
{
    return octet == ' ' || octet == '\t' || octet == '\r' || octet == '\n';
}

/* The next word of the reply; *begins_line when a line begins with it. Size 0: there is none. */
static struct smtp_slice next_word(struct smtp_slice *rest, bool *begins_line)
{
    struct smtp_slice word = {0};

    for (; rest->size > 0 && is_blank(rest->data[0]); rest->data++, rest->size--)
        *begins_line |= rest->data[0] == '\n';
    word.data = rest->data;
    for (; rest->size > 0 && !is_blank(rest->data[0]); rest->data++, rest->size--)
        word.size++;
    return word;
}

/* "5.1.1" (RFC 3463 §2) */
static bool is_status(struct smtp_slice word)
{
    uint32_t dots = 0;

    if (word.size < 5 || word.size > 9 || word.data[1] != '.')
        return false;
    for (uint32_t i = 0; i < word.size; i++) {
        dots += word.data[i] == '.';
        if (word.data[i] != '.' && (word.data[i] < '0' || word.data[i] > '9'))
            return false;
    }
    return dots == 2;
}

enum { JOINED_MAX = NOTICE_REPLY_MAX + 8 };

/* Its lines in one, as a reply of one line is: the code stands at its beginning only, and so does the
 * enhanced code, which every line has (RFC 2034 §4). Returns the size. */
static uint32_t join_reply(const struct notice_recipient *recipient, char into[static JOINED_MAX])
{
    struct smtp_slice rest = recipient->reply;
    struct smtp_slice status = {0};
    struct smtp_slice word;
    bool begins_line = true;
    int size = snprintf(into, JOINED_MAX, "%u", recipient->code);

    rest.size = rest.size < NOTICE_REPLY_MAX ? rest.size : NOTICE_REPLY_MAX;
    for (uint32_t i = 0; (word = next_word(&rest, &begins_line)).size > 0; begins_line = false) {
        if (begins_line && begins_with_code(word, recipient->code) &&
            (word.size == 3 || word.data[3] == '-')) {
            const uint32_t code_size = word.size == 3 ? 3 : 4;
            word = (struct smtp_slice){word.data + code_size, word.size - code_size};
        }
        if (word.size == 0 || (status.size > 0 && smtp_slice_equals_nocase(word, status)))
            continue;
        if (i++ == 0 && is_status(word))
            status = word;
        into[size++] = ' ';
        memcpy(into + size, word.data, word.size);
        size += (int)word.size;
    }
    assert(size >= 3 && size <= JOINED_MAX);
    return (uint32_t)size;
}

void notice_put_reply(struct notice_text *text, const struct notice_recipient *recipient, const char *indent)
{
    char joined[JOINED_MAX];
    struct smtp_slice reply = recipient->reply;

    assert(recipient->code == 0 || (recipient->code >= 200 && recipient->code <= 599));
    if (recipient->code != 0)
        reply = (struct smtp_slice){joined, join_reply(recipient, joined)};
    notice_put_folded(text, reply, JOINED_MAX, indent);
}

static void put_answer(struct notice_text *text, const struct notice_recipient *recipient)
{
    if (recipient->code == 0 && recipient->reply.size == 0)
        return;
    notice_put(text, "    ");
    if (recipient->code == 0)
        notice_put(text, "In the words of this system");
    else if (recipient->host.size == 0)
        notice_put(text, "The answer was");
    else
        notice_put_host(text, recipient->host);
    notice_put(text,
               recipient->code != 0 && recipient->host.size > 0 ? " answered:\r\n      " : ":\r\n      ");
    notice_put_reply(text, recipient, "      ");
    notice_put(text, "\r\n");
}

static const char *arrived(enum notice_action action)
{
    assert(action == NOTICE_DELIVERED || action == NOTICE_RELAYED || action == NOTICE_EXPANDED);
    if (action == NOTICE_DELIVERED)
        return "It was delivered.";
    return action == NOTICE_RELAYED
               ? "It was passed on to a mail system that may not tell you what becomes of it there."
               : "It was passed on to several addresses, and what becomes of it there is not reported.";
}

void notice_put_told(struct notice_text *text, const struct notice *notice,
                     const struct notice_recipient *recipient)
{
    notice_put(text, "  <");
    notice_put_harmless(text, recipient->address, SMTP_PATH_MAX);
    notice_put(text, ">\r\n");
    if (notice->kind == NOTICE_SUCCESS) {
        put_sentence(text, arrived(recipient->action), "    ");
    } else {
        put_sentence(text, notice_class_why(recipient->class), "    ");
        if (notice->kind == NOTICE_FAILURE)
            put_sentence(text, notice_class_advice(recipient->class), "    ");
    }
    put_answer(text, recipient);
    notice_put(text, "\r\n");
}

static void put_returned(struct notice_text *text, const struct notice *notice)
{
    if (notice->original == NOTICE_ORIGINAL_CONTENT)
        notice_put(text, "Your message is attached.\r\n");
    else if (notice->original == NOTICE_ORIGINAL_HEADER && notice->original_is_cut)
        notice_put(text, "The header of your message is attached; all of it would be too large.\r\n");
    else if (notice->original == NOTICE_ORIGINAL_HEADER)
        notice_put(text, "The header of your message is attached.\r\n");
}

void notice_put_closing(struct notice_text *text, const struct notice *notice)
{
    put_returned(text, notice);
    put_sentence(text,
                 "The same for programs is attached, too. Whoever looks after your mail can make use of it.",
                 "");
    if (notice->original_id.size > 0) {
        notice_put(text, "Here your message was known as ");
        notice_put_name(text, notice->original_id);
        notice_put(text, ".\r\n");
    }
}
