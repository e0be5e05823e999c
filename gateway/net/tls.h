#pragma once

/*
 * The TLS library: which one it is, and the proof that it is BoringSSL that the process really bound to.
 */

/* The library's name and version as it states them; static. Any thread. */
const char *tls_library_version(void);

/*
 * Makes and frees a context through functions that only BoringSSL has. 0, or -ENOMEM. Any thread.
 */
int tls_self_check(void) __attribute__((warn_unused_result));
