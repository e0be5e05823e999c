#pragma once

/*
 * Routes whose destination is an `error:`: they refuse a recipient while the client is still there to be
 * told, rather than by a notice to a sender who may be forged. Private to gateway/inbound; belongs to the
 * worker's thread.
 */

#include "gateway/base/routes.h"
#include "proto/slice.h"

#include <stdbool.h>

struct session;

/* Memory alone is looked at; a line of the route file need not be parsed for it. */
bool route_refuses(const struct route_found *route);

/* Gives the recipient the route's own reply; 421 and 521 end the session, as they say (RFC 5321 §3.8, RFC
 * 7504). Only if route_refuses. */
void route_refuse(struct session *session, const struct route_found *route, struct smtp_slice recipient);
