// What a group allows, and what it has seen. See sink.h.
#include "bench/sink.h"
#include "bench/tool.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

enum { SECOND_NS = 1000000000, MINUTE_S = 60, HOUR_S = 3600, SMTP_PORT = 25 };

static const char *const mode_names[] = {
    [SINK_OK] = "ok", [SINK_DEAD] = "dead", [SINK_RESET] = "reset", [SINK_BUSY] = "busy"};

static const struct {
    const char *name;
    size_t offset;
} number_keys[] = {
    {"connections", offsetof(struct sink_limits, connections)},
    {"host_connections", offsetof(struct sink_limits, host_connections)},
    {"connect_rate", offsetof(struct sink_limits, connect_rate)},
    {"rate", offsetof(struct sink_limits, rate)},
    {"messages", offsetof(struct sink_limits, messages)},
    {"recipients", offsetof(struct sink_limits, recipients)},
    {"delay_ms", offsetof(struct sink_limits, delay_ms)},
    {"pipelining", offsetof(struct sink_limits, pipelining)},
    {"chunking", offsetof(struct sink_limits, chunking)},
    {"overlap", offsetof(struct sink_limits, overlap)},
};

// --- From text ---

static bool set_mode(struct sink_limits *limits, const char *name)
{
    for (size_t mode = 0; mode < sizeof(mode_names) / sizeof(*mode_names); mode++) {
        if (strcmp(name, mode_names[mode]) == 0) {
            limits->mode = (enum sink_mode)mode;
            return true;
        }
    }
    return false;
}

static bool set_key(struct sink_limits *limits, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    if (equals == NULL)
        return false;
    size_t size = (size_t)(equals - assignment);
    if (size == strlen("mode") && memcmp(assignment, "mode", size) == 0)
        return set_mode(limits, equals + 1);
    for (size_t index = 0; index < sizeof(number_keys) / sizeof(*number_keys); index++) {
        const char *name = number_keys[index].name;
        if (strlen(name) == size && memcmp(name, assignment, size) == 0) {
            char *field = (char *)limits + number_keys[index].offset;
            return tool_number(equals + 1, UINT32_MAX, (uint32_t *)(void *)field);
        }
    }
    return false;
}

bool sink_group_set(struct sink_group *group, const char *assignment)
{
    pthread_mutex_lock(&group->mutex);
    bool result = set_key(&group->limits, assignment);
    pthread_mutex_unlock(&group->mutex);
    return result;
}

struct sink_limits sink_group_limits(struct sink_group *group)
{
    pthread_mutex_lock(&group->mutex);
    struct sink_limits limits = group->limits;
    pthread_mutex_unlock(&group->mutex);
    return limits;
}

static void group_init(struct sink_group *group, const char *name, uint32_t slack_ms)
{
    uint64_t short_ns = SECOND_NS - (uint64_t)slack_ms * 1000000;
    *group = (struct sink_group){.name = name, .limits = {.pipelining = 1, .chunking = 1, .overlap = 1}};
    pthread_mutex_init(&group->mutex, NULL);
    list_init(&group->sessions);
    sink_window_init(&group->connects_1s, SECOND_NS);
    sink_window_init(&group->connects_short, short_ns);
    sink_window_init(&group->connects_taken, SECOND_NS);
    sink_window_init(&group->messages_1s, SECOND_NS);
    sink_window_init(&group->messages_short, short_ns);
    sink_window_init(&group->messages_60s, (uint64_t)MINUTE_S * SECOND_NS);
    sink_window_init(&group->messages_3600s, (uint64_t)HOUR_S * SECOND_NS);
    sink_window_init(&group->messages_taken, SECOND_NS);
}

// "127.1.0.1-127.1.0.9:2525"; writes into it.
static bool add_hosts(struct sink *sink, struct sink_group *group, char *range)
{
    struct in_addr first, last;
    uint32_t port = SMTP_PORT;
    char *colon = strchr(range, ':');
    if (colon != NULL) {
        *colon = '\0';
        if (!tool_number(colon + 1, UINT16_MAX, &port))
            return false;
    }
    char *dash = strchr(range, '-');
    if (dash != NULL)
        *dash = '\0';
    if (inet_pton(AF_INET, range, &first) != 1 ||
        inet_pton(AF_INET, dash != NULL ? dash + 1 : range, &last) != 1)
        return false;
    uint32_t low = ntohl(first.s_addr), high = ntohl(last.s_addr);
    if (high < low || high - low >= SINK_HOSTS_MAX - sink->host_count)
        return false;
    group->hosts = &sink->hosts[sink->host_count];
    group->host_count = high - low + 1;
    sink->host_count += group->host_count;
    for (uint32_t index = 0; index < group->host_count; index++) {
        struct sink_host *host = &group->hosts[index];
        host->group = group;
        host->address.sin_family = AF_INET;
        host->address.sin_port = htons((uint16_t)port);
        host->address.sin_addr.s_addr = htonl(low + index);
    }
    return true;
}

bool sink_group_add(struct sink *sink, const char *text)
{
    char *copy = strdup(text); // the group's name stays in it
    char *rest;
    if (copy == NULL)
        sink_die("memory");
    char *first = strtok_r(copy, ",", &rest);
    char *range = first != NULL ? strchr(first, '=') : NULL;
    bool result = range != NULL && range > first && sink->group_count < SINK_GROUPS_MAX;
    if (result) {
        *range++ = '\0';
        struct sink_group *group = &sink->groups[sink->group_count];
        group_init(group, first, sink->slack_ms);
        result = add_hosts(sink, group, range);
        for (char *at; result && (at = strtok_r(NULL, ",", &rest)) != NULL;)
            result = sink_group_set(group, at);
    }
    if (result)
        sink->group_count++;
    else
        free(copy);
    return result;
}

