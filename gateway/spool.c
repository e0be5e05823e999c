#include "gateway/spool.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { FILL_SIZE = 1 << 20, SHARDS_MAX = 256 };

/* What an operation of the storage keeps while it is under way. */
struct spool_op {
    struct completion completion;
    struct spool *spool;
    struct loop *loop;
    uint8_t *buffer;
    uint64_t offset;
    uint64_t left;
    uint32_t slot;
    int fd;
    bool writing;
    bool syncing;
};
_Static_assert(sizeof(struct spool_op) <= sizeof(((struct storage_op *)0)->impl), "it fits");

static struct spool_op *op_of(struct storage_op *op)
{
    return (struct spool_op *)(void *)op->impl;
}

static struct storage_op *op_home(struct completion *completion)
{
    struct spool_op *self = (struct spool_op *)(void *)completion;
    return (struct storage_op *)(void *)((char *)self - offsetof(struct storage_op, impl));
}

static struct spool *spool_of(struct storage *storage)
{
    return (struct spool *)(void *)storage;
}

/* --- Names --- */

static void slot_name(char name[32], uint32_t slot)
{
    snprintf(name, 32, "%06u.segment", slot);
}

static bool slot_number(const char *name, uint32_t *slot)
{
    char again[32];
    unsigned number = 0;
    if (sscanf(name, "%u.segment", &number) != 1 || number >= SPOOL_SLOTS_MAX)
        return false;
    slot_name(again, number);
    *slot = number;
    return strcmp(again, name) == 0;
}

int spool_count_shards(const char *data_dir)
{
    DIR *directory = opendir(data_dir);
    if (!directory)
        return errno == ENOENT ? 0 : -errno;
    int count = 0;
    const struct dirent *entry;
    while ((entry = readdir(directory))) {
        int number = -1;
        if (sscanf(entry->d_name, "shard-%d", &number) == 1 && number >= 0 && number < SHARDS_MAX &&
            number >= count)
            count = number + 1;
    }
    closedir(directory);
    return count;
}

/* --- Files --- */

static int slot_open(struct spool *spool, uint32_t slot, int flags)
{
    char name[32];
    slot_name(name, slot);
    flags |= O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    int fd = -1;
    if (spool->direct)
        fd = openat(spool->directory, name, flags | O_DIRECT | O_DSYNC, 0600);
    if (fd < 0 && spool->direct && errno == EINVAL)
        spool->direct = false;
    if (fd < 0 && !spool->direct)
        fd = openat(spool->directory, name, flags, 0600);
    return fd < 0 ? -errno : fd;
}

static int slot_fd(struct spool *spool, uint32_t slot)
{
    if (slot >= SPOOL_SLOTS_MAX)
        return -ENOSPC;
    if (spool->fds[slot] >= 0)
        return spool->fds[slot];
    int fd = slot_open(spool, slot, 0);
    if (fd >= 0)
        spool->fds[slot] = fd;
    return fd;
}

/* A file of another size was written with another setting: reading a part of it would lose the rest. One that
 * is shorter and still blank is left of a preparation that was cut short. */
static int slot_check(struct spool *spool, uint32_t slot)
{
    static const uint8_t blank[16];
    uint8_t block[STORAGE_BLOCK] __attribute__((aligned(STORAGE_BLOCK)));
    struct stat file;
    int fd = slot_fd(spool, slot);
    if (fd < 0)
        return fd;
    if (fstat(fd, &file) < 0)
        return -errno;
    if ((uint64_t)file.st_size == spool->storage.segment_size)
        return 0;
    ssize_t got = pread(fd, block, STORAGE_BLOCK, 0);
    bool is_blank = got >= 0 && (got < (ssize_t)sizeof(blank) || memcmp(block, blank, sizeof(blank)) == 0);
    return (uint64_t)file.st_size < spool->storage.segment_size && is_blank ? 0 : -EMEDIUMTYPE;
}

