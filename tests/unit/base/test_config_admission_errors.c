#include "config_cases.h"

/* Who may use a listener and how: wrong files, each with all that its writer is told. */

#define BEGIN  "listener \"a\" { bind = 127.0.0.1:25\n"
#define FILES  "tls { certificate = /c.pem private_key = /k.pem } auth { users = /users }\n"
#define SWITCH "would be right: true or false"
#define PROXY                                                                                                \
    "would be right: an address or a network of your proxies, like \"192.0.2.10\" or \"[2001:db8::]/64\", "  \
    "all bits beyond the prefix zero"
#define OPEN                                                                                                 \
    "would let everyone send to anyone; would be right: the networks of your own clients, like "             \
    "\"10.0.0.0/8\""
#define CLAIM                                                                                                \
    "would let anyone claim any address; would be right: the addresses of your proxies, like \"192.0.2.10\""
#define RULES                                                                                                \
    "is unknown; would be right: \"early-talker\", \"client-rate\", \"network-rate\", \"login-rate\", "      \
    "\"recipient-list\", \"auth-sender\" or \"null-mx-sender\"; relaying cannot be tried dry"
#define NAME                                                                                                 \
    "would be right: a name in the certificate like \"client.example.com\", or \"sha256:\" and the 64 hex "  \
    "digits of its fingerprint"
#define COUNT "would be right: a number from 0 (no limit) to 1000000"

static void wrong_words(void **state)
{
    static const struct wrong_file files[] = {
        {BEGIN "tls = \"on\" }\n",
         "2: listener.tls \"on\" is unknown; would be right: \"off\", \"starttls\" or \"implicit\""},
        {BEGIN "tls \"starttls\" }\n", "2: '=' is missing after 'tls'"},
        {BEGIN "\nauth = \"yes\" }\n",
         "3: listener.auth \"yes\" is unknown; would be right: \"off\", \"optional\" or \"required\""},
        {BEGIN "client_certificate = verify }\n", "2: listener.client_certificate \"verify\" is unknown; "
                                                  "would be right: \"off\", \"ask\" or \"require\""},
        {BEGIN "submission = yes }\n", "2: listener.submission \"yes\" is unknown; " SWITCH},
        {BEGIN "auth_without_tls = 1 }\n", "2: listener.auth_without_tls \"1\" is unknown; " SWITCH},
        {BEGIN "proxy_protocol = v1 }\n", "2: listener.proxy_protocol \"v1\" is unknown; " SWITCH},
        {BEGIN "xclient = True }\n", "2: listener.xclient \"True\" is unknown; " SWITCH},
        {BEGIN "bare_newlines = accept }\n",
         "2: listener.bare_newlines \"accept\" is unknown; would be right: \"refuse\" or \"normalise\""},
        {BEGIN "extensions_off = {DSN,\n STARTTLS} }\n",
         "3: listener.extensions_off \"STARTTLS\" is unknown; would be right: \"PIPELINING\", \"SIZE\", "
         "\"8BITMIME\", \"ENHANCEDSTATUSCODES\", \"CHUNKING\", \"BINARYMIME\", \"SMTPUTF8\" or \"DSN\""},
        {BEGIN "greeting_delay = 31s }\n",
         "2: listener.greeting_delay \"31s\" is out of range; would be right: a time from 0 to 30s"},
        {LISTENER "tls {\n min_version = 1.1 }\n",
         "3: tls.min_version \"1.1\" is unknown; would be right: \"1.2\" or \"1.3\""},
        {LISTENER "auth { mechanisms = CRAM-MD5 }\n", "2: auth.mechanisms \"CRAM-MD5\" is unknown; would be "
                                                      "right: \"PLAIN\", \"LOGIN\", \"SCRAM-SHA-256\" or "
                                                      "\"SCRAM-SHA-256-PLUS\""},
        {LISTENER "auth { mechanisms = {} }\n",
         "2: the list of 'mechanisms' is empty; would be right: \"PLAIN\", \"LOGIN\", \"SCRAM-SHA-256\" or "
         "\"SCRAM-SHA-256-PLUS\""},
        {LISTENER "auth { failure_delay = 61s }\n",
         "2: auth.failure_delay \"61s\" is out of range; would be right: a time from 0 to 1m"},
        {LISTENER "auth { users = users }\n",
         "2: auth.users \"users\" is not a full path; would be right: a path that begins with '/'"},
        {"recipient_delimiter = \"++\"\n", "1: recipient_delimiter \"++\" can delimit nothing; would be "
                                           "right: one character like \"+\", or \"\" "
                                           "for none"},
        {"recipient_delimiter = \"@\"\n", "1: recipient_delimiter \"@\" can delimit nothing; would be right: "
                                          "one character like \"+\", or \"\" "
                                          "for none"},
        {LISTENER "auth = required\n", "2: missing opening brace for section 'auth'"},
        {LISTENER "submission = true\n", "2: unknown option 'submission'; it belongs in section 'listener'"},
        {BEGIN "extensions_off = {DSN}\n extensions_off = {} }\n",
         "2: listener.extensions_off is given twice, first on line 2 of test.conf"},
    };
    CHECK_WRONG(files);
}

