#include "tests/unit/outbound/play.h"

#include <stdlib.h>
#include <string.h>

static const char quick[] =
    "site \"default\" { connections = 1 }\ntimeouts { outbound_idle = \"0\" outbound_mail = "
    "\"300ms\" }";

char *play(const char *const *const *scripts, struct message *messages, uint32_t count, const char *outcomes,
           char **content)
{
    static struct world world;
    static struct peer peer;
    char got[64] = "";
    size_t got_size = 0;

    peer_start(&peer, scripts, SIZE_MAX);
    world_init(&world, (uint16_t[]){peer.port, 0}, quick);
    for (uint32_t i = 0; i < count; i++)
        world_send(&world, &messages[i]);
    world_run_home(&world, count);
    world_run_closed(&world);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < messages[i].delivery.target_count; j++)
            got[got_size++] = "RDF?"[messages[i].targets[j].outcome];
    }
    char *log = strdup(world_log(&world));
    world_deinit(&world);
    pthread_join(peer.thread, NULL);
    if (content != NULL)
        *content = strndup(peer.content, peer.content_size);
    free(peer.content);
    if (peer.failure[0] != 0)
        fail_msg("%s\nlog:\n%s", peer.failure, log);
    assert_string_equal(got, outcomes);
    return log;
}

void check_log(char *log, const char *part)
{
    if (strstr(log, part) == NULL)
        fail_msg("no \"%s\" in:\n%s", part, log);
    free(log);
}
