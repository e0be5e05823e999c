#include "tests/unit/proto/pieces.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void pieces_feed(pieces_take *take, void *context, const char *input, size_t size, const size_t *cuts,
                 size_t cut_count)
{
    bool is_over = false;
    size_t start = 0;

    for (size_t i = 0; i <= cut_count && !is_over; i++) {
        size_t end = i < cut_count ? cuts[i] : size;
        size_t piece_size = end - start;
        char *piece = malloc(piece_size > 0 ? piece_size : 1);
        size_t taken = 0;

        assert(end >= start && end <= size && piece != NULL);
        if (piece_size > 0)
            memcpy(piece, input + start, piece_size);
        do {
            taken += take(context, piece + taken, piece_size - taken, start + taken, &is_over);
            assert(taken <= piece_size);
        } while (taken < piece_size && !is_over);
        free(piece);
        start = end;
    }
}