/* What would make an open relay, or anyone's address anyone else's, is not to be had by a slip. */
static void networks_of_everyone(void **state)
{
    static const struct wrong_file files[] = {
        {LISTENER "relay {\n networks = {10.0.0.0/8,\n 0.0.0.0/0} }\n",
         "4: relay.networks \"0.0.0.0/0\" " OPEN},
        {LISTENER "relay { networks = \"::/0\" }\n", "2: relay.networks \"::/0\" " OPEN},
        {LISTENER "relay { networks = \"[::]/0\" }\n", "2: relay.networks \"[::]/0\" " OPEN},
        {LISTENER "relay { networks = \"::/8\" }\n", "2: relay.networks \"::/8\" " OPEN},
        {LISTENER "relay { networks = \"[::ffff:0.0.0.0]/96\" }\n",
         "2: relay.networks \"[::ffff:0.0.0.0]/96\" " OPEN},
        {LISTENER "relay { networks = \"[2000::]/3\" }\n", "2: relay.networks \"[2000::]/3\" " OPEN},
        {BEGIN "xclient = true proxy_networks = {10.0.0.1,\n\"0.0.0.0/0\"} }\n",
         "3: listener.proxy_networks \"0.0.0.0/0\" " CLAIM},
        {BEGIN "proxy_protocol = true proxy_networks = \"[::]/0\" }\n",
         "2: listener.proxy_networks \"[::]/0\" " CLAIM},
        {BEGIN "proxy_protocol = true proxy_networks = \"10.0.0.1/8\" }\n",
         "2: listener.proxy_networks \"10.0.0.1/8\" is not a network; " PROXY},
        {BEGIN "proxy_protocol = true proxy_networks = \"haproxy\" }\n",
         "2: listener.proxy_networks \"haproxy\" is not a network; " PROXY},
    };
    CHECK_WRONG(files);
    config_free(load(LISTENER "relay { networks = {0.0.0.0/1, \"[2000::]/4\", \"::1\"} }\n"));
}

