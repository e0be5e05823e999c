#include "gateway/version.h"

#include <gnu/libc-version.h>
#include <ldns/ldns.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/config.h"
#include "gateway/net/tls.h"

extern int mallctl(const char *name, void *old, size_t *old_size, void *new_value, size_t new_size)
    __attribute__((weak));

#if !defined(LIBURING_VERSION)
#define LIBURING_VERSION "unknown"
#endif

static const char *allocator_version(void)
{
    const char *version = NULL;
    size_t size = sizeof(version);
    if (mallctl && mallctl("version", &version, &size, NULL, 0) == 0 && version)
        return version;
    return NULL;
}

void version_print(void)
{
    const char *allocator = allocator_version();
    printf("sluice %s\n", SLUICE_VERSION);
    printf("liburing %s\n", LIBURING_VERSION);
    printf("%s\n", tls_library_version());
    if (allocator)
        printf("jemalloc %s\n", allocator);
    else
        printf("allocator of glibc %s (built without jemalloc)\n", gnu_get_libc_version());
    printf("ldns %s\n", ldns_version());
    printf("libConfuse %s\n", config_library_version());
}

int version_check(void)
{
    if (tls_self_check() == 0 && strstr(tls_library_version(), "BoringSSL"))
        return 0;
    fprintf(stderr, "sluice: the TLS library in this process is %s, not BoringSSL\n", tls_library_version());
    return -1;
}
