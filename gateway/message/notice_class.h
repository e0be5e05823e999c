#pragma once

/*
 * The classes of failure: one word for the log and for statistics, and two sentences for the sender, whoever
 * the far side is and however it put it. The table is notice_class.def.
 *
 * Pure; any thread may call.
 */

#include "proto/reply.h"
#include "proto/slice.h"

#include <stdbool.h>

enum notice_class {
#define NOTICE_CLASS(name, text, subject, detail, why, advice) NOTICE_CLASS_##name,
#include "gateway/message/notice_class.def"
#undef NOTICE_CLASS
    NOTICE_CLASS_COUNT,
};

/* "bad-mailbox"; static and terminated by a zero, as are the sentences. */
const char *notice_class_name(enum notice_class class) __attribute__((returns_nonnull));

/* Why the recipient has not got the message, as a sentence for its sender. */
const char *notice_class_why(enum notice_class class) __attribute__((returns_nonnull));

/* What the sender can do about it. */
const char *notice_class_advice(enum notice_class class) __attribute__((returns_nonnull));

/* The enhanced status code for a failure of this class that came with none; `digit` is 4 or 5. */
struct smtp_status notice_class_status(enum notice_class class, uint16_t digit);

/* The class of this name, octet by octet; false: there is none, and *class is untouched. */
bool notice_class_find(struct smtp_slice name, enum notice_class *class) __attribute__((warn_unused_result));
