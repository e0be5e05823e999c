/* The part of a notice that programs read: message/delivery-status (RFC 3464). */

#include "gateway/message/notice_inner.h"
#include "gateway/message/recipient.h"
#include "proto/xtext.h"

#include <assert.h>

enum { ENVID_DECODED_MAX = 300 };

static void put_envid(struct notice_text *text, struct smtp_slice envid)
{
    char decoded[ENVID_DECODED_MAX];
    const int size = smtp_xtext_decode(envid, decoded, sizeof(decoded));
    if (size <= 0)
        return;
    notice_put(text, "Original-Envelope-Id: ");
    notice_put_harmless(text, (struct smtp_slice){decoded, (uint32_t)size}, ENVID_DECODED_MAX);
    notice_put(text, "\r\n");
}

static void put_date_field(struct notice_text *text, const char *name, int64_t time_ms)
{
    if (!notice_is_time(time_ms))
        return;
    notice_put(text, name);
    notice_put(text, ": ");
    notice_put_date(text, time_ms);
    notice_put(text, "\r\n");
}

void notice_put_message_fields(struct notice_text *text, const struct notice *notice)
{
    put_envid(text, notice->envid);
    notice_put(text, "Reporting-MTA: dns; ");
    notice_put_name(text, notice->hostname);
    notice_put(text, "\r\n");
    put_date_field(text, "Arrival-Date", notice->arrival_ms);
}

/* The first number must fit the action (RFC 3464 §2.3.4). A recipient that was given up for its age may keep
 * the temporary code of its last attempt. */
static struct smtp_status fitting_status(enum notice_kind kind, const struct notice_recipient *recipient)
{
    struct smtp_status status = recipient->status;
    const bool is_known = status.class >= 2;
    if (kind == NOTICE_SUCCESS)
        return (struct smtp_status){2, is_known ? status.subject : 0, is_known ? status.detail : 0};
    if (kind == NOTICE_DELAY || (!is_known && recipient->class == NOTICE_CLASS_EXPIRED))
        status.class = 4;
    else if (status.class != 4)
        status.class = 5;
    return is_known ? status : notice_class_status(recipient->class, status.class);
}

static void put_status(struct notice_text *text, struct smtp_status status)
{
    notice_put(text, "Status: ");
    notice_put_number(text, status.class);
    notice_put(text, ".");
    notice_put_number(text, status.subject);
    notice_put(text, ".");
    notice_put_number(text, status.detail);
    notice_put(text, "\r\n");
}

static void put_recipient_names(struct notice_text *text, const struct notice_recipient *recipient)
{
    char *const begin = text->at;
    notice_put(text, "Original-Recipient: ");
    if (notice_put_orcpt(text, recipient->orcpt))
        notice_put(text, "\r\n");
    else
        notice_text_cut(text, begin);
    notice_put(text, "Final-Recipient: ");
    notice_put_typed_address(text, recipient->address);
    notice_put(text, "\r\n");
}

static void put_diagnostic(struct notice_text *text, const struct notice_recipient *recipient)
{
    if (recipient->code == 0 && recipient->reply.size == 0)
        return;
    notice_put(text, recipient->code != 0 ? "Diagnostic-Code: smtp; " : "Diagnostic-Code: X-Sluice; ");
    notice_put_reply(text, recipient, "\t");
    notice_put(text, "\r\n");
}

void notice_put_recipient_fields(struct notice_text *text, const struct notice *notice,
                                 const struct notice_recipient *recipient)
{
    static const char *const actions[] = {"failed", "delayed", "delivered", "relayed", "expanded"};
    assert((size_t)recipient->action < sizeof(actions) / sizeof(actions[0]));
    notice_put(text, "\r\n");
    put_recipient_names(text, recipient);
    notice_put(text, "Action: ");
    notice_put(text, actions[recipient->action]);
    notice_put(text, "\r\n");
    put_status(text, fitting_status(notice->kind, recipient));
    if (recipient->host.size > 0) {
        /* The path of a socket has no registered type (RFC 3464 §2.1.2). */
        notice_put(text, notice_is_socket(recipient->host) ? "Remote-MTA: x-unix; " : "Remote-MTA: dns; ");
        notice_put_host(text, recipient->host);
        notice_put(text, "\r\n");
    }
    put_diagnostic(text, recipient);
    put_date_field(text, "Last-Attempt-Date", recipient->last_attempt_ms);
    if (notice->original_id.size > 0) {
        notice_put(text, "Final-Log-ID: ");
        notice_put_name(text, notice->original_id);
        notice_put(text, "\r\n");
    }
    if (notice->kind == NOTICE_DELAY)
        put_date_field(text, "Will-Retry-Until", notice->expires_ms);
}
