/*
 * Feeds a stream to a parser in pieces.
 *
 * Each piece lies in a heap block of exactly its size that is freed afterwards, so a sanitizer sees every
 * octet read too far or too late.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Takes what it can of a piece that begins at `offset` of the stream, and returns how many octets that were;
 * is called again with the rest, if there is one, until it sets *is_over. */
typedef size_t pieces_take(void *context, const char *piece, size_t size, size_t offset, bool *is_over);

/* Feeds input[0..size), cut at the given places (ascending, not beyond size); an empty piece is fed, too. */
void pieces_feed(pieces_take *take, void *context, const char *input, size_t size, const size_t *cuts,
                 size_t cut_count);
