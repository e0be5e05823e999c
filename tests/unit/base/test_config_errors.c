#include <errno.h>
#include <string.h>

#include "config_cases.h"
#include "gateway/base/destination.h"

/* Wrong files, each with all that its writer is told. */

#define SPAN "would be right: a time from 100ms to 1d"
#define BIND "would be right: an IP address with a port, like \"0.0.0.0:25\" or \"[::]:25\""
#define NETWORK                                                                                              \
    "would be right: a network like \"192.0.2.0/24\" or \"[2001:db8::]/32\", all bits beyond the prefix "    \
    "zero"
#define TO "would be right: " DESTINATION_RIGHT
#define NAMESERVER                                                                                           \
    "would be right: the IP address of a name server, with a port unless that is 53, like \"192.0.2.53\" "   \
    "or "                                                                                                    \
    "\"[2001:db8::53]:5353\""
#define LATE "is not available yet in this version; would be right: "

static void unknown_names(void **state)
{
    static const struct wrong_file files[] = {
        {"# one\n# two\nhostnam = \"a\"\n", "3: unknown option 'hostnam'; did you mean 'hostname'?"},
        {"/* one\ntwo */ worker = 1\n", "2: unknown option 'worker'; did you mean 'workers'?"},
        {"wrokers = 1\n", "1: unknown option 'wrokers'; did you mean 'workers'?"},
        {LISTENER "lgo { }\n", "2: unknown option 'lgo'; did you mean 'log'?"},
        {LISTENER "listner \"x\" { }\n", "2: '=' is missing after 'listner'"},
        {"listener \"a\" {\n  bnd = \"127.0.0.1:25\"\n}\n",
         "2: unknown option 'bnd' in section 'listener'; did you mean 'bind'?"},
        {"relay {\n\n  network = {\"10.0.0.0/8\"}\n}\n",
         "3: unknown option 'network' in section 'relay'; did you mean 'networks'?"},
        {"timeouts {\n  outbond_idle = 5s\n}\n",
         "2: unknown option 'outbond_idle' in section 'timeouts'; did you mean 'outbound_idle'?"},
        {"relay {\n  bind = \"x\"\n}\n",
         "2: unknown option 'bind' in section 'relay'; it belongs in section 'listener'"},
        {"memory = \"1G\"\n", "1: unknown option 'memory'; it belongs in section 'limits'"},
        {"log {\n hostname = x\n}\n",
         "2: unknown option 'hostname' in section 'log'; it belongs outside of the sections"},
        {"log {\n level = info\nrelay {\n}\n}\n",
         "3: section 'relay' stands in section 'log'; is a '}' missing before it?"},
        {"relay {\n xyzzy = 1\n}\n",
         "2: unknown option 'xyzzy' in section 'relay'; known here: networks, domains, client_certificates"},
        {"\"limits|memory\" = 1G\n", "1: unknown option 'memory'; it belongs in section 'limits'"},
        {"\"limits|xyzzy\" = 1G\n",
         "1: unknown option 'xyzzy'; known here: hostname, data_dir, workers, user, "
         "recipient_delimiter, route_file, listener, tls, auth, relay, recipients, rate, admission, route, "
         "site, outbound, "
         "retry, notices, dns, limits, log, timeouts, queue"},
    };
    CHECK_WRONG(files);
}

static void what_does_not_work_yet(void **state)
{
    static const struct wrong_file files[] = {
        {LISTENER "admin { }\n", "2: 'admin' " LATE "leave it out"},
    };
    CHECK_WRONG(files);
}