static int spool_list(struct storage *storage, uint32_t *slots, uint32_t max)
{
    struct spool *spool = spool_of(storage);
    int fd = openat(spool->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    if (!directory)
        return -errno;
    int count = 0;
    int error = 0;
    const struct dirent *entry;
    while (!error && (entry = readdir(directory)) && (uint32_t)count < max)
        if (slot_number(entry->d_name, &slots[count]))
            error = slot_check(spool, slots[count++]);
    closedir(directory);
    return error ? error : count;
}

static int64_t spool_load(struct storage *storage, uint32_t slot, uint64_t offset, void *buffer, size_t size)
{
    int fd = slot_fd(spool_of(storage), slot);
    if (fd < 0)
        return fd;
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(fd, (char *)buffer + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (int64_t)done;
}

static int spool_discard(struct storage *storage, uint32_t slot)
{
    struct spool *spool = spool_of(storage);
    char name[32];
    slot_name(name, slot);
    if (slot < SPOOL_SLOTS_MAX && spool->fds[slot] >= 0) {
        close(spool->fds[slot]);
        spool->fds[slot] = -1;
    }
    return unlinkat(spool->directory, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* --- Reading and writing --- */

static void transfer_done(struct completion *completion, int32_t result, uint32_t flags);

static void transfer_start(struct spool_op *self)
{
    struct io_uring_sqe *sqe = loop_sqe(self->loop, &self->completion);
    if (self->syncing)
        io_uring_prep_fsync(sqe, self->fd, IORING_FSYNC_DATASYNC);
    else if (self->writing)
        io_uring_prep_write(sqe, self->fd, self->buffer, (unsigned)self->left, self->offset);
    else
        io_uring_prep_read(sqe, self->fd, self->buffer, (unsigned)self->left, self->offset);
}

static void transfer_fail(struct completion *completion, int32_t result, uint32_t flags)
{
    struct storage_op *op = op_home(completion);
    op->done(op, op_of(op)->fd);
}

/* An operation that cannot begin fails from the loop like any other. */
static void fail_later(struct spool_op *self, int error)
{
    assert(error < 0);
    self->fd = error;
    self->completion.fn = transfer_fail;
    io_uring_prep_nop(loop_sqe(self->loop, &self->completion));
}

static void transfer_done(struct completion *completion, int32_t result, uint32_t flags)
{
    struct storage_op *op = op_home(completion);
    struct spool_op *self = op_of(op);
    if (self->syncing || (result < 0 && result != -EINTR && result != -EAGAIN)) {
        op->done(op, result < 0 ? result : 0);
        return;
    }
    if (result == 0) {
        op->done(op, -EIO); /* a slot never ends early */
        return;
    }
    if (result > 0) {
        assert((uint64_t)result <= self->left);
        self->buffer += result;
        self->offset += (uint32_t)result;
        self->left -= (uint32_t)result;
    }
    if (self->left == 0 && self->writing && !self->spool->direct)
        self->syncing = true;
    if (self->left > 0 || self->syncing)
        transfer_start(self);
    else
        op->done(op, 0);
}

static void transfer(struct spool *spool, struct loop *loop, struct storage_op *op, uint32_t slot,
                     uint64_t offset, uint8_t *buffer, size_t size, bool writing)
{
    struct spool_op *self = op_of(op);
    *self = (struct spool_op){
        .completion = {transfer_done},
        .spool = spool,
        .loop = loop,
        .buffer = buffer,
        .offset = offset,
        .left = size,
        .slot = slot,
        .fd = slot < SPOOL_SLOTS_MAX ? spool->fds[slot] : -ENOENT,
        .writing = writing,
    };
    if (self->fd < 0)
        fail_later(self, -ENOENT);
    else
        transfer_start(self);
}

static void spool_write(struct storage *storage, struct storage_op *op, uint32_t slot, uint64_t offset,
                        const void *buffer, size_t size, bool durable)
{
    assert(durable); /* the only kind of write there is on real disks */
    struct spool *spool = spool_of(storage);
    transfer(spool, spool->loop, op, slot, offset, (uint8_t *)(uintptr_t)buffer, size, true);
}

static void spool_storage_read(struct storage *storage, struct storage_op *op, uint32_t slot, uint64_t offset,
                               void *buffer, size_t size)
{
    struct spool *spool = spool_of(storage);
    spool_read(spool, spool->loop, op, slot, offset, buffer, size);
}

void spool_read(struct spool *spool, struct loop *loop, struct storage_op *op, uint32_t slot, uint64_t offset,
                void *buffer, size_t size)
{
    transfer(spool, loop, op, slot, offset, buffer, size, false);
}

/* --- Preparing a slot --- */

/* Reserve the blocks, write zeros over all of them, sync the file and then its folder. */
static void fill_done(struct completion *completion, int32_t result, uint32_t flags);

static uint8_t *zeros(void)
{
    static uint8_t page[FILL_SIZE] __attribute__((aligned(STORAGE_BLOCK)));
    return page;
}

static int space_check(const struct spool *spool)
{
    struct statvfs fs;
    if (fstatvfs(spool->directory, &fs) < 0)
        return -errno;
    uint64_t block = fs.f_frsize;
    uint64_t free_bytes = fs.f_bavail * block;
    uint64_t keep = spool->limits.min_free_bytes;
    if (spool->limits.min_free_percent > 0)
        keep = fs.f_blocks * block / 100 * spool->limits.min_free_percent;
    return free_bytes < keep + spool->storage.segment_size ? -ENOSPC : 0;
}

static void prepare_end(struct storage_op *op, int32_t error)
{
    struct spool_op *self = op_of(op);
    if (error)
        (void)spool_discard(&self->spool->storage, self->slot);
    op->done(op, error);
}

static void folder_synced(struct completion *completion, int32_t result, uint32_t flags)
{
    /* Some file systems have no sync of folders; their names are as safe as they can be. */
    prepare_end(op_home(completion), result == -EINVAL ? 0 : result);
}

static void file_synced(struct completion *completion, int32_t result, uint32_t flags)
{
    struct storage_op *op = op_home(completion);
    struct spool_op *self = op_of(op);
    if (result < 0) {
        prepare_end(op, result);
        return;
    }
    self->completion.fn = folder_synced;
    io_uring_prep_fsync(loop_sqe(self->loop, &self->completion), self->spool->directory, 0);
}

static void fill_next(struct spool_op *self)
{
    struct io_uring_sqe *sqe = loop_sqe(self->loop, &self->completion);
    if (self->left == 0) {
        self->completion.fn = file_synced;
        io_uring_prep_fsync(sqe, self->fd, 0);
        return;
    }
    uint64_t size = self->left < FILL_SIZE ? self->left : FILL_SIZE;
    self->completion.fn = fill_done;
    io_uring_prep_write(sqe, self->fd, zeros(), (unsigned)size, self->offset);
}

static void fill_done(struct completion *completion, int32_t result, uint32_t flags)
{
    struct storage_op *op = op_home(completion);
    struct spool_op *self = op_of(op);
    if (result == -EINVAL && self->spool->direct && self->offset == 0) {
        /* The file system took the flag but not the write: give up direct I/O from here on. */
        self->spool->direct = false;
        (void)spool_discard(&self->spool->storage, self->slot);
        self->fd = self->spool->fds[self->slot] = slot_open(self->spool, self->slot, O_CREAT);
        result = self->fd < 0 ? self->fd : -EINTR;
    }
    if (result == 0 || (result < 0 && result != -EINTR && result != -EAGAIN)) {
        prepare_end(op, result < 0 ? result : -EIO);
        return;
    }
    if (result > 0) {
        self->offset += (uint32_t)result;
        self->left -= (uint32_t)result;
    }
    fill_next(self);
}

static void reserved(struct completion *completion, int32_t result, uint32_t flags)
{
    struct storage_op *op = op_home(completion);
    if (result < 0 && result != -EOPNOTSUPP)
        prepare_end(op, result);
    else
        fill_next(op_of(op));
}

static void spool_prepare(struct storage *storage, struct storage_op *op, uint32_t slot)
{
    struct spool *spool = spool_of(storage);
    struct spool_op *self = op_of(op);
    *self = (struct spool_op){
        .completion = {reserved},
        .spool = spool,
        .loop = spool->loop,
        .left = storage->segment_size,
        .slot = slot,
    };
    (void)spool_discard(storage, slot);
    int error = slot < SPOOL_SLOTS_MAX ? space_check(spool) : -ENOSPC;
    if (!error) {
        self->fd = slot_open(spool, slot, O_CREAT);
        error = self->fd < 0 ? self->fd : 0;
    }
    if (error) {
        fail_later(self, error);
        return;
    }
    spool->fds[slot] = self->fd;
    io_uring_prep_fallocate(loop_sqe(spool->loop, &self->completion), self->fd, 0, 0, (off_t)self->left);
}

/* --- Life --- */

static const struct storage_methods spool_methods = {
    .list = spool_list,
    .load = spool_load,
    .prepare = spool_prepare,
    .write = spool_write,
    .read = spool_storage_read,
    .discard = spool_discard,
};

static int folder_open(const char *data_dir, uint32_t shard)
{
    int parent = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0)
        return -errno;
    char name[32];
    snprintf(name, sizeof(name), "shard-%03u", shard);
    int made = mkdirat(parent, name, 0700);
    int result = made < 0 && errno != EEXIST ? -errno : 0;
    if (made == 0 && fsync(parent) < 0 && errno != EINVAL)
        result = -errno;
    if (!result) {
        result = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        result = result < 0 ? -errno : result;
    }
    close(parent);
    return result;
}

int spool_init(struct spool *spool, const char *data_dir, uint32_t shard, uint64_t segment_size,
               const struct spool_limits *limits)
{
    *spool = (struct spool){
        .storage = {.methods = &spool_methods, .segment_size = segment_size},
        .limits = *limits,
        .direct = true,
    };
    spool->directory = folder_open(data_dir, shard);
    if (spool->directory < 0)
        return spool->directory;
    spool->fds =
        mmap(NULL, SPOOL_SLOTS_MAX * sizeof(int), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (spool->fds == MAP_FAILED) {
        close(spool->directory);
        return -ENOMEM;
    }
    for (uint32_t slot = 0; slot < SPOOL_SLOTS_MAX; slot++)
        spool->fds[slot] = -1;
    return 0;
}

void spool_deinit(struct spool *spool)
{
    if (!spool->fds)
        return;
    for (uint32_t slot = 0; slot < SPOOL_SLOTS_MAX; slot++)
        if (spool->fds[slot] >= 0)
            close(spool->fds[slot]);
    munmap(spool->fds, SPOOL_SLOTS_MAX * sizeof(int));
    close(spool->directory);
    spool->fds = NULL;
}

void spool_attach(struct spool *spool, struct loop *loop)
{
    spool->loop = loop;
}
