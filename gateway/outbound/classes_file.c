/* Where the table of classes comes from: a file, or the program itself. */

#include "gateway/outbound/classes_inner.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const TOO_LARGE = "is larger than 256K";

/* Says why, in our words or else in those of the errno. */
static int fail(const char *path, int result, const char *reason, char *error, size_t error_size)
{
    assert(result < 0);
    const int size = snprintf(error, error_size, "%s: %s", path, reason != NULL ? reason : strerror(-result));
    assert(size > 0 && error_size > 0);
    return result;
}

/* Reads until the end, which is where the file ends now, not where it ended when it was opened. */
static int read_all(int descriptor, char *text, size_t *size)
{
    *size = 0;
    while (*size <= CLASSES_FILE_SIZE_MAX) {
        const ssize_t got = read(descriptor, text + *size, CLASSES_FILE_SIZE_MAX + 1 - *size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : 0;
        *size += (size_t)got;
    }
    return -EFBIG;
}

static int load(int descriptor, const char *path, struct classes **classes, char *error, size_t error_size)
{
    struct stat status;
    size_t size;
    if (fstat(descriptor, &status) < 0)
        return fail(path, -errno, NULL, error, error_size);
    if (!S_ISREG(status.st_mode))
        return fail(path, -EINVAL, "is not a regular file", error, error_size);
    char *text = malloc(CLASSES_FILE_SIZE_MAX + 1);
    if (text == NULL)
        return fail(path, -ENOMEM, NULL, error, error_size);
    int result = read_all(descriptor, text, &size);
    if (result < 0) {
        fail(path, result, result == -EFBIG ? TOO_LARGE : NULL, error, error_size);
    } else {
        char *fitting = realloc(text, size > 0 ? size : 1);
        text = fitting != NULL ? fitting : text;
        result = classes_parse(text, size, path, classes, error, error_size);
    }
    if (result < 0)
        free(text);
    return result;
}

int classes_load(const char *path, struct classes **classes, char *error, size_t error_size)
{
    /* not to wait for the other end of what turns out to be a pipe */
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    const int result = descriptor < 0 ? fail(path, -errno, NULL, error, error_size)
                                      : load(descriptor, path, classes, error, error_size);
    if (descriptor >= 0)
        close(descriptor);
    return result;
}

int classes_new(struct classes **classes)
{
    char error[256];
    char *text = strdup(classes_builtin);
    if (text == NULL)
        return -ENOMEM;
    const int result = classes_parse(text, strlen(text), "classes.conf", classes, error, sizeof(error));
    if (result < 0)
        free(text);
    assert(result == 0 || result == -ENOMEM);
    return result;
}
