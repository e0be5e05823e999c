#include "gateway/sasl/senders.h"

#include "gateway/sasl/line_file.h"
#include "gateway/sasl/name_table.h"
#include "gateway/sasl/text.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum sender_kind {
    SENDER_ADDRESS, /* local@domain */
    SENDER_DOMAIN,  /* @domain */
    SENDER_BELOW,   /* @.domain */
    SENDER_NULL,    /* <> */
    SENDER_ANY,     /* * */
};

static const uint32_t NO_NEXT = UINT32_MAX;

struct sender {
    enum sender_kind kind;
    uint32_t next; /* of the same login; NO_NEXT: the last */
    struct smtp_slice local;
    struct smtp_slice domain; /* without "@" and without the leading dot */
};

struct senders {
    struct name_table logins; /* login -> index of its first sender */
    struct sender *senders;
    char *text;
    uint32_t count;
    uint32_t capacity;
};

/* Parts an address at its last "@"; false: there is none, or a part is empty. */
static bool split_address(struct smtp_slice address, struct smtp_slice *local, struct smtp_slice *domain)
{
    const char *at = address.size > 0 ? memrchr(address.data, '@', address.size) : NULL;
    if (at == NULL || at == address.data || at + 1 == address.data + address.size)
        return false;
    *local = (struct smtp_slice){address.data, (uint32_t)(at - address.data)};
    *domain = (struct smtp_slice){at + 1, address.size - local->size - 1};
    return true;
}

/* False: the word is no pattern. */
static bool parse_sender(struct smtp_slice word, struct sender *sender)
{
    *sender = (struct sender){.next = NO_NEXT};
    assert(word.size > 0);
    if (smtp_slice_equals(word, SMTP_SLICE("*"))) {
        sender->kind = SENDER_ANY;
        return true;
    }
    if (smtp_slice_equals(word, SMTP_SLICE("<>"))) {
        sender->kind = SENDER_NULL;
        return true;
    }
    if (word.data[0] == '<') /* an address in brackets would never match */
        return false;
    if (word.data[0] != '@') {
        sender->kind = SENDER_ADDRESS;
        return split_address(word, &sender->local, &sender->domain) && sender->domain.data[0] != '.';
    }
    uint32_t skipped = word.size > 1 && word.data[1] == '.' ? 2 : 1;
    sender->kind = skipped == 2 ? SENDER_BELOW : SENDER_DOMAIN;
    sender->domain = (struct smtp_slice){word.data + skipped, word.size - skipped};
    return sender->domain.size > 0 && sender->domain.data[0] != '.' &&
           memchr(sender->domain.data, '@', sender->domain.size) == NULL;
}

/* Cuts the next word off; false at the end of the line. */
static bool next_word(struct smtp_slice *rest, struct smtp_slice *word)
{
    while (rest->size > 0 && (rest->data[0] == ' ' || rest->data[0] == '\t')) {
        rest->data++;
        rest->size--;
    }
    uint32_t size = 0;
    while (size < rest->size && rest->data[size] != ' ' && rest->data[size] != '\t')
        size++;
    *word = (struct smtp_slice){rest->data, size};
    rest->data += size;
    rest->size -= size;
    return size > 0;
}

