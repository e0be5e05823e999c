/* The data scanner, octets a second, with each kernel that this CPU has: mail of ordinary lines, the same
 * with a dot at the beginning of every line, and base64. */
#include <stdlib.h>
#include <string.h>

#include "bench/micro/measure.h"
#include "proto/data.h"
#include "proto/data_kernel.h"

enum { MAIL_SIZE = 64 * 1024, READ_SIZE = 16 * 1024 /* what one receive brings */ };

struct scene {
    smtp_data_kernel *kernel;
    char mail[MAIL_SIZE];
};

static void scan(void *context)
{
    const struct scene *scene = context;
    struct smtp_data_scanner scanner;

    smtp_data_scanner_init(&scanner, SMTP_DATA_STRICT);
    scanner.kernel = scene->kernel;
    for (size_t offset = 0; offset < MAIL_SIZE; offset += READ_SIZE) {
        size_t end = offset + READ_SIZE;
        for (size_t at = offset; at < end;) {
            struct smtp_data_chunk chunk;
            if (smtp_data_scan(&scanner, scene->mail + at, end - at, &chunk) != SMTP_DATA_MORE)
                abort();
            at += chunk.consumed;
            measure_use(chunk.body_size);
        }
    }
}

/* Lines of `width` octets with their CRLF; the last one fills up what is left. */
static void fill(struct scene *scene, size_t width, bool dotted)
{
    for (size_t at = 0; at < MAIL_SIZE; at++)
        scene->mail[at] = (char)('a' + at % 23);
    for (size_t at = 0; at + width <= MAIL_SIZE; at += width) {
        if (dotted)
            memcpy(scene->mail + at, "..", 2);
        memcpy(scene->mail + at + width - 2, "\r\n", 2);
    }
    memcpy(scene->mail + MAIL_SIZE - 2, "\r\n", 2);
}

static void all(struct scene *scene, const char *kernel)
{
    static const struct {
        const char *name;
        size_t width;
        bool dotted;
    } mails[] = {{"prose", 66, false},
                 {"base64", 78, false},
                 {"every line dotted", 40, true},
                 {"short lines", 8, false}};

    for (size_t i = 0; i < sizeof(mails) / sizeof(mails[0]); i++) {
        char name[64];
        snprintf(name, sizeof(name), "%s, %s", kernel, mails[i].name);
        fill(scene, mails[i].width, mails[i].dotted);
        measure(name, scan, scene, 1, MAIL_SIZE);
    }
}

int main(void)
{
    struct scene *scene = malloc(sizeof(*scene));

    if (scene == NULL)
        abort();
    scene->kernel = smtp_data_kernel_portable;
    all(scene, "portable");
#if defined(__x86_64__)
    scene->kernel = smtp_data_kernel_sse2;
    all(scene, "sse2");
    if (__builtin_cpu_supports("avx2")) {
        scene->kernel = smtp_data_kernel_avx2;
        all(scene, "avx2");
    }
#endif
    free(scene);
    return 0;
}
