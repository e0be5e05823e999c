#include "gateway/base/panic.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One write(2), so that the sentence stays whole when several threads fail together; no stdio lock is taken,
   because the thread that holds it may be the one that is stuck. */
static void write_whole(const char *text, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, text, size);
        if (written <= 0)
            return;
        text += written;
        size -= (size_t)written;
    }
}

void panic_at(const char *file, int line, const char *format, ...)
{
    char text[1024];
    int used = snprintf(text, sizeof(text), "sluice: panic: %s:%d: ", file, line);
    if (used < 0 || (size_t)used >= sizeof(text) - 2)
        used = 0;

    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, sizeof(text) - (size_t)used - 1, format, arguments);
    va_end(arguments);

    size_t size = strlen(text);
    text[size++] = '\n';
    write_whole(text, size);
    abort();
}
