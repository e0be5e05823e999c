/* Mail into a pair of workers, and what can be seen of them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/message/envelope.h"
#include "gateway/outbound/site.h"
#include "tests/unit/outbound/pair.h"

/* --- Mail --- */

static void committed(void *context, uint64_t id, int error)
{
    assert_int_equal(error, 0);
    *(uint64_t *)context = id;
}

void pair_accept(struct pair *pair, uint32_t index, const char *to, int64_t age_ms)
{
    static const char content[] = "Subject: x\r\n\r\nhello\r\n";
    const struct envelope sender = {.sender = SMTP_SLICE("a@from.test")};
    const char *domain = strchr(to, '@') + 1;
    char meta[ENVELOPE_SIZE_MAX];
    char recipients[1024];
    struct queue_envelope envelope = {.meta = meta, .recipients = recipients, .recipient_count = 1};
    struct queue_draft *draft = queue_draft_new(pair->workers[index].queue);
    uint64_t id = 0;

    assert_non_null(draft);
    while (queue_draft_append(draft, content, sizeof(content) - 1) == -EAGAIN)
        pair_turn(pair);
    envelope.meta_size = (uint32_t)envelope_encode(&sender, meta);
    envelope.recipients_size =
        (uint32_t)queue_recipient_encode(recipients, to, strlen(to), domain, strlen(domain));
    while (queue_draft_commit(draft, &envelope, (int64_t)clock_wall_ms() - age_ms, committed, &id) == -EAGAIN)
        pair_turn(pair);
    while (id == 0)
        pair_turn(pair);
}

/* --- To look at --- */

uint64_t pair_waiting(const struct pair *pair, uint32_t worker)
{
    return queue_stats(pair->workers[worker].queue).messages;
}

uint64_t pair_count(const struct pair *pair, uint32_t worker, enum counter counter)
{
    return counter_get(&pair->workers[worker].counters, counter);
}

const char *pair_log(struct pair *pair, uint32_t index)
{
    struct pair_worker *worker = &pair->workers[index];

    log_drain(worker->log);
    FILE *file = fopen(worker->log_path, "r");
    assert_non_null(file);
    size_t size = fread(worker->log_text, 1, PAIR_LOG_MAX - 1, file);
    fclose(file);
    worker->log_text[size] = 0;
    return worker->log_text;
}

void pair_fail(struct pair *pair, const char *condition)
{
    fail_msg("not within ten seconds: %s\nlog of the first:\n%.2000s\nlog of the second:\n%.2000s", condition,
             pair_log(pair, 0), pair_log(pair, 1));
}

struct site *pair_site(struct pair *pair, uint32_t worker, const char *name)
{
    for (uint32_t i = 0; i < OUTBOUND_BUCKETS; i++) {
        list_each(link, &pair->workers[worker].outbound.buckets[i])
        {
            struct site *site = list_entry(link, struct site, bucket_link);
            if (site->name != NULL && strcmp(site->name, name) == 0)
                return site;
        }
    }
    return NULL;
}

uint32_t pair_asks(const char *domain)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *domain != '\0'; domain++)
        hash = (hash ^ (unsigned char)*domain) * UINT64_C(0x100000001b3);
    return (uint32_t)((hash ^ hash >> 32) % 2);
}