static void wrong_numbers(void **state)
{
    static const struct wrong_file files[] = {
        {"workers = many\n",
         "1: workers \"many\" cannot be read; would be right: a number from 0 (one per CPU) to 256"},
        {"\nworkers = 257\n",
         "2: workers \"257\" is out of range; would be right: a number from 0 (one per CPU) to 256"},
        {"workers = -1\n",
         "1: workers \"-1\" cannot be read; would be right: a number from 0 (one per CPU) to 256"},
        {"workers = \"\"\n",
         "1: workers \"\" cannot be read; would be right: a number from 0 (one per CPU) to 256"},
        {"listener \"a\" {\n max_message_size = \"2G\"\n}\n",
         "2: listener.max_message_size \"2G\" is out of range; would be right: a size from 1K to 1G"},
        {"listener \"a\" {\n max_message_size = \"50X\"\n}\n",
         "2: listener.max_message_size \"50X\" cannot be read; would be right: a size from 1K to 1G"},
        {"listener \"a\" {\n max_recipients = 99\n}\n",
         "2: listener.max_recipients \"99\" is out of range; would be right: a number from 100 to 10000"},
        {"listener \"a\" {\n max_recipients = 10001\n}\n",
         "2: listener.max_recipients \"10001\" is out of range; would be right: a number from 100 to 10000"},
        {"site \"default\" {\n connections = 0\n}\n",
         "2: site.connections \"0\" is out of range; would be right: a number from 1 to 10000"},
        {"limits {\n\n memory = \"1M\"\n}\n",
         "3: limits.memory \"1M\" is out of range; would be right: a size from 16M to 1024G"},
        {"limits {\n min_free_disk = \"91%\"\n}\n", "2: limits.min_free_disk \"91%\" is out of range; would "
                                                    "be right: \"0%\" to \"90%\", or a size like \"2G\""},
        {"limits {\n min_free_disk = \"x\"\n}\n", "2: limits.min_free_disk \"x\" cannot be read; would be "
                                                  "right: \"0%\" to \"90%\", or a size like \"2G\""},
        {"limits { connections = 99999999999999999999 }\n",
         "1: limits.connections \"99999999999999999999\" is out of range; would be right: a number from 1 to "
         "1000000"},
        {"retry {\n schedule = {\"1m\",\n\"5\"}\n}\n",
         "3: retry.schedule \"5\" cannot be read; would be right: a time from 100ms to 30d"},
        {"retry {\n schedule = {\"31d\"}\n}\n",
         "2: retry.schedule \"31d\" is out of range; would be right: a time from 100ms to 30d"},
        {"retry { jitter = \"51%\" }\n",
         "1: retry.jitter \"51%\" is out of range; would be right: \"0%\" to \"50%\""},
        {"retry { max_age = 0 }\n",
         "1: retry.max_age \"0\" is out of range; would be right: a time from 1s to 365d"},
        {"timeouts {\n inbound_command = 99ms\n}\n",
         "2: timeouts.inbound_command \"99ms\" is out of range; " SPAN},
        {"timeouts {\n inbound_command = 100001us\n}\n",
         "2: timeouts.inbound_command \"100001us\" cannot be read; " SPAN},
        {"queue { segment_size = \"1048577\" }\n",
         "1: queue.segment_size \"1048577\" is out of range; would be right: a multiple of 4K from 1M to 1G"},
        {"queue { commit_delay = \"51ms\" }\n",
         "1: queue.commit_delay \"51ms\" is out of range; would be right: a time from 0 to 50ms"},
    };
    CHECK_WRONG(files);
}

static void wrong_texts(void **state)
{
    static const struct wrong_file files[] = {
        {"hostname = \"a b\"\n", "1: hostname \"a b\" is not a host's name; would be right: a domain name "
                                 "like \"relay.example.com\""},
        {"hostname = \"-a.example\"\n", "1: hostname \"-a.example\" is not a host's name; would be right: a "
                                        "domain name like \"relay.example.com\""},
        {"hostname = \"a..example\"\n", "1: hostname \"a..example\" is not a host's name; would be right: a "
                                        "domain name like \"relay.example.com\""},
        {"data_dir = \"spool\"\n",
         "1: data_dir \"spool\" is not a full path; would be right: a path that begins with '/'"},
        {"log {\n format = \"xml\"\n}\n",
         "2: log.format \"xml\" is unknown; would be right: \"text\" or \"json\""},
        {"log {\n level = \"loud\"\n}\n",
         "2: log.level \"loud\" is unknown; would be right: \"debug\", \"info\", "
         "\"notice\", \"warning\" or \"error\""},
        {"log {\n destination = \"syslog\"\n}\n", "2: log.destination \"syslog\" is not a full path; would "
                                                  "be right: \"stderr\" or a path that begins with '/'"},
        {"log { level = \"a\\eb\\nc\" }\n",
         "1: log.level \"a?b?c\" is unknown; would be right: \"debug\", \"info\", "
         "\"notice\", \"warning\" or \"error\""},
    };
    CHECK_WRONG(files);
}

