/* The table of classes: what real replies mean, how the file is read, and whether the search says what a
 * simple one says. The argument is deploy/classes.conf. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/outbound/classes.h"
#include "gateway/outbound/classes_inner.h"

static const char *shipped_path;

static struct smtp_slice slice(const char *text)
{
    return (struct smtp_slice){text, (uint32_t)strlen(text)};
}

/* Reads code and status from the beginning of a reply, as the parser of replies does. */
static struct classes_reply read_reply(const char *host, const char *text)
{
    struct classes_reply reply = {.text = slice(text), .host = slice(host)};
    unsigned code = 0, class = 0, subject = 0, detail = 0;
    const char *rest = text;
    if (sscanf(text, "%3u", &code) == 1 && code >= 200 && text[3] != '.') {
        reply.code = (uint16_t)code;
        rest = strlen(text) > 4 ? text + 4 : "";
    }
    if (sscanf(rest, "%1u.%3u.%3u", &class, &subject, &detail) == 3)
        reply.status = (struct smtp_status){(uint16_t) class, (uint16_t)subject, (uint16_t)detail};
    return reply;
}

static const char *class_of(const struct classes *classes, const char *host, const char *text)
{
    const struct classes_reply reply = read_reply(host, text);
    return notice_class_name(classes_find(classes, &reply));
}

struct example {
    const char *host;
    const char *text;
    const char *class;
};

#define GMAIL   "gmail-smtp-in.l.google.com"
#define OUTLOOK "outlook-com.olc.protection.outlook.com"
#define O365    "example-com.mail.protection.outlook.com"
#define YAHOO   "mta5.am0.yahoodns.net"
#define POSTFIX "mx.postfix.example"
#define EXIM    "mx.exim.example"

