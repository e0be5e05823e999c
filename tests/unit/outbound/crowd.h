/* Several routes to the ports of a taker, and mail for them: for tests of what sites do to each other. One at
 * a time; it fails the test in hand. */
#pragma once

#include "tests/unit/outbound/taker.h"
#include "tests/unit/outbound/world.h"

enum { CROWD_MESSAGES_MAX = 240 };

struct site;

extern struct world world;
extern struct taker taker;
extern struct message messages[CROWD_MESSAGES_MAX];
extern uint32_t sent; /* of them */

/* Starts the taker, which waits so long before each answer to content, at so many ports, with a route to
 * each: d0.test, d1.test, ...; and a world with these and `more` of a configuration. */
void crowd_begin(uint32_t delay_ms, uint32_t ports, const char *more);

/* For cmocka's teardown; after a test that failed, too. */
int crowd_end(void **state);

/* Another configuration; what it sent home untried is given anew. */
void crowd_reload(uint32_t routes, const char *more);

void crowd_send_mail(const char *to);
void crowd_send_to(uint32_t route);

/* All that was sent came home once, delivered. */
void crowd_check_all_done(void);

/* The site of a route; NULL, or a failure: there is none. */
struct site *crowd_find_site(uint32_t route);
struct site *crowd_site_to(uint32_t route) __attribute__((returns_nonnull));

uint32_t crowd_count_of(const struct list *head);
