#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/log.h"

/* Writes JSON lines with values of every kind to the file named by the first argument; each line also holds
   its value in hexadecimal, so that a reader can tell whether it came through. */

static uint64_t random_state = 88172645463325252ULL;

static unsigned next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 20);
}

/* Bytes that are likely to hit the edges: quotes, controls, halves of characters. */
static size_t make_value(char *value)
{
    static const char *const pieces[] = {"\"",
                                         "\\",
                                         "\n",
                                         "}",
                                         "\xc3\xa4",
                                         "\xe2\x80\xa8",
                                         "\xe2\x82",
                                         "\xf0\x9f\x92\x8c",
                                         "\xed\xa0\x80",
                                         "\xc0\xaf",
                                         "\x80",
                                         "\xff",
                                         " ",
                                         "a",
                                         "=",
                                         "\x1b[31m",
                                         "\xf4\x90\x80\x80"};
    size_t size = 0;
    unsigned count = next_random() % 20;
    for (unsigned index = 0; index < count; index++) {
        const char *piece = pieces[next_random() % (sizeof(pieces) / sizeof(pieces[0]))];
        memcpy(value + size, piece, strlen(piece));
        size += strlen(piece);
        value[size++] = (char)(next_random() & 0xff);
    }
    return size;
}

static void write_line(struct log_writer *writer, const char *value, size_t size)
{
    char hex[512];
    for (size_t index = 0; index < size; index++)
        snprintf(hex + 2 * index, 3, "%02x", (unsigned char)value[index]);
    struct log_line line;
    if (!log_begin(writer, &line, LOG_ACCEPT, LOG_WARNING))
        exit(1);
    log_str(&line, "hex", hex, 2 * size);
    log_str(&line, "value", value, size);
    log_path(&line, "from", value, size);
    log_u64(&line, "size", UINT64_MAX);
    log_i64(&line, "delta", INT64_MIN);
    log_bool(&line, "flag", true);
    log_id(&line, UINT64_MAX);
    log_end(&line);
}

int main(int argc, char **argv)
{
    struct log *log;
    struct log_writer *writer;
    if (argc != 2 || log_new(argv[1], LOG_JSON, LOG_INFO, &log) < 0 || log_writer_new(log, NULL, &writer) < 0)
        return 1;
    for (unsigned round = 0; round < 5000; round++) {
        char value[256];
        write_line(writer, value, make_value(value));
        log_drain(log);
    }
    log_free(log);
    return 0;
}