static const struct example examples[] = {
    /* Gmail, after its published list of errors */
    {GMAIL, "550 5.1.1 The email account that you tried to reach does not exist.", "bad-mailbox"},
    {GMAIL, "550 5.2.1 The email account that you tried to reach is disabled.", "inactive"},
    {GMAIL, "550 5.2.1 The email account that you tried to reach is inactive.", "inactive"},
    {GMAIL, "552 5.2.2 The email account that you tried to reach is over quota.", "quota"},
    {GMAIL, "452 4.2.2 The recipient's inbox is out of storage space.", "quota"},
    {GMAIL, "450 4.2.1 The user you are trying to contact is receiving mail too quickly.", "rate-limited"},
    {GMAIL, "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents more.",
     "rate-limited"},
    {GMAIL, "550 5.4.5 Daily user sending quota exceeded.", "rate-limited"},
    {GMAIL, "421 4.7.0 Our system has detected an unusual rate of unsolicited mail from your IP address.",
     "rate-limited"},
    {GMAIL, "421 4.7.28 Gmail has detected an unusual rate of email from this sender.", "rate-limited"},
    {GMAIL, "421 4.7.0 Try again later, closing connection.", "rate-limited"},
    {GMAIL, "550 5.7.1 Our system has detected that this message is likely unsolicited mail.", "spam-block"},
    {GMAIL, "550 5.7.1 This message is likely suspicious due to the very low reputation of the domain.",
     "spam-block"},
    {GMAIL, "550 5.7.26 This mail is unauthenticated, which poses a security risk to the sender.", "auth"},
    {GMAIL, "550 5.7.26 Unauthenticated email from example.com is not accepted due to domain's DMARC policy.",
     "auth"},
    {GMAIL, "550 5.7.25 The IP address sending this message does not have a PTR record setup.", "auth"},
    {GMAIL, "550 5.7.27 This message does not have authentication information.", "auth"},
    {GMAIL, "421 4.7.0 TLS required for RCPT domain, closing connection.", "tls"},
    {GMAIL, "552 5.3.4 Your message exceeded Google's message size limits.", "size"},
    {GMAIL, "552 5.7.0 This message was blocked because its content presents a potential security issue.",
     "content"},
    {GMAIL, "550 5.7.1 Messages missing a valid address in From: header are not accepted.", "content"},
    {GMAIL, "421 4.4.5 Server busy, try again later.", "rate-limited"},
    {GMAIL, "452 4.5.3 Your message has too many recipients.", "rate-limited"},
    {GMAIL, "451 4.4.2 Timeout - closing connection.", "connection"},
    {GMAIL, "451 4.5.0 SMTP protocol violation, see RFC 2821.", "protocol"},
    {GMAIL, "554 5.6.0 Mail message is malformed. Not accepted.", "content"},
    {GMAIL, "550 5.7.1 The user or domain that you are sending to has a policy that prohibited it.",
     "policy"},
    {GMAIL, "550 5.7.1 Daily SMTP relay limit exceeded for customer.", "rate-limited"},
    {GMAIL, "550 5.7.0 Mail relay denied.", "bad-domain"},
    {GMAIL, "554 5.4.6 Message exceeded 50 hops, too many hops.", "loop"},
    /* Outlook.com and Exchange Online */
    {OUTLOOK,
     "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Part of their network is on "
     "our block list (S3140).",
     "spam-block"},
    {OUTLOOK, "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent (S3150).", "spam-block"},
    {OUTLOOK, "550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", "bad-mailbox"},
    {OUTLOOK,
     "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP "
     "reputation.",
     "rate-limited"},
    {OUTLOOK, "451 4.7.500 Server busy. Please try again later from [192.0.2.1].", "rate-limited"},
    {OUTLOOK, "550 5.7.515 Access denied, sending domain EXAMPLE.COM does not pass authentication.", "auth"},
    {O365, "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
     "bad-mailbox"},
    {O365, "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", "bad-mailbox"},
    {O365, "550 5.7.606 Access denied, banned sending IP [192.0.2.1]", "spam-block"},
    {O365, "550 5.7.1 Service unavailable, Client host [192.0.2.1] blocked using Spamhaus.", "spam-block"},
    {O365, "550 5.4.310 DNS domain example.invalid does not exist", "bad-domain"},
    {O365, "550 5.7.509 Access denied, sending domain example.com does not pass DMARC verification", "auth"},
    {O365, "554 5.2.2 mailbox full; STOREDRV.Deliver.Exception", "quota"},
    {O365, "550 5.4.14 Hop count exceeded - possible mail loop ATTR35", "loop"},
    {O365, "550 5.7.64 TenantAttribution; Relay Access Denied", "bad-domain"},
    {O365, "450 4.7.321 starttls-not-supported: Destination mail server must support TLS", "tls"},
    {O365, "550 5.7.57 Client not authenticated to send mail.", "auth"},
    {O365, "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup", "policy"},
    /* Yahoo and AOL */
    {YAHOO,
     "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user "
     "complaints - 4.16.55.1",
     "rate-limited"},
    {YAHOO, "451 Resources temporarily unavailable. Please try again later [#4.16.1].", "rate-limited"},
    {YAHOO, "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because it is listed",
     "spam-block"},
    {YAHOO, "554 delivery error: dd This user doesn't have a yahoo.com account (user@yahoo.com) [0]",
     "bad-mailbox"},
    {YAHOO, "554 30 Sorry, your message cannot be delivered. This mailbox is disabled (554.30).", "inactive"},
    {YAHOO, "552 1 Requested mail action aborted, mailbox not found", "bad-mailbox"},
    {YAHOO, "554 5.7.9 Message not accepted for policy reasons.", "policy"},
    {YAHOO, "421 Max message per connection reached, closing transmission channel", "connection"},
    /* Postfix */
    {POSTFIX, "550 5.1.1 <u@x.example>: Recipient address rejected: User unknown in local recipient table",
     "bad-mailbox"},
    {POSTFIX, "450 4.1.1 <u@x.example>: Recipient address rejected: unverified address", "bad-mailbox"},
    {POSTFIX, "554 5.7.1 <u@x.example>: Relay access denied", "bad-domain"},
    {POSTFIX, "450 4.2.0 <u@x.example>: Recipient address rejected: Greylisted, see http://pg.example/",
     "greylisted"},
    {POSTFIX, "552 5.3.4 Message size exceeds fixed limit", "size"},
    {POSTFIX, "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
     "spam-block"},
    {POSTFIX, "450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]", "auth"},
    {POSTFIX, "450 4.1.8 <u@x.example>: Sender address rejected: Domain not found", "policy"},
    {POSTFIX, "530 5.7.0 Must issue a STARTTLS command first", "tls"},
    {POSTFIX, "421 4.7.0 mx.postfix.example Error: too many connections from 192.0.2.1", "rate-limited"},
    {POSTFIX, "421 4.7.0 mx.postfix.example Error: too many errors", "rate-limited"},
    {POSTFIX, "502 5.5.2 Error: command not recognized", "protocol"},
    {POSTFIX, "554 5.4.0 Error: too many hops", "loop"},
    {POSTFIX, "550 5.1.0 <u@x.example>: Sender address rejected: User unknown", "policy"},
    {POSTFIX,
     "556 5.1.10 <u@x.example>: Recipient address rejected: Domain x.example does not accept mail "
     "(nullMX)",
     "bad-domain"},
    {POSTFIX, "452 4.2.2 <u@x.example> Quota exceeded (mailbox for user is full)", "quota"},
    /* Exim */
    {EXIM, "550 Unrouteable address", "bad-mailbox"},
    {EXIM, "550 No Such User Here", "bad-mailbox"},
    {EXIM, "550 relay not permitted", "bad-domain"},
    {EXIM, "550 Sender verify failed", "policy"},
    {EXIM, "552 Message size exceeds maximum permitted", "size"},
    {EXIM, "550 Administrative prohibition", "policy"},
    {EXIM, "550 This message contains a virus (Eicar-Test-Signature).", "content"},
    {EXIM, "421 mx.exim.example: Too many concurrent SMTP connections; please try again later.",
     "rate-limited"},
    {EXIM, "451 Temporary local problem - please try later", "other"},
    {EXIM, "503 bad sequence of commands", "protocol"},
    /* others, and those that say little */
    {"mx.example.org", "450 4.3.2 Busy, come back later.", "rate-limited"},
    {"mx.example.org", "421 4.3.2 Busy, come back later.", "connection"},
    {"eu-smtp-inbound-1.mimecast.com", "451 Internal resources are temporarily unavailable", "greylisted"},
    {"mx00.gmx.net", "554 Nemesis ESMTP Service not available. Bad DNS PTR resource record.", "auth"},
    {"mx.example", "550 \tUSER\r\n UNKNOWN", "bad-mailbox"},
    {"mx.example", "550 5.1.1", "bad-mailbox"},
    {"mx.example", "550", "bad-mailbox"},
    {"mx.example", "550 5.7.1", "policy"},
    {"mx.example", "554 Transaction failed", "other"},
    {"mx.example", "421 Service not available, closing transmission channel", "connection"},
    {"", "552", "size"},
    /* our own reasons */
    {"", "4.4.1 192.0.2.1:25: Connection refused", "connection"},
    {"", "4.4.2 connection lost, waiting for the reply to MAIL", "connection"},
    {"", "5.6.7 message needs SMTPUTF8", "content"},
    {"", "5.3.4 message is larger than the peer takes", "size"},
    {"", "4.5.0 reply without a command", "protocol"},
    {"", "5.1.3 bad address syntax", "bad-mailbox"},
    {"", "4.7.5 certificate is for another name", "tls"},
    {"", "5.4.6 mail for the domain comes back to this host", "loop"},
    {"", "4.4.3 no answer from the name servers", "dns"},
    {"", "4.4.7 the message is too old", "expired"},
    {"", "4.3.0 stored content cannot be read", "other"},
    {"", "", "other"},
};

