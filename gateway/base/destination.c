#include "gateway/base/destination.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "gateway/base/address.h"
#include "gateway/base/domain_table.h"
#include "gateway/base/idna.h"

enum {
    SMTP_PORT = 25,
    LMTP_PORT = 24, /* RFC 2033 section 5 only says that it must not be 25 */
    HOST_TEXT_SIZE = DOMAIN_SIZE_MAX + 16,
};

static const char too_much[] = "is too long";

/* A zero-terminated copy in the destination's own text; NULL: no room. */
static const char *keep(struct destination_text *out, const char *text, size_t size)
{
    assert(out->used <= sizeof(out->text));
    if (size >= sizeof(out->text) - out->used)
        return NULL;
    char *copy = out->text + out->used;
    memcpy(copy, text, size);
    copy[size] = '\0';
    out->used += size + 1;
    return copy;
}

void destination_init(struct destination_text *out)
{
    out->destination = (struct destination){
        .kind = DESTINATION_SMTP,
        .hosts = out->hosts,
        .text = "",
        .tls = CONFIG_SECURITY_UNSET,
        .tls_names = out->tls_names,
        .name = "",
        .index = UINT32_MAX,
    };
    out->used = 0;
}

static bool is_empty(const struct destination *destination)
{
    return destination->host_count == 0 && destination->kind == DESTINATION_SMTP;
}

static bool has_hosts(const struct destination *destination)
{
    return destination->host_count > 0;
}

static uint16_t default_port(enum destination_kind kind)
{
    return kind == DESTINATION_LMTP ? LMTP_PORT : SMTP_PORT;
}

/* --- Hosts --- */

static const char *keep_site_name(struct destination_text *out, const struct destination_host *host)
{
    char name[HOST_TEXT_SIZE + 16];
    char port[8] = "";
    if (host->port == 0)
        return host->name;
    bool is_v6 = strchr(host->name, ':') != NULL;
    if (host->port != default_port(out->destination.kind))
        snprintf(port, sizeof(port), ":%u", host->port);
    int size = snprintf(name, sizeof(name), "%s%s%s%s", is_v6 ? "[" : "", host->name, is_v6 ? "]" : "", port);
    assert(size > 0 && (size_t)size < sizeof(name));
    return keep(out, name, (size_t)size);
}

/* Takes the host that was written to the first free place. */
static const char *take_host(struct destination_text *out, enum destination_kind kind)
{
    struct destination *destination = &out->destination;
    assert(destination->host_count < DESTINATION_HOSTS_MAX);
    destination->kind = kind;
    if (destination->host_count == 0) {
        const char *name = keep_site_name(out, &out->hosts[0]);
        if (name == NULL)
            return too_much;
        destination->name = name;
    }
    destination->host_count++;
    return NULL;
}

/* "10.0.0.300" is a slip in an address, and no host's name either (RFC 3696 section 2). */
static bool ends_in_number(const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *label = dot != NULL ? dot + 1 : name;
    return label[strspn(label, "0123456789")] == '\0';
}

