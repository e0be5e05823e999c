#pragma once

/*
 * Which class of failure a reply belongs to, by a table that an operator can read and change: the file
 * deploy/classes.conf, which is also compiled in.
 *
 * A rule is a line: class, reply code, enhanced status code, host, and the text, which goes on to the end of
 * the line. The first rule of which everything matches counts; where none does, the class is "other".
 *
 *     # class       code  status  host                     text
 *     bad-mailbox   55x   *       *                        user unknown | no such user
 *     policy        5xx   5.7.*   *.protection.example     access denied*[as
 *     connection    -     4.4.1   *                        *
 *
 *     code    three digits, each of which may be "x" for any digit; "-": no reply, the reason is our own;
 *             "*": any, or none
 *     status  three numbers, each of which may be "*"; "-": none was given; "*": any, or none
 *     host    the whole name, in which "*" stands for any run of octets; "-": not known; "*": any, or none
 *     text    found anywhere in the reply; "*" stands for any run of octets between two parts; " | " parts
 *             alternatives, one of which is enough; "*" alone: any text, or none
 *
 * ASCII letters match in either case. In a reply's text, and in a pattern, runs of blanks, line ends and
 * other controls are one blank. Lines that are empty or begin with "#" are comments.
 *
 * Any thread may load, which blocks on the disk; what was loaded never changes, and any thread may ask.
 * A question costs one pass over the text for all patterns at once, and one over the rules: well below 2 us.
 */

#include "gateway/message/notice_class.h"
#include "proto/reply.h"
#include "proto/slice.h"

#include <stddef.h>
#include <stdint.h>

enum {
    CLASSES_TEXT_MAX = 1024,           /* octets of a reply's text that are looked at */
    CLASSES_RULES_MAX = 4096,          /* rules of a file */
    CLASSES_FILE_SIZE_MAX = 256 * 1024 /* octets of a file */
};

struct classes;

/* What a recipient's outcome was. */
struct classes_reply {
    uint16_t code;             /* 200 to 599; 0: there was no reply */
    struct smtp_status status; /* class 0: none */
    struct smtp_slice text;    /* all lines of the reply, or our own reason; any octets; whether code and
                                  status stand before it makes no difference */
    struct smtp_slice host;    /* its name; empty: not known */
};

/* The table that is compiled in: 0, and the caller owns *classes; or -ENOMEM. */
int classes_new(struct classes **classes) __attribute__((warn_unused_result));

/* 0, and the caller owns *classes; -EINVAL for a mistake in the file, -EFBIG, -ENOMEM, or another negative
 * errno. On every failure `error` (`error_size` octets, at least one) says "PATH:LINE: what is wrong", or
 * "PATH: …" where no line is to blame; it is free of control characters, and *classes is untouched. */
int classes_load(const char *path, struct classes **classes, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* NULL is fine. */
void classes_free(struct classes *classes);

/* The rules that were read. */
uint32_t classes_count(const struct classes *classes);

/* The class of the first rule that matches; NOTICE_CLASS_OTHER if none does. */
enum notice_class classes_find(const struct classes *classes, const struct classes_reply *reply)
    __attribute__((warn_unused_result));
