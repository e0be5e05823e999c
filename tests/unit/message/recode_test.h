/* What the tests of recode share. */
#pragma once

#include "gateway/message/recode.h"

/*
 * Surveys and, if that is possible, converts the content, fed in two slices of which the first has `cut`
 * octets. `out` has room for recode_room(size) octets; *written is 0 unless the verdict is RECODE_POSSIBLE.
 */
enum recode_verdict recode_at_cut(const char *content, size_t size, size_t cut, char *out, size_t *written);

/* The same for every cut, with the smallest room that is allowed; all must agree: asserted. */
enum recode_verdict recode_at_every_cut(const char *content, size_t size, char *out, size_t *written);

size_t recode_room(size_t size);