static void wrong_addresses(void **state)
{
    static const struct wrong_file files[] = {
        {"listener \"a\" {\n bind =\n {\"127.0.0.1:25\", # fine\n \"127.0.0.1\"}\n}\n",
         "4: listener.bind \"127.0.0.1\" cannot be read; " BIND},
        {"dns {\n servers = {\"127.0.0.1\",\n \"ns.example.com\"}\n}\n",
         "3: dns.servers \"ns.example.com\" is not an IP address with a port from 1 to 65535; " NAMESERVER},
        {"dns {\n servers = \"[::1]:0\"\n}\n",
         "2: dns.servers \"[::1]:0\" is not an IP address with a port from 1 to 65535; " NAMESERVER},
        {"dns { servers = {1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4, 1.1.1.5, 1.1.1.6, 1.1.1.7, 1.1.1.8, 1.1.1.9} "
         "}\n",
         "1: dns.servers \"1.1.1.9\" is the 9th name server, 8 are allowed; " NAMESERVER},
        {"listener \"a\" {\n bind = \"127.0.0.256:25\"\n}\n",
         "2: listener.bind \"127.0.0.256:25\" is not an IP address; " BIND},
        {"listener \"a\" {\n bind = \"localhost:25\"\n}\n",
         "2: listener.bind \"localhost:25\" is not an IP address; " BIND},
        {"listener \"a\" {\n bind = \"[127.0.0.1]:25\"\n}\n",
         "2: listener.bind \"[127.0.0.1]:25\" is not an IP address; " BIND},
        {"listener \"a\" {\n bind = \"127.0.0.1:0\"\n}\n",
         "2: listener.bind \"127.0.0.1:0\" has no port from 1 to 65535; " BIND},
        {"listener \"a\" {\n bind = \"127.0.0.1:65536\"\n}\n",
         "2: listener.bind \"127.0.0.1:65536\" has no port from 1 to 65535; " BIND},
        {"listener \"a\" {\n bind = \"::1:25\"\n}\n", "2: listener.bind \"::1:25\" cannot be read; " BIND},
        {"relay {\n networks = {\n\"10.0.0.0/8\",\n\"10.0.0.0/33\"\n}\n}\n",
         "4: relay.networks \"10.0.0.0/33\" is not a network; " NETWORK},
        {"relay {\n networks = {\"10.0.0.1/8\"}\n}\n",
         "2: relay.networks \"10.0.0.1/8\" is not a network; " NETWORK},
        {"relay {\n domains = {\"a.org\",\n\"*.b.org\"}\n}\n",
         "3: relay.domains \"*.b.org\" is not a domain; would be right: a domain like \"example.com\", or "
         "\".example.com\" for it and all below it"},
        {"route \"*\" {\n to = \"10.0.0.1\"\n}\n", "2: route.to \"10.0.0.1\" is not a next hop; " TO},
        {"route \"*\" {\n to = \"gopher://10.0.0.1\"\n}\n",
         "2: route.to \"gopher://10.0.0.1\" is not a next hop; " TO},
        {"route \"*\" {\n to = \"smtp://\"\n}\n",
         "2: route.to \"smtp://\" has no host, or no port from 1 to 65535; " TO},
        {"route \"*\" {\n to = \"smtp://a:65536\"\n}\n",
         "2: route.to \"smtp://a:65536\" has no host, or no port from 1 to 65535; " TO},
        {"route \"*\" {\n to = \"smtp://a_b/c\"\n}\n",
         "2: route.to \"smtp://a_b/c\" has no host's name or IP address; " TO},
        {"route \"*\" {\n to = \"smtp://[::x]\"\n}\n",
         "2: route.to \"smtp://[::x]\" has no host's name or IP address; " TO},
    };
    CHECK_WRONG(files);
}

