#include "gateway/outbound/told.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* From malloc, as a delivery is settled on another thread than the one that sent it. */
struct told {
    struct told_reply *replies;
    const struct told_reply *of[]; /* each target's */
};

static struct told *told_begin(struct queue_delivery *delivery)
{
    if (delivery->told == NULL)
        delivery->told =
            calloc(1, sizeof(struct told) + delivery->target_count * sizeof(const struct told_reply *));
    return delivery->told;
}

static struct smtp_slice copy(struct smtp_slice from, char *to)
{
    if (from.size > 0)
        memcpy(to, from.data, from.size);
    return (struct smtp_slice){to, from.size};
}

static struct smtp_slice cut(struct smtp_slice slice, uint32_t most)
{
    return (struct smtp_slice){slice.data, slice.size < most ? slice.size : most};
}

const struct told_reply *told_note(struct queue_delivery *delivery, uint32_t target,
                                   const struct told_reply *reply)
{
    const struct smtp_slice words = cut(reply->reply, NOTICE_REPLY_MAX);
    const struct smtp_slice host = cut(reply->host, NOTICE_NAME_MAX);
    struct told *told = told_begin(delivery);
    struct told_reply *kept = told != NULL ? malloc(sizeof(*kept) + words.size + host.size) : NULL;

    if (kept == NULL)
        return NULL;
    *kept = *reply;
    kept->reply = copy(words, kept->text);
    kept->host = copy(host, kept->text + words.size);
    kept->next = told->replies;
    told->replies = kept;
    told_share(delivery, target, kept);
    return kept;
}

void told_share(struct queue_delivery *delivery, uint32_t target, const struct told_reply *reply)
{
    struct told *told = delivery->told;

    assert(told != NULL && reply != NULL);
    assert(target < delivery->target_count && told->of[target] == NULL);
    told->of[target] = reply;
}

const struct told_reply *told_of(const struct queue_delivery *delivery, uint32_t target)
{
    const struct told *told = delivery->told;

    assert(target < delivery->target_count);
    return told != NULL ? told->of[target] : NULL;
}

static bool is_digit(struct smtp_slice text, uint32_t at)
{
    return at < text.size && text.data[at] >= '0' && text.data[at] <= '9';
}

uint16_t told_code(struct smtp_slice reply)
{
    if (!is_digit(reply, 0) || !is_digit(reply, 1) || !is_digit(reply, 2) || is_digit(reply, 3) ||
        (reply.size > 3 && reply.data[3] == '.'))
        return 0;
    const uint16_t code =
        (uint16_t)((reply.data[0] - '0') * 100 + (reply.data[1] - '0') * 10 + reply.data[2] - '0');
    return code >= 200 && code <= 599 ? code : 0;
}

/* A number of one to three digits, which *at is moved behind; -1: there is none. */
static int read_number(struct smtp_slice text, uint32_t *at)
{
    int number = 0;
    uint32_t digits = 0;

    for (; is_digit(text, *at) && digits <= 3; digits++)
        number = number * 10 + (text.data[(*at)++] - '0');
    return digits >= 1 && digits <= 3 ? number : -1;
}

struct smtp_status told_status(struct smtp_slice reply)
{
    const struct smtp_status none = {0};
    uint32_t at = told_code(reply) != 0 && reply.size > 3 ? 4 : 0;
    const int class = read_number(reply, &at);

    if ((class != 2 && class != 4 && class != 5) || at >= reply.size || reply.data[at++] != '.')
        return none;
    const int subject = read_number(reply, &at);
    if (subject < 0 || at >= reply.size || reply.data[at++] != '.')
        return none;
    const int detail = read_number(reply, &at);
    if (detail < 0 || (at < reply.size && (uint8_t)reply.data[at] > ' '))
        return none;
    return (struct smtp_status){(uint16_t) class, (uint16_t)subject, (uint16_t)detail};
}

void told_free(struct queue_delivery *delivery)
{
    struct told *told = delivery->told;

    delivery->told = NULL;
    while (told != NULL && told->replies != NULL) {
        struct told_reply *reply = told->replies;
        told->replies = reply->next;
        free(reply);
    }
    free(told);
}
