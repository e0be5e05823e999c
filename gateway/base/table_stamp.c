#include <errno.h>
#include <sys/stat.h>

#include "gateway/base/table.h"

static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

int table_stamp_read(const char *path, struct table_stamp *stamp)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return -errno;
    *stamp = (struct table_stamp){
        .device = status.st_dev,
        .inode = status.st_ino,
        .size = (uint64_t)status.st_size,
        .modified_ns = nanoseconds(status.st_mtim),
        .changed_ns = nanoseconds(status.st_ctim),
    };
    return 0;
}

bool table_stamp_equals(const struct table_stamp *a, const struct table_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}
