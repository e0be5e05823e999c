#include "tests/fuzz/fuzz.h"

#include "tests/unit/proto/naive.h"

#include "proto/data_kernel.h"

/* One content in every mode, by the best kernel and by the portable one, against the plain rules. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum smtp_bdat_mode modes[] = {SMTP_BDAT_TEXT, SMTP_BDAT_TEXT_NORMALISE, SMTP_BDAT_BINARY};

    for (size_t i = 0; i < 2 * sizeof(modes) / sizeof(modes[0]); i++) {
        transcript_data_kernel = i % 2 == 0 ? NULL : smtp_data_kernel_portable;
        transcript_bdat_mode = modes[i / 2];
        fuzz_check(transcript_run_bdat, naive_bdat, data, size);
    }
    return 0;
}
