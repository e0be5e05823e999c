#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/base/config_inner.h"

/* What a configuration means on this machine. */

static int check_user(const struct config *config, struct config_error *error)
{
    if (config->user[0] == '\0' || getpwnam(config->user) != NULL)
        return 0;
    return config_fail(
        error, config_origin(config, SECTION_ROOT, "user"),
        "user \"%s\" does not exist; would be right: the name of a user, or \"\" to stay who we are",
        config->user);
}

static int check_log_folder(const struct config *config, struct config_error *error)
{
    const char *slash = strrchr(config->log.destination, '/');
    if (slash == NULL)
        return 0;
    char folder[4096];
    size_t size = slash == config->log.destination ? 1 : (size_t)(slash - config->log.destination);
    struct stat status = {0};
    bool fits = size < sizeof(folder);
    if (fits) {
        memcpy(folder, config->log.destination, size);
        folder[size] = '\0';
    }
    if (fits && stat(folder, &status) == 0 && S_ISDIR(status.st_mode))
        return 0;
    return config_fail(
        error, config_origin(config, SECTION_LOG, "destination"),
        "log.destination \"%s\" is in no folder; would be right: a file in a folder that exists",
        config->log.destination);
}

/* 0, or why the file cannot be read: a positive errno. Opened rather than asked about, because that is what
   will be done with it; without waiting for the other end of a pipe. */
static int try_file(const char *path)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return errno;
    int result = fstat(file, &status) < 0 ? errno : 0;
    if (result == 0 && S_ISDIR(status.st_mode))
        result = EISDIR;
    else if (result == 0 && !S_ISREG(status.st_mode))
        result = EINVAL;
    close(file);
    return result;
}

static int check_file(const char *what, const char *path, struct origin origin, struct config_error *error)
{
    assert(path[0] == '/');
    int reason = try_file(path);
    if (reason == 0)
        return 0;
    return config_fail(error, origin,
                       "%s \"%s\" cannot be read: %s; would be right: a file that is there and may be read",
                       what, path, strerror(reason));
}

static int check_list(const char *what, const struct named_files *list, struct config_error *error)
{
    for (size_t index = 0; index < list->count; index++) {
        int result = check_file(what, list->files[index].path, list->files[index].origin, error);
        if (result < 0)
            return result;
    }
    return 0;
}

static int check_files(const struct config *config, struct config_error *error)
{
    const struct {
        const char *what;
        const char *path;
        struct origin origin;
    } files[] = {
        {"route_file", config->route_file, config_origin(config, SECTION_ROOT, "route_file")},
        {"outbound.passwords", config->outbound.passwords,
         config_origin(config, SECTION_OUTBOUND, "passwords")},
        {"outbound.ca_file", config->outbound.ca_file, config_origin(config, SECTION_OUTBOUND, "ca_file")},
        {"outbound.certificate", config->outbound.certificate,
         config_origin(config, SECTION_OUTBOUND, "certificate")},
        {"outbound.private_key", config->outbound.private_key,
         config_origin(config, SECTION_OUTBOUND, "private_key")},
        {"outbound.classes", config->outbound.classes, config_origin(config, SECTION_OUTBOUND, "classes")},
        {"tls.client_ca", config->tls.client_ca, config_origin(config, SECTION_TLS, "client_ca")},
        {"auth.users", config->auth.users, config_origin(config, SECTION_AUTH, "users")},
        {"auth.auth_senders", config->auth.senders, config_origin(config, SECTION_AUTH, "auth_senders")},
    };
    int result = check_list("tls.certificate", &config->inner->certificates, error);
    if (result == 0)
        result = check_list("tls.private_key", &config->inner->private_keys, error);
    for (size_t index = 0; result == 0 && index < sizeof(files) / sizeof(files[0]); index++) {
        if (files[index].path != NULL)
            result = check_file(files[index].what, files[index].path, files[index].origin, error);
    }
    for (size_t index = 0; result == 0 && index < config->recipients_count; index++)
        result = check_file("recipients.file", config->recipients[index].file,
                            config->inner->recipients_origins[index], error);
    return result;
}

/* Passwords of ours at other people's hosts. */
static int check_passwords(const struct config *config, struct config_error *error)
{
    struct stat status;
    const char *path = config->outbound.passwords;
    if (path == NULL || stat(path, &status) < 0 || (status.st_mode & (S_IRWXG | S_IRWXO)) == 0)
        return 0; /* one that is not there any more is its reader's concern */
    return config_fail(
        error, config_origin(config, SECTION_OUTBOUND, "passwords"),
        "outbound.passwords \"%s\" is open to others than its owner (mode %03o); would be right: "
        "chmod 600",
        path, (unsigned)status.st_mode & 0777);
}

int config_check_machine(const struct config *config, struct config_error *error)
{
    int result = check_user(config, error);
    if (result == 0)
        result = check_log_folder(config, error);
    if (result == 0)
        result = check_files(config, error);
    return result == 0 ? check_passwords(config, error) : result;
}
