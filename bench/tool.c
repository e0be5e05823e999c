// See tool.h.
#include "bench/tool.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OPTIONS_MAX = 32, LINE_WIDTH = 78 };

uint64_t tool_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

bool tool_number(const char *text, uint32_t most, uint32_t *number)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value > most)
        return false;
    *number = (uint32_t)value;
    return true;
}

static bool take(const struct tool_option *option)
{
    if (option->flag != NULL)
        *option->flag = true;
    else if (option->text != NULL)
        *option->text = optarg;
    else
        return tool_number(optarg, TOOL_NUMBER_MAX, option->number);
    return true;
}

bool tool_options(int argc, char **argv, const struct tool_option *options)
{
    struct option names[OPTIONS_MAX + 1] = {0};
    int found;
    for (int index = 0; options[index].name != NULL; index++) {
        assert(index < OPTIONS_MAX);
        names[index].name = options[index].name;
        names[index].has_arg = options[index].flag != NULL ? no_argument : required_argument;
        names[index].val = index;
    }
    while ((found = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (found >= OPTIONS_MAX || !take(&options[found])) // '?' among others
            return false;
    }
    return true;
}

char *tool_content(size_t size, size_t *total)
{
    static const char header[] = "Subject: load\r\n\r\n";
    static const char end[] = "\r\n.\r\n";
    const size_t header_size = sizeof(header) - 1;
    if (size < header_size + 2)
        size = header_size + 2;
    char *content = malloc(size + sizeof(end) - 2);
    if (content == NULL)
        return NULL;
    memset(content, 'x', size);
    memcpy(content, header, header_size);
    for (size_t at = header_size + LINE_WIDTH; at + 4 < size; at += LINE_WIDTH + 2)
        memcpy(content + at, "\r\n", 2);
    *total = size + strlen(".\r\n");
    memcpy(content + size - 2, end, strlen(end));
    return content;
}
