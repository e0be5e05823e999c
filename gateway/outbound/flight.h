/*
 * A flight is commands that are collected before they are handed to the connection, so that they leave in as
 * few packets as they fit in. It lives on the stack of whoever speaks. Worker's thread only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "gateway/outbound/client.h"
#include "proto/slice.h"

enum { FLIGHT_SIZE = 4096 };

struct flight {
    struct client *client;
    size_t size;
    char bytes[FLIGHT_SIZE];
};

/* Empty; the bytes stay as they are, as there is nothing to clear. */
void flight_begin(struct flight *flight, struct client *client);

/* Adds at most FLIGHT_SIZE octets; what was collected leaves first when they find no room. */
void flight_add(struct flight *flight, const char *bytes, size_t size);
void flight_slice(struct flight *flight, struct smtp_slice slice);
void flight_text(struct flight *flight, const char *text);
void flight_number(struct flight *flight, uint64_t number);

/* Hands over what was collected; the flight is empty afterwards. */
void flight_end(struct flight *flight);
