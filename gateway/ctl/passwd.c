#include "gateway/ctl/passwd.h"

#include "gateway/ctl/prompt.h"
#include "gateway/ctl/report.h"
#include "gateway/ctl/users_edit.h"
#include "gateway/sasl/password.h"
#include "gateway/sasl/text.h"
#include "gateway/sasl/users.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

struct passwd {
    struct report report;
    const char *path;
    const char *name;
    enum crypt_method method;
    bool deletes;
    bool verifies;
    bool from_stdin;
    char password[USER_PASSWORD_MAX + 1];
};

static const char help[] =
    "usage: sluicectl passwd [-f FILE] [--sha512] [--stdin] [--json] NAME    set a password\n"
    "       sluicectl passwd [-f FILE] --verify [--stdin] [--json] NAME      check one\n"
    "       sluicectl passwd [-f FILE] --delete [--json] NAME                remove a user\n"
    "\n"
    "  -f, --file FILE   the file of users (/etc/sluice/users)\n"
    "  --sha512          hash with sha512crypt instead of yescrypt\n"
    "  --stdin           read the password from standard input, one line, instead of asking twice\n"
    "  --verify          say whether the password is the user's, and change nothing\n"
    "  --delete          remove the user's line\n"
    "  --json            say what came of it as one JSON object\n"
    "\n"
    "The gateway reads the file again at SIGHUP. See sluicectl(8).\n";

enum { OPTION_DELETE = 256, OPTION_SHA512, OPTION_STDIN, OPTION_VERIFY, OPTION_JSON };

