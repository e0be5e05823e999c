#include "tests/fuzz/fuzz.h"

#include "tests/unit/proto/naive_path.h"

#include <string.h>

/* The input is one path and what may follow it, without a plan of cuts; against the plain grammar. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { SIZE_MOST = 600 }; /* the plain grammar is slow, and nothing longer can be a path */

    if (size <= SIZE_MOST && memchr(data, '\0', size) == NULL)
        naive_path_check((const char *)data, size);
    return 0;
}
