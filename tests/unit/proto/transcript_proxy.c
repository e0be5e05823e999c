#include "tests/unit/proto/pieces.h"
#include "tests/unit/proto/transcript.h"

#include "proto/proxy.h"

#include <assert.h>

struct proxied {
    struct smtp_proxy_parser parser;
    struct transcript *transcript;
    bool is_over;
};

static void add_address(struct transcript *transcript, const char *name, const uint8_t *octets,
                        uint8_t family, uint16_t port)
{
    transcript_add(transcript, " %s=", name);
    for (unsigned i = 0; i < (family == 4 ? 4u : 16u); i++)
        transcript_add(transcript, "%02x", octets[i]);
    transcript_add(transcript, ":%u", port);
}

static void add_text(struct transcript *transcript, const char *name, struct smtp_slice text)
{
    if (text.size == 0)
        return;
    transcript_add(transcript, " %s=[", name);
    transcript_add_octets(transcript, text.data, text.size);
    transcript_add(transcript, "]");
}

static void add_proxy(struct transcript *transcript, const struct smtp_proxy *proxy)
{
    transcript_add(transcript, "v%u", proxy->version);
    assert(!proxy->is_local || proxy->family == 0);
    if (proxy->family == 0)
        transcript_add(transcript, proxy->is_local ? " local" : " unknown");
    if (proxy->family != 0) {
        add_address(transcript, "source", proxy->source, proxy->family, proxy->source_port);
        add_address(transcript, "destination", proxy->destination, proxy->family, proxy->destination_port);
    }
    if (proxy->has_tls)
        transcript_add(transcript, " tls");
    if (proxy->tls_has_certificate)
        transcript_add(transcript, " certificate");
    if (proxy->tls_verified)
        transcript_add(transcript, " verified");
    add_text(transcript, "version", proxy->tls_version);
    add_text(transcript, "cipher", proxy->tls_cipher);
    add_text(transcript, "name", proxy->tls_common_name);
    add_text(transcript, "authority", proxy->authority);
    transcript_add(transcript, "\n");
}

static size_t take_header(void *context, const char *piece, size_t size, size_t offset, bool *is_over)
{
    struct proxied *proxied = context;
    struct smtp_proxy proxy;
    size_t consumed = SIZE_MAX;
    enum smtp_proxy_result result = smtp_proxy_parse(&proxied->parser, piece, size, &consumed, &proxy);

    assert(consumed <= size);
    if (result == SMTP_PROXY_MORE) {
        assert(consumed == size);
        return consumed;
    }
    transcript_add(proxied->transcript, "%zu ", offset + consumed);
    if (result == SMTP_PROXY_DONE)
        add_proxy(proxied->transcript, &proxy);
    else
        transcript_add(proxied->transcript, "bad\n");
    proxied->is_over = *is_over = true;
    return consumed;
}

void transcript_run_proxy(struct transcript *transcript, const char *input, size_t size, const size_t *cuts,
                          size_t cut_count)
{
    struct proxied proxied = {.transcript = transcript};

    smtp_proxy_parser_init(&proxied.parser);
    pieces_feed(take_header, &proxied, input, size, cuts, cut_count);
    if (!proxied.is_over)
        transcript_add(transcript, "unfinished\n");
}
