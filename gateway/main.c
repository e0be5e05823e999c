/* sluice: the command. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "gateway/base/config.h"
#include "gateway/control.h"
#include "gateway/snapshot.h"
#include "gateway/version.h"

static const char default_config[] = "/etc/sluice/sluice.conf";

static void usage(FILE *to)
{
    fputs("usage: sluice [-c FILE]       run in the foreground until SIGTERM\n"
          "       sluice -t [-c FILE]    check the configuration and say what is wrong with it\n"
          "       sluice --version       this version and those of the libraries in use\n"
          "       sluice --help\n"
          "FILE is /etc/sluice/sluice.conf unless told otherwise; see sluice(8) and sluice.conf(5).\n",
          to);
}

struct arguments {
    const char *config_path;
    bool check_only;
};

/* -1: go on; else the exit code. */
static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
    *arguments = (struct arguments){.config_path = default_config};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-c") == 0 && i + 1 < argc) {
            arguments->config_path = argv[++i];
        } else if (strcmp(argv[i], "-t") == 0) {
            arguments->check_only = true;
        } else if (strcmp(argv[i], "--version") == 0 || strcmp(argv[i], "-V") == 0) {
            version_print();
            return version_check() == 0 ? EX_OK : EX_SOFTWARE;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            usage(stdout);
            return EX_OK;
        } else {
            fprintf(stderr, "sluice: unknown or incomplete argument '%s'\n", argv[i]);
            usage(stderr);
            return EX_USAGE;
        }
    }
    return -1;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    int code = parse_arguments(argc, argv, &arguments);
    if (code >= 0)
        return code;
    struct config *config = NULL;
    struct config_error error;
    if (config_load(arguments.config_path, &config, &error) < 0 || config_check_machine(config, &error) < 0) {
        fprintf(stderr, "%s\n", error.text);
        config_free(config);
        return arguments.check_only ? 1 : EX_CONFIG;
    }
    if (arguments.check_only) {
        const int result = snapshot_check(config, error.text, sizeof(error.text));
        config_free(config);
        if (result < 0)
            fprintf(stderr, "%s\n", error.text);
        else
            printf("%s: good\n", arguments.config_path);
        return result < 0 ? 1 : EX_OK;
    }
    if (version_check() < 0) {
        config_free(config);
        return EX_SOFTWARE;
    }
    return control_run(arguments.config_path, config);
}
