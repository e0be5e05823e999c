#include "gateway/ctl/users_edit.h"

#include "gateway/sasl/users.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <openssl/mem.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

static int fail(struct users_edit *edit, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct users_edit *edit, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(edit->error, sizeof(edit->error), format, arguments);
    va_end(arguments);
    return code;
}

/* A code for what the system said. */
static int fail_errno(struct users_edit *edit, const char *path, const char *what)
{
    int code = errno == EACCES || errno == EPERM || errno == EROFS ? EX_NOPERM
               : errno == ENOENT || errno == ENOTDIR               ? EX_NOINPUT
                                                                   : EX_IOERR;
    return fail(edit, code, "%s: %s: %s", path, what, strerror(errno));
}

static int resolve(struct users_edit *edit, const char *path)
{
    if (strlen(path) + sizeof(".new") > sizeof(edit->path))
        return fail(edit, EX_USAGE, "%s: the path is too long", path);
    if (realpath(path, edit->path) == NULL) {
        if (errno != ENOENT)
            return fail_errno(edit, path, "cannot be reached");
        strcpy(edit->path, path);
    }
    int size = snprintf(edit->temporary, sizeof(edit->temporary), "%s.new", edit->path);
    if (size < 0 || (size_t)size >= sizeof(edit->temporary))
        return fail(edit, EX_USAGE, "%s: the path is too long", path);
    return 0;
}

static int lock_folder(struct users_edit *edit)
{
    char copy[PATH_MAX];
    strcpy(copy, edit->path);
    const char *folder = dirname(copy);
    edit->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (edit->folder < 0)
        return fail_errno(edit, folder, "the folder cannot be opened");
    int result;
    do
        result = flock(edit->folder, LOCK_EX);
    while (result < 0 && errno == EINTR);
    return result < 0 ? fail_errno(edit, folder, "the folder cannot be locked") : 0;
}

/* The gateway's own reader is the judge of the file. */
static int check_file(struct users_edit *edit)
{
    struct users *users = NULL;
    int result = users_load(edit->path, &users, edit->error, sizeof(edit->error));
    if (result == -EACCES)
        return EX_NOPERM;
    if (result == -ENOMEM)
        return EX_OSERR;
    if (result < 0)
        return EX_DATAERR;
    users_free(users);
    return 0;
}

static int read_text(struct users_edit *edit, int descriptor)
{
    struct stat status;
    if (fstat(descriptor, &status) < 0)
        return fail_errno(edit, edit->path, "cannot be read");
    edit->mode = status.st_mode & 07777;
    edit->owner = status.st_uid;
    edit->group = status.st_gid;
    size_t capacity = (size_t)status.st_size;
    edit->text = malloc(capacity + 1);
    if (edit->text == NULL)
        return fail(edit, EX_OSERR, "no memory for %s", edit->path);
    while (edit->size < capacity) {
        ssize_t count = read(descriptor, edit->text + edit->size, capacity - edit->size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(edit, edit->path, "cannot be read");
        if (count == 0)
            break;
        edit->size += (size_t)count;
    }
    return 0;
}

static int read_file(struct users_edit *edit)
{
    int descriptor = open(edit->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0 && errno == ENOENT)
        return 0;
    if (descriptor < 0)
        return fail_errno(edit, edit->path, "cannot be opened");
    int result = check_file(edit);
    if (result == 0)
        result = read_text(edit, descriptor);
    close(descriptor);
    edit->exists = result == 0;
    return result;
}

int users_edit_begin(struct users_edit *edit, const char *path)
{
    *edit = (struct users_edit){.folder = -1, .mode = 0600, .owner = geteuid(), .group = getegid()};
    int result = resolve(edit, path);
    if (result == 0)
        result = lock_folder(edit);
    if (result == 0)
        result = read_file(edit);
    return result;
}

/* The user's line: where it begins, and behind its line feed where it ends. False: there is none. */
static bool find_line(const struct users_edit *edit, const char *name, size_t *begin, size_t *end)
{
    size_t name_size = strlen(name);
    for (size_t at = 0; at < edit->size; at = *end) {
        const char *line = edit->text + at;
        const char *feed = memchr(line, '\n', edit->size - at);
        *end = feed != NULL ? (size_t)(feed - edit->text) + 1 : edit->size;
        bool is_user = *end - at > name_size && memcmp(line, name, name_size) == 0 && line[name_size] == ':';
        if (is_user) {
            *begin = at;
            return true;
        }
    }
    *begin = *end = edit->size;
    return false;
}

/* Writes the text, but for [begin, end), where the line goes. */
static void write_text(const struct users_edit *edit, FILE *to, size_t begin, size_t end, const char *line)
{
    if (begin > 0)
        fwrite(edit->text, 1, begin, to);
    bool is_cut = begin > 0 && edit->text[begin - 1] != '\n'; /* the last line lacks its line feed */
    if (line != NULL)
        fprintf(to, "%s%s\n", is_cut ? "\n" : "", line);
    if (end < edit->size)
        fwrite(edit->text + end, 1, edit->size - end, to);
}

static int write_temporary(struct users_edit *edit, size_t begin, size_t end, const char *line)
{
    /* What a run that was killed left behind. Whoever else may write to the folder does not choose our file.
     */
    if (unlink(edit->temporary) < 0 && errno != ENOENT)
        return fail_errno(edit, edit->temporary, "cannot be removed");
    int descriptor = open(edit->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (descriptor < 0)
        return fail_errno(edit, edit->temporary, "cannot be created");
    FILE *to = fdopen(descriptor, "w");
    if (to == NULL) {
        close(descriptor);
        return fail_errno(edit, edit->temporary, "cannot be written");
    }
    write_text(edit, to, begin, end, line);
    bool is_written = fflush(to) == 0 && ferror(to) == 0;
    /* chown clears bits of the mode, so the mode comes second */
    bool is_ours = edit->owner == geteuid() && edit->group == getegid();
    is_written = is_written && (is_ours || fchown(descriptor, edit->owner, edit->group) == 0);
    is_written = is_written && fchmod(descriptor, edit->mode) == 0 && fsync(descriptor) == 0;
    int result = is_written ? 0 : fail_errno(edit, edit->temporary, "cannot be written");
    if (fclose(to) != 0 && result == 0)
        result = fail_errno(edit, edit->temporary, "cannot be written");
    return result;
}

int users_edit_replace(struct users_edit *edit, const char *name, const char *line, bool *was_there)
{
    size_t begin = 0, end = 0;
    *was_there = find_line(edit, name, &begin, &end);
    if (line == NULL && !*was_there)
        return 0;
    int result = write_temporary(edit, begin, end, line);
    if (result == 0 && rename(edit->temporary, edit->path) < 0)
        result = fail_errno(edit, edit->path, "cannot be replaced");
    if (result != 0) {
        unlink(edit->temporary);
        return result;
    }
    if (fsync(edit->folder) < 0)
        return fail_errno(edit, edit->path, "replaced, but its folder cannot be synced");
    return 0;
}

void users_edit_end(struct users_edit *edit)
{
    if (edit->text != NULL)
        OPENSSL_cleanse(edit->text, edit->size);
    free(edit->text);
    edit->text = NULL;
    if (edit->folder >= 0)
        close(edit->folder); /* and with it goes the lock */
    edit->folder = -1;
}
