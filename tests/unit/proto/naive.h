/*
 * The rules of content and header, written the slow and obvious way over the whole input, for the real ones
 * to be compared with.
 */
#pragma once

#include "tests/unit/proto/transcript.h"

/* Writes what transcript_run_data() should write for this input. */
void naive_data(struct transcript *transcript, const char *input, size_t size);

/* Writes what transcript_run_header() should write for this input. */
void naive_header(struct transcript *transcript, const char *input, size_t size);
