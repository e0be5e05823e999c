#include "gateway/message/notice.h"

#include "gateway/message/notice_inner.h"
#include "gateway/message/notice_text.h"
#include "proto/path.h"

#include <assert.h>

/*
 *  HEADER ──▶ TOLD, once for each recipient ──▶ STATUS ──▶ FIELDS, once for each ──┬──▶ ORIGINAL ──▶ RETURNED
 * ──┐ └──────────────────────────▶ TAIL ──▶ END
 */
enum notice_stage {
    STAGE_HEADER,   /* the notice's own header, and what its text begins with */
    STAGE_TOLD,     /* a recipient in the text */
    STAGE_STATUS,   /* the end of the text, and the fields about the message */
    STAGE_FIELDS,   /* a recipient's fields */
    STAGE_ORIGINAL, /* what announces the original */
    STAGE_RETURNED, /* the original itself, which the caller has */
    STAGE_TAIL,     /* the last boundary */
    STAGE_END,
};

static void put_hex(struct notice_text *text, uint64_t number)
{
    char digits[16];
    for (uint32_t i = 0; i < sizeof(digits); i++)
        digits[i] = "0123456789abcdef"[number >> (60 - 4 * i) & 0xf];
    notice_put_slice(text, (struct smtp_slice){digits, sizeof(digits)});
}

static void put_boundary(struct notice_text *text, const struct notice *notice)
{
    notice_put(text, "sluice-");
    put_hex(text, notice->nonce[0]);
    put_hex(text, notice->nonce[1]);
}

/* The line before a part; the CRLF that it begins with belongs to it, not to the part before
 * (RFC 2046 §5.1.1). */
static void put_delimiter(struct notice_text *text, const struct notice *notice)
{
    notice_put(text, "\r\n--");
    put_boundary(text, notice);
}

static bool is_8bit(const struct notice *notice)
{
    return notice->is_utf8 || notice->original_is_8bit;
}

/* False: it is no path, and nothing is written. */
static bool put_path(struct notice_text *text, const struct notice *notice, struct smtp_slice address)
{
    char form[SMTP_PATH_MAX + 2];
    struct smtp_path path;
    uint32_t used = 0;
    if (address.size == 0 || address.size > SMTP_PATH_MAX)
        return false;
    form[0] = '<';
    memcpy(form + 1, address.data, address.size);
    form[address.size + 1] = '>';
    const struct smtp_slice whole = {form, address.size + 2};
    if (smtp_path_parse(whole, SMTP_PATH_REVERSE, notice->is_utf8, &path, &used) != SMTP_PATH_OK ||
        used != whole.size)
        return false;
    notice_put_slice(text, whole);
    return true;
}

static void put_from(struct notice_text *text, const struct notice *notice)
{
    notice_put(text, "From: Mail Delivery System ");
    if (!put_path(text, notice, notice->postmaster)) {
        notice_put(text, "<mailer-daemon@");
        notice_put_name(text, notice->hostname);
        notice_put(text, ">");
    }
    notice_put(text, "\r\n");
}

/* A reverse-path comes from a disk. One that is none would break the field; the envelope is what counts. */
static void put_to(struct notice_text *text, const struct notice *notice)
{
    notice_put(text, "To: ");
    if (!put_path(text, notice, notice->sender))
        notice_put(text, "undisclosed-recipients:;");
    notice_put(text, "\r\n");
}

static void put_subject(struct notice_text *text, const struct notice *notice)
{
    static const char *const subjects[] = {
        [NOTICE_FAILURE] = "Subject: Your message could not be delivered\r\n\tto ",
        [NOTICE_DELAY] = "Subject: Your message is delayed\r\n\tto ",
        [NOTICE_SUCCESS] = "Subject: What became of your message\r\n\tto ",
    };
    notice_put(text, subjects[notice->kind]);
    if (notice->recipient_count == 1) {
        notice_put_harmless(text, notice->recipients[0].address, SMTP_PATH_MAX);
    } else {
        notice_put_number(text, notice->recipient_count);
        notice_put(text, " addresses");
    }
    notice_put(text, "\r\n");
}

static void put_type(struct notice_text *text, const struct notice *notice)
{
    notice_put(text, "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=");
    notice_put(text, notice->is_utf8 ? "global-delivery-status" : "delivery-status");
    notice_put(text, ";\r\n\tboundary=\"");
    put_boundary(text, notice);
    notice_put(text, "\"\r\n");
    if (is_8bit(notice))
        notice_put(text, "Content-Transfer-Encoding: 8bit\r\n");
}

static void put_header(struct notice_text *text, const struct notice *notice)
{
    put_from(text, notice);
    put_to(text, notice);
    put_subject(text, notice);
    notice_put(text, "Date: ");
    notice_put_date(text, notice->now_ms);
    notice_put(text, "\r\nMessage-ID: <");
    notice_put_slice(text, notice->id);
    notice_put(text, "@");
    notice_put_name(text, notice->hostname);
    notice_put(text, ">\r\nAuto-Submitted: auto-replied\r\n");
    put_type(text, notice);
}

