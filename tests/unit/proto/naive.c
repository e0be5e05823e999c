#include "tests/unit/proto/naive.h"

#include <strings.h>

struct naive_count {
    unsigned received;
    unsigned delivered_to;
    bool done;
};

static bool names(const char *line, size_t name_size, const char *name)
{
    return name_size == strlen(name) && strncasecmp(line, name, name_size) == 0;
}

/* A line without its LF; `ended` tells whether there was one. False if the header ends here. */
static bool naive_field(struct naive_count *count, const char *line, size_t size, bool first)
{
    size_t name_size = 0;
    size_t at;

    if (size == 0)
        return true;
    if (!first && (line[0] == ' ' || line[0] == '\t'))
        return true;
    while (name_size < size && line[name_size] > ' ' && line[name_size] < 127 && line[name_size] != ':')
        name_size++;
    at = name_size;
    while (name_size > 0 && at < size && (line[at] == ' ' || line[at] == '\t'))
        at++;
    if (at == size)
        return true; /* the input ends in the middle of the name */
    if (name_size == 0 || line[at] != ':')
        return false;
    count->received += names(line, name_size, "Received");
    count->delivered_to += names(line, name_size, "Delivered-To");
    return true;
}

static struct naive_count naive_count(const char *input, size_t size)
{
    struct naive_count count = {0};

    for (size_t start = 0, end; start < size && !count.done; start = end) {
        const char *lf = memchr(input + start, '\n', size - start);

        /* The LF stays with the line: a name that runs into it is none. */
        end = lf != NULL ? (size_t)(lf - input) + 1 : size;
        count.done = !naive_field(&count, input + start, end - start, start == 0);
    }
    return count;
}

void naive_header(struct transcript *transcript, const char *input, size_t size)
{
    struct naive_count count = naive_count(input, size);

    transcript_add(transcript, "received=%u delivered_to=%u done=%d\n", count.received, count.delivered_to,
                   count.done);
}

static void add_content(struct transcript *transcript, const char *what, const char *content, size_t size)
{
    struct naive_count count = naive_count(content, size);
    bool dots = false;
    bool high = false;

    for (size_t i = 0; i < size; i++) {
        dots |= content[i] == '.' && (i == 0 || content[i - 1] == '\n');
        high |= (unsigned char)content[i] > 127;
    }
    transcript_add(transcript, "%s size=%zu dots=%d high=%d received=%u delivered_to=%u header=%d\n", what,
                   size, dots, high, count.received, count.delivered_to, count.done);
    transcript_add_octets(transcript, content, size);
}

void naive_data(struct transcript *transcript, const char *input, size_t size)
{
    size_t line = 0;

    for (size_t i = 0; i < size; i++) {
        bool after_cr = i > 0 && input[i - 1] == '\r';

        if (after_cr != (input[i] == '\n')) {
            transcript_add(transcript, "%zu bare %s in content\n", after_cr ? i : i + 1,
                           after_cr ? "CR" : "LF");
            return;
        }
        if (input[i] != '\n')
            continue;
        if (i == line + 2 && input[line] == '.') {
            transcript_add(transcript, "%zu ", i + 1);
            add_content(transcript, "content", input, line);
            return;
        }
        line = i + 1;
    }

    bool held = size - line >= 1 && size - line <= 2 && input[line] == '.' &&
                (size - line == 1 || input[line + 1] == '\r');

    add_content(transcript, "unfinished content", input, held ? line : size);
}
