/* sim: runs seeds, in parallel, and says which one broke a promise.
 *
 * Seeds run in child processes, so that a crash, a failed assertion and an endless loop are
 * findings like any other. The parent learns the seed from memory that it shares with its children.
 */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/content.h"
#include "tests/sim/world.h"

enum {
    JOBS_MAX = 64,
    SEED_SECONDS_MAX = 60, /* of wall time: more is an endless loop */
    REPLAY_EVERY = 100,    /* so many seeds run twice and must do the same */
};

/* One child's, shared with the parent. */
struct job {
    uint64_t seed;
    uint64_t done;
    uint64_t acked, delivered, duplicates, crashes, refused, read_back, moved, received, together;
    bool violated;
    char text[512];
};

static struct job *jobs; /* shared */
static struct job *mine; /* of this process */

void violation(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(mine->text, sizeof(mine->text), format, arguments);
    va_end(arguments);
    mine->violated = true;
    fflush(stdout);
    _exit(1);
}

static void disk_violation(const char *what)
{
    violation("disk: %s", what);
}

static uint64_t run(struct world *world, struct disk *disk, uint64_t seed, bool verbose)
{
    mine->seed = seed;
    alarm(SEED_SECONDS_MAX);
    uint64_t hash = world_run(world, disk, seed, verbose, disk_violation);
    alarm(0);
    return hash;
}

static void run_seeds(uint64_t first, uint64_t count, uint32_t job, uint32_t job_count)
{
    struct world *world = calloc(1, sizeof(*world));
    struct disk *disk = calloc(1, sizeof(*disk));
    if (world == NULL || disk == NULL)
        abort();

    for (uint64_t i = job; i < count; i += job_count) {
        uint64_t hash = run(world, disk, first + i, false);
        mine->done++;
        mine->acked += world->acked;
        mine->delivered += world->delivered;
        mine->duplicates += world->duplicates;
        mine->crashes += world->crashes;
        mine->refused += world->refused;
        mine->read_back += world->read_back;
        mine->moved += world->moved;
        mine->received += world->received;
        mine->together += world->together;
        if (i % REPLAY_EVERY == job && run(world, disk, first + i, false) != hash)
            violation("two runs differ: the simulation is not deterministic");
    }
    disk_deinit(disk);
    free(disk);
    free(world);
}

static void start_jobs(uint64_t first, uint64_t count, uint32_t job_count, pid_t *pids)
{
    for (uint32_t i = 0; i < job_count; i++) {
        pids[i] = fork();
        if (pids[i] < 0)
            abort();
        if (pids[i] == 0) {
            mine = &jobs[i];
            run_seeds(first, count, i, job_count);
            exit(0);
        }
    }
}

static void explain(const struct job *job, int status, const char *name)
{
    if (job->violated)
        printf("seed %llu: %s\n", (unsigned long long)job->seed, job->text);
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        printf("seed %llu: still running after %d s\n", (unsigned long long)job->seed, SEED_SECONDS_MAX);
    else if (WIFSIGNALED(status))
        printf("seed %llu: ended by signal %d (%s)\n", (unsigned long long)job->seed, WTERMSIG(status),
               strsignal(WTERMSIG(status)));
    else
        printf("seed %llu: exit status %d\n", (unsigned long long)job->seed, WEXITSTATUS(status));
    printf("replay: %s --seed %llu --verbose\n", name, (unsigned long long)job->seed);
}

/* Waits for all; at the first that fails the others are stopped. Returns whether one failed. */
static bool await_jobs(uint32_t job_count, pid_t *pids, const char *name)
{
    bool failed = false;

    for (uint32_t left = job_count; left > 0; left--) {
        int status;
        pid_t pid = wait(&status);
        uint32_t job = 0;
        while (job < job_count && pids[job] != pid)
            job++;
        assert(job < job_count);
        pids[job] = 0;
        if (status == 0 || failed)
            continue;
        failed = true;
        explain(&jobs[job], status, name);
        for (uint32_t i = 0; i < job_count; i++)
            if (pids[i] > 0)
                kill(pids[i], SIGKILL);
    }
    return failed;
}

