#include "tests/unit/proto/pieces.h"
#include "tests/unit/proto/transcript.h"

#include <assert.h>

enum smtp_bdat_mode transcript_bdat_mode;

struct chunks {
    struct smtp_bdat_scanner scanner;
    struct transcript content;
    struct transcript *transcript;
    bool is_refused;
};

static void add_refusal(const struct chunks *chunks, enum smtp_data result, size_t place)
{
    transcript_add(chunks->transcript, "%zu bare %s in content\n", place,
                   result == SMTP_DATA_BARE_LF ? "LF" : "CR");
}

static size_t take_chunk(void *context, const char *piece, size_t size, size_t offset, bool *is_over)
{
    struct chunks *chunks = context;
    struct smtp_data_chunk out;
    enum smtp_data result = smtp_bdat_scan(&chunks->scanner, piece, size, &out);

    assert(out.consumed <= size && out.lead_size <= SMTP_DATA_LEAD_MAX);
    assert(out.body_size == 0 || (out.body >= piece && out.body + out.body_size == piece + out.consumed));
    transcript_add_octets(&chunks->content, out.lead, out.lead_size);
    transcript_add_octets(&chunks->content, out.body, out.body_size);
    if (result == SMTP_DATA_MORE) {
        assert(size == 0 || out.consumed > 0);
        assert(chunks->content.size == chunks->scanner.size);
        return out.consumed;
    }
    assert(result != SMTP_DATA_END && out.body_size + out.lead_size == 0);
    add_refusal(chunks, result, offset + out.consumed);
    chunks->is_refused = true;
    *is_over = true;
    return out.consumed;
}

static void end_chunks(struct chunks *chunks, size_t size)
{
    struct smtp_data_chunk out;
    enum smtp_data result = smtp_bdat_end(&chunks->scanner, &out);

    assert(out.consumed == 0 && out.body_size == 0);
    if (result != SMTP_DATA_END) {
        assert(out.lead_size == 0);
        add_refusal(chunks, result, size);
        return;
    }
    transcript_add_octets(&chunks->content, out.lead, out.lead_size);
    assert(chunks->content.size == chunks->scanner.size);
    transcript_add(chunks->transcript, "content size=%llu dots=%d high=%d nul=%d\n",
                   (unsigned long long)chunks->scanner.size, chunks->scanner.dot_lines,
                   chunks->scanner.has_8bit, chunks->scanner.has_nul);
    transcript_add_octets(chunks->transcript, chunks->content.text, chunks->content.size);
}

void transcript_run_bdat(struct transcript *transcript, const char *input, size_t size, const size_t *cuts,
                         size_t cut_count)
{
    struct chunks chunks = {.transcript = transcript};

    transcript_init(&chunks.content);
    smtp_bdat_scanner_init(&chunks.scanner, transcript_bdat_mode);
    if (transcript_data_kernel != NULL)
        chunks.scanner.kernel = transcript_data_kernel;
    pieces_feed(take_chunk, &chunks, input, size, cuts, cut_count);
    if (!chunks.is_refused)
        end_chunks(&chunks, size);
    transcript_deinit(&chunks.content);
}
