/*
 * The verbs of SMTP and its extensions. Private to proto/: the command parser calls it. Pure; any thread may
 * call it.
 */
#pragma once

#include "proto/command.h"

/* The verb that `word` is, in any case; SMTP_VERB_NONE if it is none. */
enum smtp_verb smtp_verb_find(struct smtp_slice word);

/* The SMTP_EXT_ bit that must be in force for the verb; 0 for the verbs of RFC 5321 itself. */
extern const uint32_t smtp_verb_extensions[SMTP_VERB_COUNT];