/* The name service may say that there is no such name, or that it cannot tell; the line is the same. */
static void hosts_that_cannot_be_looked_up(void **state)
{
    struct config *config;
    struct config_error error;
    const char *text =
        LISTENER "route \"*\" {\n to = {\"smtp://127.0.0.1\",\n \"smtp://no-such-host.invalid\"}\n}\n";
    const char *begin = "test.conf:4: route.to \"smtp://no-such-host.invalid\": ";
    assert_int_equal(config_load_text("test.conf", text, &config, &error), -EINVAL);
    assert_memory_equal(error.text, begin, strlen(begin));
    assert_non_null(
        strstr(error.text, "; would be right: a name that this machine can look up, or an IP address"));
}

static void what_is_given_twice_or_missing(void **state)
{
    static const struct wrong_file files[] = {
        {"user = a\n# b\nuser = b\n", "3: user is given twice, first on line 1 of test.conf"},
        {"log { level = info }\n\nlog {\n level = info\n}\n",
         "4: log.level is given twice, first on line 1 of test.conf"},
        {"relay {\n networks = {\"10.0.0.0/8\"}\n networks = {\"10.0.0.0/8\"}\n}\n",
         "3: relay.networks is given twice, first on line 2 of test.conf"},
        {"relay {\n networks = {\"10.0.0.0/8\"}\n networks = {}\n}\n",
         "2: relay.networks is given twice, first on line 2 of test.conf"},
        {"listener \"a\" {\n bind = \"127.0.0.1:25\"\n bind = \"127.0.0.1:26\"\n}\n",
         "3: listener.bind is given twice, first on line 2 of test.conf"},
        {LISTENER "listener \"smtp\"\n{ bind = \"127.0.0.1:26\" }\n",
         "2: the section \"smtp\" is given twice"},
        {LISTENER "listener \"b\" {\n bind = {\"127.0.0.1:26\",\n\"127.0.0.1:2525\"} }\n",
         "4: listener.bind \"127.0.0.1:2525\" is given twice, first on line 1 of test.conf"},
        {LISTENER "route \"a.org\" { to = smtp://10.0.0.1 }\n\nroute \"A.org\" { to = smtp://10.0.0.1 }\n",
         "4: route \"a.org\" is given twice"},
        {"hostname = \"a\"\n",
         "1: no listener is given; would be right: listener \"smtp\" { bind = {\"0.0.0.0:25\", "
         "\"[::]:25\"} }"},
        {"", "1: no listener is given; would be right: listener \"smtp\" { bind = {\"0.0.0.0:25\", "
             "\"[::]:25\"} }"},
        {LISTENER "\nlistener \"empty\" {\n}\n",
         "3: listener \"empty\" has no bind; would be right: bind = {\"0.0.0.0:25\", \"[::]:25\"}"},
        {LISTENER "route \"a.org\" {\n}\n",
         "2: route \"a.org\" leads nowhere; would be right: to = \"smtp://HOST:PORT\""},
        {LISTENER "\nroute \"a b\" {\n to = smtp://10.0.0.1\n}\n",
         "3: route \"a b\" is not a domain; would be right: \"example.com\", \".example.com\" for it and all "
         "below it, "
         "the same after \"from:\" for the sender's domain, or \"*\""},
        {LISTENER "site \"A.org\" { }\n\nsite \"a.org:25\" {\n}\n", "4: site \"a.org\" is given twice"},
        {LISTENER "site \"default\" { }\nsite \"default\" { }\n",
         "3: the section \"default\" is given twice"},
        {LISTENER "outbound {\n certificate = /c\n}\n",
         "3: outbound.certificate is of no use without outbound.private_key; would be right: both, or none"},
        {LISTENER "outbound {\n private_key = /c\n}\n",
         "3: outbound.private_key is of no use without outbound.certificate; would be right: both, or none"},
        {"listener \"a\" {\n\n bind = {}\n}\n", "3: the list of 'bind' is empty; " BIND},
        {"retry {\n schedule = {\n}\n}\n",
         "2: the list of 'schedule' is empty; would be right: a time from 100ms to 30d"},
    };
    CHECK_WRONG(files);
}

