#include "tests/fuzz/fuzz.h"

#include "tests/unit/proto/naive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_check(transcript_run_header, naive_header, data, size);
    return 0;
}
