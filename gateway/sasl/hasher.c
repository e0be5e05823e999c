#include "gateway/sasl/hasher.h"

#include <assert.h>
#include <errno.h>
#include <openssl/mem.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    THREADS_MAX = 64,
    NICENESS = 5,
};

struct hasher {
    /* immutable after the threads have begun */
    uint32_t queue_max;

    /* under `lock` */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a job came, or the end */
    struct hasher_job *first;
    struct hasher_job **last; /* where the next job is linked in */
    uint32_t waiting;
    bool is_ending;

    /* the owner's */
    uint32_t thread_count;
    pthread_t threads[];
};

/* The next job, or NULL at the end: when nobody submits any more and the queue is empty. */
static struct hasher_job *take(struct hasher *hasher)
{
    pthread_mutex_lock(&hasher->lock);
    while (hasher->first == NULL && !hasher->is_ending)
        pthread_cond_wait(&hasher->changed, &hasher->lock);
    struct hasher_job *job = hasher->first;
    if (job != NULL) {
        assert(hasher->waiting > 0);
        hasher->waiting--;
        hasher->first = job->next;
        if (hasher->first == NULL)
            hasher->last = &hasher->first;
        job->next = NULL;
    }
    pthread_mutex_unlock(&hasher->lock);
    return job;
}

static void *run(void *context)
{
    struct hasher *hasher = context;
    /* Linux gives each thread its own niceness. Failing to be nice is no reason to refuse logins. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), getpriority(PRIO_PROCESS, 0) + NICENESS);
    pthread_setname_np(pthread_self(), "hasher");
    struct hasher_job *job;
    while ((job = take(hasher)) != NULL) {
        job->matches = password_check_run(&job->check, job->password);
        OPENSSL_cleanse(job->password, sizeof(job->password));
        job->done(job);
    }
    return NULL;
}

/* Signals are for the thread that waits for them: ours begin with all of them blocked. */
static int start_threads(struct hasher *hasher, uint32_t threads)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = 0;
    while (result == 0 && hasher->thread_count < threads) {
        result = pthread_create(&hasher->threads[hasher->thread_count], NULL, run, hasher);
        if (result == 0)
            hasher->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -result;
}

int hasher_new(uint32_t threads, uint32_t queue_max, struct hasher **hasher)
{
    assert(threads >= 1 && threads <= THREADS_MAX);
    assert(queue_max >= 1);
    struct hasher *made = calloc(1, sizeof(*made) + threads * sizeof(made->threads[0]));
    if (made == NULL)
        return -ENOMEM;
    made->queue_max = queue_max;
    made->last = &made->first;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->changed, NULL);
    int result = start_threads(made, threads);
    if (result < 0) {
        hasher_free(made);
        return result;
    }
    *hasher = made;
    return 0;
}

void hasher_free(struct hasher *hasher)
{
    if (hasher == NULL)
        return;
    pthread_mutex_lock(&hasher->lock);
    assert(!hasher->is_ending);
    hasher->is_ending = true;
    pthread_cond_broadcast(&hasher->changed);
    pthread_mutex_unlock(&hasher->lock);
    for (uint32_t index = 0; index < hasher->thread_count; index++)
        pthread_join(hasher->threads[index], NULL);
    assert(hasher->first == NULL && hasher->waiting == 0);
    pthread_cond_destroy(&hasher->changed);
    pthread_mutex_destroy(&hasher->lock);
    free(hasher);
}

bool hasher_submit(struct hasher *hasher, struct hasher_job *job)
{
    assert(job->done != NULL);
    assert(memchr(job->password, '\0', sizeof(job->password)) != NULL);
    job->matches = false;
    job->next = NULL;
    pthread_mutex_lock(&hasher->lock);
    assert(!hasher->is_ending);
    bool is_taken = hasher->waiting < hasher->queue_max;
    if (is_taken) {
        *hasher->last = job;
        hasher->last = &job->next;
        hasher->waiting++;
        pthread_cond_signal(&hasher->changed);
    }
    pthread_mutex_unlock(&hasher->lock);
    return is_taken;
}