static void what_a_listener_needs(void **state)
{
    static const struct wrong_file files[] = {
        {BEGIN "\ntls = starttls }\n",
         "3: listener.tls \"starttls\" needs a certificate; would be right: tls { certificate = "
         "\"/etc/sluice/cert.pem\" private_key = \"/etc/sluice/key.pem\" }"},
        {"auth { users = /users }\n" BEGIN "tls = starttls\nauth = optional }\n"
         "tls { certificate = /c.pem\nprivate_key = {/k.pem, /k2.pem} }\n",
         "6: tls.certificate names 1 files and tls.private_key 2; would be right: one key for each "
         "certificate, "
         "in the same order"},
        {LISTENER "tls {\ncertificate = /c.pem }\n", "3: tls.certificate names 1 files and tls.private_key "
                                                     "0; would be right: one key for each certificate, "
                                                     "in the same order"},
        {BEGIN "auth = required tls = starttls }\n tls { certificate = /c.pem private_key = /k.pem }\n",
         "2: listener.auth needs users; would be right: auth { users = \"/etc/sluice/users\" }"},
        {BEGIN "submission = true tls = starttls }\n tls { certificate = /c.pem private_key = /k.pem }\n",
         "2: listener.submission needs users; would be right: auth { users = \"/etc/sluice/users\" }"},
        {FILES BEGIN "auth = optional }\n",
         "3: listener.auth without TLS would send passwords in the clear; would be right: tls = \"starttls\" "
         "or "
         "\"implicit\", or auth_without_tls = true for a network that nobody listens to"},
        {FILES BEGIN "submission = true\nauth_without_tls = false }\n",
         "3: listener.submission without TLS would send passwords in the clear; would be right: tls = "
         "\"starttls\" or \"implicit\", or auth_without_tls = true for a network that nobody listens to"},
        {FILES BEGIN "submission = true\n auth = optional tls = starttls }\n",
         "4: listener.auth \"optional\" does not go with submission; would be right: auth = \"required\""},
        {FILES "listener \"a\" { bind = 127.0.0.1:25 auth = off submission = true tls = starttls }\n",
         "2: listener.auth \"off\" does not go with submission; would be right: auth = \"required\""},
        {BEGIN "proxy_protocol = true }\n", "2: listener.proxy_protocol needs proxy_networks; would be "
                                            "right: proxy_networks = {\"192.0.2.10\"}, "
                                            "the addresses of your proxies"},
        {BEGIN "xclient = true proxy_networks = {} }\n",
         "2: listener.xclient needs proxy_networks; would be right: proxy_networks = {\"192.0.2.10\"}, the "
         "addresses of your proxies"},
        {BEGIN "\nproxy_networks = 10.0.0.1 }\n", "3: listener.proxy_networks means nothing without "
                                                  "proxy_protocol or xclient; would be right: one of the "
                                                  "two true, or no proxy_networks"},
        {FILES BEGIN "client_certificate = ask }\n", "3: listener.client_certificate needs TLS; would be "
                                                     "right: tls = \"starttls\" or \"implicit\" in this "
                                                     "listener"},
        {FILES BEGIN "tls = implicit\nclient_certificate = require }\n",
         "4: listener.client_certificate needs to know who signs them; would be right: tls { client_ca = "
         "\"/etc/sluice/clients.pem\" }"},
    };
    CHECK_WRONG(files);
}

static void wrong_client_certificates(void **state)
{
    static const struct wrong_file files[] = {
        {LISTENER "relay {\nclient_certificates = a.example.com }\n",
         "3: relay.client_certificates, and no listener asks for one; would be right: client_certificate = "
         "\"ask\" in a listener"},
        {LISTENER "relay { client_certificates = \"sha256:0123\" }\n",
         "2: relay.client_certificates \"sha256:0123\" is not a SHA-256 fingerprint; " NAME},
        {LISTENER "relay { client_certificates = "
                  "\"sha256:000000000000000000000000000000000000000000000000000000000000000g\" }\n",
         "2: relay.client_certificates "
         "\"sha256:000000000000000000000000000000000000000000000000000000000000000g\" is not a SHA-256 "
         "fingerprint; " NAME},
        {LISTENER "relay { client_certificates = "
                  "\"sha256:00000000000000000000000000000000000000000000000000000000000000000\" }\n",
         "2: relay.client_certificates "
         "\"sha256:00000000000000000000000000000000000000000000000000000000000000000\" is not a SHA-256 "
         "fingerprint; " NAME},
        {LISTENER "relay { client_certificates = {b.example.com,\n\"*.example.com\"} }\n",
         "3: relay.client_certificates \"*.example.com\" is not a host's name; " NAME},
        {LISTENER "relay { client_certificates = \"\" }\n",
         "2: relay.client_certificates \"\" is not a host's name; " NAME},
    };
    CHECK_WRONG(files);
}