static void check_examples(const struct classes *classes)
{
    uint32_t wrong = 0;
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        const char *found = class_of(classes, examples[i].host, examples[i].text);
        if (strcmp(found, examples[i].class) == 0)
            continue;
        print_error("%s: %s: is %s, should be %s\n", examples[i].host, examples[i].text, found,
                    examples[i].class);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void test_real_replies(void **state)
{
    struct classes *classes;
    assert_int_equal(classes_new(&classes), 0);
    check_examples(classes);
    classes_free(classes);
}

/* An operator who copies the shipped file and changes nothing gets what is compiled in. */
static void test_the_shipped_file_is_what_is_compiled_in(void **state)
{
    struct classes *shipped, *builtin;
    char error[512];
    if (classes_load(shipped_path, &shipped, error, sizeof(error)) < 0)
        fail_msg("%s", error);
    assert_int_equal(classes_new(&builtin), 0);
    assert_int_equal(classes_count(shipped), classes_count(builtin));
    assert_true(classes_count(shipped) > 50);
    check_examples(shipped);
    classes_free(shipped);
    classes_free(builtin);

    FILE *file = fopen(shipped_path, "r");
    assert_non_null(file);
    char line[1024];
    const char *at = classes_builtin;
    while (fgets(line, sizeof(line), file) != NULL) {
        assert_memory_equal(at, line, strlen(line));
        at += strlen(line);
    }
    assert_int_equal(fclose(file), 0);
    assert_true(strlen(at) <= 1);
}

static void write_file(const char *path, const char *text, size_t size)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static int load_text(const char *text, size_t size, struct classes **classes, char *error, size_t error_size)
{
    char path[] = "/tmp/test-classes-XXXXXX";
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    write_file(path, text, size);
    const int result = classes_load(path, classes, error, error_size);
    unlink(path);
    if (result < 0) {
        assert_memory_equal(error, path, strlen(path));
        memmove(error, error + strlen(path), strlen(error) - strlen(path) + 1);
    }
    return result;
}

static void expect(const char *rules, const char *host, const char *text, const char *class)
{
    struct classes *classes;
    char error[512];
    if (load_text(rules, strlen(rules), &classes, error, sizeof(error)) < 0)
        fail_msg("%s", error);
    assert_string_equal(class_of(classes, host, text), class);
    classes_free(classes);
}

static void test_the_first_rule_that_matches_counts(void **state)
{
    static const char rules[] = "# a comment\r\n"
                                "\t \n"
                                "quota   550 *  *  full\n"
                                "policy  550 *  *  full house\n"
                                "  size    *   *  *  FULL";
    expect(rules, "mx.example", "550 full house", "quota");
    expect(rules, "mx.example", "450 full house", "size");
    expect(rules, "mx.example", "550 empty", "other");
    expect("", "mx.example", "550 full house", "other");
}

static void test_columns(void **state)
{
    expect("dns 5x1 * * *", "h", "551 x", "dns");
    expect("dns 5x1 * * *", "h", "541 x", "dns");
    expect("dns 5X1 * * *", "h", "552 x", "other");
    expect("dns 5xx * * *", "h", "451 x", "other");
    expect("dns - * * *", "h", "551 x", "other");
    expect("dns - * * *", "h", "words of our own", "dns");
    expect("dns 5xx * * *", "h", "words of our own", "other");
    expect("dns * 5.1.1 * *", "h", "550 5.1.1 x", "dns");
    expect("dns * 5.1.1 * *", "h", "550 5.1.10 x", "other");
    expect("dns * 5.*.1 * *", "h", "550 5.7.1 x", "dns");
    expect("dns * *.*.* * *", "h", "550 x", "other");
    expect("dns * - * *", "h", "550 x", "dns");
    expect("dns * - * *", "h", "550 5.7.1 x", "other");
    expect("dns * * mx.example *", "MX.Example.", "550 x", "dns");
    expect("dns * * MX.example *", "mx.example.net", "550 x", "other");
    expect("dns * * *.example *", "mx.example", "550 x", "dns");
    expect("dns * * *.example *", "example", "550 x", "other");
    expect("dns * * m*.ex*le *", "mx.a.exa.example", "550 x", "dns");
    expect("dns * * m*.ex*le *", "mx.a.exa.examples", "550 x", "other");
    expect("dns * * - *", "", "550 x", "dns");
    expect("dns * * - *", "mx.example", "550 x", "other");
    expect("dns * * *.example *", "", "550 x", "other");
}

static void test_texts(void **state)
{
    expect("dns * * * a b", "h", "550 xA  \r\n\tBx", "dns");
    expect("dns * * * a b", "h", "550 ab", "other");
    expect("dns * * * one*two", "h", "550 one, two", "dns");
    expect("dns * * * one*two", "h", "550 onetwo", "dns");
    expect("dns * * * one*two", "h", "550 two one", "other");
    expect("dns * * * aba*aba", "h", "550 ababa", "other");
    expect("dns * * * aba*aba", "h", "550 abaaba", "dns");
    expect("dns * * * *one*", "h", "550 someone", "dns");
    expect("dns * * * one | two", "h", "550 two", "dns");
    expect("dns * * * one | two", "h", "550 three", "other");
    expect("dns * * * one|two", "h", "550 one|two", "dns");
    expect("dns * * * a * b", "h", "550 a\x01 b", "other");
    expect("dns * * * a * b", "h", "550 a c b", "dns");
    expect("dns * * * \xc3\xa4", "h", "550 \xc3\xa4", "dns");
    expect("dns * * * he | she | hers | his", "h", "550 ushers", "dns");
}

static void test_only_the_beginning_of_a_long_text_is_read(void **state)
{
    char text[CLASSES_TEXT_MAX + 8];
    memset(text, '.', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    memcpy(text, "550 ", 4);
    memcpy(text + CLASSES_TEXT_MAX - 3, "end", 3);
    expect("dns * * * end", "h", text, "dns");
    memcpy(text + CLASSES_TEXT_MAX - 3, ".end", 4);
    expect("dns * * * end", "h", text, "other");
}

static void test_mistakes_name_their_line(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } table[] = {
        {"quota 550", ":1: a rule has five parts: class, reply code, status code, host and text"},
        {"quota * * *", ":1: a rule has five parts: class, reply code, status code, host and text"},
        {"#\n\nfull * * * x\n", ":3: 'full' is no class; right would be one such as bad-mailbox"},
        {"dns 55 * * x", ":1: '55' is no reply code; would be right: 550, 55x, 5xx, - or *"},
        {"dns x50 * * x", ":1: 'x50' is no reply code; would be right: 550, 55x, 5xx, - or *"},
        {"dns 650 * * x", ":1: '650' is no reply code; would be right: 550, 55x, 5xx, - or *"},
        {"dns 5501 * * x", ":1: '5501' is no reply code; would be right: 550, 55x, 5xx, - or *"},
        {"dns * 5.1 * x",
         ":1: '5.1' is no enhanced status code; would be right: 5.1.1, 5.1.*, *.1.1, - or *"},
        {"dns * 5.1.1.1 * x",
         ":1: '5.1.1.1' is no enhanced status code; would be right: 5.1.1, 5.1.*, *.1.1, - or *"},
        {"dns * 5.1.1000 * x",
         ":1: '5.1.1000' is no enhanced status code; would be right: 5.1.1, 5.1.*, *.1.1, - or *"},
        {"dns * * * x |  | y", ":1: an alternative is empty, or nothing but stars"},
        {"dns * * * x |", ":1: an alternative is empty, or nothing but stars"},
        {"dns * * * | x", ":1: an alternative is empty, or nothing but stars"},
        {"dns * * * |", ":1: an alternative is empty, or nothing but stars"},
        {"dns * * * x | *", ":1: an alternative is empty, or nothing but stars"},
        {"dns * * * **", ":1: an alternative is empty, or nothing but stars"},
        {"dns * * * ok\ndns * * * a\x1b[31m", ":2: a control character"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct classes *classes = NULL;
        char error[512];
        assert_int_equal(load_text(table[i].text, strlen(table[i].text), &classes, error, sizeof(error)),
                         -EINVAL);
        assert_string_equal(error, table[i].error);
        assert_null(classes);
    }
}

static void test_what_is_no_such_file(void **state)
{
    struct classes *classes = NULL;
    char error[512];
    assert_int_equal(classes_load("/nonexistent/classes", &classes, error, sizeof(error)), -ENOENT);
    assert_string_equal(error, "/nonexistent/classes: No such file or directory");
    assert_int_equal(classes_load("/tmp", &classes, error, sizeof(error)), -EINVAL);
    assert_string_equal(error, "/tmp: is not a regular file");

    char *large = malloc(CLASSES_FILE_SIZE_MAX + 1);
    assert_non_null(large);
    memset(large, '\n', CLASSES_FILE_SIZE_MAX + 1);
    assert_int_equal(load_text(large, CLASSES_FILE_SIZE_MAX + 1, &classes, error, sizeof(error)), -EFBIG);
    assert_string_equal(error, ": is larger than 256K");
    assert_null(classes);
    assert_int_equal(load_text(large, CLASSES_FILE_SIZE_MAX, &classes, error, sizeof(error)), 0);
    assert_int_equal(classes_count(classes), 0);
    classes_free(classes);
    classes_free(NULL);
    free(large);
}

static void test_too_many_rules(void **state)
{
    static const char rule[] = "dns * * * x\n";
    const size_t rule_size = sizeof(rule) - 1;
    char *text = malloc((CLASSES_RULES_MAX + 1) * rule_size);
    assert_non_null(text);
    for (size_t i = 0; i <= CLASSES_RULES_MAX; i++)
        memcpy(text + i * rule_size, rule, rule_size);
    struct classes *classes = NULL;
    char error[512];
    assert_int_equal(load_text(text, CLASSES_RULES_MAX * rule_size, &classes, error, sizeof(error)), 0);
    assert_int_equal(classes_count(classes), CLASSES_RULES_MAX);
    classes_free(classes);
    assert_int_equal(load_text(text, (CLASSES_RULES_MAX + 1) * rule_size, &classes, error, sizeof(error)),
                     -EINVAL);
    assert_string_equal(error, ":4097: too many rules or patterns");
    free(text);
}

/* The simplest possible reading of a pattern with stars, anywhere in the text. */
static bool naive_match(const char *pattern, const char *text)
{
    if (*pattern == '\0')
        return true;
    if (*pattern == '*') {
        for (; *text != '\0'; text++) {
            if (naive_match(pattern + 1, text))
                return true;
        }
        return naive_match(pattern + 1, text);
    }
    return *pattern == *text && naive_match(pattern + 1, text + 1);
}

static bool naive_find(const char *pattern, const char *text)
{
    do {
        if (naive_match(pattern, text))
            return true;
    } while (*text++ != '\0');
    return false;
}

static void make_text(char *into, size_t most, const char *letters)
{
    const size_t size = 1 + (size_t)random() % most;
    for (size_t i = 0; i < size; i++)
        into[i] = letters[(size_t)random() % strlen(letters)];
    into[size] = '\0';
}

/* Few letters and short patterns, so that ends and beginnings of words overlap in every way. */
static void test_the_search_agrees_with_a_naive_one(void **state)
{
    enum { RULES = 12 };
    static const char *const names[RULES] = {"bad-mailbox", "bad-domain", "inactive", "policy",
                                             "spam-block",  "content",    "quota",    "rate-limited",
                                             "greylisted",  "dns",        "tls",      "auth"};
    srandom(7);
    uint32_t found = 0;
    for (int round = 0; round < 300; round++) {
        char patterns[RULES][8], rules[1024] = "", error[512];
        for (int i = 0; i < RULES; i++) {
            do
                make_text(patterns[i], 6, "aabbc*");
            while (strspn(patterns[i], "*") == strlen(patterns[i]));
            char line[64];
            snprintf(line, sizeof(line), "%s * * * %s\n", names[i], patterns[i]);
            strcat(rules, line);
        }
        struct classes *classes;
        assert_int_equal(load_text(rules, strlen(rules), &classes, error, sizeof(error)), 0);
        for (int attempt = 0; attempt < 100; attempt++) {
            char text[16];
            const char *expected = "other";
            make_text(text, 9, "aabbcd");
            for (int i = RULES; i-- > 0;)
                expected = naive_find(patterns[i], text) ? names[i] : expected;
            assert_string_equal(class_of(classes, "h", text), expected);
            found += strcmp(expected, "other") != 0;
        }
        classes_free(classes);
    }
    assert_true(found > 1000 && found < 30000);
}

static void test_random_replies_and_files_never_break_it(void **state)
{
    struct classes *classes;
    assert_int_equal(classes_new(&classes), 0);
    srandom(11);
    for (int round = 0; round < 20000; round++) {
        char octets[96];
        for (size_t i = 0; i < sizeof(octets); i++)
            octets[i] = (char)random();
        const struct classes_reply reply = {
            .code = (uint16_t)(random() % 2 ? 0 : 200 + random() % 400),
            .status = {(uint16_t)random(), (uint16_t)random(), (uint16_t)random()},
            .text = {octets, (uint32_t)random() % 64},
            .host = {octets + 64, (uint32_t)random() % 32},
        };
        assert_true(classes_find(classes, &reply) < NOTICE_CLASS_COUNT);
    }
    classes_free(classes);
    for (int round = 0; round < 300; round++) {
        char text[128], error[512];
        make_text(text, 100, "dns 5.1x*|-\n#\t\r\x01q");
        struct classes *loaded;
        if (load_text(text, strlen(text), &loaded, error, sizeof(error)) == 0)
            classes_free(loaded);
        else
            assert_int_equal(error[0], ':');
    }
}

/* Ample for a busy machine and a sanitizer; the figure itself is for who reads it. */
static void test_a_question_is_quick(void **state)
{
    struct classes *classes;
    struct timespec begin, end;
    enum { ROUNDS = 200 };
    const size_t count = sizeof(examples) / sizeof(examples[0]);
    assert_int_equal(classes_new(&classes), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    uint32_t sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < count; i++) {
            const struct classes_reply reply = read_reply(examples[i].host, examples[i].text);
            sum += classes_find(classes, &reply);
        }
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    const double ns = 1e9 * (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec);
    print_message("%.0f ns a question\n", ns / (double)(ROUNDS * count));
    assert_true(sum > 0);
    assert_true(ns / (double)(ROUNDS * count) < 100000);
    classes_free(classes);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_replies),
        cmocka_unit_test(test_the_shipped_file_is_what_is_compiled_in),
        cmocka_unit_test(test_the_first_rule_that_matches_counts),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_only_the_beginning_of_a_long_text_is_read),
        cmocka_unit_test(test_mistakes_name_their_line),
        cmocka_unit_test(test_what_is_no_such_file),
        cmocka_unit_test(test_too_many_rules),
        cmocka_unit_test(test_the_search_agrees_with_a_naive_one),
        cmocka_unit_test(test_random_replies_and_files_never_break_it),
        cmocka_unit_test(test_a_question_is_quick),
    };
    if (argc != 2)
        return 1;
    shipped_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
