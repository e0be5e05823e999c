/*
 * What the fuzz targets of proto/ have in common.
 *
 * The first four octets of an input are the sizes of the pieces in which the rest is fed, over and over (the
 * low six bits each; all 0: in one piece). The target runs the rest whole and in pieces, and ends the program
 * if the transcripts differ.
 */
#pragma once

#include "tests/unit/proto/transcript.h"

#define FUZZ_PLAN_SIZE 4

/* What libFuzzer, or replay.c in its place, calls for each input. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes down what `run` must say of an input; the slow and obvious way. */
typedef void fuzz_reference(struct transcript *transcript, const char *input, size_t size);

/* Holds `run` to its reference, unless that is NULL, and to the property that cuts make no difference. */
void fuzz_check(transcript_run *run, fuzz_reference *reference, const uint8_t *data, size_t size);
