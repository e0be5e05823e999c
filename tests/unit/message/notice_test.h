#pragma once

/* Notices for tests: whole ones in memory, and hostile ones by the thousand. Both live until the next call.
 */

#include "gateway/message/notice.h"

/* Writes the notice with `original` in its place; terminated by a zero. */
const char *notice_text_of(const struct notice *notice, struct smtp_slice original, size_t *size);

/* A failure of one recipient, with every field. */
extern const struct notice_recipient notice_usual_recipient;
extern const struct notice notice_usual;

/* A notice made of random choices, with `seed` for them; what is returned of the original goes to *original.
 * Its replies, addresses and names hold octets that are likely to hit the edges. */
const struct notice *notice_random(unsigned seed, struct smtp_slice *original);
