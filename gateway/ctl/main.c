/* sluicectl: what an operator does to a gateway from the command line. */

#include "gateway/ctl/passwd.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

/* Each command has --help and --json, and exits with a code of sysexits.h. */
static const struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
} commands[] = {
    {"passwd", "set, check or delete a password in the file of users", passwd_run},
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static void usage(FILE *to)
{
    fputs("usage: sluicectl COMMAND [ARGUMENT...]\n"
          "       sluicectl COMMAND --help\n"
          "       sluicectl --version\n"
          "\n"
          "commands:\n",
          to);
    for (size_t index = 0; index < COMMAND_COUNT; index++)
        fprintf(to, "  %-10s %s\n", commands[index].name, commands[index].summary);
}

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    for (size_t index = 0; index < COMMAND_COUNT; index++) {
        if (strcmp(word, commands[index].name) == 0) {
            int code = commands[index].run(argc - 1, argv + 1);
            return fflush(stdout) != 0 && code == EX_OK ? EX_IOERR : code;
        }
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        usage(stdout);
        return EX_OK;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        puts("sluicectl " SLUICE_VERSION);
        return EX_OK;
    }
    if (argc > 1)
        fprintf(stderr, "sluicectl: unknown command '%s'\n", word);
    usage(stderr);
    return EX_USAGE;
}
