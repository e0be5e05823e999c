/*
 * The parameters of MAIL and RCPT, which extensions of SMTP add to them (RFC 5321 §4.1.1.11). Private to
 * proto/: the command parser calls it. Pure; any thread may call it.
 */
#pragma once

#include "proto/command.h"

/*
 * Reads `text`, all that stands behind the path in a MAIL or RCPT, and writes what it says into *command,
 * whose verb is set and whose fields for parameters are zero. `extensions`: SMTP_EXT_ bits; the parameters of
 * all others are unknown. Returns why the command is to be refused; *command is then of no use.
 */
enum smtp_refusal smtp_parameters_parse(struct smtp_slice text, uint32_t extensions,
                                        struct smtp_command *command) __attribute__((warn_unused_result));

/* *number = 1*DIGIT. False if it is beyond 64 bits; the text must be digits, and at least one. */
bool smtp_number_parse(struct smtp_slice digits, uint64_t *number) __attribute__((warn_unused_result));