static void wrong_rates_and_rules(void **state)
{
    static const struct wrong_file files[] = {
        {LISTENER "\nrate \"all\" {\nconnections = 1 }\n",
         "3: rate \"all\" is unknown; would be right: \"client\", \"network\" or \"login\""},
        {LISTENER "\nrate \"all\" { }\n",
         "3: rate \"all\" is unknown; would be right: \"client\", \"network\" or \"login\""},
        {LISTENER "rate { connections = 1 }\n",
         "2: section 'rate' has no title; would be right: rate \"NAME\" {"},
        {LISTENER "rate \"client\" { }\nrate \"client\" { }\n", "3: the section \"client\" is given twice"},
        {LISTENER "rate \"client\" { connections = 1000001 }\n",
         "2: rate.connections \"1000001\" is out of range; " COUNT},
        {LISTENER "rate \"network\" { messages = 1 }\n",
         "2: unknown option 'messages' in section 'rate'; known here: connections, connections_per_minute, "
         "messages_per_minute, recipients_per_minute, errors_per_minute, handshakes_per_minute"},
        {LISTENER "rate \"login\" {\nerrors_per_minute = 1\nhandshakes_per_minute = 1 }\n",
         "4: rate.handshakes_per_minute cannot limit a login, which comes after the handshake; would be "
         "right: "
         "this key in rate \"client\" or \"network\""},
        {LISTENER "admission { dry_run = {client-rate,\nrelay} }\n", "3: admission.dry_run \"relay\" " RULES},
        {LISTENER "admission { dry_run = all }\n", "2: admission.dry_run \"all\" " RULES},
    };
    CHECK_WRONG(files);
}

static void wrong_recipient_lists(void **state)
{
    static const struct wrong_file files[] = {
        {LISTENER "relay { domains = a.org }\n\nrecipients \"b.org\" {\n file = /r }\n",
         "4: recipients \"b.org\" is for a domain that is not in relay.domains, and would never be asked; "
         "would "
         "be right: relay { domains = {\"b.org\"} }"},
        {LISTENER "relay { domains = a.org }\nrecipients \"x.a.org\" { file = /r }\n",
         "3: recipients \"x.a.org\" is for a domain that is not in relay.domains, and would never be asked; "
         "would be right: relay { domains = {\"x.a.org\"} }"},
        {LISTENER "recipients \".org\" { file = /r }\n", "2: recipients \".org\" is for a domain that is not "
                                                         "in relay.domains, and would never be asked; would "
                                                         "be right: relay { domains = {\".org\"} }"},
        {LISTENER "relay { domains = {a.org, ab.org} }\nrecipients \".b.org\" { file = /r }\n",
         "3: recipients \".b.org\" is for a domain that is not in relay.domains, and would never be asked; "
         "would "
         "be right: relay { domains = {\".b.org\"} }"},
        {LISTENER "recipients \"a b\" { file = /r }\n",
         "2: recipients \"a b\" is not a domain; would be right: \"example.com\", or \".example.com\" for it "
         "and "
         "all below it"},
        {LISTENER "recipients \"*\" {\n file = /r }\n",
         "2: recipients \"*\" is not a domain; would be right: \"example.com\", or \".example.com\" for it "
         "and "
         "all below it"},
        {LISTENER "relay { domains = a.org }\nrecipients \"a.org\" {\n}\n",
         "3: recipients \"a.org\" names no file; would be right: file = \"/etc/sluice/recipients\""},
        {LISTENER "relay { domains = a.org }\nrecipients \"a.org\" {\n file = r }\n",
         "4: recipients.file \"r\" is not a full path; would be right: a path that begins with '/'"},
        {LISTENER
         "relay { domains = a.org }\nrecipients a.org { file = /r }\nrecipients A.org { file = /r }\n",
         "4: recipients \"a.org\" is given twice"},
        {LISTENER "relay {\n domains = \"\xff.example\" }\n",
         "3: relay.domains \"\xff.example\" is not a domain; would be right: a domain like \"example.com\", "
         "or "
         "\".example.com\" for it and all below it"},
    };
    CHECK_WRONG(files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_words),           cmocka_unit_test(networks_of_everyone),
        cmocka_unit_test(what_a_listener_needs), cmocka_unit_test(wrong_client_certificates),
        cmocka_unit_test(wrong_rates_and_rules), cmocka_unit_test(wrong_recipient_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
