/*
 * A transcript is what a test writes down while it feeds bytes to a parser, so that two runs can be compared
 * as text.
 *
 * The property behind it: however a stream is cut, the transcript is the same.
 */
#pragma once

#include "proto/bdat.h"
#include "proto/data.h"
#include "proto/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct transcript {
    char *text; /* always ends with NUL */
    size_t size;
    size_t capacity;
};

void transcript_init(struct transcript *transcript);
void transcript_deinit(struct transcript *transcript);
void transcript_clear(struct transcript *transcript);
void transcript_add(struct transcript *transcript, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void transcript_add_octets(struct transcript *transcript, const char *octets, size_t size);
bool transcript_equal(const struct transcript *a, const struct transcript *b);

/*
 * Feeds input[0..size) to a fresh parser, cut at the given places (ascending, not beyond size), and writes
 * down all that the parser says, each event with its place in the stream.
 */
typedef void transcript_run(struct transcript *transcript, const char *input, size_t size, const size_t *cuts,
                            size_t cut_count);

/* A server that accepts everything: commands, and after DATA content with the scan of its header. */
transcript_run transcript_run_server;
/* Commands alone; what follows DATA is commands, too. Behind an AUTH that is no refusal comes one line of
 * another kind. */
transcript_run transcript_run_commands;
/* With what these parsers of commands start: SMTP_EXT_ bits, at first SIZE and 8BITMIME; and strictly. */
extern uint32_t transcript_extensions;
extern bool transcript_lenient;
transcript_run transcript_run_replies;
transcript_run transcript_run_header;
/* One content, then whatever follows its end is left alone; with the kernel that is set, or the best one, and
 * in the mode that is set. */
transcript_run transcript_run_data;
extern smtp_data_kernel *transcript_data_kernel;
extern enum smtp_data_mode transcript_data_mode;
/* One content by BDAT, in one chunk; with the kernel and in the mode that are set. */
transcript_run transcript_run_bdat;
extern enum smtp_bdat_mode transcript_bdat_mode;
/* A PROXY header; what follows it is left alone. */
transcript_run transcript_run_proxy;

/* A small generator of numbers; the seed is the whole state, so that a failure can be repeated. */
uint64_t transcript_random(uint64_t *seed);