static void wrong_routes(void **state)
{
#define WEIGHT "would be right: a number from 1 to 1000 for each host of to"
    static const struct wrong_file files[] = {
        {"route \"*\" {\n to = {\"mx\",\n \"smtp://10.0.0.1\"}\n}\n",
         "3: route.to \"smtp://10.0.0.1\" cannot stand beside another destination; " TO},
        {"route \"*\" {\n to = {\"smtp://10.0.0.1\",\n \"lmtp://10.0.0.1\"}\n}\n",
         "3: route.to \"lmtp://10.0.0.1\" is of another kind than the host before it; " TO},
        {"route \"*\" {\n to = \"lmtp:run/lmtp\"\n}\n",
         "2: route.to \"lmtp:run/lmtp\" is not the full path of a socket; " TO},
        {"route \"*\" {\n to = \"error:550 4.1.1 No\"\n}\n",
         "2: route.to \"error:550 4.1.1 No\" has an enhanced code of another class; " TO},
        {"route \"*\" {\n to = {smtp://10.0.0.1}\n weights = {1,\n 0}\n}\n",
         "4: route.weights \"0\" is out of range; " WEIGHT},
        {"route \"*\" {\n to = {smtp://10.0.0.1}\n weights = 1001\n}\n",
         "3: route.weights \"1001\" is out of range; " WEIGHT},
        {"route \"*\" {\n to = {smtp://10.0.0.1}\n weights = x\n}\n",
         "3: route.weights \"x\" cannot be read; " WEIGHT},
        {"route \"*\" {\n weights = {1, 2}\n to = {smtp://10.0.0.1}\n}\n",
         "2: route.weights are not as many as the hosts; would be right: a number for each host of to, or "
         "none"},
        {"route \"*\" {\n to = mx\n weights = 1\n}\n", "3: route.weights are not as many as the hosts; would "
                                                       "be right: a number for each host of to, or none"},
        {"route \"*\" {\n to = mx\n tls = off\n}\n",
         "3: route.tls \"off\" is unknown; would be right: \"none\", \"may\", \"encrypt\" or \"verify\""},
        {"route \"*\" {\n to = discard\n tls = may\n}\n",
         "3: route.tls has no meaning where no connection is made; would be right: to leave it out"},
        {"route \"*\" {\n to = mx\n tls_names = \"a b\"\n}\n",
         "3: route.tls_names \"a b\" is not a host's name; would be right: a host's name like "
         "\"mx.example.com\""},
        {"route \"*\" {\n to = discard\n tls_names = a.org\n}\n",
         "3: route.tls_names has no meaning where no connection is made; would be right: to leave it out"},
        {"route \"*\" {\n to = mx\n tls = verify\n tls_names = a.org\n}\n",
         "4: route.tls_names has no use beside \"mx\", whose hosts are verified by their own names; would be "
         "right: to "
         "leave it out"},
        {"route \"*\" {\n to = smtp://10.0.0.1\n tls = encrypt\n tls_names = a.org\n}\n",
         "3: route.tls has no use for tls_names, which count under \"verify\"; would be right: to leave it "
         "out"},
        {"route \"*\" {\n to = \"lmtp:/s\"\n tls = verify\n}\n",
         "3: route.tls needs tls_names for a socket, which has no name of its own; would be right: to leave "
         "it out"},
        {LISTENER "route \"from:*\" { to = mx }\n",
         "2: route \"from:*\" is not a domain; would be right: \"example.com\", \".example.com\" for it and "
         "all "
         "below it, the same after \"from:\" for the sender's domain, or \"*\""},
        {LISTENER "route \"from:.a.org\" { to = mx }\n route \"from:.A.org\" { to = mx }\n",
         "3: route \"from:.a.org\" is given twice"},
        {LISTENER "route \"a.org\" { tls = may }\n",
         "2: route \"a.org\" leads nowhere; would be right: to = \"smtp://HOST:PORT\""},
    };
    CHECK_WRONG(files);
}

