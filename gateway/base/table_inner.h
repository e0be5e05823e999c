#pragma once

/*
 * What the parts of a table share: its memory, and the form of a local part. Only gateway/base/table*.c
 * include this.
 *
 * The text of all entries lies in one block in the order of the file: the key's size (2 bytes), in a table of
 * pairs the value's size (2 bytes), the key, the value. A slot says where an entry begins and holds half of
 * its key's hash, which both gives the slot its place and lets a probe pass by other keys unread. So the
 * slots can be laid out anew without looking at the text.
 */

#include "gateway/base/siphash.h"
#include "gateway/base/table.h"

struct table_slot {
    uint32_t offset; /* into the text; 0: free (the first byte of the text is not used) */
    uint32_t hash;
};

struct table {
    char *text;
    size_t text_size;
    size_t text_capacity;
    struct table_slot *slots;
    uint32_t slot_count; /* at least one is always free, so that every probe ends */
    uint32_t count;
    enum table_form form;
    struct siphash_key hash_key;
};

/* An empty table with room for `text_size` bytes of text. 0, -ENOMEM, or what getrandom gives. */
int table_new(enum table_form form, size_t text_size, struct table **table)
    __attribute__((warn_unused_result));

/* Adds an entry; the key's size is 1 … TABLE_KEY_SIZE_MAX. 0, -EEXIST (nothing changed), -EFBIG or -ENOMEM.
 */
int table_add(struct table *table, const char *key, size_t key_size, const char *value, size_t value_size)
    __attribute__((warn_unused_result));

/* Gives back what was reserved for growing. 0 or -ENOMEM; the table is good in either case. */
int table_fit(struct table *table) __attribute__((warn_unused_result));

enum { TABLE_LOCAL_SIZE_MAX = 128 }; /* twice what RFC 5321 §4.5.3.1.1 allows, since some hosts allow more */

/* Writes the one form of a local part under which it is kept: in quotes only where it needs them, since
   Dot-string and Quoted-string are two ways of writing one mailbox (RFC 5321 §4.1.2). Returns its size, at
   most twice the local part's; 0: it is none. */
size_t table_local_form(const char *local, size_t size, char into[static TABLE_KEY_SIZE_MAX]);

/* Adds the address that stands in a line of a file (no blanks around it, not empty). NULL, or what is wrong
   with it; `result` then tells the errno. */
const char *table_add_address(struct table *table, const char *line, size_t size, int *result);
