#pragma once

/*
 * A set of keys, or of keys with values, read from a text file of up to millions of lines: which recipients
 * exist, which senders a login may use.
 *
 * Built once by table_load, then immutable: any thread may ask, and no question allocates or waits. A look-up
 * costs one hash and about two lines of cache, whatever the size of the table; the hash is keyed with a
 * random number of its own for each table, so nobody can choose keys that collide. A million addresses take
 * 43 MB (28 bytes each, and 15 beside). The control thread loads and frees.
 *
 * The file: one entry a line. Blank lines and lines whose first byte that is not blank is '#' are ignored;
 * blanks and a CR at a line's ends do not count, nor does a byte order mark. What is not understood makes the
 * load fail and names its line: half a list of recipients would refuse mail for the other half. For the same
 * reason the file must be replaced as a whole (write beside it, then rename): one that is read while it is
 * being written in place may be cut at the end of a line, and nothing in it tells.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum table_form {
    /* An address a line: "local@example.com" for one mailbox, "local" for that local part in every domain,
       "@example.com" for every local part of that domain. " #" begins a comment after it, too. A domain
       beyond ASCII is kept as idna_domain_key() writes it. A local part is kept without quotes where it needs
       none, at most 128 bytes; beyond ASCII it is compared byte by byte. The same line twice is harmless. */
    TABLE_ADDRESSES,
    /* A key, blanks, and a value that goes to the end of the line, blanks inside it included. A key that is
       given twice makes the load fail: either value could be meant. */
    TABLE_PAIRS,
};

enum {
    TABLE_KEY_SIZE_MAX = 512,    /* a longer key is an error in the file, and never found */
    TABLE_LINE_SIZE_MAX = 65536, /* with its end; a longer line is an error in the file */
    TABLE_ERROR_SIZE = 512,      /* room for any message but one with a very long path */
};

struct table;

/* Reads `path` into a new table, which the caller frees. Blocks for as long as the disk takes: about 0.3 s
   for a million lines. On failure returns a negative errno (-EINVAL: a line is wrong, or the path leads to no
   regular file; -EFBIG: more than 4 GiB of text; -ENOMEM; what open and read give) and writes one
   sentence, "PATH:LINE: …" or "PATH: …", to `error` (cut to `error_size`, zero-terminated, free of control
   characters; `error_size` > 0). */
int table_load(const char *path, enum table_form form, struct table **table, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* NULL is ignored. Nobody may be reading the table any more. */
void table_free(struct table *table);

/* The number of different keys. */
size_t table_count(const struct table *table);

/* The memory that the table holds, in bytes. */
size_t table_bytes(const struct table *table);

/* True when the key is in the table. Capital ASCII letters count as small ones, here and in the file. */
bool table_has(const struct table *table, const char *key, size_t size);

/* As table_has; `value` is set to the value's text as it stands in the file, which is not zero-terminated and
   lives as long as the table (of a table of addresses: the empty text). */
bool table_find(const struct table *table, const char *key, size_t size, const char **value,
                size_t *value_size);

/* An entry of a table; its texts are not zero-terminated and live as long as the table. */
struct table_entry {
    const char *key; /* in small letters */
    size_t key_size;
    const char *value;
    size_t value_size;
};

/* Walks over all entries, in the order of the file: `position` begins as 0 and is the function's own. False:
   there are no more. */
bool table_next(const struct table *table, size_t *position, struct table_entry *entry);

/* True when the address is covered by a table of TABLE_ADDRESSES: "local@domain", else "local" alone, else
   "@domain". With `delimiter` (such as '+'; 0: none), "local@domain" and "local" are also tried with the
   local part up to its first delimiter, unless nothing would stand before it or the local part needs quotes.
   `local` comes as in the SMTP command, in quotes or not; the two ways of writing one mailbox are one.
   `domain` comes as idna_domain_key() wrote it; an empty one (`<postmaster>`) asks for the local part
   alone. */
bool table_has_address(const struct table *table, const char *local, size_t local_size, const char *domain,
                       size_t domain_size, char delimiter);

/* What tells that a file is not the one that was read: all that changes when it is replaced or written. */
struct table_stamp {
    uint64_t device;
    uint64_t inode;
    uint64_t size;
    int64_t modified_ns; /* mtime and ctime, since 1970; the kernel's ticks may be some milliseconds apart */
    int64_t changed_ns;
};

/* The stamp of the file that the path leads to, or the negative errno of stat. For the control thread, which
   looks once a second: take the stamp first, then load; a change in between then shows at the next look. */
int table_stamp_read(const char *path, struct table_stamp *stamp) __attribute__((warn_unused_result));

bool table_stamp_equals(const struct table_stamp *a, const struct table_stamp *b);
