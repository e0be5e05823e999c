#include "gateway/outbound/shaper.h"

#include <assert.h>
#include <string.h>

#include "gateway/base/config.h"

#define SECOND_US UINT64_C(1000000)
#define TICK_US   (SECOND_US / 4)

#define DEAF_US           (2 * SECOND_US) /* two round trips of a slow path: then refusals tell of the new level */
#define CONCAVE_US        (6 * SECOND_US) /* from the bottom back to the ceiling */
#define CONVEX_US         (8 * SECOND_US) /* until the level stands a tenth above the ceiling */
#define CONVEX_PART       0.1
#define GROW_US           (SECOND_US / 100) /* at least, between two connections more */
#define FADE_US           (600 * SECOND_US)
#define FADES_MAX         6
#define PACE_TOLERANCE_NS (10 * 1000 * METER_NS_PER_US)

enum {
    MILLI = 1000,
    LEVEL_MAX = MILLI * SHAPER_LEVEL_MAX,
    WINDOW_MIN = MILLI,
    PACE_MIN = MILLI / 10,
    GENTLE_PERCENT = 80,   /* of what was stood: after a try of something higher */
    HALF_PERCENT = 50,     /* after pressure that nothing new explains */
    HOLD_PERCENT = 97,     /* of the ceiling: the level while there is debt */
    TRYING_PERCENT = 96,   /* of the ceiling: from there the level was a try */
    JUMP_PERCENT = 125,    /* of the ceiling: from there the limit must have risen */
    DEBT_SECONDS_MAX = 25, /* at the present rate: a flood of refusals must not stop all tries */
    RECENT_BUCKETS = 8,
    RECENT_MIN = 16, /* messages; fewer are counted over all buckets */
};

static_assert(sizeof(struct shaper) <= 1024, "there is one for each site");

static const uint64_t span_us[SHAPER_SPAN_COUNT] = {SECOND_US, 60 * SECOND_US, 3600 * SECOND_US};

static uint32_t percent(uint32_t level, uint32_t part)
{
    return (uint32_t)((uint64_t)level * part / 100);
}

static uint32_t clamp(uint32_t value, uint32_t min, uint32_t max)
{
    assert(min <= max);
    return value < min ? min : value > max ? max : value;
}

/* RFC 9438, section 4.2, but in parts of the ceiling, and with a time for each half that does not depend on
 * it. */
static uint32_t curve(const struct shaper_climb *climb, uint64_t climbed_us)
{
    assert(climb->ceiling > 0 && climb->bottom > 0);
    if (climbed_us < CONCAVE_US) {
        if (climb->bottom >= climb->ceiling)
            return climb->bottom;
        double left = (double)(CONCAVE_US - climbed_us) / (double)CONCAVE_US;
        return climb->ceiling - (uint32_t)((climb->ceiling - climb->bottom) * left * left * left);
    }
    uint32_t base = climb->bottom > climb->ceiling ? climb->bottom : climb->ceiling;
    double beyond = (double)(climbed_us - CONCAVE_US) / (double)CONVEX_US;
    double level = base * (1 + CONVEX_PART * beyond * beyond * beyond);
    return level < LEVEL_MAX ? (uint32_t)level : LEVEL_MAX;
}

static void climb_on(struct shaper_climb *climb, uint64_t elapsed_us)
{
    uint32_t level = curve(climb, climb->climbed_us + elapsed_us);
    uint32_t hold = percent(climb->ceiling, HOLD_PERCENT);
    if (climb->debt > 0 && level > hold) {
        /* Not down again: the debt of a stray refusal may come when the level is higher. */
        if (climb->level < hold)
            climb->level = hold;
        return;
    }
    climb->climbed_us += elapsed_us;
    climb->level = level;
}

static void climb_fall(struct shaper_climb *climb, uint32_t ceiling, uint32_t bottom)
{
    assert(ceiling > 0 && bottom > 0);
    climb->ceiling = ceiling;
    climb->bottom = bottom;
    climb->level = bottom;
    climb->climbed_us = 0;
}

static void climb_forget(struct shaper_climb *climb, uint32_t level)
{
    *climb = (struct shaper_climb){.level = level, .deaf_until_us = climb->deaf_until_us};
}

/* As much as it was above what had worked, the last try has told. */
static bool climb_was_trying(const struct shaper_climb *climb)
{
    return climb->ceiling > 0 && climb->level >= percent(climb->ceiling, TRYING_PERCENT);
}

