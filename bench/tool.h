// What the tools of this room share: a clock, a command line's numbers and options, a message's content.
// Any thread may call any of it, but for tool_options.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TOOL_NUMBER_MAX = 100000000 };

uint64_t tool_now_ns(void); // monotonic

// A number of decimal digits, at most `most`. False: it is none; `number` is as before.
bool tool_number(const char *text, uint32_t most, uint32_t *number) __attribute__((warn_unused_result));

// An option --NAME goes to the one of these that is not NULL; a flag takes no value.
struct tool_option {
    const char *name;
    uint32_t *number; // at most TOOL_NUMBER_MAX
    const char **text;
    bool *flag;
};

// Takes the options, which end with one without a name; `optind` is then the first word that is none. False:
// one makes no sense.
bool tool_options(int argc, char **argv, const struct tool_option *options)
    __attribute__((warn_unused_result));

// A message of about `size` octets in lines, with the final dot; `total` octets in all. The caller frees it.
// NULL without memory.
char *tool_content(size_t size, size_t *total) __attribute__((warn_unused_result));
