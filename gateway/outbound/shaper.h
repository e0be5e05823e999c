/*
 * A shaper says when a far side may be given another connection or another message: within the limits that
 * the operator set, and within what the far side has been found to stand.
 *
 * Pure: no I/O, no memory of its own, no clock. Times are microseconds of one monotonic clock and never go
 * back. One for each group of limits, embedded, on the worker that owns the group; that worker's thread only.
 *
 * The operator's limits hold exactly, by our clock, at the moment when a connection or a message begins: in
 * no span of one second, minute or hour, wherever it starts, do more than so many begin. Beginnings are
 * spread evenly, as the generic cell rate algorithm does (ITU-T I.371, annex A), so there is no history to
 * keep. The far side sees them with the jitter of the network: so each limit is held in a span longer by a
 * hundredth, and a fiftieth may come in one go, which makes good for timers that are late. Together that
 * costs 3 % of the limit.
 *
 * What the far side stands is found without the operator:
 *
 *   connections   begin at 2, one more for each window of messages that worked (additive, Chiu and Jain 1989)
 *   pace          has no limit until the first pressure, then begins at a part of what was accepted lately
 *   pressure      within a second or two counts once. When a higher level was being tried, the level falls to
 *                 four fifths of what had worked; when nothing new was being tried, to half of it
 *   after it      the level follows a cubic curve (CUBIC, RFC 9438, section 4.2): fast up to just under the
 *                 level that was refused, flat about it, then faster and faster, for the limit may have risen
 *   debt          each refusal is to be paid with SHAPER_REFUSAL_PRICE messages that work before anything
 *                 beyond that level is tried again. So refusals stay under 1 %, however the far side counts
 *   idleness      after ten minutes without a message what was learned loses weight, after an hour all of it
 *
 * A level rises only while it is used to the full (as RFC 7661 has it for TCP).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/outbound/meter.h"

struct config_limits;

enum {
    SHAPER_LEVEL_MAX = 1000000, /* connections, and messages a second, beyond which nothing is learned */
    SHAPER_WINDOW_FIRST = 2,    /* connections to begin with */
    SHAPER_REFUSAL_PRICE = 150, /* messages */
    SHAPER_BUCKET_COUNT = 32,
};

enum shaper_pressure {
    SHAPER_PRESSURE_CONNECTION, /* a connection was refused or given up while others are served */
    SHAPER_PRESSURE_RATE,       /* a message was refused because of how many there were */
};

enum shaper_span {
    SHAPER_SPAN_SECOND,
    SHAPER_SPAN_MINUTE,
    SHAPER_SPAN_HOUR,
    SHAPER_SPAN_COUNT,
};

/* A quantity whose bearable level is being learned. Levels are in thousandths. */
struct shaper_climb {
    uint32_t level;         /* allowed now; 0: not limited */
    uint32_t ceiling;       /* what the far side stood when it last pressed; 0: it never did */
    uint32_t bottom;        /* the level right after that */
    uint32_t debt;          /* messages that have to work before the level goes beyond the ceiling */
    bool is_first;          /* it pressed once so far: nobody could know, so those refusals are free */
    uint64_t climbed_us;    /* time on the curve: it passes while the level is used to the full */
    uint64_t deaf_until_us; /* what presses before was under way when the level was lowered */
};

/* Fields are private to shaper.c. */
struct shaper {
    struct meter connections;
    struct meter messages[SHAPER_SPAN_COUNT];
    uint32_t connections_max; /* the operator's limit; 0: none may be opened */
    uint32_t open;            /* connections that began and have not ended */
    bool is_metered;          /* one of `messages` is a limit */
    bool was_full;            /* all of the window was in use at some time since the last tick */
    uint32_t grown;           /* messages that worked with all of the window in use, since it last grew */
    uint64_t grown_us;        /* when it last grew */
    struct shaper_climb window;
    struct shaper_climb pace;               /* messages a second */
    struct meter paced;                     /* holds `pace` */
    uint64_t tick_us;                       /* when the current bucket is full */
    uint32_t bucket;                        /* the current one */
    uint32_t accepted[SHAPER_BUCKET_COUNT]; /* messages that worked, for each quarter of a second */
};

/* `limits` is read, not kept. 0 connections are none, as for a worker without a share; other limits of 0 are
 * no limits. */
void shaper_init(struct shaper *shaper, const struct config_limits *limits, uint64_t now_us);

/* New limits. What was learned stays, within them. Beginnings until now count for a limit that rises; for a
 * limit that falls, or is new, spans count that start now. */
void shaper_set_limits(struct shaper *shaper, const struct config_limits *limits, uint64_t now_us);

/* When the next connection may be opened. A time <= now_us: now. UINT64_MAX: not before one ends, or the
 * window grows: ask again after shaper_worked. Until then the answer can only come earlier with
 * shaper_connection_ended, shaper_worked or shaper_set_limits. Where messages wait for shaper_message_at
 * alone there is no use for a further connection: ask that first. */
uint64_t shaper_connect_at(const struct shaper *shaper, uint64_t now_us) __attribute__((warn_unused_result));

/* Whether a connection could be opened if there was room for one. */
bool shaper_connects_are_due(const struct shaper *shaper, uint64_t now_us);

/* Nothing that began counts for any of the operator's limits any more. */
bool shaper_is_at_rest(const struct shaper *shaper, uint64_t now_us);

/* A connection is being opened: only when shaper_connect_at allows it. */
void shaper_connect_began(struct shaper *shaper, uint64_t now_us);

/* A connection is gone, or could not be opened: once for each that began, when the far side no longer counts
 * it (not when QUIT was said), and after shaper_pressed if that is why it ends. */
void shaper_connection_ended(struct shaper *shaper, uint64_t now_us);

/* When a message may begin, a MAIL of its own. As shaper_connect_at, but never UINT64_MAX. */
uint64_t shaper_message_at(const struct shaper *shaper, uint64_t now_us) __attribute__((warn_unused_result));

/* A message begins: only when shaper_message_at allows it. */
void shaper_message_began(struct shaper *shaper, uint64_t now_us);

/* A message was answered for, well or badly, and without pressure. */
void shaper_worked(struct shaper *shaper, uint64_t now_us);

/* The far side made us feel a limit of its own: once for each refused connection, once for each refused
 * message. Connections above the window may stay until they end of themselves. */
void shaper_pressed(struct shaper *shaper, enum shaper_pressure pressure, uint64_t now_us);

/* Connections allowed now, at least 1. */
uint32_t shaper_window(const struct shaper *shaper);

/* Messages a second allowed now, times 1000, by what was learned; 0: not limited. */
uint32_t shaper_pace(const struct shaper *shaper);
