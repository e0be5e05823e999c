#pragma once

/*
 * Who may log in: the file of users, read whole into an immutable table.
 *
 * One user a line, three fields: the name, its crypt(3) hash, and what SCRAM-SHA-256 stores of the password:
 *
 *     alice@example.com:$y$j9T$SALT$HASH:SCRAM-SHA-256$20000:SALT$STOREDKEY:SERVERKEY
 *     printer:$6$SALT$HASH:-
 *
 * "-" stands for a field that is not there; a user with neither cannot log in. The hash is yescrypt ("$y$")
 * or sha512crypt ("$6$"), no other. The SCRAM part is the form of RFC 5803, in base64. Lines that are empty
 * or begin with "#" are comments. `sluicectl passwd` writes such lines.
 *
 * A name is 1 to USER_NAME_MAX octets of UTF-8 without spaces, controls or ":"; text.h has the whole rule.
 * Names are compared octet by octet, without folding case and without normalisation.
 *
 * Loading may be done by any thread and blocks on the disk; what was loaded never changes and may be read by
 * any number of threads.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    USER_NAME_MAX = 255,     /* octets, without the terminating zero */
    USER_PASSWORD_MAX = 255, /* the same */
    USER_CRYPT_MAX = 191,    /* the longest hash of the two methods has fewer */
    SCRAM_KEY_SIZE = 32,     /* SHA-256 */
    SCRAM_SALT_MAX = 64,
    SCRAM_SALT_DEFAULT = 16, /* what `sluicectl passwd` writes, and stand-ins show where no user has keys */
    SCRAM_ITERATIONS_DEFAULT = 20000, /* the same: 5 ms of a client's time */
    SCRAM_ITERATIONS_MIN = 4096,      /* RFC 7677 §4 */
    SCRAM_ITERATIONS_MAX = 1000000,
};

struct user {
    const char *name;    /* zero-terminated */
    const char *crypt;   /* "$y$…" or "$6$…", zero-terminated; NULL: none */
    const uint8_t *salt; /* NULL unless has_scram */
    uint32_t name_size;
    uint32_t salt_size;  /* 1 … SCRAM_SALT_MAX */
    uint32_t iterations; /* SCRAM_ITERATIONS_MIN … SCRAM_ITERATIONS_MAX */
    bool has_scram;
    uint8_t stored_key[SCRAM_KEY_SIZE]; /* H(ClientKey), RFC 5802 §3 */
    uint8_t server_key[SCRAM_KEY_SIZE];
};

struct users;

/*
 * Reads the file. 0, and the caller owns *users; -EINVAL for a mistake in it, -EPERM for a file that others
 * may read or write, or that its group may write; -ENOMEM; another negative errno for what the system says.
 * Then `error` holds one line that begins with "PATH:LINE: " (or "PATH: " where no line is to blame), cut to
 * `error_size` octets with its zero, and *users is untouched.
 */
int users_load(const char *path, struct users **users, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* Cleanses and frees; NULL is fine. Whoever calls knows that no other thread looks any more. */
void users_free(struct users *users);

size_t users_count(const struct users *users);

/* The user of this name, or NULL. One probe of a hash table, however many users there are. It lives as long
   as `users`. `name` may be anything that a client sent. */
const struct user *users_find(const struct users *users, const char *name, size_t size);

/*
 * Somebody whose credentials an unknown user's login can be measured by, so that neither time nor a SCRAM
 * challenge tells who exists: `draw` (any number; the same gives the same user until the file changes) picks
 * one of those that have a crypt hash or SCRAM keys, or, of users_scram_decoy, SCRAM keys. NULL: no such
 * user.
 */
const struct user *users_decoy(const struct users *users, uint32_t draw);
const struct user *users_scram_decoy(const struct users *users, uint32_t draw);

/* One line of the file without its line feed: the reverse of what users_load reads. Its length, or -EINVAL
   for a name or a field that the file cannot hold, or -ENOSPC; the line is zero-terminated. */
int user_format(const struct user *user, char *line, size_t capacity) __attribute__((warn_unused_result));

enum { USER_LINE_MAX = USER_NAME_MAX + USER_CRYPT_MAX + 256 }; /* room that user_format never exceeds */
