#pragma once

/*
 * Changes one line of the file of users, such that every reader sees the old file or the new one, whole.
 *
 * The new text is written beside the file, synced, and renamed over it; mode and owner stay, a new file is
 * 0600. Two programs that edit at once take turns: each holds a lock on the folder. A file that the gateway
 * would refuse to load is refused here too, and is not touched.
 *
 * One thread; blocks on the disk and on the lock.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct users_edit {
    char path[PATH_MAX];      /* of the file itself, where the given one was a symbolic link */
    char temporary[PATH_MAX]; /* beside it */
    int folder;               /* locked */
    bool exists;
    mode_t mode;
    uid_t owner;
    gid_t group;
    char *text; /* the file as it is; NULL: there is none */
    size_t size;
    char error[512];
};

/* Locks, and reads the file, which need not exist. 0; or a code of sysexits.h with `error`. users_edit_end is
   due in either case. */
int users_edit_begin(struct users_edit *edit, const char *path) __attribute__((warn_unused_result));

/* Puts `line` (without line feed; NULL: nothing) in the place of the user's line, or at the end. *was_there
   is whether there was one. When line is NULL and there was none, nothing is written. As with begin. */
int users_edit_replace(struct users_edit *edit, const char *name, const char *line, bool *was_there)
    __attribute__((warn_unused_result));

void users_edit_end(struct users_edit *edit);
