#include <errno.h>
#include <string.h>

#include "gateway/base/config_inner.h"

/* What a configuration means beside the one that is in force. */

static int refuse_change(const struct config *config, struct config_error *error, enum config_section section,
                         const char *name)
{
    const char *section_name = config_section_name(section);
    return config_fail(error, config_origin(config, section, name),
                       "%s%s%s cannot change while running; would be right: the old value, or a restart",
                       section_name, *section_name != '\0' ? "." : "", name);
}

static bool has_same_binds(const struct config_listener *a, const struct config_listener *b)
{
    if (a->bind_count != b->bind_count)
        return false;
    for (size_t index = 0; index < a->bind_count; index++) {
        if (!address_equals((const struct sockaddr *)&a->binds[index],
                            (const struct sockaddr *)&b->binds[index]))
            return false;
    }
    return true;
}

/* The open sockets keep their places, so the listeners must keep their order, too. */
static int check_listeners(const struct config *old_config, const struct config *new_config,
                           struct config_error *error)
{
    for (size_t index = 0; index < new_config->listener_count; index++) {
        const struct config_listener *listener = &new_config->listeners[index];
        if (index < old_config->listener_count && has_same_binds(&old_config->listeners[index], listener))
            continue;
        return config_fail(
            error, new_config->inner->listener_origins[index],
            "the addresses of listener \"%s\" cannot change while running; would be right: the old "
            "addresses in their old order, or a restart",
            listener->name);
    }
    if (new_config->listener_count == old_config->listener_count)
        return 0;
    struct origin origin = {.file = new_config->inner->file};
    return config_fail(
        error, origin,
        "listener \"%s\" cannot go away while running; would be right: the old listeners, or a restart",
        old_config->listeners[new_config->listener_count].name);
}

int config_reload_check(const struct config *old_config, const struct config *new_config,
                        struct config_error *error)
{
    if (strcmp(old_config->data_dir, new_config->data_dir) != 0)
        return refuse_change(new_config, error, SECTION_ROOT, "data_dir");
    if (old_config->workers != new_config->workers)
        return refuse_change(new_config, error, SECTION_ROOT, "workers");
    if (strcmp(old_config->user, new_config->user) != 0)
        return refuse_change(new_config, error, SECTION_ROOT, "user");
    if (old_config->queue.segment_size_bytes != new_config->queue.segment_size_bytes)
        return refuse_change(new_config, error, SECTION_QUEUE, "segment_size");
    return check_listeners(old_config, new_config, error);
}