// --- Connections ---

static void leave(struct sink_session *session)
{
    struct sink_host *host = session->host;
    if (session->has_left)
        return;
    assert(host->group->connections_now > 0 && host->connections > 0);
    session->has_left = true;
    list_remove(&session->group_link);
    host->group->connections_now--;
    host->connections--;
}

// A sender may have closed one connection and opened the next before we came to see the first one's end, so
// those that the peer has closed do not count.
static void drop_closed(struct sink_group *group)
{
    list_each_safe(link, &group->sessions)
    {
        struct sink_session *session = list_entry(link, struct sink_session, group_link);
        struct tcp_info info = {0};
        socklen_t size = sizeof(info);
        if (getsockopt(session->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
            info.tcpi_state != TCP_ESTABLISHED)
            leave(session);
    }
}

static bool exceeds(uint32_t value, uint32_t limit)
{
    return limit > 0 && value > limit;
}

static bool is_one_more(const struct sink_group *group, const struct sink_host *host)
{
    return group->connections_now >= group->connections_most ||
           host->connections >= group->host_connections_most ||
           exceeds(group->connections_now + 1, group->limits.connections) ||
           exceeds(host->connections + 1, group->limits.host_connections);
}

static void note_most(uint32_t *most, uint32_t value)
{
    if (value > *most)
        *most = value;
}

static bool may_enter(struct sink_group *group, const struct sink_host *host, uint64_t now_ns)
{
    const struct sink_limits *limits = &group->limits;
    if (limits->mode == SINK_BUSY || exceeds(group->connections_now, limits->connections) ||
        exceeds(host->connections, limits->host_connections))
        return false;
    return !exceeds(sink_window_count(&group->connects_taken, now_ns) + 1, limits->connect_rate);
}

bool sink_group_enter(struct sink_session *session)
{
    struct sink_host *host = session->host;
    struct sink_group *group = host->group;
    uint64_t now_ns = sink_now_ns();
    pthread_mutex_lock(&group->mutex);
    if (is_one_more(group, host))
        drop_closed(group);
    list_push_back(&group->sessions, &session->group_link);
    group->connections_now++;
    host->connections++;
    group->connections++;
    note_most(&group->connections_most, group->connections_now);
    note_most(&group->host_connections_most, host->connections);
    sink_window_add(&group->connects_1s, now_ns);
    sink_window_add(&group->connects_short, now_ns);
    bool result = may_enter(group, host, now_ns);
    if (result)
        sink_window_add(&group->connects_taken, now_ns);
    else
        group->connections_refused++;
    pthread_mutex_unlock(&group->mutex);
    return result;
}

void sink_group_leave(struct sink_session *session)
{
    pthread_mutex_t *mutex = &session->host->group->mutex;
    pthread_mutex_lock(mutex);
    leave(session);
    pthread_mutex_unlock(mutex);
}

void sink_group_cut(struct sink_session *session)
{
    struct sink_group *group = session->host->group;
    pthread_mutex_lock(&group->mutex);
    group->connections_cut++;
    pthread_mutex_unlock(&group->mutex);
}

// --- Messages ---

static void note_mail(struct sink_group *group, uint64_t now_ns)
{
    sink_window_add(&group->messages_1s, now_ns);
    sink_window_add(&group->messages_short, now_ns);
    sink_window_add(&group->messages_60s, now_ns);
    sink_window_add(&group->messages_3600s, now_ns);
    if (group->first_message_ns == 0)
        group->first_message_ns = now_ns;
    group->last_message_ns = now_ns;
}

enum sink_mail sink_group_mail(struct sink_session *session)
{
    struct sink_group *group = session->host->group;
    enum sink_mail result = SINK_MAIL_OK;
    uint64_t now_ns = sink_now_ns();
    pthread_mutex_lock(&group->mutex);
    note_mail(group, now_ns);
    if (exceeds(session->messages + 1, group->limits.messages))
        result = SINK_MAIL_ENOUGH;
    else if (exceeds(sink_window_count(&group->messages_taken, now_ns) + 1, group->limits.rate))
        result = SINK_MAIL_RATE;
    if (result == SINK_MAIL_OK)
        sink_window_add(&group->messages_taken, now_ns);
    else
        group->messages_refused++;
    pthread_mutex_unlock(&group->mutex);
    return result;
}

void sink_group_recipient_refused(struct sink_session *session)
{
    struct sink_group *group = session->host->group;
    pthread_mutex_lock(&group->mutex);
    group->recipients_refused++;
    pthread_mutex_unlock(&group->mutex);
}

static void count_number(struct sink_numbers *numbers, uint32_t number)
{
    if (number >= numbers->count)
        atomic_fetch_add_explicit(&numbers->foreign, 1, memory_order_relaxed); // a sum, nothing hangs on it
    else if (atomic_exchange(&numbers->seen[number], 1) != 0)
        atomic_fetch_add_explicit(&numbers->repeated, 1, memory_order_relaxed);
    else
        atomic_fetch_add_explicit(&numbers->distinct, 1, memory_order_relaxed);
}

void sink_group_message(struct sink_session *session)
{
    struct sink_group *group = session->host->group;
    struct sink_numbers *numbers = &session->sink->numbers;
    session->messages++;
    session->recipients += session->number_count;
    pthread_mutex_lock(&group->mutex);
    group->messages++;
    group->recipients += session->number_count;
    group->octets += session->octets;
    note_most(&group->connection_messages_most, session->messages);
    note_most(&group->connection_recipients_most, session->recipients);
    note_most(&group->message_recipients_most, session->number_count);
    pthread_mutex_unlock(&group->mutex);
    for (uint32_t index = 0; numbers->count > 0 && index < session->number_count; index++)
        count_number(numbers, session->numbers[index]);
}
