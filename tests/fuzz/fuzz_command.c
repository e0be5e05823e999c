#include "tests/fuzz/fuzz.h"

/* Commands as a client may send them: with contents behind DATA, and as if DATA were nothing special. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_check(transcript_run_server, NULL, data, size);
    fuzz_check(transcript_run_commands, NULL, data, size);
    return 0;
}
