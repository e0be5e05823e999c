#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmocka_base.h"
#include "gateway/base/panic.h"

static void a_panic_says_where_and_why_and_aborts(void **state)
{
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit no_core = {0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        dup2(pipe_ends[1], STDERR_FILENO);
        panic("no memory for %d rings", 7);
    }
    close(pipe_ends[1]);
    char text[512] = {0};
    ssize_t size = read(pipe_ends[0], text, sizeof(text) - 1);
    assert_true(size > 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "sluice: panic: "));
    assert_non_null(strstr(text, "test_panic.c:"));
    assert_non_null(strstr(text, ": no memory for 7 rings\n"));
    close(pipe_ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_panic_says_where_and_why_and_aborts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
