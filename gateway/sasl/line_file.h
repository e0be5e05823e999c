#pragma once

/*
 * A small configuration-like file, read whole and handed out line by line, with errors that name the line.
 *
 * One thread at a time; open blocks on the disk.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct line_file {
    const char *path; /* borrowed */
    char *text;       /* the whole file and a zero */
    size_t size;      /* octets of the text without the zero */
    char *next;
    unsigned line; /* of the one handed out last; 0: none yet */
    char *error;   /* the caller's, `error_size` octets */
    size_t error_size;
};

/*
 * Reads the regular file, and refuses one with a permission bit of `forbidden` set: -EPERM. -ENOMEM, -EINVAL
 * (not a regular file), another negative errno. On every failure `error` says "PATH: what is wrong", and
 * there is nothing to close. `error` (at least one octet) serves until line_file_close.
 */
int line_file_open(struct line_file *file, const char *path, mode_t forbidden, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* Cleanses the text. */
void line_file_close(struct line_file *file);

/* The text's new owner is the caller, who cleanses and frees it; lines handed out stay valid. */
char *line_file_take(struct line_file *file);

/* The next line that is not empty and not a comment, zero-terminated in place (it may hold zeros of its own);
   it may be written to. False at the end. */
bool line_file_next(struct line_file *file, char **line, size_t *size) __attribute__((warn_unused_result));

/* Writes "PATH:LINE: …" to the error, and returns -EINVAL. */
int line_file_fail(struct line_file *file, const char *format, ...)
    __attribute__((format(printf, 2, 3), warn_unused_result));
