/* Preloaded into the gateway by a test: a file system that refuses direct I/O, as some overlays and older
 * tmpfs do. */
#include <dlfcn.h>
#include <errno.h>
#include <linux/fcntl.h>
#include <stdarg.h>
#include <stddef.h>

typedef int opener(int directory, const char *path, int flags, unsigned mode);

static int refuse_direct(const char *name, int directory, const char *path, int flags, unsigned mode)
{
    if (flags & O_DIRECT) {
        errno = EINVAL;
        return -1;
    }
    opener *real = (opener *)dlsym(RTLD_NEXT, name);
    return real(directory, path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...);
int openat64(int directory, const char *path, int flags, ...);

int openat(int directory, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    unsigned mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, unsigned) : 0;
    va_end(rest);
    return refuse_direct("openat", directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    unsigned mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, unsigned) : 0;
    va_end(rest);
    return refuse_direct("openat64", directory, path, flags, mode);
}
