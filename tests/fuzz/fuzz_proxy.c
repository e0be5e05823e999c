#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_check(transcript_run_proxy, NULL, data, size);
    return 0;
}
