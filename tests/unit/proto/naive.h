/*
 * The rules of content and header, written the slow and obvious way over the whole input, for the real ones
 * to be compared with.
 */
#pragma once

#include "tests/unit/proto/transcript.h"

/* Writes what transcript_run_data() should write for this input, in the mode that is set. */
void naive_data(struct transcript *transcript, const char *input, size_t size);

/* Writes what transcript_run_bdat() should write for this input, in the mode that is set. */
void naive_bdat(struct transcript *transcript, const char *input, size_t size);

/* Writes what transcript_run_header() should write for this input. */
void naive_header(struct transcript *transcript, const char *input, size_t size);

/* Adds to *content what SMTP_DATA_NORMALISE hands out; true if the message ends within the input, of which
 * *consumed octets belong to it. */
bool naive_normalise(struct transcript *content, const char *input, size_t size, size_t *consumed);

struct naive_flags {
    bool dot_lines;
    bool has_8bit;
    bool has_nul;
};

/* What the flags of a scanner should be for content that it handed out. */
struct naive_flags naive_flags(const char *content, size_t size);
