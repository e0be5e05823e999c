/*
 * Tables of single lines and what the command parser must say to each, cut in every way.
 */
#pragma once

#include "tests/unit/proto/test.h"

#include "tests/unit/proto/cuts.h"

#include "proto/command.h"

#include <stdio.h>

struct exchange {
    const char *line;   /* without CRLF */
    const char *wanted; /* what the transcript says, without the place and the line end */
};

/* The line alone must give exactly the one event. */
static inline void check_exchange(const struct exchange *exchange)
{
    char input[SMTP_LINE_MAX * 2];
    char wanted[1024];
    int size = snprintf(input, sizeof(input), "%s\r\n", exchange->line);
    bool refused = exchange->wanted[0] >= '0' && exchange->wanted[0] <= '9';

    assert_in_range(size, 2, sizeof(input) - 1);
    snprintf(wanted, sizeof(wanted), "%d %s%s", size, exchange->wanted, refused ? "\r\n" : "\n");
    cuts_expect(transcript_run_commands, input, (size_t)size, 20, wanted);
}

#define CHECK_ALL(table)                                                                                     \
    for (size_t i = 0; i < sizeof(table) / sizeof((table)[0]); i++)                                          \
    check_exchange(&(table)[i])
