#pragma once

/*
 * A set of words, all of which are looked for in a text in one pass over it, however many they are (the
 * automaton of Aho and Corasick).
 *
 * Built with words_add and words_build; from then on it never changes, and any thread may ask. Words and text
 * are compared octet by octet: who wants either case to match folds both beforehand.
 */

#include "proto/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WORDS_MAX = 8192,        /* different words */
    WORDS_NODES_MAX = 65535, /* octets of all words, common beginnings counted once */
};

/* Which words were found. */
struct words_found {
    uint64_t bits[WORDS_MAX / 64];
};

struct words;

/* NULL: out of memory. */
struct words *words_new(void);

/* NULL is fine. */
void words_free(struct words *words);

/* Adds a word of at least one octet, and says its number; the same word keeps its number. 0, -ENOSPC (too
 * many), or -ENOMEM. Not after words_build. */
int words_add(struct words *words, struct smtp_slice word, uint32_t *number)
    __attribute__((warn_unused_result));

/* 0 or -ENOMEM. */
int words_build(struct words *words) __attribute__((warn_unused_result));

/* Writes to the part of *found that words of this set have. */
void words_find(const struct words *words, struct smtp_slice text, struct words_found *found);

static inline bool words_has(const struct words_found *found, uint32_t number)
{
    return (found->bits[number / 64] >> (number % 64) & 1) != 0;
}