static void wrong_limits_and_notices(void **state)
{
#define TITLE                                                                                                \
    "would be right: \"default\", a name like \"google.com\" or \"relay.example.net:587\", or "              \
    "\".example.com\" for all hosts below it"
#define MAILBOX "would be right: an address like \"postmaster@example.com\""
    static const struct wrong_file files[] = {
        {LISTENER "site \"*.a.org\" { }\n", "2: site \"*.a.org\" is no name of a site or host; " TITLE},
        {LISTENER "site \"\" { }\n", "2: site \"\" is no name of a site or host; " TITLE},
        {LISTENER "site \"[a.org]\" { }\n", "2: site \"[a.org]\" is no name of a site or host; " TITLE},
        {LISTENER "site \"a.org:0\" { }\n", "2: site \"a.org:0\" is no name of a site or host; " TITLE},
        {LISTENER "site \"Default\" { }\n", "2: site \"Default\" is no name of a site or host; " TITLE},
        {LISTENER "site \".\" { }\n", "2: site \".\" is no name of a site or host; " TITLE},
        {"site \"a.org\" {\n connections = 0\n}\n",
         "2: site.connections \"0\" is out of range; would be right: a number from 1 to 10000"},
        {"site \"a.org\" {\n recipients_per_message = 0\n}\n",
         "2: site.recipients_per_message \"0\" is out of range; would be right: a number from 1 to 10000"},
        {"site \"a.org\" {\n messages_per_hour = 1000000001\n}\n",
         "2: site.messages_per_hour \"1000000001\" is out of range; would be right: a number from 0 (no "
         "limit) to "
         "1000000000"},
        {"outbound {\n min_version = \"1.4\"\n}\n",
         "2: outbound.min_version \"1.4\" is unknown; would be right: \"1.0\", \"1.1\", \"1.2\" or \"1.3\""},
        {"notices {\n postmaster = postmaster\n}\n",
         "2: notices.postmaster \"postmaster\" is not a mailbox; " MAILBOX},
        {"notices {\n postmaster = \"a..b@example.com\"\n}\n",
         "2: notices.postmaster \"a..b@example.com\" is not a mailbox; " MAILBOX},
        {"notices {\n postmaster = \"<a@example.com>\"\n}\n",
         "2: notices.postmaster \"<a@example.com>\" is not a mailbox; " MAILBOX},
        {"notices {\n postmaster = \"a@b@example.com\"\n}\n",
         "2: notices.postmaster \"a@b@example.com\" is not a mailbox; " MAILBOX},
        {"notices {\n content_max = 2G\n}\n",
         "2: notices.content_max \"2G\" is out of range; would be right: a size from 0 to 1G"},
        {"retry {\n delay_warning = 400d\n}\n",
         "2: retry.delay_warning \"400d\" is out of range; would be right: a time from 0 (none) to 365d"},
    };
    CHECK_WRONG(files);
}

