/* The threads that check passwords: every job once, the right answer to each, a queue with an end. */

#include "sasl_test.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    SUBMITTERS = 4,
    JOBS_EACH = 100,
};

struct counted_job {
    struct hasher_job job;
    atomic_int done_count;
    bool is_right;
};

static atomic_int wrong_answers;

static void fill(struct hasher_job *job, const char *password)
{
    /* The RFC's keys: a check of a millisecond or two. */
    struct users *users = make_users(RFC7677_LINE);
    memset(job, 0, sizeof(*job));
    password_check_init(&job->check, users_find(users, "user", 4), true);
    users_free(users);
    strcpy(job->password, password);
}

static void count(struct hasher_job *job)
{
    struct counted_job *counted = job->context;
    static const char clean[USER_PASSWORD_MAX + 1];
    if (job->matches != counted->is_right || memcmp(job->password, clean, sizeof(clean)) != 0)
        atomic_fetch_add(&wrong_answers, 1);
    atomic_fetch_add(&counted->done_count, 1);
}

struct submitter {
    struct hasher *hasher;
    struct counted_job *jobs;
    unsigned refused;
};

static void *submit_all(void *context)
{
    struct submitter *submitter = context;
    for (unsigned index = 0; index < JOBS_EACH; index++) {
        while (!hasher_submit(submitter->hasher, &submitter->jobs[index].job)) {
            submitter->refused++;
            usleep(500);
        }
    }
    return NULL;
}

static void every_job_is_done_once_and_right(void **state)
{
    struct counted_job *jobs = calloc(SUBMITTERS * JOBS_EACH, sizeof(*jobs));
    struct submitter submitters[SUBMITTERS];
    pthread_t threads[SUBMITTERS];
    struct hasher *hasher = NULL;
    struct hasher_job right, wrong;
    assert_non_null(jobs);
    fill(&right, "pencil");
    fill(&wrong, "crayon");
    assert_int_equal(hasher_new(3, 16, &hasher), 0);
    for (unsigned index = 0; index < SUBMITTERS * JOBS_EACH; index++) {
        jobs[index].is_right = index % 3 == 0;
        jobs[index].job = jobs[index].is_right ? right : wrong;
        jobs[index].job.done = count;
        jobs[index].job.context = &jobs[index];
    }
    for (unsigned index = 0; index < SUBMITTERS; index++) {
        submitters[index] = (struct submitter){hasher, jobs + index * JOBS_EACH, 0};
        assert_int_equal(pthread_create(&threads[index], NULL, submit_all, &submitters[index]), 0);
    }
    for (unsigned index = 0; index < SUBMITTERS; index++)
        pthread_join(threads[index], NULL);
    hasher_free(hasher);
    for (unsigned index = 0; index < SUBMITTERS * JOBS_EACH; index++)
        assert_int_equal(atomic_load(&jobs[index].done_count), 1);
    assert_int_equal(atomic_load(&wrong_answers), 0);
    free(jobs);
}

struct gate {
    sem_t entered, open;
    int niceness;
    pid_t thread;
};

/* Holds the hasher's thread until the test lets it go. */
static void wait_at_gate(struct hasher_job *job)
{
    struct gate *gate = job->context;
    gate->niceness = getpriority(PRIO_PROCESS, 0);
    gate->thread = gettid();
    sem_post(&gate->entered);
    sem_wait(&gate->open);
}

static void ring(struct hasher_job *job)
{
    atomic_fetch_add((atomic_int *)job->context, 1);
}

static void a_full_queue_refuses_and_the_end_empties_it(void **state)
{
    struct gate gate = {0};
    sem_init(&gate.entered, 0, 0);
    sem_init(&gate.open, 0, 0);
    struct hasher *hasher = NULL;
    assert_int_equal(hasher_new(1, 2, &hasher), 0);
    struct hasher_job first, waiting[3];
    fill(&first, "pencil");
    first.done = wait_at_gate;
    first.context = &gate;
    assert_true(hasher_submit(hasher, &first));
    sem_wait(&gate.entered);

    atomic_int done = 0;
    for (size_t index = 0; index < 3; index++) {
        fill(&waiting[index], "pencil");
        waiting[index].done = ring;
        waiting[index].context = &done;
    }
    assert_true(hasher_submit(hasher, &waiting[0]));
    assert_true(hasher_submit(hasher, &waiting[1]));
    assert_false(hasher_submit(hasher, &waiting[2]));
    assert_int_equal(atomic_load(&done), 0);

    sem_post(&gate.open);
    hasher_free(hasher);
    assert_int_equal(atomic_load(&done), 2);
    assert_true(waiting[1].matches);
    assert_false(waiting[2].matches);
    assert_string_equal(waiting[2].password, "pencil"); /* it was not taken */

    /* The thread was nicer than ours, and not ours. */
    assert_int_equal(gate.niceness,
                     getpriority(PRIO_PROCESS, 0) + 5 > 19 ? 19 : getpriority(PRIO_PROCESS, 0) + 5);
    assert_int_not_equal(gate.thread, gettid());
    sem_destroy(&gate.entered);
    sem_destroy(&gate.open);
}

static void an_idle_hasher_ends(void **state)
{
    struct hasher *hasher = NULL;
    assert_int_equal(hasher_new(64, 1, &hasher), 0);
    hasher_free(hasher);
    hasher_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_is_done_once_and_right),
        cmocka_unit_test(a_full_queue_refuses_and_the_end_empties_it),
        cmocka_unit_test(an_idle_hasher_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
