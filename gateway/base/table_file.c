#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/table_inner.h"

enum { BUFFER_SIZE = 2 * TABLE_LINE_SIZE_MAX };

struct loader {
    struct table *table;
    const char *path;
    size_t line; /* 0: no line is to blame */
    char *error;
    size_t error_size;
};

static void fail(const struct loader *loader, const char *text)
{
    char line[32] = "";
    if (loader->line > 0)
        snprintf(line, sizeof(line), ":%zu", loader->line);
    int size = snprintf(loader->error, loader->error_size, "%s%s: %s", loader->path, line, text);
    assert(size > 0 && loader->error_size > 0);
    for (char *cursor = loader->error; *cursor != '\0'; cursor++) {
        if ((unsigned char)*cursor < ' ' || *cursor == 0x7f)
            *cursor = '?';
    }
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

static bool has_controls(const char *text, size_t size)
{
    for (size_t index = 0; index < size; index++) {
        if (((unsigned char)text[index] < ' ' && text[index] != '\t') || text[index] == 0x7f)
            return true;
    }
    return false;
}

static const char *add_pair(struct table *table, const char *line, size_t size, int *result)
{
    size_t key_size = 0;
    while (key_size < size && !is_blank(line[key_size]))
        key_size++;
    size_t begin = key_size;
    while (begin < size && is_blank(line[begin]))
        begin++;
    *result = -EINVAL;
    if (begin == size)
        return "a key without a value; would be right: key, blanks, value";
    if (key_size > TABLE_KEY_SIZE_MAX)
        return "the key is longer than 512 bytes";
    *result = table_add(table, line, key_size, line + begin, size - begin);
    if (*result == -EEXIST) {
        *result = -EINVAL;
        return "the key is given twice";
    }
    return *result < 0 ? strerror(-*result) : NULL;
}

static int fail_long_line(const struct loader *loader)
{
    fail(loader, "the line is longer than 64 KiB");
    return -EINVAL;
}

/* A line without its end. */
static int add_line(struct loader *loader, const char *line, size_t size)
{
    static const char byte_order_mark[3] = {'\xef', '\xbb', '\xbf'};
    loader->line++;
    if (size >= TABLE_LINE_SIZE_MAX)
        return fail_long_line(loader);
    if (loader->line == 1 && size >= 3 && memcmp(line, byte_order_mark, 3) == 0) {
        line += 3;
        size -= 3;
    }
    if (size > 0 && line[size - 1] == '\r')
        size--;
    while (size > 0 && is_blank(line[size - 1]))
        size--;
    for (; size > 0 && is_blank(line[0]); line++)
        size--;
    if (size == 0 || line[0] == '#')
        return 0;

    int result = -EINVAL;
    const char *error = "a control character";
    if (!has_controls(line, size))
        error = loader->table->form == TABLE_PAIRS ? add_pair(loader->table, line, size, &result)
                                                   : table_add_address(loader->table, line, size, &result);
    assert((error == NULL) == (result == 0));
    if (error != NULL)
        fail(loader, error);
    return result;
}

/* Takes all whole lines from the buffer; `is_last`: what follows the last line end is a line, too. Moves what
   is left to the begin. */
static int add_lines(struct loader *loader, char *buffer, size_t *size, bool is_last)
{
    char *cursor = buffer;
    char *end = buffer + *size;
    while (cursor < end) {
        char *newline = memchr(cursor, '\n', (size_t)(end - cursor));
        if (newline == NULL && !is_last)
            break;
        char *line_end = newline != NULL ? newline : end;
        int result = add_line(loader, cursor, (size_t)(line_end - cursor));
        if (result < 0)
            return result;
        cursor = newline != NULL ? newline + 1 : end;
    }
    *size = (size_t)(end - cursor);
    memmove(buffer, cursor, *size);
    if (*size < TABLE_LINE_SIZE_MAX)
        return 0;
    loader->line++;
    return fail_long_line(loader);
}

static int read_lines(struct loader *loader, int fd, char *buffer)
{
    size_t size = 0;
    while (true) {
        assert(size < TABLE_LINE_SIZE_MAX);
        ssize_t got = read(fd, buffer + size, BUFFER_SIZE - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int result = -errno;
            loader->line = 0;
            fail(loader, strerror(-result));
            return result;
        }
        size += (size_t)got;
        int result = add_lines(loader, buffer, &size, got == 0);
        if (result < 0 || got == 0)
            return result;
    }
}

static int fail_errno(const struct loader *loader, int result)
{
    assert(result < 0);
    fail(loader, strerror(-result));
    return result;
}

static int load(struct loader *loader, int fd, enum table_form form)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return fail_errno(loader, -errno);
    if (!S_ISREG(status.st_mode)) {
        fail(loader, "not a regular file");
        return -EINVAL;
    }
    /* The text is about as long as the file; more is taken when it turns out otherwise. */
    size_t text_size = (uint64_t)status.st_size < UINT32_MAX ? (size_t)status.st_size : UINT32_MAX;
    char *buffer = malloc(BUFFER_SIZE);
    int result = buffer != NULL ? table_new(form, text_size + text_size / 16, &loader->table) : -ENOMEM;
    if (result < 0) {
        free(buffer);
        return fail_errno(loader, result);
    }
    result = read_lines(loader, fd, buffer);
    free(buffer);
    if (result < 0)
        return result;
    loader->line = 0;
    result = table_fit(loader->table);
    return result < 0 ? fail_errno(loader, result) : 0;
}

int table_load(const char *path, enum table_form form, struct table **table, char *error, size_t error_size)
{
    struct loader loader = {.path = path, .error = error, .error_size = error_size};
    /* Without O_NONBLOCK a pipe in the file's place would hold the caller for ever. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return fail_errno(&loader, -errno);
    int result = load(&loader, fd, form);
    close(fd);
    if (result < 0) {
        table_free(loader.table);
        return result;
    }
    *table = loader.table;
    return 0;
}
