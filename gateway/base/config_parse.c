#include <assert.h>
#include <confuse.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/config_inner.h"
#include "gateway/base/config_scan.h"

/*
 * libConfuse reads the file and calls back for every value while it knows the line. The values go straight
 * into the snapshot and its drafts; libConfuse's own store of them is thrown away afterwards.
 */

enum { INCLUDE_DEPTH_MAX = 8, SECTION_KEYS_MAX = 16 };

struct reader {
    struct config_loader *loader;
    const char *file; /* that is being read; lives in the snapshot */
    const struct config_scan *scan;
    size_t section_index; /* of the next section of this file to end, or of the one that is open */
    unsigned include_depth;

    cfg_t *section;                                 /* the open titled section; NULL: none has begun */
    void *draft;                                    /* of that section */
    struct origin section_origins[CONFIG_KEYS_MAX]; /* of its keys */
};

/* libConfuse passes no context to its callbacks. */
static _Thread_local struct reader *reader;

static struct origin here(const cfg_t *cfg)
{
    assert(cfg->line > 0);
    return (struct origin){.file = reader->file, .line = (unsigned)cfg->line};
}

static struct origin section_begin(void)
{
    assert(reader->section_index < reader->scan->section_count);
    return (struct origin){.file = reader->file, .line = reader->scan->section_lines[reader->section_index]};
}

/* Starts the draft of a titled section at its first value, or at its end if it has none. */
static int begin_section(cfg_t *section)
{
    if (reader->section == section)
        return 0;
    assert(reader->section == NULL);
    memset(reader->section_origins, 0, sizeof(reader->section_origins));
    reader->draft = config_begin_section(reader->loader, config_section_find(cfg_name(section)),
                                         cfg_title(section), section_begin());
    if (reader->draft == NULL)
        return -EINVAL;
    reader->section = section;
    return 0;
}

static int refuse_twice(const struct config_key *key, struct origin origin, const struct origin *first)
{
    const char *section = config_section_name(key->section);
    return config_loader_fail(reader->loader, origin, "%s%s%s is given twice, first on line %u of %s",
                              section, *section != '\0' ? "." : "", key->name, first->line, first->file);
}

static struct origin *origin_slot(const struct config_key *key)
{
    bool has_title = config_section_has_title(key->section);
    struct origin *origins = has_title ? reader->section_origins : reader->loader->config->inner->origins;
    return &origins[key - config_keys];
}

static int refuse_unknown(const cfg_t *cfg, const char *name)
{
    struct config_loader *loader = reader->loader;
    char text[sizeof(loader->error->text)];
    config_explain_unknown(config_section_find(cfg->name), name, text, sizeof(text));
    return config_loader_fail(loader, here(cfg), "%s", text);
}

/* Called for each value; for a list's as well, one by one. */
static int on_value(cfg_t *cfg, cfg_opt_t *option, const char *value, void *result)
{
    enum config_section section = config_section_find(cfg_name(cfg));
    const struct config_key *key = config_key_find(section, cfg_opt_name(option));
    if (key == NULL) /* libConfuse also takes "section|name" from outside of the section */
        return refuse_unknown(cfg, cfg_opt_name(option));
    void *structure = reader->loader->config;
    if (config_section_has_title(section)) {
        if (begin_section(cfg) < 0)
            return -1;
        structure = reader->draft;
    }

    bool is_first = !config_kind_is_list(key->kind) || cfg_opt_size(option) <= 1;
    struct origin *origin = origin_slot(key);
    reader->loader->place = here(cfg);
    if (is_first && origin->line > 0)
        return refuse_twice(key, here(cfg), origin);
    if (is_first)
        *origin = here(cfg);
    if (is_first && config_kind_is_list(key->kind))
        config_clear_list(reader->loader, key, structure);
    *(const char **)result = value;
    return config_set_value(reader->loader, key, structure, value);
}

/* An empty list came without any value, yet it replaces the default. */
static int take_empty_lists(cfg_t *section, void *structure)
{
    for (cfg_opt_t *option = section->opts; option->name != NULL; option++) {
        const struct config_key *key = config_key_find(config_section_find(cfg_name(section)), option->name);
        bool is_empty = (option->flags & CFGF_MODIFIED) != 0 && cfg_opt_size(option) == 0;
        if (key == NULL || !config_kind_is_list(key->kind) || !is_empty)
            continue;
        struct origin *origin = origin_slot(key);
        if (origin->line > 0)
            return refuse_twice(key, *origin, origin);
        config_clear_list(reader->loader, key, structure);
    }
    return 0;
}

static int end_titled_section(cfg_t *section)
{
    if (begin_section(section) < 0)
        return -1;
    int result = take_empty_lists(section, reader->draft);
    if (result == 0)
        result = config_end_section(reader->loader, config_section_find(cfg_name(section)), reader->draft,
                                    reader->section_origins);
    reader->section = NULL;
    return result;
}

/* Called at the closing brace of each section. */
static int on_section_end(cfg_t *cfg, cfg_opt_t *option)
{
    cfg_t *section = cfg_opt_getnsec(option, cfg_opt_size(option) - 1);
    assert(section != NULL);
    bool has_title = cfg_title(section) != NULL;
    int result = has_title ? end_titled_section(section) : take_empty_lists(section, reader->loader->config);
    reader->section_index++;
    return result;
}

