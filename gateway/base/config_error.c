#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/config_inner.h"

/* The text holds pieces of the file and is shown on a terminal. */
static void blank_controls(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
    }
}

struct origin config_origin(const struct config *config, enum config_section section, const char *name)
{
    const struct config_key *key = config_key_find(section, name);
    assert(key != NULL);
    struct origin origin = config->inner->origins[key - config_keys];
    if (origin.line == 0)
        origin.file = config->inner->file;
    return origin;
}

static void write_error(struct config_error *error, struct origin origin, const char *format,
                        va_list arguments) __attribute__((format(printf, 3, 0)));

static void write_error(struct config_error *error, struct origin origin, const char *format,
                        va_list arguments)
{
    assert(origin.file != NULL);
    char line[16] = "";
    if (origin.line > 0)
        snprintf(line, sizeof(line), ":%u", origin.line);
    int used = snprintf(error->text, sizeof(error->text), "%s%s: ", origin.file, line);
    if (used > 0 && (size_t)used < sizeof(error->text))
        vsnprintf(error->text + used, sizeof(error->text) - (size_t)used, format, arguments);
    blank_controls(error->text);
}

int config_fail(struct config_error *error, struct origin origin, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_error(error, origin, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

int config_loader_vfail(struct config_loader *loader, struct origin origin, const char *format,
                        va_list arguments)
{
    if (!loader->has_failed)
        write_error(loader->error, origin, format, arguments);
    loader->has_failed = true;
    return -EINVAL;
}

int config_loader_fail(struct config_loader *loader, struct origin origin, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int result = config_loader_vfail(loader, origin, format, arguments);
    va_end(arguments);
    return result;
}
