/* Which notices may be sent at all, and what the log says of them. */
#include "gateway/outbound/report_inner.h"

#include <assert.h>

#include "gateway/base/id.h"
#include "gateway/base/rate_table.h"

const char *report_kind_name(enum notice_kind kind)
{
    static const char *const names[] = {"failure", "delay", "success"};

    assert((size_t)kind < sizeof(names) / sizeof(names[0]));
    return names[kind];
}

uint32_t report_count_of(const struct report *report, enum notice_kind kind)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < report->delivery->target_count; i++)
        count += report->kinds[i] == kind;
    return count;
}

/* --- Log --- */

static void log_kind(const struct report *report, struct log_line *line, enum notice_kind kind)
{
    char original[ID_TEXT_SIZE];

    id_format(report->delivery->id, original);
    log_str(line, "original", original, sizeof(original));
    log_path(line, "to", report->envelope.sender.data, report->envelope.sender.size);
    log_text(line, "kind", report_kind_name(kind));
    log_u64(line, "recipients", report_count_of(report, kind));
}

void report_log_notice(const struct report *report, const struct report_notice *notice)
{
    struct log_line line;

    if (!log_begin(report->outbound->options.log, &line, LOG_NOTIFY, LOG_INFO))
        return;
    log_id(&line, notice->id);
    log_kind(report, &line, notice->kind);
    if (notice->kind != NOTICE_SUCCESS)
        log_text(&line, "class", notice_class_name(notice->class));
    log_u64(&line, "size", notice->size);
    log_end(&line);
}

static void log_suppressed(const struct report *report, enum notice_kind kind, const char *reason)
{
    struct log_line line;

    if (!log_begin(report->outbound->options.log, &line, LOG_NOTIFY, LOG_NOTICE))
        return;
    log_kind(report, &line, kind);
    log_text(&line, "suppressed", reason);
    log_end(&line);
}

void report_log_failure(const struct report *report, int error)
{
    struct log_line line;

    for (uint32_t kind = NOTICE_FAILURE; kind <= NOTICE_SUCCESS; kind++) {
        if (report_count_of(report, kind) == 0 ||
            !log_begin(report->outbound->options.log, &line, LOG_NOTIFY, LOG_WARNING))
            continue;
        log_kind(report, &line, kind);
        log_errno(&line, "error", error);
        log_end(&line);
    }
}

/* --- The limit against back-scatter --- */

static bool is_within(struct rate_table *rates, uint64_t key, uint32_t limit, uint64_t now_ms)
{
    return limit == 0 || rate_get(rates, key, RATE_MESSAGES, now_ms) < limit;
}

/* Counts a notice if it may be sent. Workers that ask at one moment may exceed a limit by their number. */
static bool take_rate(const struct report *report)
{
    const struct config *config = report->outbound->config;
    struct rate_table *rates = report->outbound->options.notice_rates;
    const uint64_t now_ms = loop_now_us(report->outbound->options.loop) / 1000;

    if (rates == NULL || (report->envelope.flags & ENVELOPE_TRUSTED))
        return true;
    const uint64_t all = rate_key_login(rates, "", 0);
    const uint64_t one = rate_key_login(rates, report->envelope.sender.data, report->envelope.sender.size);
    if (!is_within(rates, all, config->notices.per_minute, now_ms) ||
        !is_within(rates, one, config->notices.per_address_per_minute, now_ms))
        return false;
    (void)rate_add(rates, all, RATE_MESSAGES, 1, now_ms);
    (void)rate_add(rates, one, RATE_MESSAGES, 1, now_ms);
    return true;
}

void report_suppress(struct report *report, enum notice_kind kind, const char *reason)
{
    if (report_count_of(report, kind) == 0)
        return;
    COUNTER_ADD(report->outbound->options.counters, notices_suppressed, 1);
    log_suppressed(report, kind, reason);
    for (uint32_t i = 0; i < report->delivery->target_count; i++) {
        if (report->kinds[i] != kind)
            continue;
        if (kind == NOTICE_DELAY)
            report->delivery->targets[i].marked = true;
        report->kinds[i] = REPORT_NOBODY;
    }
}

bool report_apply_limits(struct report *report)
{
    char address[REPORT_ADDRESS_MAX];
    const bool is_address = report_encode_address(report->outbound, &report->envelope, address) > 0;
    bool any = false;

    for (uint32_t kind = NOTICE_FAILURE; kind <= NOTICE_SUCCESS; kind++) {
        if (report_count_of(report, kind) == 0)
            continue;
        if (!is_address)
            report_suppress(report, kind, "bad-address");
        else if (!take_rate(report))
            report_suppress(report, kind, "rate");
        else
            any = true;
    }
    return any;
}