static const struct option options[] = {
    {"file", required_argument, NULL, 'f'},
    {"delete", no_argument, NULL, OPTION_DELETE},
    {"sha512", no_argument, NULL, OPTION_SHA512},
    {"stdin", no_argument, NULL, OPTION_STDIN},
    {"verify", no_argument, NULL, OPTION_VERIFY},
    {"json", no_argument, NULL, OPTION_JSON},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* -1: go on; else the exit code. */
static int parse_option(struct passwd *passwd, int option, const char *word)
{
    switch (option) {
    case 'f':
        passwd->path = optarg;
        return -1;
    case 'h':
        fputs(help, stdout);
        return EX_OK;
    case OPTION_DELETE:
        passwd->deletes = true;
        return -1;
    case OPTION_SHA512:
        passwd->method = CRYPT_SHA512;
        return -1;
    case OPTION_STDIN:
        passwd->from_stdin = true;
        return -1;
    case OPTION_VERIFY:
        passwd->verifies = true;
        return -1;
    case OPTION_JSON:
        passwd->report.is_json = true;
        return -1;
    default:
        return report_error(&passwd->report, EX_USAGE, "unknown or incomplete option '%s'; see --help", word);
    }
}

/* -1: go on; else the exit code. */
static int parse_arguments(struct passwd *passwd, int argc, char **argv)
{
    /* Known before the first error is said. */
    for (int index = 1; index < argc && strcmp(argv[index], "--") != 0; index++)
        passwd->report.is_json = passwd->report.is_json || strcmp(argv[index], "--json") == 0;
    opterr = 0;
    int option;
    while ((option = getopt_long(argc, argv, "f:h", options, NULL)) != -1) {
        int code = parse_option(passwd, option, argv[optind - 1]);
        if (code >= 0)
            return code;
    }
    if (optind + 1 != argc)
        return report_error(&passwd->report, EX_USAGE, "one NAME is wanted; see --help");
    passwd->name = argv[optind];
    bool is_sha512 = passwd->method == CRYPT_SHA512;
    if (passwd->deletes && (passwd->verifies || passwd->from_stdin || is_sha512))
        return report_error(&passwd->report, EX_USAGE, "--delete goes with no --verify, --stdin, --sha512");
    if (passwd->verifies && is_sha512)
        return report_error(&passwd->report, EX_USAGE, "--verify takes the hash as it is, without --sha512");
    if (!sasl_name_is_valid(passwd->name, strlen(passwd->name)))
        return report_error(&passwd->report, EX_USAGE,
                            "no user can have this name: 1 to 255 octets of UTF-8 without spaces, controls "
                            "and colons, not beginning with '#', and not '*'");
    return -1;
}

static int refuse_prompt(const struct passwd *passwd, enum prompt_result result)
{
    if (result == PROMPT_NO_TERMINAL)
        return report_error(&passwd->report, EX_NOINPUT,
                            "there is no terminal to ask on; --stdin reads a pipe");
    if (result == PROMPT_TOO_LONG)
        return report_error(&passwd->report, EX_DATAERR,
                            "a password has at most %d octets, and no zero among them", USER_PASSWORD_MAX);
    assert(result == PROMPT_END);
    return report_error(&passwd->report, EX_NOINPUT, "the input ended before there was a password");
}

/* Asks again, and compares. */
static int confirm(const struct passwd *passwd)
{
    char again[USER_PASSWORD_MAX + 1];
    enum prompt_result result = prompt_terminal("Once more: ", again, sizeof(again));
    if (result != PROMPT_DONE)
        return refuse_prompt(passwd, result);
    bool is_same = strcmp(again, passwd->password) == 0;
    OPENSSL_cleanse(again, sizeof(again));
    return is_same
               ? 0
               : report_error(&passwd->report, EX_DATAERR, "the two passwords differ; nothing was changed");
}

static int ask(struct passwd *passwd)
{
    char question[USER_NAME_MAX + 32];
    snprintf(question, sizeof(question), "Password of %s: ", passwd->name);
    enum prompt_result result = passwd->from_stdin
                                    ? prompt_stdin(passwd->password, sizeof(passwd->password))
                                    : prompt_terminal(question, passwd->password, sizeof(passwd->password));
    if (result != PROMPT_DONE)
        return refuse_prompt(passwd, result);
    if (!sasl_text_is_valid(passwd->password, strlen(passwd->password)))
        return report_error(&passwd->report, EX_DATAERR,
                            "a password is UTF-8 without control characters, and not empty");
    return passwd->from_stdin || passwd->verifies ? 0 : confirm(passwd);
}

/* The user's new line. */
static int make_line(const struct passwd *passwd, char *line, size_t capacity)
{
    char hash[USER_CRYPT_MAX + 1];
    uint8_t salt[SCRAM_SALT_DEFAULT];
    struct user user = {
        .name = passwd->name,
        .name_size = (uint32_t)strlen(passwd->name),
        .crypt = hash,
        .has_scram = true,
        .salt = salt,
        .salt_size = sizeof(salt),
        .iterations = SCRAM_ITERATIONS_DEFAULT,
    };
    RAND_bytes(salt, sizeof(salt));
    int result = crypt_hash(passwd->password, passwd->method, hash);
    if (result == 0)
        result = scram_derive(passwd->password, salt, sizeof(salt), user.iterations, user.stored_key,
                              user.server_key);
    if (result < 0)
        return report_error(&passwd->report, EX_OSERR, "the password cannot be hashed: %s",
                            strerror(-result));
    int size = user_format(&user, line, capacity);
    assert(size > 0);
    OPENSSL_cleanse(&user, sizeof(user));
    return 0;
}

static void say(const struct passwd *passwd, const char *result)
{
    if (!passwd->report.is_json) {
        printf("%s: %s in %s\n", passwd->name, result, passwd->path);
        return;
    }
    fputs("{\"command\":\"passwd\",\"file\":", stdout);
    report_json_string(passwd->path);
    fputs(",\"name\":", stdout);
    report_json_string(passwd->name);
    printf(",\"result\":\"%s\"", result);
    if (!passwd->deletes)
        printf(",\"hash\":\"%s\",\"scram_iterations\":%d",
               passwd->method == CRYPT_YESCRYPT ? "yescrypt" : "sha512crypt", SCRAM_ITERATIONS_DEFAULT);
    fputs("}\n", stdout);
}

/* The lock is held for the change alone: nobody waits for somebody who is still typing. */
static int change(const struct passwd *passwd, const char *line)
{
    struct users_edit edit;
    bool was_there = false;
    int code = users_edit_begin(&edit, passwd->path);
    if (code == 0)
        code = users_edit_replace(&edit, passwd->name, line, &was_there);
    if (code != 0)
        code = report_error(&passwd->report, code, "%s", edit.error);
    else if (line == NULL && !was_there)
        code = report_error(&passwd->report, EX_NOUSER, "%s has no user %s", passwd->path, passwd->name);
    else
        say(passwd, line == NULL ? "deleted" : was_there ? "changed" : "added");
    users_edit_end(&edit);
    return code;
}

static int set_password(struct passwd *passwd)
{
    char line[USER_LINE_MAX];
    int code = ask(passwd);
    if (code == 0)
        code = make_line(passwd, line, sizeof(line));
    if (code == 0)
        code = change(passwd, line);
    OPENSSL_cleanse(line, sizeof(line));
    return code;
}

/* Both stored forms must be of this password: one that is not lets a client in by some mechanisms only. */
static int compare(const struct passwd *passwd, const struct user *user)
{
    struct user only_scram = *user;
    only_scram.crypt = NULL;
    struct password_check check;
    bool hash_matches = true, scram_matches = true;
    if (user->crypt != NULL) {
        password_check_init(&check, user, true);
        hash_matches = password_check_run(&check, passwd->password);
    }
    if (user->has_scram) {
        password_check_init(&check, &only_scram, true);
        scram_matches = password_check_run(&check, passwd->password);
    }
    if (user->crypt == NULL && !user->has_scram)
        return report_error(&passwd->report, EX_NOPERM, "%s is locked: no password is right", passwd->name);
    if (hash_matches != scram_matches && user->crypt != NULL && user->has_scram)
        return report_error(&passwd->report, EX_NOPERM,
                            "the hash and the SCRAM part of %s are of two passwords, "
                            "and this is the %s's",
                            passwd->name, hash_matches ? "hash" : "SCRAM part");
    if (!hash_matches || !scram_matches)
        return report_error(&passwd->report, EX_NOPERM, "this is not the password of %s", passwd->name);
    return 0;
}

static void say_verified(const struct passwd *passwd, const struct user *user)
{
    if (!passwd->report.is_json) {
        printf("%s: this is the password in %s\n", passwd->name, passwd->path);
        return;
    }
    fputs("{\"command\":\"passwd\",\"file\":", stdout);
    report_json_string(passwd->path);
    fputs(",\"name\":", stdout);
    report_json_string(passwd->name);
    printf(",\"result\":\"matches\",\"has_hash\":%s,\"has_scram\":%s}\n",
           user->crypt != NULL ? "true" : "false", user->has_scram ? "true" : "false");
}

static int verify(struct passwd *passwd)
{
    char error[512];
    struct users *users = NULL;
    int result = users_load(passwd->path, &users, error, sizeof(error));
    if (result < 0) {
        int code = result == -ENOENT ? EX_NOINPUT : result == -EACCES ? EX_NOPERM : EX_DATAERR;
        return report_error(&passwd->report, code, "%s", error);
    }
    const struct user *user = users_find(users, passwd->name, strlen(passwd->name));
    int code = user == NULL
                   ? report_error(&passwd->report, EX_NOUSER, "%s has no user %s", passwd->path, passwd->name)
                   : ask(passwd);
    if (code == 0)
        code = compare(passwd, user);
    if (code == 0)
        say_verified(passwd, user);
    users_free(users);
    return code;
}

int passwd_run(int argc, char **argv)
{
    struct passwd passwd = {.report = {.command = argv[0]}, .path = "/etc/sluice/users"};
    int code = parse_arguments(&passwd, argc, argv);
    if (code < 0)
        code = passwd.deletes    ? change(&passwd, NULL)
               : passwd.verifies ? verify(&passwd)
                                 : set_password(&passwd);
    OPENSSL_cleanse(passwd.password, sizeof(passwd.password));
    return code;
}
