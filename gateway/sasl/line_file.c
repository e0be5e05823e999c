#include "gateway/sasl/line_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/mem.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const off_t FILE_SIZE_MAX = 1 << 30;

static int refuse(struct line_file *file, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int refuse(struct line_file *file, int code, const char *format, ...)
{
    char reason[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    snprintf(file->error, file->error_size, "%s: %s", file->path, reason);
    return code;
}

static int check_kind(struct line_file *file, int descriptor, mode_t forbidden, size_t *size)
{
    struct stat status;
    if (fstat(descriptor, &status) < 0)
        return refuse(file, -errno, "cannot be read: %s", strerror(errno));
    if (!S_ISREG(status.st_mode))
        return refuse(file, -EINVAL, "is not a regular file");
    if ((status.st_mode & forbidden) != 0)
        return refuse(file, -EPERM, "its mode is %04o, which lets others in; at most %04o is safe",
                      status.st_mode & 07777, status.st_mode & 07777 & ~forbidden);
    if (status.st_size > FILE_SIZE_MAX)
        return refuse(file, -EFBIG, "is larger than 1G");
    *size = (size_t)status.st_size;
    return 0;
}

/* Reads what fits; a file that grows meanwhile is read as it was when it was opened. */
static int read_text(struct line_file *file, int descriptor, size_t size)
{
    file->text = malloc(size + 1);
    if (file->text == NULL)
        return refuse(file, -ENOMEM, "no memory for %zu bytes", size);
    while (file->size < size) {
        ssize_t count = read(descriptor, file->text + file->size, size - file->size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return refuse(file, -errno, "cannot be read: %s", strerror(errno));
        if (count == 0)
            break;
        file->size += (size_t)count;
    }
    file->text[file->size] = '\0';
    return 0;
}

int line_file_open(struct line_file *file, const char *path, mode_t forbidden, char *error, size_t error_size)
{
    assert(error_size > 0);
    *file = (struct line_file){.path = path, .error = error, .error_size = error_size};
    /* not to wait for the other end of what turns out to be a pipe */
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return refuse(file, -errno, "cannot be opened: %s", strerror(errno));
    size_t size = 0;
    int result = check_kind(file, descriptor, forbidden, &size);
    if (result == 0)
        result = read_text(file, descriptor, size);
    close(descriptor);
    if (result < 0)
        line_file_close(file);
    file->next = file->text;
    return result;
}

void line_file_close(struct line_file *file)
{
    if (file->text != NULL)
        OPENSSL_cleanse(file->text, file->size);
    free(file->text);
    file->text = NULL;
    file->size = 0;
}

char *line_file_take(struct line_file *file)
{
    char *text = file->text;
    assert(text != NULL);
    file->text = NULL;
    file->size = 0;
    return text;
}

bool line_file_next(struct line_file *file, char **line, size_t *size)
{
    char *end = file->text + file->size;
    while (file->next < end) {
        char *start = file->next;
        char *feed = memchr(start, '\n', (size_t)(end - start));
        char *stop = feed != NULL ? feed : end;
        file->next = stop + 1;
        file->line++;
        *stop = '\0';
        if (start == stop || start[0] == '#')
            continue;
        *line = start;
        *size = (size_t)(stop - start);
        return true;
    }
    return false;
}

int line_file_fail(struct line_file *file, const char *format, ...)
{
    char reason[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    assert(file->line > 0);
    snprintf(file->error, file->error_size, "%s:%u: %s", file->path, file->line, reason);
    return -EINVAL;
}
