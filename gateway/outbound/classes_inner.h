#pragma once

/*
 * What reading the table of classes and asking it have in common. Only gateway/outbound/classes*.c include
 * this.
 */

#include "gateway/outbound/classes.h"
#include "gateway/outbound/words.h"

#include <stdbool.h>

enum classes_part {
    CLASSES_ANY,  /* "*" */
    CLASSES_NONE, /* "-" */
    CLASSES_GIVEN,
};

enum {
    CLASSES_ANY_DIGIT = 10,      /* "x" in a code */
    CLASSES_ANY_NUMBER = 0xffff, /* "*" in a status */
};

/* A part of a text pattern, between two stars. */
struct classes_piece {
    struct smtp_slice text;
    uint32_t word; /* its number among the words */
};

/* Pieces that must occur in this order. */
struct classes_pattern {
    uint32_t first;
    uint32_t count;
};

struct classes_rule {
    uint8_t class;     /* enum notice_class */
    uint8_t code_part; /* enum classes_part, as the next two */
    uint8_t status_part;
    uint8_t host_part;
    uint8_t code[3];        /* digits, or CLASSES_ANY_DIGIT */
    uint16_t status[3];     /* numbers, or CLASSES_ANY_NUMBER */
    uint32_t pattern;       /* the first of its patterns */
    uint32_t pattern_count; /* 0: any text */
    struct smtp_slice host; /* in small letters */
};

struct classes {
    struct words *words;
    struct classes_rule *rules;
    struct classes_pattern *patterns;
    struct classes_piece *pieces;
    char *text; /* of the file; slices point into it */
    uint32_t rule_count;
    uint32_t pattern_count;
    uint32_t piece_count;
};

/* The text of deploy/classes.conf at the time of the build, terminated by a zero. */
extern const char classes_builtin[];

/* Writes `text` in small letters, with one blank for each run of blanks and controls, none at the beginning.
 * `into` has room for text.size octets, and may be where the text lies. Returns the new size. */
uint32_t classes_fold(struct smtp_slice text, char *into);

/* Reads rules from `text`, `size` octets on the heap: it belongs to the classes if
 * the result is 0, else to the caller. Errors as with classes_load; `path` is for their text. */
int classes_parse(char *text, size_t size, const char *path, struct classes **classes, char *error,
                  size_t error_size) __attribute__((warn_unused_result));