static void wrong_syntax(void **state)
{
    static const struct wrong_file files[] = {
        {"hostname\ndata_dir = \"/x\"\n", "1: '=' is missing after 'hostname'"},
        {"hostname \"x\"\n", "1: '=' is missing after 'hostname'"},
        {"workers =\nuser = \"a\"\n", "1: no value after 'workers ='"},
        {"workers =\n\n", "1: no value after 'workers ='"},
        {"workers = = 1\n", "1: no value after 'workers ='"},
        {"= 1\n", "1: unexpected '='; would be right: NAME = VALUE"},
        {"\n{\n", "2: unexpected '{'; would be right: NAME = VALUE"},
        {"\n}\n", "2: '}' without a '{' before it"},
        {"log {\n level = info\n\n", "1: the section's '{' is never closed"},
        {"listener {\n}\n", "1: section 'listener' has no title; would be right: listener \"NAME\" {"},
        {"log \"x\" {\n}\n", "1: section 'log' takes no title; would be right: log {"},
        {"route \"*\"\n to = \"smtp://10.0.0.1\"\n", "1: '{' is missing after route \"*\""},
        {"log\n", "1: '{' is missing after 'log'"},
        {"\nuser = \"abc\ndata_dir = \"/x\"\n",
         "2: the string is not closed; would be right: \" at the end of the same "
         "line"},
        {"user = 'abc\n", "1: the string is not closed; would be right: ' at the end of the same line"},
        {"user = \"a\\\nb\"\n", "1: unknown escape after '\\'; would be right: \\\\ for a backslash"},
        {"user = \"a\\101\"\n", "1: unknown escape after '\\'; would be right: \\\\ for a backslash"},
        {"user = \"${HOME\"\n", "1: '${' is not closed; would be right: \"${NAME}\""},
        {"\nuser = ${HOME}\n", "2: unexpected '$'; would be right: such characters within quotes"},
        {"route * {\n to = smtp://10.0.0.1\n}\n",
         "1: unexpected '*'; would be right: such characters within quotes"},
        {"user = \"x\";\n", "1: unexpected ';'; would be right: such characters within quotes"},
        {"# x\n/* never\n\nends\n", "2: the comment that begins with '/*' is never closed"},
        {"retry {\n schedule = {\"1m\"\n\"2m\"}\n}\n", "2: ',' or '}' is missing in the list of 'schedule'"},
        {"retry {\n schedule = {\"1m\"\n", "2: ',' or '}' is missing in the list of 'schedule'"},
        {"retry {\n schedule = {,\"1m\"}\n}\n", "2: a value or '}' is missing in the list of 'schedule'"},
        {"relay { networks += {\"10.0.0.0/8\"} }\n",
         "1: '+=' is unknown; would be right: '=' with the whole list"},
        {"include(\n\"x\"\n", "1: 'include(' is not complete; would be right: include(\"FILE\")"},
        {"include(\"a\", \"b\")\n", "1: 'include(' is not complete; would be right: include(\"FILE\")"},
        {"include(\"a\" \"b\")\n", "1: 'include(' is not complete; would be right: include(\"FILE\")"},
        {"\ninclude()\n", "2: 'include(' is not complete; would be right: include(\"FILE\")"},
        {"\nlog(\"x\")\n", "2: missing opening brace for section 'log'"},
        {"\nworkers(\"x\")\n", "2: missing equal sign after option 'workers'"},
        {"workers = {1}\n", "1: unexpected token '{'"},
        {"\nrelay = x\n", "2: missing opening brace for section 'relay'"},
    };
    CHECK_WRONG(files);
}

static void long_values_do_not_overrun(void **state)
{
    static char text[3000] = "hostname = \"";
    struct config *config;
    struct config_error error;
    size_t used = strlen(text);
    memset(text + used, 'x', 2000);
    strcpy(text + used + 2000, "\"\n");
    assert_int_equal(config_load_text("test.conf", text, &config, &error), -EINVAL);
    assert_int_equal(strlen(error.text), sizeof(error.text) - 1);
    assert_memory_equal(error.text, "test.conf:1: hostname \"xxx", 25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_names),
        cmocka_unit_test(what_does_not_work_yet),
        cmocka_unit_test(wrong_numbers),
        cmocka_unit_test(wrong_texts),
        cmocka_unit_test(wrong_addresses),
        cmocka_unit_test(hosts_that_cannot_be_looked_up),
        cmocka_unit_test(what_is_given_twice_or_missing),
        cmocka_unit_test(wrong_routes),
        cmocka_unit_test(wrong_limits_and_notices),
        cmocka_unit_test(wrong_syntax),
        cmocka_unit_test(long_values_do_not_overrun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
