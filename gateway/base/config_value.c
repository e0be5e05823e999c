#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/base/config_inner.h"
#include "gateway/base/quantity.h"

/* From the text of one value to its place in the configuration. */

int config_refuse(struct config_loader *loader, const struct config_key *key, const char *text,
                  const char *what)
{
    const char *section = config_section_name(key->section);
    return config_loader_fail(loader, loader->place, "%s%s%s \"%s\" %s; would be right: %s", section,
                              *section != '\0' ? "." : "", key->name, text, what, key->right);
}

static int refuse_number(struct config_loader *loader, const struct config_key *key, const char *text,
                         int error)
{
    return config_refuse(loader, key, text, error == -ERANGE ? "is out of range" : "cannot be read");
}

/* Numbers of all kinds, in the units of the table. */
static int parse_number(const struct config_key *key, const char *text, uint64_t *number)
{
    unsigned percent = 0;
    int result;
    switch (key->kind) {
    case KIND_COUNT:
        result = parse_count(text, number);
        break;
    case KIND_SIZE:
    case KIND_SEGMENT_SIZE:
        result = parse_size(text, number);
        break;
    case KIND_PERCENT:
        result = parse_percent(text, &percent);
        if (result == 0)
            *number = percent;
        break;
    default:
        result = parse_span(text, number);
        break;
    }
    if (result < 0)
        return result;
    return *number < key->minimum || *number > key->maximum ? -ERANGE : 0;
}

static int set_number(struct config_loader *loader, const struct config_key *key, void *field,
                      const char *text)
{
    enum { PAGE_SIZE_BYTES = 4096 };
    uint64_t number = 0;
    int result = parse_number(key, text, &number);
    if (result == 0 && key->kind == KIND_SEGMENT_SIZE && number % PAGE_SIZE_BYTES != 0)
        result = -ERANGE;
    bool is_in_ms = key->kind == KIND_SPAN_MS32 || key->kind == KIND_SPAN_MS64;
    if (result == 0 && is_in_ms && number % 1000 != 0)
        result = -EINVAL;
    if (result < 0)
        return refuse_number(loader, key, text, result);

    if (is_in_ms)
        number /= 1000;
    if (key->kind == KIND_SIZE || key->kind == KIND_SEGMENT_SIZE || key->kind == KIND_SPAN_MS64) {
        *(uint64_t *)field = number;
    } else {
        assert(number <= UINT32_MAX);
        *(uint32_t *)field = (uint32_t)number;
    }
    return 0;
}

static int set_hostname(struct config_loader *loader, const struct config_key *key, const char **field,
                        const char *text)
{
    if (!domain_is_valid(text, strlen(text)))
        return config_refuse(loader, key, text, "is not a host's name");
    *field = config_copy(loader->config, text, strlen(text));
    return 0;
}

