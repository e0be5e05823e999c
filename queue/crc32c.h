/* CRC32C (Castagnoli, RFC 3720 §12.1), with the SSE 4.2 instruction where there is one. Any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Extends `crc` (0 for the first bytes) by `size` bytes. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);

/* The table-driven form that machines without the instruction use; for tests. */
uint32_t crc32c_portable(uint32_t crc, const void *bytes, size_t size);
