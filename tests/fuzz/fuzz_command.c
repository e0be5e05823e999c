#include "tests/fuzz/fuzz.h"

/*
 * Commands as a client may send them: with contents behind DATA, and as if DATA were nothing special. Bit 6
 * of the first octets, which the plan of cuts leaves free, tells what is in force: every extension, or what a
 * new parser of the transcripts has; leniency.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint32_t few;

    if (few == 0)
        few = transcript_extensions;
    if (size < FUZZ_PLAN_SIZE)
        return 0;
    transcript_extensions = (data[0] & 0x40) != 0 ? UINT32_MAX : few;
    transcript_lenient = (data[1] & 0x40) != 0;
    fuzz_check(transcript_run_server, NULL, data, size);
    fuzz_check(transcript_run_commands, NULL, data, size);
    return 0;
}