static const char *write_ip(struct destination_text *out, struct destination_host *host, uint16_t port)
{
    struct sockaddr_storage *address = &out->addresses[out->destination.host_count];
    char text[INET6_ADDRSTRLEN];
    const void *bytes = address->ss_family == AF_INET6
                            ? (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr
                            : (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr;
    const char *done = inet_ntop(address->ss_family, bytes, text, sizeof(text));
    assert(done != NULL);
    *host = (struct destination_host){
        .name = keep(out, text, strlen(text)), .port = port, .addresses = address, .address_count = 1};
    return host->name != NULL ? NULL : too_much;
}

static const char *write_name(struct destination_text *out, struct destination_host *host, const char *name,
                              uint16_t port)
{
    char key[IDNA_KEY_SIZE];
    int size = domain_is_valid(name, strlen(name)) ? idna_domain_key(name, strlen(name), key) : -1;
    if (size < 0 || ends_in_number(key))
        return "has no host's name or IP address";
    *host = (struct destination_host){.name = keep(out, key, (size_t)size), .port = port};
    return host->name != NULL ? NULL : too_much;
}

static const char *add_host(struct destination_text *out, enum destination_kind kind, const char *text,
                            size_t size)
{
    static const char wrong[] = "has no host, or no port from 1 to 65535";
    struct destination_host *host = &out->hosts[out->destination.host_count];
    char target[HOST_TEXT_SIZE];
    char name[DOMAIN_SIZE_MAX + 1];
    uint16_t port;
    if (size >= sizeof(target) || memchr(text, '\0', size) != NULL)
        return wrong;
    memcpy(target, text, size);
    target[size] = '\0';
    if (parse_host_port(target, default_port(kind), name, sizeof(name), &port) < 0)
        return wrong;

    bool is_ip = parse_ip(name, port, &out->addresses[out->destination.host_count]) == 0;
    if (!is_ip && target[0] == '[')
        return "has no host's name or IP address";
    const char *problem = is_ip ? write_ip(out, host, port) : write_name(out, host, name, port);
    return problem != NULL ? problem : take_host(out, kind);
}

static const char *add_socket(struct destination_text *out, const char *path, size_t size)
{
    size_t index = out->destination.host_count;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (size == 0 || path[0] != '/')
        return "is not the full path of a socket";
    if (size >= sizeof(address.sun_path))
        return "is the path of a socket longer than 107 bytes";
    if (memchr(path, '\0', size) != NULL)
        return "has a zero byte";
    memcpy(address.sun_path, path, size);
    _Static_assert(sizeof(address) <= sizeof(out->addresses[0]), "a socket's address fits nowhere");
    memset(&out->addresses[index], 0, sizeof(out->addresses[index]));
    memcpy(&out->addresses[index], &address, sizeof(address));
    out->hosts[index] = (struct destination_host){
        .name = keep(out, path, size), .addresses = &out->addresses[index], .address_count = 1};
    return out->hosts[index].name != NULL ? take_host(out, DESTINATION_LMTP) : too_much;
}

/* --- What has no hosts --- */

static size_t count_digits(const char *text, size_t size)
{
    size_t count = 0;
    while (count < size && text[count] >= '0' && text[count] <= '9')
        count++;
    return count;
}

/* The size of "5.7.1" at the begin of a text (RFC 3463 section 2); 0: there is none. */
static size_t enhanced_code_size(const char *text, size_t size)
{
    size_t used = 0;
    for (int part = 0; part < 3; part++) {
        size_t digits = count_digits(text + used, size - used);
        if (digits == 0 || digits > (part == 0 ? 1 : 3))
            return 0;
        used += digits;
        bool is_last = part == 2;
        if (!is_last && (used == size || text[used++] != '.'))
            return 0;
    }
    return used == size || text[used] == ' ' ? used : 0;
}

static const char *keep_reply(struct destination_text *out, const char *text, size_t size)
{
    char reply[DESTINATION_ERROR_TEXT_MAX + 8];
    char class = (char)('0' + out->destination.code / 100);
    size_t enhanced = enhanced_code_size(text, size);
    if (size > DESTINATION_ERROR_TEXT_MAX)
        return "has a text longer than 400 bytes";
    if (enhanced > 0 && text[0] != class)
        return "has an enhanced code of another class";
    if (enhanced == size)
        return "has no text";
    int length = snprintf(reply, sizeof(reply), "%.*s%.*s", enhanced > 0 ? 0 : 6,
                          class == '4' ? "4.0.0 " : "5.0.0 ", (int)size, text);
    assert(length > 0 && (size_t)length < sizeof(reply));
    out->destination.text = keep(out, reply, (size_t)length);
    return out->destination.text != NULL ? NULL : too_much;
}

static const char *add_error(struct destination_text *out, const char *text, size_t size)
{
    for (size_t index = 0; index < size; index++) {
        if (text[index] < ' ' || text[index] > '~')
            return "has a text with other than printable ASCII";
    }
    bool has_code = count_digits(text, size) == 3 && (size == 3 || text[3] == ' ');
    if (!has_code || text[0] < '4' || text[0] > '5')
        return "has no code from 400 to 599";
    out->destination.kind = DESTINATION_ERROR;
    out->destination.code = (uint16_t)((text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0'));
    size_t begin = 3;
    while (begin < size && text[begin] == ' ')
        begin++;
    return keep_reply(out, text + begin, size - begin);
}

/* --- Steps --- */

static bool begins_with(const char *text, size_t size, const char *prefix)
{
    return size >= strlen(prefix) && memcmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_word(const char *text, size_t size, const char *word)
{
    return size == strlen(word) && memcmp(text, word, size) == 0;
}

/* What the text is by its begin. False: nothing that we know. */
static bool find_kind(const char *text, size_t size, enum destination_kind *kind)
{
    if (begins_with(text, size, "smtp://"))
        *kind = DESTINATION_SMTP;
    else if (begins_with(text, size, "lmtp:"))
        *kind = DESTINATION_LMTP;
    else if (is_word(text, size, "mx"))
        *kind = DESTINATION_MX;
    else if (is_word(text, size, "discard"))
        *kind = DESTINATION_DISCARD;
    else if (begins_with(text, size, "error:"))
        *kind = DESTINATION_ERROR;
    else
        return false;
    return true;
}

const char *destination_add(struct destination_text *out, const char *text, size_t size)
{
    enum { URL = 7 /* "smtp://" */, SOCKET = 5 /* "lmtp:" */, ERROR = 6 /* "error:" */ };
    enum destination_kind kind;
    if (!find_kind(text, size, &kind))
        return "is not a next hop";
    bool is_host = kind == DESTINATION_SMTP || kind == DESTINATION_LMTP;
    if (!is_empty(&out->destination) && (!is_host || !has_hosts(&out->destination)))
        return "cannot stand beside another destination";
    if (has_hosts(&out->destination) && kind != out->destination.kind)
        return "is of another kind than the host before it";
    if (out->destination.host_count == DESTINATION_HOSTS_MAX)
        return "is the 17th host of this route, 16 are allowed";

    if (kind == DESTINATION_ERROR)
        return add_error(out, text + ERROR, size - ERROR);
    if (is_host && begins_with(text + SOCKET, size - SOCKET, "//"))
        return add_host(out, kind, text + URL, size - URL);
    if (is_host)
        return add_socket(out, text + SOCKET, size - SOCKET);
    out->destination.kind = kind;
    return NULL;
}

const char *destination_add_tls_name(struct destination_text *out, const char *text, size_t size)
{
    char key[IDNA_KEY_SIZE];
    size_t count = out->destination.tls_name_count;
    if (count == DESTINATION_TLS_NAMES_MAX)
        return "is the 17th name of this route, 16 are allowed";
    int key_size = domain_is_valid(text, size) ? idna_domain_key(text, size, key) : -1;
    if (key_size < 0)
        return "is not a host's name";
    const char *name = keep(out, key, (size_t)key_size);
    if (name == NULL)
        return too_much;
    out->tls_names[count] = name;
    out->destination.tls_name_count++;
    return NULL;
}

const char *destination_set_weights(struct destination_text *out, const uint16_t *weights, size_t count)
{
    if (count > 0 && count != out->destination.host_count)
        return "are not as many as the hosts";
    for (size_t index = 0; index < count; index++) {
        assert(weights[index] > 0 && weights[index] <= DESTINATION_WEIGHT_MAX);
        out->hosts[index].weight = weights[index];
    }
    return NULL;
}

static bool has_socket(const struct destination *destination)
{
    for (size_t index = 0; index < destination->host_count; index++) {
        if (destination->hosts[index].port == 0)
            return true;
    }
    return false;
}

const char *destination_set_tls(struct destination_text *out, enum config_security tls)
{
    struct destination *destination = &out->destination;
    bool goes_nowhere = destination->kind == DESTINATION_DISCARD || destination->kind == DESTINATION_ERROR;
    bool is_said = tls != CONFIG_SECURITY_UNSET || destination->tls_name_count > 0;
    if (goes_nowhere && is_said)
        return "has no meaning where no connection is made";
    if (destination->tls_name_count > 0 && destination->kind == DESTINATION_MX)
        return "has no use beside \"mx\", whose hosts are verified by their own names";
    if (destination->tls_name_count > 0 && tls != CONFIG_SECURITY_UNSET && tls != CONFIG_SECURITY_VERIFY)
        return "has no use for tls_names, which count under \"verify\"";
    if (tls == CONFIG_SECURITY_VERIFY && has_socket(destination) && destination->tls_name_count == 0)
        return "needs tls_names for a socket, which has no name of its own";
    destination->tls = tls;
    return NULL;
}

bool destination_equals(const struct destination *a, const struct destination *b)
{
    bool is_same = a->kind == b->kind && a->code == b->code && a->tls == b->tls &&
                   a->host_count == b->host_count && a->tls_name_count == b->tls_name_count &&
                   strcmp(a->name, b->name) == 0 && strcmp(a->text, b->text) == 0;
    for (size_t index = 0; is_same && index < a->host_count; index++) {
        const struct destination_host *left = &a->hosts[index];
        const struct destination_host *right = &b->hosts[index];
        is_same = left->port == right->port && left->weight == right->weight &&
                  strcmp(left->name, right->name) == 0;
    }
    for (size_t index = 0; is_same && index < a->tls_name_count; index++)
        is_same = strcmp(a->tls_names[index], b->tls_names[index]) == 0;
    return is_same;
}
