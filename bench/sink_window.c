// Exact counts over a sliding stretch of time: the moments of all events in it, in a ring. See sink.h.
#include "bench/sink.h"

#include <assert.h>
#include <stdlib.h>

enum { FIRST_SIZE = 64 };

void sink_window_init(struct sink_window *window, uint64_t span_ns)
{
    assert(span_ns > 0);
    *window = (struct sink_window){.span_ns = span_ns};
}

static void grow(struct sink_window *window)
{
    uint32_t size = window->size == 0 ? FIRST_SIZE : window->size * 2;
    uint64_t *at_ns = calloc(size, sizeof(*at_ns));
    if (at_ns == NULL)
        sink_die("memory");
    for (uint32_t index = 0; index < window->count; index++)
        at_ns[index] = window->at_ns[(window->first + index) & (window->size - 1)];
    free(window->at_ns);
    window->at_ns = at_ns;
    window->size = size;
    window->first = 0;
}

uint32_t sink_window_count(struct sink_window *window, uint64_t now_ns)
{
    // Threads read the clock before they come here, so a moment may lie a little ahead of `now_ns`.
    while (window->count > 0 && window->at_ns[window->first] + window->span_ns <= now_ns) {
        window->first = (window->first + 1) & (window->size - 1);
        window->count--;
    }
    return window->count;
}

void sink_window_add(struct sink_window *window, uint64_t now_ns)
{
    sink_window_count(window, now_ns);
    if (window->count == window->size)
        grow(window);
    assert(window->count < window->size);
    window->at_ns[(window->first + window->count) & (window->size - 1)] = now_ns;
    window->count++;
    if (window->count > window->most)
        window->most = window->count;
}
