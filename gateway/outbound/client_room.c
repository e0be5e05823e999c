/* How much a session takes at a time: its gear, its messages in flight, the list of the site that it is in.
 */
#include <assert.h>

#include "gateway/outbound/client.h"
#include "gateway/outbound/site.h"

enum gear client_choose_gear(const struct client *client)
{
    enum gear most = endpoint_gear(client->endpoint, client->ready_us);

    /* One reply too few to the content, and the reply to the next MAIL would be taken for a recipient's. */
    if (client_is_lmtp(client) && most > GEAR_ENVELOPE)
        most = GEAR_ENVELOPE;
    if (!(client->features & SMTP_EXT_PIPELINING))
        return GEAR_LOCKSTEP;
    return most == GEAR_STREAM && !(client->features & SMTP_EXT_CHUNKING) ? GEAR_OVERLAP : most;
}

struct job *client_oldest_job(const struct client *client)
{
    struct list *link = list_first(&client->jobs);
    return link == NULL ? NULL : list_entry(link, struct job, link);
}

struct job *client_newest_job(const struct client *client)
{
    return list_is_empty(&client->jobs) ? NULL : list_entry(client->jobs.prev, struct job, link);
}

void client_leave_room(struct client *client)
{
    struct site *site = client->site;

    if (client->room == CLIENT_ROOM_IDLE)
        site->idle_count--;
    else if (client->room == CLIENT_ROOM_HALF)
        site->half_count--;
    list_remove(&client->room_link);
    client->room = CLIENT_ROOM_NONE;
}

bool client_may_begin(const struct client *client)
{
    uint32_t limit = client->site->limits.messages_per_connection;

    if (client->resets + client->job_count >= CLIENT_RESETS_MAX)
        return false;
    return !client->is_retiring && (limit == 0 || client->messages < limit) && client_has_room_for(client, 1);
}

/* A message that has more recipients than a connection may have at all gets one for itself. */
bool client_has_room_for(const struct client *client, uint32_t recipients)
{
    uint32_t limit = client->site->limits.recipients_per_connection;

    return limit == 0 || client->recipients == 0 || client->recipients + recipients <= limit;
}

static uint32_t messages_max(enum gear gear)
{
    switch (gear) {
    case GEAR_STREAM:
        return CLIENT_STREAM_MESSAGES;
    case GEAR_OVERLAP:
        return 2;
    case GEAR_ENVELOPE:
    case GEAR_LOCKSTEP:
        break;
    }
    return 1;
}

/* All content in flight is under way, so another's envelope may follow it. */
static bool can_follow(const struct client *client)
{
    if (client->state != CLIENT_BUSY || client->job_count >= messages_max(client->gear))
        return false;
    if (client->gear == GEAR_STREAM && conn_pending_bytes(&client->conn) >= CLIENT_STREAM_UNSENT_MAX)
        return false;
    const struct job *job = client_newest_job(client);
    return job != NULL && job->state == JOB_ENDED;
}

void client_update_room(struct client *client)
{
    struct site *site = client->site;

    client_leave_room(client);
    if (!client_may_begin(client))
        return;
    if (client->state == CLIENT_READY) {
        client->room = CLIENT_ROOM_IDLE;
        list_push_front(&site->idle, &client->room_link);
        site->idle_count++;
    } else if (can_follow(client)) {
        client->room = CLIENT_ROOM_HALF;
        list_push_back(&site->half, &client->room_link);
        site->half_count++;
    } else {
        return;
    }
    site_touch(site);
}
