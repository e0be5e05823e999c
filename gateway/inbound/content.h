#pragma once

/*
 * The content of a message on its way from receive buffers into a draft of the queue, by DATA or in chunks by
 * BDAT (RFC 3030). Private to gateway/inbound; belongs to the worker's thread.
 *
 * Octets are copied once, by queue_draft_append, from the receive buffer into the log's page; or not at all,
 * where a large chunk is received into the page (chunks.h). The scanner
 * runs ahead of the queue: what it said of an input stands in the plan, piece by piece, until it is done.
 * When the queue has no room, the octets that were scanned and not stored are left with the connection, which
 * hands them out again first; the plan remembers what they are, so that no octet is scanned, stored or
 * dropped twice.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/inbound/reply.h"
#include "proto/bdat.h"
#include "proto/data.h"
#include "proto/header.h"
#include "proto/slice.h"

struct session;

enum content_piece_kind {
    CONTENT_MEMORY, /* octets of ours, to be stored: static, or of the transaction */
    CONTENT_STORE,  /* octets of the input, to be stored */
    CONTENT_DROP,   /* octets of the input, not part of the content */
};

struct content_piece {
    enum content_piece_kind kind;
    const char *memory; /* CONTENT_MEMORY */
    size_t left;        /* octets */
};

enum {
    /* trace field; lead, cut in two by fields that are added; octets to drop; body, cut in two by the same;
     * octets to drop; what completes the last line, and the fields behind it */
    CONTENT_PIECES_MAX = 12,
};

struct content {
    union {
        struct smtp_data_scanner data;
        struct smtp_bdat_scanner chunks;
    };
    struct smtp_header_scan header;
    struct content_piece pieces[CONTENT_PIECES_MAX];
    uint8_t piece_count;
    uint8_t piece_next;
    size_t input_left;   /* octets of the input that the plan still speaks of */
    uint64_t chunk_left; /* octets of the chunk that were not scanned yet */
    char *space;         /* of the draft's page, while the connection receives into it; else NULL */
    size_t space_left;   /* octets that the page still has behind those received in place */
    bool is_chunked;     /* BDAT */
    bool is_binary;      /* BODY=BINARYMIME */
    bool is_begun;       /* octets of the content were seen */
    bool is_last;        /* of the chunk at hand: it was announced as LAST */
    bool is_end;         /* the plan completes the message */
    bool is_copied;      /* some octets had to be changed, or the page has no room: no more in place */
    bool completes;      /* a missing Date or Message-ID is still to be added */
};

/* Opens a draft for DATA or BDAT; or answers why not, and the transaction is over: false. */
bool content_begin(struct session *session, bool is_chunked);

/* The next chunk: `size` octets follow. Whether it is taken or dropped is the session's state. */
void content_begin_chunk(struct session *session, uint64_t size, bool is_last);

/* Takes content; returns the octets that need not come again. */
size_t content_take(struct session *session, const char *bytes, size_t size)
    __attribute__((warn_unused_result));

/*
 * Scans octets of a chunk that lie in the draft's page already. Returns how many of them, from the first on,
 * are content as they stand; the others are to be taken out and given to content_take. When the message was
 * refused the draft is gone, and all of them are done with.
 */
size_t content_take_in_place(struct session *session, const char *bytes, size_t size)
    __attribute__((warn_unused_result));

/* Goes on where nothing that the client could send is needed: the plan waited for room alone, or the chunk
 * has no octets. Harmless elsewhere. */
void content_go_on(struct session *session);

/* The message will not be taken: what still comes of it is dropped, then the client reads why. */
void content_refuse(struct session *session, enum reply_id verdict);
