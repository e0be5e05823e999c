#include "gateway/privilege.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

void privilege_raise_limits(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    if (geteuid() == 0 && limit.rlim_max < (1U << 20)) {
        struct rlimit more = {1U << 20, 1U << 20};
        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            return;
    }
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Makes each folder of the path that is missing. */
static int make_folders(const char *path, mode_t mode)
{
    char part[4096];
    size_t size = strlen(path);
    if (size >= sizeof(part))
        return -ENAMETOOLONG;
    for (size_t i = 1; i <= size; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, i == size ? mode : 0755) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

/* NULL when nobody is named or we are not root. */
static const struct passwd *target_user(const struct config *config)
{
    if (config->user[0] == '\0' || geteuid() != 0)
        return NULL;
    return getpwnam(config->user);
}

static int data_dir_lock(const struct config *config)
{
    char path[4096];
    if (snprintf(path, sizeof(path), "%s/lock", config->data_dir) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

int privilege_data_dir(const struct config *config)
{
    int error = make_folders(config->data_dir, 0700);
    if (error)
        return error;
    const struct passwd *user = target_user(config);
    if (user && chown(config->data_dir, user->pw_uid, user->pw_gid) < 0)
        return -errno;
    return data_dir_lock(config);
}

int privilege_drop(const struct config *config)
{
    if (config->user[0] == '\0' || geteuid() != 0)
        return 0;
    const struct passwd *user = target_user(config);
    if (!user)
        return -ENOENT;
    if (initgroups(config->user, user->pw_gid) < 0 || setgid(user->pw_gid) < 0 || setuid(user->pw_uid) < 0)
        return -errno;
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return setuid(0) == 0 && user->pw_uid != 0 ? -EPERM : 0;
}