/* libConfuse's own complaints; the two that a writer of configurations will meet are said in our words. */
static void on_error(cfg_t *cfg, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

static void on_error(cfg_t *cfg, const char *format, va_list arguments)
{
    struct config_loader *loader = reader->loader;
    if (loader->has_failed)
        return;
    if (strncmp(format, "no such option", 14) == 0) {
        refuse_unknown(cfg, va_arg(arguments, const char *));
    } else if (strncmp(format, "found duplicate title", 21) == 0) {
        config_loader_fail(loader, section_begin(), "the section \"%s\" is given twice",
                           va_arg(arguments, const char *));
    } else {
        config_loader_vfail(loader, here(cfg), format, arguments);
    }
}

static int parse_text(cfg_t *cfg, const char *name, char *text, size_t size)
{
    struct config_scan scan;
    int result = config_scan(&scan, text, size);
    if (result == -EINVAL) {
        struct origin origin = {.file = name, .line = scan.error_line};
        config_loader_fail(reader->loader, origin, "%s", scan.error);
    }
    FILE *stream = result == 0 ? fmemopen(text, size, "r") : NULL;
    if (result == 0 && stream == NULL)
        result = -ENOMEM;
    if (result == 0) {
        reader->file = name;
        reader->scan = &scan;
        reader->section_index = 0;
        result = cfg_parse_fp(cfg, stream) == CFG_SUCCESS ? 0 : -EINVAL;
        if (result < 0)
            config_loader_fail(reader->loader, here(cfg), "cannot be read");
        fclose(stream);
    }
    config_scan_deinit(&scan);
    return result;
}

/* A relative name is looked for beside the file that includes it. */
static char *include_path(const char *name)
{
    const char *slash = strrchr(reader->file, '/');
    if (name[0] == '/' || slash == NULL)
        return config_copy(reader->loader->config, name, strlen(name));
    size_t folder_size = (size_t)(slash - reader->file) + 1;
    char *path = config_memory(reader->loader->config, folder_size + strlen(name) + 1);
    memcpy(path, reader->file, folder_size);
    strcpy(path + folder_size, name);
    return path;
}

/* libConfuse's own include would read the file past our scanner, and stays in it after an error. */
static int on_include(cfg_t *cfg, cfg_opt_t *option, int count, const char **arguments)
{
    struct config_loader *loader = reader->loader;
    assert(count == 1); /* config_scan has seen to it */
    if (reader->include_depth == INCLUDE_DEPTH_MAX)
        return config_loader_fail(loader, here(cfg), "files include each other more than %d deep",
                                  INCLUDE_DEPTH_MAX);

    char *path = include_path(arguments[0]);
    char *text;
    size_t size;
    int result = config_read_file(loader->config, path, &text, &size);
    if (result < 0)
        return config_loader_fail(loader, here(cfg), "cannot include \"%s\": %s", path, strerror(-result));

    struct reader outer = *reader;
    int line = cfg->line;
    reader->include_depth++;
    result = parse_text(cfg, path, text, size);
    reader->file = outer.file;
    reader->scan = outer.scan;
    reader->section_index = outer.section_index;
    reader->include_depth = outer.include_depth;
    cfg->line = line;
    return result;
}

static void add_keys(enum config_section section, cfg_opt_t *options, size_t *count)
{
    for (size_t index = 0; index < config_key_count; index++) {
        const struct config_key *key = &config_keys[index];
        if (key->section != section)
            continue;
        assert(*count < CONFIG_KEYS_MAX);
        if (config_kind_is_list(key->kind))
            options[(*count)++] = (cfg_opt_t)CFG_STR_LIST_CB(key->name, NULL, CFGF_NODEFAULT, on_value);
        else
            options[(*count)++] = (cfg_opt_t)CFG_STR_CB(key->name, NULL, CFGF_NODEFAULT, on_value);
    }
}

static cfg_t *new_parser(void)
{
    cfg_opt_t inner[SECTION_COUNT][SECTION_KEYS_MAX + 1] = {0};
    cfg_opt_t options[CONFIG_KEYS_MAX] = {0};
    size_t count = 0;
    add_keys(SECTION_ROOT, options, &count);
    for (int section = SECTION_ROOT + 1; section < SECTION_COUNT; section++) {
        enum config_section which = (enum config_section)section;
        size_t inner_count = 0;
        add_keys(which, inner[section], &inner_count);
        assert(inner_count <= SECTION_KEYS_MAX);
        inner[section][inner_count] = (cfg_opt_t)CFG_END();
        cfg_flag_t flags =
            config_section_has_title(which) ? CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES : CFGF_NONE;
        options[count] = (cfg_opt_t)CFG_SEC(config_section_name(which), inner[section], flags);
        options[count++].validcb = on_section_end;
    }
    options[count++] = (cfg_opt_t)CFG_FUNC("include", on_include);
    options[count] = (cfg_opt_t)CFG_END();
    assert(count < CONFIG_KEYS_MAX);
    return cfg_init(options, CFGF_NONE);
}

int config_parse(struct config_loader *loader, char *text, size_t size)
{
    struct reader fresh = {.loader = loader};
    cfg_t *parser = new_parser();
    if (parser == NULL)
        return -ENOMEM;
    cfg_set_error_function(parser, on_error);
    assert(reader == NULL);
    reader = &fresh;
    int result = parse_text(parser, loader->config->inner->file, text, size);
    reader = NULL;
    cfg_free(parser);
    return result;
}

const char *config_library_version(void)
{
    return confuse_version;
}