void shaper_init(struct shaper *shaper, const struct config_limits *limits, uint64_t now_us)
{
    *shaper = (struct shaper){
        .window.level = SHAPER_WINDOW_FIRST * MILLI,
        .tick_us = now_us + TICK_US,
    };
    shaper_set_limits(shaper, limits, now_us);
}

void shaper_set_limits(struct shaper *shaper, const struct config_limits *limits, uint64_t now_us)
{
    const uint32_t messages[SHAPER_SPAN_COUNT] = {limits->messages_per_second, limits->messages_per_minute,
                                                  limits->messages_per_hour};
    shaper->connections_max = limits->connections < SHAPER_LEVEL_MAX ? limits->connections : SHAPER_LEVEL_MAX;
    meter_set(&shaper->connections, limits->connections_per_second, SECOND_US, now_us);
    shaper->is_metered = false;
    for (size_t span = 0; span < SHAPER_SPAN_COUNT; span++) {
        meter_set(&shaper->messages[span], messages[span], span_us[span], now_us);
        shaper->is_metered |= messages[span] > 0;
    }
}

uint32_t shaper_window(const struct shaper *shaper)
{
    assert(shaper->window.level >= WINDOW_MIN);
    uint32_t window = (shaper->window.level + MILLI / 2) / MILLI;
    return window < shaper->connections_max ? window : shaper->connections_max;
}

uint32_t shaper_pace(const struct shaper *shaper)
{
    return shaper->pace.level;
}

static bool is_full(const struct shaper *shaper)
{
    return shaper->was_full || shaper->open >= shaper_window(shaper);
}

static void pace_set_interval(struct shaper *shaper)
{
    assert(shaper->pace.level >= PACE_MIN && shaper->pace.level <= LEVEL_MAX);
    shaper->paced.interval_ns = SECOND_US * METER_NS_PER_US * MILLI / shaper->pace.level;
    shaper->paced.tolerance_ns = PACE_TOLERANCE_NS;
}

static void pace_forget(struct shaper *shaper)
{
    climb_forget(&shaper->pace, 0);
    shaper->paced = (struct meter){0};
}

/* What was learned says twice as much for each time that has passed without a message: the far side may have
 * changed its mind, and what was in its way is gone. The connections begin anew. */
static void fade(struct shaper *shaper, uint64_t idle_us)
{
    uint64_t fades = idle_us / FADE_US;
    struct shaper_climb *window = &shaper->window, *pace = &shaper->pace;
    uint32_t first =
        window->level < SHAPER_WINDOW_FIRST * MILLI ? window->level : SHAPER_WINDOW_FIRST * MILLI;
    assert(fades > 0);
    if (fades > FADES_MAX || window->ceiling > (uint32_t)LEVEL_MAX >> fades)
        climb_forget(window, SHAPER_WINDOW_FIRST * MILLI);
    else if (window->ceiling > 0)
        climb_fall(window, window->ceiling << fades, first);
    else
        window->level = first;
    window->debt = 0;

    if (pace->level == 0)
        return;
    if (fades > FADES_MAX || pace->ceiling > (uint32_t)LEVEL_MAX >> fades ||
        pace->level > (uint32_t)LEVEL_MAX >> fades) {
        pace_forget(shaper);
        return;
    }
    climb_fall(pace, pace->ceiling << fades, pace->level << fades);
    pace->debt = 0;
    pace_set_interval(shaper);
}

/* Four times a second at most: the rest of what every message costs is to see that it is not yet time. Of the
 * time before an answer all was use, of the time before a beginning hardly any. */
static void tick(struct shaper *shaper, bool is_answer, uint64_t now_us)
{
    assert(now_us >= shaper->tick_us);
    uint64_t late_us = now_us - shaper->tick_us;
    uint64_t ticks = late_us / TICK_US + 1;
    if (late_us >= FADE_US)
        fade(shaper, late_us);
    shaper->tick_us += ticks * TICK_US;
    if (ticks > SHAPER_BUCKET_COUNT)
        ticks = SHAPER_BUCKET_COUNT;
    for (uint64_t count = 0; count < ticks; count++) {
        shaper->bucket = (shaper->bucket + 1) % SHAPER_BUCKET_COUNT;
        shaper->accepted[shaper->bucket] = 0;
    }
    if (shaper->window.ceiling > 0 && is_full(shaper) && shaper_window(shaper) < shaper->connections_max)
        climb_on(&shaper->window, (is_answer ? ticks : 1) * TICK_US);
    shaper->was_full = shaper->open >= shaper_window(shaper);
}