/* A mailbox in its plain form: RFC 5321 section 4.1.2, Dot-string "@" Domain. */
static int set_mailbox(struct config_loader *loader, const struct config_key *key, const char **field,
                       const char *text)
{
    enum { LOCAL_SIZE_MAX = 64 }; /* RFC 5321 section 4.5.3.1.1 */
    static const char atext[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~.";
    size_t local = strspn(text, atext);
    const char *domain = text + local + 1;
    bool is_mailbox = local > 0 && local <= LOCAL_SIZE_MAX && text[local] == '@' && text[0] != '.' &&
                      text[local - 1] != '.' && domain_is_valid(domain, strlen(domain));
    for (const char *byte = text; is_mailbox && *byte != '\0'; byte++)
        is_mailbox = (unsigned char)*byte < 0x80 && (byte[0] != '.' || byte[1] != '.');
    if (!is_mailbox)
        return config_refuse(loader, key, text, "is not a mailbox");
    *field = config_copy(loader->config, text, strlen(text));
    return 0;
}

static int set_path(struct config_loader *loader, const struct config_key *key, const char **field,
                    const char *text)
{
    bool is_stderr = key->kind == KIND_LOG_DESTINATION && strcmp(text, "stderr") == 0;
    if (text[0] != '/' && !is_stderr)
        return config_refuse(loader, key, text, "is not a full path");
    *field = config_copy(loader->config, text, strlen(text));
    return 0;
}

static int set_free_disk(struct config_loader *loader, const struct config_key *key, const char *text)
{
    struct config *config = loader->config;
    unsigned percent = 0;
    uint64_t bytes = 0;
    if (strchr(text, '%') != NULL) {
        int result = parse_percent(text, &percent);
        if (result == 0 && percent > key->maximum)
            result = -ERANGE;
        if (result < 0)
            return refuse_number(loader, key, text, result);
    } else {
        int result = parse_size(text, &bytes);
        if (result < 0)
            return refuse_number(loader, key, text, result);
    }
    config->limits.min_free_disk_percent = percent;
    config->limits.min_free_disk_bytes = bytes;
    return 0;
}

static int set_delimiter(struct config_loader *loader, const struct config_key *key, char *field,
                         const char *text)
{
    static const char allowed[] =
        "!#$%&'*+-/=?^_`{|}~"; /* RFC 5321 section 4.1.2: atext, no letter or digit */
    bool is_one = strlen(text) == 1 && strchr(allowed, text[0]) != NULL;
    if (text[0] != '\0' && !is_one)
        return config_refuse(loader, key, text, "can delimit nothing");
    *field = text[0];
    return 0;
}

static int set_word(struct config_loader *loader, const struct config_key *key, void *field, const char *text)
{
    uint32_t value;
    if (!config_word_find(key->kind, text, &value))
        return config_refuse(loader, key, text, "is unknown");
    if (key->kind == KIND_SWITCH || key->kind == KIND_NEWLINES) {
        *(bool *)field = value != 0;
    } else if (key->kind == KIND_TLS_VERSION || key->kind == KIND_CLIENT_TLS_VERSION) {
        *(uint16_t *)field = (uint16_t)value;
    } else {
        _Static_assert(sizeof(enum config_tls) == sizeof(uint32_t), "a word's enum has another size");
        *(uint32_t *)field = value;
    }
    return 0;
}

int config_set_value(struct config_loader *loader, const struct config_key *key, void *structure,
                     const char *text)
{
    void *field = (char *)structure + key->offset;
    switch (key->kind) {
    case KIND_TEXT:
        *(const char **)field = config_copy(loader->config, text, strlen(text));
        return 0;
    case KIND_HOSTNAME:
        return set_hostname(loader, key, field, text);
    case KIND_PATH:
    case KIND_LOG_DESTINATION:
        return set_path(loader, key, field, text);
    case KIND_MAILBOX:
        return set_mailbox(loader, key, field, text);
    case KIND_DELIMITER:
        return set_delimiter(loader, key, field, text);
    case KIND_SWITCH:
    case KIND_NEWLINES:
    case KIND_LOG_FORMAT:
    case KIND_LOG_LEVEL:
    case KIND_TLS:
    case KIND_AUTH:
    case KIND_CERTIFICATE:
    case KIND_SECURITY:
    case KIND_TLS_VERSION:
    case KIND_CLIENT_TLS_VERSION:
        return set_word(loader, key, field, text);
    case KIND_COUNT:
    case KIND_PERCENT:
    case KIND_SIZE:
    case KIND_SEGMENT_SIZE:
    case KIND_SPAN_US32:
    case KIND_SPAN_MS32:
    case KIND_SPAN_MS64:
        return set_number(loader, key, field, text);
    case KIND_FREE_DISK:
        return set_free_disk(loader, key, text);
    default:
        assert(config_kind_is_list(key->kind));
        return config_add_value(loader, key, structure, text);
    }
}

static void set_default_list(struct config_loader *loader, const struct config_key *key, void *structure)
{
    char *rest = config_copy(loader->config, key->default_text, strlen(key->default_text));
    char *text;
    while ((text = strsep(&rest, " ")) != NULL) {
        int result = config_set_value(loader, key, structure, text);
        assert(result == 0);
    }
}

void config_set_defaults(struct config_loader *loader, enum config_section section, void *structure)
{
    for (size_t index = 0; index < config_key_count; index++) {
        const struct config_key *key = &config_keys[index];
        if (key->section != section || key->default_text == NULL)
            continue;
        if (config_kind_is_list(key->kind)) {
            set_default_list(loader, key, structure);
        } else {
            int result = config_set_value(loader, key, structure, key->default_text);
            assert(result == 0);
        }
    }
}