static void summary(uint32_t job_count)
{
    struct job sum = {0};

    for (uint32_t i = 0; i < job_count; i++) {
        sum.done += jobs[i].done;
        sum.acked += jobs[i].acked;
        sum.delivered += jobs[i].delivered;
        sum.duplicates += jobs[i].duplicates;
        sum.crashes += jobs[i].crashes;
        sum.refused += jobs[i].refused;
        sum.read_back += jobs[i].read_back;
        sum.moved += jobs[i].moved;
        sum.received += jobs[i].received;
        sum.together += jobs[i].together;
    }
    printf(
        "%llu seeds, %llu power cuts: %llu messages acknowledged, %llu refused, %llu recipients delivered, "
        "%llu came back as allowed, %llu pieces read back, %llu messages moved, %llu receives in place, "
        "%llu deliveries settled with messages\n",
        (unsigned long long)sum.done, (unsigned long long)sum.crashes, (unsigned long long)sum.acked,
        (unsigned long long)sum.refused, (unsigned long long)sum.delivered,
        (unsigned long long)sum.duplicates, (unsigned long long)sum.read_back, (unsigned long long)sum.moved,
        (unsigned long long)sum.received, (unsigned long long)sum.together);
}

/* Not in a child, so that a debugger and a sanitizer see it as it is; but a violation still has to be told.
 */
static int replay(uint64_t seed, bool verbose, const char *name)
{
    pid_t pid = fork();
    int status;

    if (pid < 0)
        abort();
    if (pid == 0) {
        struct world *world = calloc(1, sizeof(*world));
        struct disk *disk = calloc(1, sizeof(*disk));
        mine = &jobs[0];
        if (world == NULL || disk == NULL)
            abort();
        printf("seed %llu: hash %016llx\n", (unsigned long long)seed,
               (unsigned long long)run(world, disk, seed, verbose));
        disk_deinit(disk);
        free(disk);
        free(world);
        exit(0);
    }
    if (waitpid(pid, &status, 0) != pid)
        abort();
    if (status == 0)
        return 0;
    explain(&jobs[0], status, name);
    return 1;
}

static void usage(const char *name)
{
    printf(
        "usage: %s [--seeds N] [--first S] [--jobs N] [--expect-violation]\n"
        "       %s --seed S [--verbose]\n"
        "Runs seeds S .. S+N-1 of the queue's simulation; or one of them.\n"
        "  --expect-violation  succeed only if some seed breaks a promise: for builds with a planted bug\n",
        name, name);
}

struct arguments {
    uint64_t seeds;
    uint64_t first;
    uint64_t seed;
    uint32_t jobs;
    bool single;
    bool verbose;
    bool expect_violation;
};

static bool parse(int argc, char **argv, struct arguments *arguments)
{
    static const struct option options[] = {
        {"seeds", required_argument, NULL, 'n'}, {"first", required_argument, NULL, 'f'},
        {"seed", required_argument, NULL, 's'},  {"jobs", required_argument, NULL, 'j'},
        {"verbose", no_argument, NULL, 'v'},     {"expect-violation", no_argument, NULL, 'x'},
        {"help", no_argument, NULL, 'h'},        {0},
    };
    int option;

    *arguments = (struct arguments){.seeds = 1000, .first = 1, .jobs = 2};
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'n':
            arguments->seeds = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            arguments->first = strtoull(optarg, NULL, 10);
            break;
        case 's':
            arguments->seed = strtoull(optarg, NULL, 10);
            arguments->single = true;
            break;
        case 'j':
            arguments->jobs = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'v':
            arguments->verbose = true;
            break;
        case 'x':
            arguments->expect_violation = true;
            break;
        default:
            return false;
        }
    }
    return optind == argc && arguments->jobs > 0 && arguments->jobs <= JOBS_MAX;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    pid_t pids[JOBS_MAX];

    if (!parse(argc, argv, &arguments)) {
        usage(argv[0]);
        return 2;
    }
    jobs = mmap(NULL, JOBS_MAX * sizeof(*jobs), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (jobs == MAP_FAILED)
        abort();
    content_init();
    if (arguments.single)
        return replay(arguments.seed, arguments.verbose, argv[0]);
    start_jobs(arguments.first, arguments.seeds, arguments.jobs, pids);
    bool failed = await_jobs(arguments.jobs, pids, argv[0]);
    summary(arguments.jobs);
    if (arguments.expect_violation && !failed)
        printf("no seed found the planted bug\n");
    return failed != arguments.expect_violation;
}
