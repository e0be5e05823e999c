/*
 * Runs a fuzz target over stored inputs, where there is no libFuzzer: every file of every directory that is
 * named.
 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

static void replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *data = NULL;
    size_t size = 0;
    struct transcript content;
    char block[4096];

    if (file == NULL)
        err(EX_NOINPUT, "%s", path);
    transcript_init(&content);
    while ((size = fread(block, 1, sizeof(block), file)) > 0)
        transcript_add_octets(&content, block, size);
    if (ferror(file))
        err(EX_IOERR, "%s", path);
    fclose(file);

    /* A block of exactly the size, so that a sanitizer sees an octet read too far. */
    data = malloc(content.size > 0 ? content.size : 1);
    if (data == NULL)
        err(EX_OSERR, "malloc");
    memcpy(data, content.text, content.size);
    LLVMFuzzerTestOneInput((const uint8_t *)data, content.size);
    free(data);
    transcript_deinit(&content);
}

static unsigned replay_directory(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    unsigned count = 0;

    if (directory == NULL)
        err(EX_NOINPUT, "%s", path);
    while ((entry = readdir(directory)) != NULL) {
        char name[4096];

        if (entry->d_name[0] == '.')
            continue;
        if ((size_t)snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) >= sizeof(name))
            errx(EX_NOINPUT, "%s/%s: name too long", path, entry->d_name);
        replay_file(name);
        count++;
    }
    closedir(directory);
    return count;
}

int main(int argc, char **argv)
{
    unsigned count = 0;

    for (int i = 1; i < argc; i++)
        count += replay_directory(argv[i]);
    if (count == 0)
        errx(EX_NOINPUT, "no inputs to replay; usage: %s DIRECTORY...", argv[0]);
    printf("%u inputs replayed\n", count);
    return 0;
}
