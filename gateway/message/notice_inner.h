#pragma once

/*
 * The two parts of a notice that tell what happened, once for people and once for programs. Only
 * gateway/message/notice*.c include this.
 */

#include "gateway/message/notice.h"
#include "gateway/message/notice_text.h"

/* The text part: what stands before all recipients, each of them, and what stands behind them. */
void notice_put_opening(struct notice_text *text, const struct notice *notice);
void notice_put_told(struct notice_text *text, const struct notice *notice,
                     const struct notice_recipient *recipient);
void notice_put_closing(struct notice_text *text, const struct notice *notice);

/* The fields of RFC 3464 §2.2 and §2.3, the latter with the empty line before them. */
void notice_put_message_fields(struct notice_text *text, const struct notice *notice);
void notice_put_recipient_fields(struct notice_text *text, const struct notice *notice,
                                 const struct notice_recipient *recipient);

/* The reply in lines with `indent`, its code before it. */
void notice_put_reply(struct notice_text *text, const struct notice_recipient *recipient, const char *indent);