static void put_text_begin(struct notice_text *text, const struct notice *notice)
{
    put_delimiter(text, notice);
    notice_put(text, "\r\nContent-Type: text/plain; charset=");
    notice_put(text,
               notice->is_utf8 ? "utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" : "us-ascii\r\n\r\n");
    notice_put_opening(text, notice);
}

static void put_status_begin(struct notice_text *text, const struct notice *notice)
{
    notice_put_closing(text, notice);
    put_delimiter(text, notice);
    notice_put(text, notice->is_utf8 ? "\r\nContent-Type: message/global-delivery-status\r\n"
                                       "Content-Transfer-Encoding: 8bit\r\n\r\n"
                                     : "\r\nContent-Type: message/delivery-status\r\n\r\n");
    notice_put_message_fields(text, notice);
}

static void put_original_begin(struct notice_text *text, const struct notice *notice)
{
    static const char *const types[][2] = {
        [NOTICE_ORIGINAL_HEADER] = {"text/rfc822-headers", "message/global-headers"},
        [NOTICE_ORIGINAL_CONTENT] = {"message/rfc822", "message/global"},
    };
    assert(notice->original != NOTICE_ORIGINAL_NOTHING);
    put_delimiter(text, notice);
    notice_put(text, "\r\nContent-Type: ");
    notice_put(text, types[notice->original][notice->is_utf8]);
    notice_put(text, "\r\n");
    if (is_8bit(notice))
        notice_put(text, "Content-Transfer-Encoding: 8bit\r\n");
    notice_put(text, "\r\n");
}

static void put_tail(struct notice_text *text, const struct notice *notice)
{
    put_delimiter(text, notice);
    notice_put(text, "--\r\n");
}

static bool fits_kind(enum notice_kind kind, enum notice_action action)
{
    if (kind == NOTICE_FAILURE)
        return action == NOTICE_FAILED;
    return kind == NOTICE_DELAY ? action == NOTICE_DELAYED : action >= NOTICE_DELIVERED;
}

void notice_writer_init(struct notice_writer *writer, const struct notice *notice)
{
    assert(notice->sender.size > 0);
    assert(notice->hostname.size > 0);
    assert(notice->id.size > 0 && notice->id.size <= 16);
    assert(notice->recipient_count > 0);
    assert(notice_is_time(notice->now_ms) && notice->kind <= NOTICE_SUCCESS);
    for (uint32_t i = 0; i < notice->recipient_count; i++)
        assert(fits_kind(notice->kind, notice->recipients[i].action));
    *writer = (struct notice_writer){.notice = notice, .stage = STAGE_HEADER};
}

/* Writes what the stage has to say about one recipient; the last one leads to the next stage. */
static void put_recipient(struct notice_writer *writer, struct notice_text *text)
{
    const struct notice *notice = writer->notice;
    assert(writer->recipient < notice->recipient_count);
    const struct notice_recipient *recipient = &notice->recipients[writer->recipient++];
    if (writer->stage == STAGE_TOLD)
        notice_put_told(text, notice, recipient);
    else
        notice_put_recipient_fields(text, notice, recipient);
    if (writer->recipient < notice->recipient_count)
        return;
    writer->recipient = 0;
    writer->stage++;
    if (writer->stage == STAGE_ORIGINAL && notice->original == NOTICE_ORIGINAL_NOTHING)
        writer->stage = STAGE_TAIL;
}

static void put_stage(struct notice_writer *writer, struct notice_text *text)
{
    const struct notice *notice = writer->notice;
    switch ((enum notice_stage)writer->stage) {
    case STAGE_HEADER:
        put_header(text, notice);
        put_text_begin(text, notice);
        break;
    case STAGE_STATUS:
        put_status_begin(text, notice);
        break;
    case STAGE_ORIGINAL:
        put_original_begin(text, notice);
        break;
    case STAGE_TAIL:
        put_tail(text, notice);
        break;
    case STAGE_TOLD:
    case STAGE_FIELDS:
        put_recipient(writer, text);
        return;
    case STAGE_RETURNED:
    case STAGE_END:
        assert(false);
    }
    writer->stage++;
}

enum notice_step notice_next(struct notice_writer *writer, char piece[static NOTICE_PIECE_MAX], size_t *size)
{
    assert(writer->stage <= STAGE_END);
    if (writer->stage == STAGE_END)
        return NOTICE_END;
    if (writer->stage == STAGE_RETURNED) {
        writer->stage++;
        return NOTICE_RETURNED;
    }
    struct notice_text text = {
        .at = piece, .end = piece + NOTICE_PIECE_MAX, .is_utf8 = writer->notice->is_utf8};
    put_stage(writer, &text);
    *size = (size_t)(text.at - piece);
    assert(*size > 0);
    return NOTICE_PIECE;
}

uint64_t notice_size(const struct notice *notice)
{
    char piece[NOTICE_PIECE_MAX];
    struct notice_writer writer;
    uint64_t total = 0;
    size_t size;
    enum notice_step step;
    notice_writer_init(&writer, notice);
    while ((step = notice_next(&writer, piece, &size)) != NOTICE_END)
        total += step == NOTICE_PIECE ? size : 0;
    return total;
}
