#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/message/notice_test.h"

/* Writes many hostile notices into the folder named by the first argument, N.notice as it is stored, and
 * N.facts with what a reader must find in it: a line each, a name and a value in hexadecimal. */

enum { NOTICES = 500 };

static FILE *open_file(const char *folder, unsigned seed, const char *kind)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%u.%s", folder, seed, kind);
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        exit(1);
    return file;
}

static void close_file(FILE *file)
{
    if (fclose(file) != 0)
        exit(1);
}

static void put_fact(FILE *file, const char *name, struct smtp_slice value)
{
    fprintf(file, "%s ", name);
    for (uint32_t i = 0; i < value.size; i++)
        fprintf(file, "%02x", (unsigned char)value.data[i]);
    fprintf(file, "\n");
}

static void put_number(FILE *file, const char *name, unsigned number)
{
    char digits[16];
    const int size = snprintf(digits, sizeof(digits), "%u", number);
    put_fact(file, name, (struct smtp_slice){digits, (uint32_t)size});
}

static void write_facts(FILE *file, const struct notice *notice, struct smtp_slice original)
{
    put_number(file, "kind", notice->kind);
    put_number(file, "utf8", notice->is_utf8);
    put_number(file, "returned", notice->original);
    put_fact(file, "original", original);
    put_fact(file, "sender", notice->sender);
    for (uint32_t i = 0; i < notice->recipient_count; i++) {
        const struct notice_recipient *recipient = &notice->recipients[i];
        put_number(file, "action", recipient->action);
        put_number(file, "code", recipient->code);
        put_fact(file, "address", recipient->address);
        put_fact(file, "host", recipient->host);
        put_fact(file, "reply", recipient->reply);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 1;
    for (unsigned seed = 0; seed < NOTICES; seed++) {
        struct smtp_slice original;
        size_t size;
        const struct notice *notice = notice_random(seed, &original);
        const char *text = notice_text_of(notice, original, &size);
        FILE *file = open_file(argv[1], seed, "notice");
        if (fwrite(text, 1, size, file) != size)
            return 1;
        close_file(file);
        file = open_file(argv[1], seed, "facts");
        write_facts(file, notice, original);
        close_file(file);
    }
    return 0;
}
