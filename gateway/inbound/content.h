#pragma once

/*
 * The content of a message on its way from receive buffers into a draft of the queue. Private to
 * gateway/inbound; belongs to the worker's thread.
 *
 * Octets are copied once, by queue_draft_append, from the receive buffer into the log's page. The scanner
 * runs ahead of the queue: when the queue has no room, the octets that were scanned and not stored are left
 * with the connection, which hands them out again first; `skip`, `body_left` and `tail_left` remember what
 * they are, so that no octet is scanned, stored or dropped twice.
 */

#include <stdbool.h>
#include <stddef.h>

#include "proto/data.h"
#include "proto/header.h"

struct session;

struct content {
    struct smtp_data_scanner scanner;
    struct smtp_header_scan header;
    const char *lead; /* static; an octet that the scanner had held back */
    size_t lead_left; /* not stored yet */
    size_t skip;      /* scanned octets before the body: dropped */
    size_t body_left; /* then so many that are stored */
    size_t tail_left; /* then so many that are dropped */
    bool is_end;      /* and then the message is complete */
};

/* DATA: opens a draft and answers 354, or refuses. */
void content_begin(struct session *session);

/* Takes content; returns the octets that need not come again. */
size_t content_take(struct session *session, const char *bytes, size_t size)
    __attribute__((warn_unused_result));

/* Asks the queue to commit the complete message; again after it had no room. */
void content_commit(struct session *session);
