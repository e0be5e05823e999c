// A group's counts in words for others: JSON, and lines of a time series. See sink.h.
#include "bench/sink.h"

#include <inttypes.h>

static void print_group(struct sink_group *group, FILE *out)
{
    pthread_mutex_lock(&group->mutex);
    (void)fprintf(out,
                  "\"%s\": {\"hosts\": %u, \"connections\": %" PRIu64 ", \"connections_refused\": %" PRIu64
                  ", \"connections_cut\": %" PRIu64 ", \"connections_now\": %u, \"connections_most\": %u, "
                  "\"host_connections_most\": %u, ",
                  group->name, group->host_count, group->connections, group->connections_refused,
                  group->connections_cut, group->connections_now, group->connections_most,
                  group->host_connections_most);
    (void)fprintf(out,
                  "\"connects_1s_most\": %u, \"connects_short_most\": %u, \"messages\": %" PRIu64
                  ", \"recipients\": %" PRIu64 ", \"octets\": %" PRIu64 ", \"messages_refused\": %" PRIu64
                  ", \"recipients_refused\": %" PRIu64 ", ",
                  group->connects_1s.most, group->connects_short.most, group->messages, group->recipients,
                  group->octets, group->messages_refused, group->recipients_refused);
    (void)fprintf(
        out,
        "\"messages_1s_most\": %u, \"messages_short_most\": %u, \"messages_60s_most\": %u, "
        "\"messages_3600s_most\": %u, \"messages_span_s\": %.3f, "
        "\"connection_messages_most\": %u, \"connection_recipients_most\": %u, "
        "\"message_recipients_most\": %u}",
        group->messages_1s.most, group->messages_short.most, group->messages_60s.most,
        group->messages_3600s.most, (double)(group->last_message_ns - group->first_message_ns) / 1e9,
        group->connection_messages_most, group->connection_recipients_most, group->message_recipients_most);
    pthread_mutex_unlock(&group->mutex);
}

void sink_print(struct sink *sink, FILE *out)
{
    const struct sink_numbers *numbers = &sink->numbers;
    (void)fprintf(
        out,
        "{\"slack_ms\": %u, \"turn_us_most\": %" PRIu64 ", \"numbers\": {\"expected\": %u, \"distinct\": %u, "
        "\"repeated\": %u, \"foreign\": %u}, \"groups\": {",
        sink->slack_ms, (uint64_t)atomic_load(&sink->turn_us_most), numbers->count,
        atomic_load(&numbers->distinct), atomic_load(&numbers->repeated), atomic_load(&numbers->foreign));
    for (uint32_t index = 0; index < sink->group_count; index++) {
        (void)fputs(index > 0 ? ", " : "", out);
        print_group(&sink->groups[index], out);
    }
    (void)fputs("}}\n", out);
    (void)fflush(out);
}

void sink_print_series(struct sink *sink, double seconds, FILE *out)
{
    for (uint32_t index = 0; index < sink->group_count; index++) {
        struct sink_group *group = &sink->groups[index];
        pthread_mutex_lock(&group->mutex);
        (void)fprintf(out, "%.3f,%s,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%u\n", seconds, group->name,
                      group->messages, group->messages_refused, group->connections_refused,
                      group->connections_now);
        pthread_mutex_unlock(&group->mutex);
    }
    (void)fflush(out);
}