/* Puts the sender at the head of its login's list. */
static int add(struct senders *senders, struct smtp_slice login, struct sender sender)
{
    if (senders->count == senders->capacity) {
        uint32_t capacity = senders->capacity > 0 ? senders->capacity * 2 : 64;
        struct sender *grown = realloc(senders->senders, capacity * sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        senders->senders = grown;
        senders->capacity = capacity;
    }
    uint32_t head;
    if (name_table_find(&senders->logins, login.data, login.size, &head)) {
        sender.next = senders->senders[head].next;
        senders->senders[head].next = senders->count;
    } else if (name_table_add(&senders->logins, login.data, login.size, senders->count) < 0) {
        return -ENOMEM;
    }
    senders->senders[senders->count++] = sender;
    return 0;
}

static int parse_line(struct senders *senders, struct line_file *file, struct smtp_slice line)
{
    struct smtp_slice login, word;
    if (!next_word(&line, &login))
        return 0;
    if (!smtp_slice_equals(login, SMTP_SLICE("*")) && !sasl_name_is_valid(login.data, login.size))
        return line_file_fail(file, "no user can have this name: 1 to 255 octets of UTF-8 without controls "
                                    "and colons");
    bool is_empty = true;
    while (next_word(&line, &word)) {
        struct sender sender;
        bool is_text = sasl_text_is_valid(word.data, word.size);
        if (!is_text || !parse_sender(word, &sender))
            return line_file_fail(file, "'%.*s' is none of local@domain, @domain, @.domain, <> and *",
                                  is_text ? (int)word.size : 0, word.data);
        int result = add(senders, login, sender);
        if (result < 0)
            return result;
        is_empty = false;
    }
    if (is_empty)
        return line_file_fail(file, "'%.*s' has nothing that it may use; leave the line out, or name it",
                              (int)login.size, login.data);
    return 0;
}

static int read_senders(struct senders *senders, struct line_file *file)
{
    char *line;
    size_t size;
    while (line_file_next(file, &line, &size)) {
        int result = parse_line(senders, file, (struct smtp_slice){line, (uint32_t)size});
        if (result < 0)
            return result;
    }
    return 0;
}

int senders_load(const char *path, struct senders **senders, char *error, size_t error_size)
{
    struct line_file file;
    int result = line_file_open(&file, path, S_IWOTH, error, error_size);
    if (result < 0)
        return result;
    struct senders *loaded = calloc(1, sizeof(*loaded));
    result = loaded != NULL ? name_table_init(&loaded->logins) : -ENOMEM;
    if (result == 0)
        result = read_senders(loaded, &file);
    if (result == -ENOMEM)
        snprintf(error, error_size, "%s: no memory for its lines", path);
    if (result < 0) {
        line_file_close(&file);
        senders_free(loaded);
        return result;
    }
    loaded->text = line_file_take(&file);
    *senders = loaded;
    return 0;
}

void senders_free(struct senders *senders)
{
    if (senders == NULL)
        return;
    name_table_deinit(&senders->logins);
    free(senders->senders);
    free(senders->text);
    free(senders);
}

static bool is_below(struct smtp_slice domain, struct smtp_slice parent)
{
    if (domain.size <= parent.size)
        return false;
    uint32_t skipped = domain.size - parent.size;
    struct smtp_slice tail = {domain.data + skipped, parent.size};
    return domain.data[skipped - 1] == '.' && smtp_slice_equals_nocase(tail, parent);
}

static bool sender_covers(const struct sender *sender, struct smtp_slice local, struct smtp_slice domain)
{
    switch (sender->kind) {
    case SENDER_ADDRESS:
        return smtp_slice_equals(sender->local, local) && smtp_slice_equals_nocase(sender->domain, domain);
    case SENDER_DOMAIN:
        return smtp_slice_equals_nocase(sender->domain, domain);
    case SENDER_BELOW:
        return smtp_slice_equals_nocase(sender->domain, domain) || is_below(domain, sender->domain);
    case SENDER_NULL:
        return false;
    case SENDER_ANY:
        return true;
    }
    assert(false);
    return false;
}

static bool list_allows(const struct senders *senders, uint32_t first, struct smtp_slice reverse_path)
{
    struct smtp_slice local = {0}, domain = {0};
    bool is_null = reverse_path.size == 0;
    bool is_address = split_address(reverse_path, &local, &domain);
    for (uint32_t index = first; index != NO_NEXT; index = senders->senders[index].next) {
        assert(index < senders->count);
        const struct sender *sender = &senders->senders[index];
        if (is_null && (sender->kind == SENDER_NULL || sender->kind == SENDER_ANY))
            return true;
        if (is_address && sender_covers(sender, local, domain))
            return true;
    }
    return false;
}

/* Without a line for anybody, a login is its own only sender. */
static bool is_own_address(struct smtp_slice login, struct smtp_slice reverse_path)
{
    struct sender own = {.kind = SENDER_ADDRESS};
    struct smtp_slice local, domain;
    return split_address(login, &own.local, &own.domain) && split_address(reverse_path, &local, &domain) &&
           sender_covers(&own, local, domain);
}

bool senders_allow(const struct senders *senders, struct smtp_slice login, struct smtp_slice reverse_path)
{
    uint32_t first;
    if (name_table_find(&senders->logins, login.data, login.size, &first) ||
        name_table_find(&senders->logins, "*", 1, &first))
        return list_allows(senders, first, reverse_path);
    return is_own_address(login, reverse_path);
}