static void look_at_clock(struct shaper *shaper, bool is_answer, uint64_t now_us)
{
    if (now_us >= shaper->tick_us)
        tick(shaper, is_answer, now_us);
}

/* Messages a second, times 1000, that worked lately, since the first of them. */
static uint32_t accepted_lately(const struct shaper *shaper, uint64_t now_us)
{
    assert(now_us < shaper->tick_us);
    uint64_t sum = 0, time_us = 0, left_us = shaper->tick_us - now_us;
    uint64_t age_us = left_us < TICK_US ? TICK_US - left_us : 0;
    for (uint32_t index = 0; index < SHAPER_BUCKET_COUNT; index++, age_us += TICK_US) {
        if (index >= RECENT_BUCKETS && sum >= RECENT_MIN)
            break;
        uint32_t bucket = (shaper->bucket + SHAPER_BUCKET_COUNT - index) % SHAPER_BUCKET_COUNT;
        sum += shaper->accepted[bucket];
        if (shaper->accepted[bucket] > 0)
            time_us = age_us;
    }
    if (time_us < SECOND_US)
        time_us = SECOND_US; /* nobody limits by less; a burst is no rate */
    uint64_t rate = sum * MILLI * SECOND_US / time_us;
    return rate < LEVEL_MAX ? (uint32_t)rate : LEVEL_MAX;
}

uint64_t shaper_connect_at(const struct shaper *shaper, uint64_t now_us)
{
    (void)now_us;
    if (shaper->open >= shaper_window(shaper))
        return UINT64_MAX;
    return meter_at(&shaper->connections);
}

bool shaper_connects_are_due(const struct shaper *shaper, uint64_t now_us)
{
    return meter_at(&shaper->connections) <= now_us;
}

bool shaper_is_at_rest(const struct shaper *shaper, uint64_t now_us)
{
    bool is_at_rest = meter_is_at_rest(&shaper->connections, now_us);

    for (size_t span = 0; span < SHAPER_SPAN_COUNT; span++)
        is_at_rest &= meter_is_at_rest(&shaper->messages[span], now_us);
    return is_at_rest;
}

void shaper_connect_began(struct shaper *shaper, uint64_t now_us)
{
    assert(shaper->open < shaper->connections_max);
    assert(meter_at(&shaper->connections) <= now_us);
    meter_take(&shaper->connections, now_us);
    look_at_clock(shaper, false, now_us);
    shaper->open++;
    if (shaper->open >= shaper_window(shaper))
        shaper->was_full = true;
}

void shaper_connection_ended(struct shaper *shaper, uint64_t now_us)
{
    (void)now_us;
    assert(shaper->open > 0);
    shaper->open--;
}

uint64_t shaper_message_at(const struct shaper *shaper, uint64_t now_us)
{
    uint64_t at_us = 0;
    (void)now_us;
    if (shaper->pace.level > 0)
        at_us = meter_at(&shaper->paced);
    if (!shaper->is_metered)
        return at_us;
    for (size_t span = 0; span < SHAPER_SPAN_COUNT; span++) {
        uint64_t span_at_us = meter_at(&shaper->messages[span]);
        if (span_at_us > at_us)
            at_us = span_at_us;
    }
    return at_us;
}

/* A message that comes when it is due, or hardly later, shows that the pace is in full use. */
static void pace_take(struct shaper *shaper, uint64_t now_us)
{
    struct meter *paced = &shaper->paced;
    bool is_prompt = now_us * METER_NS_PER_US <= paced->due_ns + paced->interval_ns;
    uint64_t interval_us = paced->interval_ns / METER_NS_PER_US;
    meter_take(paced, now_us);
    if (!is_prompt)
        return;
    climb_on(&shaper->pace, interval_us);
    if (shaper->pace.level >= LEVEL_MAX)
        pace_forget(shaper);
    else
        pace_set_interval(shaper);
}

void shaper_message_began(struct shaper *shaper, uint64_t now_us)
{
    look_at_clock(shaper, false, now_us);
    if (shaper->pace.level > 0)
        pace_take(shaper, now_us);
    if (!shaper->is_metered)
        return;
    for (size_t span = 0; span < SHAPER_SPAN_COUNT; span++) {
        assert(meter_at(&shaper->messages[span]) <= now_us);
        meter_take(&shaper->messages[span], now_us);
    }
}

