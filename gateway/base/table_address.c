#include <assert.h>
#include <errno.h>
#include <string.h>

#include "gateway/base/domain_table.h"
#include "gateway/base/idna.h"
#include "gateway/base/table_inner.h"

_Static_assert(2 * TABLE_LOCAL_SIZE_MAX + 1 + DOMAIN_SIZE_MAX <= TABLE_KEY_SIZE_MAX,
               "every address fits into a key");

/* atext, dots, and what RFC 6531 adds: what a local part may hold without quotes. */
static const bool is_plain_byte[256] = {
    ['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true, [0x80 ... 0xff] = true, ['.'] = true,
    ['!'] = true,         ['#'] = true,         ['$'] = true,         ['%'] = true,           ['&'] = true,
    ['\''] = true,        ['*'] = true,         ['+'] = true,         ['-'] = true,           ['/'] = true,
    ['='] = true,         ['?'] = true,         ['^'] = true,         ['_'] = true,           ['`'] = true,
    ['{'] = true,         ['|'] = true,         ['}'] = true,         ['~'] = true,
};

static bool is_plain(const char *text, size_t size)
{
    for (size_t index = 0; index < size; index++) {
        if (!is_plain_byte[(unsigned char)text[index]])
            return false;
    }
    return size > 0;
}

/* What stands between the quotes, its backslashes taken away. False: not one whole quoted string. */
static bool unquote(const char *quoted, size_t size, char into[static TABLE_LOCAL_SIZE_MAX],
                    size_t *into_size)
{
    assert(size > 0 && size <= TABLE_LOCAL_SIZE_MAX && quoted[0] == '"');
    if (size < 2 || quoted[size - 1] != '"')
        return false;
    size_t end = size - 1;
    size_t used = 0;
    for (size_t index = 1; index < end; index++) {
        if (quoted[index] == '"')
            return false;
        if (quoted[index] == '\\' && ++index == end)
            return false;
        if ((unsigned char)quoted[index] < ' ' || quoted[index] == 0x7f)
            return false;
        into[used++] = quoted[index];
    }
    *into_size = used;
    return true;
}

static size_t put_quoted(const char *text, size_t size, char into[static TABLE_KEY_SIZE_MAX])
{
    size_t used = 0;
    into[used++] = '"';
    for (size_t index = 0; index < size; index++) {
        if (text[index] == '"' || text[index] == '\\')
            into[used++] = '\\';
        into[used++] = text[index];
    }
    into[used++] = '"';
    assert(used <= (size_t)2 * TABLE_LOCAL_SIZE_MAX);
    return used;
}

size_t table_local_form(const char *local, size_t size, char into[static TABLE_KEY_SIZE_MAX])
{
    char text[TABLE_LOCAL_SIZE_MAX] = "";
    if (size == 0 || size > TABLE_LOCAL_SIZE_MAX)
        return 0;
    if (is_plain(local, size)) {
        memcpy(into, local, size);
        return size;
    }
    if (local[0] != '"' || !unquote(local, size, text, &size))
        return 0;
    if (!is_plain(text, size))
        return put_quoted(text, size, into);
    memcpy(into, text, size);
    return size;
}

/* Where the local part of a line ends: at "@", a blank or the end, whichever does not stand in quotes. */
static size_t local_end(const char *line, size_t size)
{
    bool is_quoted = false;
    for (size_t index = 0; index < size; index++) {
        char byte = line[index];
        if (is_quoted && byte == '\\')
            index++;
        else if (byte == '"')
            is_quoted = !is_quoted;
        else if (!is_quoted && (byte == '@' || byte == ' ' || byte == '\t'))
            return index;
    }
    return size;
}

static size_t word_end(const char *line, size_t size, size_t begin)
{
    size_t end = begin;
    while (end < size && line[end] != ' ' && line[end] != '\t')
        end++;
    return end;
}

static bool is_end_or_comment(const char *line, size_t size, size_t begin)
{
    while (begin < size && (line[begin] == ' ' || line[begin] == '\t'))
        begin++;
    return begin == size || line[begin] == '#';
}

static bool is_domain(const char *domain, size_t size)
{
    return domain_is_valid(domain, size) || (size > 2 && domain[0] == '[' && domain[size - 1] == ']');
}

/* Puts "@" and the domain's key behind the local part. */
static const char *put_domain(const char *domain, size_t size, char *key, size_t *key_size)
{
    char domain_key[IDNA_KEY_SIZE];
    int result = idna_domain_key(domain, size, domain_key);
    if (result < 0 || !is_domain(domain_key, (size_t)result))
        return "what follows \"@\" is no domain";
    key[(*key_size)++] = '@';
    memcpy(key + *key_size, domain_key, (size_t)result);
    *key_size += (size_t)result;
    assert(*key_size <= TABLE_KEY_SIZE_MAX);
    return NULL;
}

const char *table_add_address(struct table *table, const char *line, size_t size, int *result)
{
    assert(table->form == TABLE_ADDRESSES && size > 0);
    char key[TABLE_KEY_SIZE_MAX];
    size_t split = local_end(line, size);
    size_t end = word_end(line, size, split);
    *result = -EINVAL;
    if (!is_end_or_comment(line, size, end))
        return "more than one word; would be right: one address a line";
    size_t key_size = table_local_form(line, split, key);
    if (key_size == 0 && split > TABLE_LOCAL_SIZE_MAX)
        return "the local part is longer than 128 bytes";
    if (key_size == 0 && split > 0)
        return "not an address; would be right: local@domain, local, or @domain";
    if (split < end) {
        const char *error = put_domain(line + split + 1, end - split - 1, key, &key_size);
        if (error != NULL)
            return error;
    }
    assert(key_size > 0);
    *result = table_add(table, key, key_size, NULL, 0);
    if (*result == -EEXIST)
        *result = 0;
    return *result < 0 ? strerror(-*result) : NULL;
}

/* The local part stands at the begin of `key`; "@" and the domain are put behind it. */
static bool has_in_domain(const struct table *table, char key[static TABLE_KEY_SIZE_MAX], size_t local_size,
                          const char *domain, size_t domain_size)
{
    assert(domain_size <= DOMAIN_SIZE_MAX);
    if (domain_size > 0) {
        key[local_size] = '@';
        memcpy(key + local_size + 1, domain, domain_size);
        if (table_has(table, key, local_size + 1 + domain_size))
            return true;
    }
    return table_has(table, key, local_size);
}

/* The size of the local part without its extension; 0: it has none. */
static size_t base_size(const char *local, size_t size, char delimiter)
{
    if (delimiter == '\0' || local[0] == '"')
        return 0;
    const char *found = memchr(local, delimiter, size);
    return found != NULL ? (size_t)(found - local) : 0;
}

bool table_has_address(const struct table *table, const char *local, size_t local_size, const char *domain,
                       size_t domain_size, char delimiter)
{
    assert(table->form == TABLE_ADDRESSES);
    char key[TABLE_KEY_SIZE_MAX];
    size_t size = table_local_form(local, local_size, key);
    if (size == 0 || domain_size > DOMAIN_SIZE_MAX)
        return false;
    if (has_in_domain(table, key, size, domain, domain_size))
        return true;
    if (domain_size > 0 && table_has(table, key + size, 1 + domain_size))
        return true;
    size = base_size(key, size, delimiter);
    return size > 0 && has_in_domain(table, key, size, domain, domain_size);
}
