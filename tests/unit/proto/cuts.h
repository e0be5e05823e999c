/*
 * The property that every parser is held to: however a stream is cut, it means the same.
 */
#pragma once

#include "tests/unit/proto/transcript.h"

/*
 * Runs the input whole, in single octets, cut at every place, at every pair of places if it is at most
 * CUTS_PAIRS_MAX octets, and at `random_count` random sets of places; fails the test at the first transcript
 * that differs. The transcript of the whole is left in *whole, which must be initialised and empty.
 */
#define CUTS_PAIRS_MAX 120
void cuts_check(transcript_run *run, const char *input, size_t size, unsigned random_count,
                struct transcript *whole);

/* The same, and the whole must be `expected`. */
void cuts_expect(transcript_run *run, const char *input, size_t size, unsigned random_count,
                 const char *expected);
