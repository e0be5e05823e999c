#include "tests/sim/world.h"

#include <stddef.h>

static const uint32_t page_sizes[] = {16 * 1024, 32 * 1024, 32 * 1024, 64 * 1024};

static void draw_faults(struct random *random, struct disk_options *disk)
{
    static const uint32_t often[] = {300, 3000, 30000, 200000};
    uint32_t which = (uint32_t)random_below(random, 16);
    uint32_t chance = often[random_below(random, 4)];

    /* Most worlds have a disk that only tears: failures would hide what else can go wrong. */
    disk->prepare_fails = which == 0 || which == 1 ? chance : 0;
    disk->write_fails = which == 0 || which == 2 || which == 3 ? chance / 2 : 0;
    disk->read_fails = which == 0 || which == 4 ? chance : 0;
    disk->load_fails = which == 5 ? 20000 : 0;
    disk->discard_fails = which == 6 ? 300000 : 0;
}

static void draw_disk(struct world *world, struct random *random, struct disk_options *disk)
{
    struct plan *plan = &world->plan;

    plan->page_size = page_sizes[random_below(random, 4)];
    plan->segment_size = plan->page_size * (4ULL << random_below(random, 2));
    plan->slots_max =
        (uint32_t)(random_one_in(random, 3) ? random_between(random, 4, 8) : random_between(random, 12, 120));
    *disk = (struct disk_options){
        .seed = random_next(random),
        .segment_size = plan->segment_size,
        .slots_max = plan->slots_max,
        .latency_min_us = 20,
        .latency_max_us = (uint32_t)random_skewed(random, 100, 50000),
    };
    draw_faults(random, disk);
}

static void draw_traffic(struct plan *plan, struct random *random)
{
    plan->lanes = (uint32_t)random_skewed(random, 1, WORLD_LANES_MAX);
    plan->drafts = (uint32_t)random_between(random, 1, WORLD_DRAFTS_MAX);
    plan->deliveries = (uint32_t)random_skewed(random, 1, WORLD_DELIVERIES_MAX);
    plan->lives = (uint32_t)random_between(random, 1, 5);
    plan->turns = (uint32_t)random_skewed(random, 20, 400);
    plan->content_max = random_skewed(random, 1024, 4 * plan->page_size);
    plan->send_percent = (uint32_t)random_between(random, 20, 100);
    plan->take_percent = (uint32_t)random_between(random, 5, 100);
    plan->defer_percent = random_one_in(random, 3) ? 0 : (uint32_t)random_between(random, 1, 90);
    plan->retry_percent = random_one_in(random, 2) ? 0 : (uint32_t)random_between(random, 1, 30);
    plan->owe_percent = random_one_in(random, 2) ? 0 : (uint32_t)random_between(random, 1, 40);
    plan->abort_percent = random_one_in(random, 2) ? 0 : (uint32_t)random_between(random, 1, 40);
    plan->many_percent = random_one_in(random, 2) ? 0 : (uint32_t)random_between(random, 1, 20);
    plan->place_percent = random_one_in(random, 3) ? 0 : (uint32_t)random_between(random, 1, 100);
    plan->bond_percent = random_one_in(random, 3) ? 0 : (uint32_t)random_between(random, 1, 30);
    plan->phases = random_one_in(random, 2);
    plan->sleeps = random_one_in(random, 2);
    plan->flips = random_one_in(random, 8);
}

static void draw_retry(struct queue_options *options, struct random *random)
{
    options->retry_count = (uint32_t)random_between(random, 1, 5);
    for (uint32_t i = 0; i < options->retry_count; i++)
        options->retry_ms[i] = (int64_t)random_skewed(random, 10, 3600 * 1000);
    options->retry_jitter_percent = (uint32_t)random_below(random, 51);
    options->entry_recipients = (uint32_t)random_between(random, 1, 64);
    options->age_max_ms = (int64_t)random_skewed(random, 60 * 1000, 5LL * 86400 * 1000);
}

void plan_draw(struct world *world, struct disk_options *disk)
{
    struct random random = random_fork(&world->random);

    draw_disk(world, &random, disk);
    draw_traffic(&world->plan, &random);
    world->options = (struct queue_options){
        .shard = (uint32_t)random_below(&random, 256),
        .page_size = world->plan.page_size,
        .seed = random_next(&random),
    };
    plan_redraw(world);
}

void plan_redraw(struct world *world)
{
    struct random random = random_fork(&world->random);
    struct queue_options *options = &world->options;

    options->writes_max = (uint32_t)random_between(&random, 1, 8);
    options->commit_delay_us = random_one_in(&random, 2) ? 0 : (uint32_t)random_skewed(&random, 1, 20000);
    /* From a handful of pages, so that content must leave memory, to more than the seed will ever need. */
    options->memory_limit = options->page_size * random_skewed(&random, 12, 400);
    uint32_t entry_recipients = options->entry_recipients;
    draw_retry(options, &random);
    bool recut = random_one_in(&random, 4);
    if (entry_recipients > 0 && recut)
        world->oracle.recut = true;
    else if (entry_recipients > 0)
        options->entry_recipients = entry_recipients;
}

void plan_phase(struct world *world)
{
    struct plan *plan = &world->plan;
    uint32_t phase = (uint32_t)random_below(&world->random, 3);

    plan->send_percent = phase == 1 ? 100 : phase == 2 ? 3 : 50;
    plan->take_percent = phase == 1 ? 0 : phase == 2 ? 100 : 40;
    plan->defer_percent = phase == 2 ? 2 : plan->defer_percent;
}