/* Additive increase, while nothing is known about the far side. */
static void grow(struct shaper *shaper, uint64_t now_us)
{
    uint32_t window = shaper_window(shaper);
    if (window >= shaper->connections_max || !is_full(shaper))
        return;
    shaper->grown++;
    if (shaper->grown < window || now_us < shaper->grown_us + GROW_US)
        return;
    shaper->window.level += MILLI;
    shaper->grown = 0;
    shaper->grown_us = now_us;
}

void shaper_worked(struct shaper *shaper, uint64_t now_us)
{
    look_at_clock(shaper, true, now_us);
    shaper->accepted[shaper->bucket]++;
    if (shaper->window.ceiling == 0)
        grow(shaper, now_us);
    if (shaper->window.debt > 0)
        shaper->window.debt--;
    if (shaper->pace.debt > 0)
        shaper->pace.debt--;
}

static void window_pressed(struct shaper *shaper)
{
    struct shaper_climb *window = &shaper->window;
    uint32_t others = shaper->open > 1 ? shaper->open - 1 : 1;
    uint32_t stood = others < window->level / MILLI ? others * MILLI : window->level / MILLI * MILLI;
    uint32_t part = climb_was_trying(window) ? GENTLE_PERCENT : HALF_PERCENT;
    uint32_t bottom = percent(stood, part);
    climb_fall(window, stood, bottom > WINDOW_MIN ? bottom : WINDOW_MIN);
}

/* What the far side stands, as far as can be said, when it refused at this level. */
static uint32_t pace_stood(const struct shaper_climb *pace, uint32_t accepted)
{
    if (pace->level == 0)
        return accepted > 0 ? accepted : MILLI;
    if (accepted == 0)
        return pace->ceiling / 2; /* it takes nothing at all, which is no matter of the pace */
    if (!climb_was_trying(pace))
        return clamp(accepted, pace->level / 2, pace->level);
    if (pace->level <= pace->ceiling)
        return percent(pace->level, HOLD_PERCENT);
    if (pace->level <= percent(pace->ceiling, JUMP_PERCENT))
        return (uint32_t)(((uint64_t)pace->ceiling + pace->level) / 2);
    return clamp(accepted, pace->ceiling, pace->level);
}

static void pace_pressed(struct shaper *shaper, uint32_t accepted, uint64_t now_us)
{
    struct shaper_climb *pace = &shaper->pace;
    bool is_gentle = pace->level == 0 || (climb_was_trying(pace) && accepted > 0);
    uint32_t ceiling = clamp(pace_stood(pace, accepted), PACE_MIN, LEVEL_MAX);
    uint32_t bottom = percent(ceiling, is_gentle ? GENTLE_PERCENT : HALF_PERCENT);
    if (accepted == 0)
        pace->debt = 0; /* at such a pace it would never be paid */
    climb_fall(pace, ceiling, clamp(bottom, PACE_MIN, LEVEL_MAX));
    pace_set_interval(shaper);
    uint64_t due_ns = now_us * METER_NS_PER_US + shaper->paced.interval_ns;
    if (shaper->paced.due_ns < due_ns)
        shaper->paced.due_ns = due_ns;
}

static void charge(struct shaper_climb *climb, uint32_t accepted)
{
    uint64_t debt_max = (uint64_t)accepted * DEBT_SECONDS_MAX / MILLI + SHAPER_REFUSAL_PRICE;
    uint64_t debt = (uint64_t)climb->debt + SHAPER_REFUSAL_PRICE;
    climb->debt = (uint32_t)(debt < debt_max ? debt : debt_max);
}

void shaper_pressed(struct shaper *shaper, enum shaper_pressure pressure, uint64_t now_us)
{
    look_at_clock(shaper, true, now_us);
    uint32_t accepted = accepted_lately(shaper, now_us);
    struct shaper_climb *climb = pressure == SHAPER_PRESSURE_RATE ? &shaper->pace : &shaper->window;
    bool is_deaf = now_us < climb->deaf_until_us;
    if (!is_deaf)
        climb->is_first = climb->ceiling == 0;
    if (!climb->is_first)
        charge(climb, accepted);
    if (is_deaf) {
        /* Connections are refused one by one, so each refusal tells of one fewer. */
        if (pressure == SHAPER_PRESSURE_CONNECTION && climb->ceiling >= climb->level + MILLI)
            climb->ceiling -= MILLI;
        return;
    }
    climb->deaf_until_us = now_us + DEAF_US;
    if (pressure == SHAPER_PRESSURE_RATE)
        pace_pressed(shaper, accepted, now_us);
    else
        window_pressed(shaper);
}
