#include "gateway/ctl/prompt.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/mem.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <termios.h>
#include <unistd.h>

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
enum { ENDING_SIGNAL_COUNT = sizeof(ending_signals) / sizeof(ending_signals[0]) };

static volatile sig_atomic_t signal_seen;

static void note_signal(int number)
{
    signal_seen = number;
}

/* Waits for input, and lets the signals of `allowed` in meanwhile: there alone, so that none comes between a
   look at signal_seen and a wait that it would have ended. */
static bool wait_for_input(int descriptor, const sigset_t *allowed)
{
    fd_set set;
    FD_ZERO(&set);
    assert(descriptor < FD_SETSIZE);
    FD_SET(descriptor, &set);
    return pselect(descriptor + 1, &set, NULL, NULL, NULL, allowed) == 1;
}

/* Octet by octet, so that nothing behind the line is taken. `allowed` may be NULL: signals are as they are.
 */
static enum prompt_result read_line(int descriptor, const sigset_t *allowed, char *line, size_t capacity)
{
    size_t size = 0;
    bool fits = true;
    char octet = '\0';
    ssize_t count = -1;
    while (wait_for_input(descriptor, allowed) && (count = read(descriptor, &octet, 1)) == 1 &&
           octet != '\n') {
        fits = fits && size + 1 < capacity && octet != '\0';
        if (fits)
            line[size++] = octet;
        count = -1;
    }
    bool is_complete = count == 1 || (count == 0 && size > 0);
    line[size] = '\0';
    octet = '\0';
    if (is_complete && fits)
        return PROMPT_DONE;
    OPENSSL_cleanse(line, capacity);
    return is_complete ? PROMPT_TOO_LONG : PROMPT_END;
}

enum prompt_result prompt_stdin(char *line, size_t capacity)
{
    assert(capacity > 1);
    return read_line(STDIN_FILENO, NULL, line, capacity);
}

/* How signals were before, for the time of a prompt. */
struct signals {
    struct sigaction actions[ENDING_SIGNAL_COUNT];
    sigset_t mask;
};

static void catch_signals(struct signals *before)
{
    struct sigaction action = {.sa_handler = note_signal};
    sigset_t blocked;
    sigemptyset(&blocked);
    signal_seen = 0;
    for (size_t index = 0; index < ENDING_SIGNAL_COUNT; index++)
        sigaddset(&blocked, ending_signals[index]);
    sigprocmask(SIG_BLOCK, &blocked, &before->mask);
    for (size_t index = 0; index < ENDING_SIGNAL_COUNT; index++)
        sigaction(ending_signals[index], &action, &before->actions[index]);
}

/* What came meanwhile takes its course now. */
static void release_signals(const struct signals *before)
{
    for (size_t index = 0; index < ENDING_SIGNAL_COUNT; index++)
        sigaction(ending_signals[index], &before->actions[index], NULL);
    if (signal_seen != 0)
        raise(signal_seen);
    sigprocmask(SIG_SETMASK, &before->mask, NULL);
}

static void say(int terminal, const char *text)
{
    ssize_t written = write(terminal, text, strlen(text));
    (void)written; /* who cannot be asked will not answer */
}

enum prompt_result prompt_terminal(const char *question, char *line, size_t capacity)
{
    assert(capacity > 1);
    int terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (terminal < 0)
        return PROMPT_NO_TERMINAL;
    struct termios before;
    if (tcgetattr(terminal, &before) < 0) {
        close(terminal);
        return PROMPT_NO_TERMINAL;
    }
    struct signals signals;
    catch_signals(&signals);
    struct termios silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    enum prompt_result result = PROMPT_NO_TERMINAL;
    if (tcsetattr(terminal, TCSAFLUSH, &silent) == 0) {
        say(terminal, question);
        result = read_line(terminal, &signals.mask, line, capacity);
        say(terminal, "\n");
        tcsetattr(terminal, TCSAFLUSH, &before);
    }
    close(terminal);
    release_signals(&signals);
    return result;
}
