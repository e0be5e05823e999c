#include "tests/unit/outbound/crowd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/outbound/site.h"
#include "tests/unit/outbound/peer.h"

struct world world;
struct taker taker;
struct message messages[CROWD_MESSAGES_MAX];
uint32_t sent;

/* One route for each port: d0.test, d1.test, ... */
static struct config *config_of(uint32_t routes, const char *more)
{
    static char text[16384];
    size_t size = (size_t)snprintf(text, sizeof(text),
                                   "hostname = \"relay.test\"\n"
                                   "listener \"l\" { bind = {\"127.0.0.1:2525\"} }\n%s\n",
                                   more);
    struct config *config;
    struct config_error error;

    for (uint32_t i = 0; i < routes; i++)
        size +=
            (size_t)snprintf(text + size, sizeof(text) - size,
                             "route \"d%u.test\" { to = \"smtp://127.0.0.1:%u\" }\n", i, taker.ports[i].port);
    if (config_load_text("test", text, &config, &error) < 0)
        fail_msg("%s", error.text);
    return config;
}

void crowd_begin(uint32_t delay_ms, uint32_t ports, const char *more)
{
    taker.delay_ms = delay_ms;
    taker_start(&taker, ports);
    world_init(&world, (uint16_t[]){peer_dead_port(), 0}, "");
    world_take(&world, config_of(ports, more));
    sent = 0;
}

/* The next begins anew. */
int crowd_end(void **state)
{
    world_deinit(&world);
    taker_stop(&taker);
    return 0;
}

void crowd_send_mail(const char *to)
{
    assert_true(sent < CROWD_MESSAGES_MAX);
    messages[sent] = (struct message){.from = "a@from.test", .to = {to}, .content = "x\r\n"};
    world_send(&world, &messages[sent++]);
}

void crowd_send_to(uint32_t route)
{
    static const char *const to[] = {"x@d0.test", "x@d1.test", "x@d2.test", "x@d3.test"};

    assert_true(route < 4);
    crowd_send_mail(to[route]);
}

void crowd_check_all_done(void)
{
    for (uint32_t i = 0; i < sent; i++) {
        assert_int_equal(messages[i].homecomings, 1);
        assert_int_equal(messages[i].targets[0].outcome, QUEUE_DONE);
    }
    assert_int_equal(atomic_load(&taker.taken), sent);
}

struct site *crowd_find_site(uint32_t route)
{
    char name[32];

    snprintf(name, sizeof(name), "127.0.0.1:%u", taker.ports[route].port);
    for (uint32_t i = 0; i < OUTBOUND_BUCKETS; i++) {
        list_each(link, &world.outbound.buckets[i])
        {
            struct site *site = list_entry(link, struct site, bucket_link);
            if (strcmp(site->name != NULL ? site->name : "", name) == 0)
                return site;
        }
    }
    return NULL;
}

struct site *crowd_site_to(uint32_t route)
{
    struct site *site = crowd_find_site(route);

    assert_non_null(site);
    if (site == NULL)
        abort(); /* the compiler does not know that an assertion ends the test */
    return site;
}

static void send_untried_again(void)
{
    for (uint32_t i = 0; i < sent; i++) {
        if (messages[i].homecomings == 0 || messages[i].targets[0].outcome != QUEUE_RETRY)
            continue;
        world.home--;
        world_send(&world, &messages[i]);
    }
}

void crowd_reload(uint32_t routes, const char *more)
{
    world_take(&world, config_of(routes, more));
    send_untried_again();
}

uint32_t crowd_count_of(const struct list *head)
{
    uint32_t count = 0;
    list_each(link, head)
    {
        count++;
    }
    return count;
}
