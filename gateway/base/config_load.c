#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/config_inner.h"

/* From a file's name to a snapshot. */

enum { FILE_SIZE_MAX = 1 << 20 };

int config_read_file(struct config *config, const char *path, char **text, size_t *size)
{
    FILE *stream = fopen(path, "re");
    if (stream == NULL)
        return -errno;
    char *bytes = config_memory(config, FILE_SIZE_MAX + 2);
    size_t count = fread(bytes, 1, FILE_SIZE_MAX + 1, stream);
    int result = ferror(stream) ? -errno : count > FILE_SIZE_MAX ? -EFBIG : 0;
    fclose(stream);
    if (result < 0)
        return result;
    bytes[count++] = '\n';
    bytes[count] = '\0';
    *text = bytes;
    *size = count;
    return 0;
}

static struct config *new_config(const char *name)
{
    struct config *config = calloc(1, sizeof(*config));
    if (config == NULL)
        return NULL;
    config->inner = calloc(1, sizeof(*config->inner));
    if (config->inner == NULL) {
        free(config);
        return NULL;
    }
    config->inner->file = config_copy(config, name, strlen(name));
    return config;
}

/* As a section for each would give them; config_keys.def has one row for all three. */
static void set_rate_defaults(struct config *config)
{
    config->rates[CONFIG_RATE_CLIENT] = (struct config_rate){.connections = 100, .errors_per_minute = 100};
}

static int parse_and_finish(struct config_loader *loader, char *text, size_t size)
{
    for (int section = 0; section < SECTION_COUNT; section++) {
        if (!config_section_has_title((enum config_section)section))
            config_set_defaults(loader, (enum config_section)section, loader->config);
    }
    set_rate_defaults(loader->config);
    int result = config_parse(loader, text, size);
    return result < 0 ? result : config_finish(loader);
}

/* The text with a newline at its end, which libConfuse's scanner likes to see. */
static void copy_text(struct config *config, const char *text, char **copy, size_t *size)
{
    *size = strlen(text) + 1;
    *copy = config_copy(config, text, *size);
    (*copy)[*size - 1] = '\n';
}

/* `text` NULL: the text is in the file `name`. */
static int load(const char *name, const char *text, struct config **config, struct config_error *error)
{
    struct origin origin = {.file = name};
    struct config_loader loader = {.config = new_config(name), .error = error};
    error->text[0] = '\0';
    if (loader.config == NULL) {
        config_fail(error, origin, "%s", strerror(ENOMEM));
        return -ENOMEM;
    }
    char *bytes = NULL;
    size_t size = 0;
    int result = 0;
    if (text == NULL)
        result = config_read_file(loader.config, name, &bytes, &size);
    else
        copy_text(loader.config, text, &bytes, &size);
    if (result == 0)
        result = parse_and_finish(&loader, bytes, size);
    if (result < 0) {
        config_free(loader.config);
        if (error->text[0] == '\0')
            config_fail(error, origin, "%s", strerror(-result));
        return result;
    }
    *config = loader.config;
    return 0;
}

int config_load(const char *path, struct config **config, struct config_error *error)
{
    assert(path != NULL);
    return load(path, NULL, config, error);
}

int config_load_text(const char *name, const char *text, struct config **config, struct config_error *error)
{
    assert(name != NULL);
    assert(text != NULL);
    return load(name, text, config, error);
}
