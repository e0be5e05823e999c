/*
 * Screening: what can be decided about a message without asking the peer, from what it announced. Worker's
 * thread only.
 */
#pragma once

#include <stdbool.h>

#include "gateway/outbound/client.h"

/*
 * Gives an outcome to each recipient that this peer cannot be asked for: the message is too large for it (RFC
 * 1870), needs an extension that it does not offer (RFC 3030, 6152 §3, 6531 §3.2), or the address is no
 * address. For those that are left it chooses how the content travels: job->carrier, and job->convert if it
 * must be converted for a peer without 8BITMIME. True: nobody is left.
 */
bool screen_message(const struct client *client, struct job *job) __attribute__((warn_unused_result));
