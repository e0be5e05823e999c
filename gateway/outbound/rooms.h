/*
 * Rooms: how much more each site of a worker would take at once, published to the other workers.
 */
#pragma once

#include <stdint.h>

#include "gateway/outbound/outbound.h"

/* Makes room for sites 0 … count - 1. 0 or -ENOMEM. Owner thread. */
int rooms_reserve(struct outbound *outbound, uint32_t count) __attribute__((warn_unused_result));

/* Owner thread. */
void rooms_publish(struct outbound *outbound, uint32_t site_index, uint32_t room);

/* When no other thread looks any more. */
void rooms_deinit(struct outbound *outbound);
