#include "tests/fuzz/fuzz.h"

#include "tests/unit/proto/naive.h"

#include "proto/data_kernel.h"

/* One content, in every mode, by every kernel that the CPU can run, against the plain rules. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static smtp_data_kernel *const kernels[] = {
        smtp_data_kernel_portable,
#if defined(__x86_64__)
        smtp_data_kernel_sse2,
#endif
        NULL, /* the best one */
    };

    for (size_t i = 0; i < 2 * sizeof(kernels) / sizeof(kernels[0]); i++) {
        transcript_data_kernel = kernels[i / 2];
        transcript_data_mode = i % 2 == 0 ? SMTP_DATA_STRICT : SMTP_DATA_NORMALISE;
        fuzz_check(transcript_run_data, naive_data, data, size);
    }
    return 0;
}
