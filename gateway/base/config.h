#pragma once

/*
 * The configuration: an immutable snapshot of the file, checked and resolved, that any thread may read.
 *
 * It is made and freed by the control thread (loading may wait for the name service); workers adopt a
 * snapshot at a loop turn and never write to it. Everything that it points to lives as long as the snapshot
 * does. Units stand in the names. Defaults and ranges stand in config_keys.def and in sluice.conf(5).
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "gateway/base/address.h"
#include "gateway/base/log.h"

/* "FILE:LINE: what is wrong and what would be right" */
struct config_error {
    char text[512];
};

enum config_tls {
    CONFIG_TLS_OFF,
    CONFIG_TLS_STARTTLS, /* RFC 3207 */
    CONFIG_TLS_IMPLICIT, /* TLS from the first byte, RFC 8314 §3.3 */
};

enum config_auth {
    CONFIG_AUTH_OFF,
    CONFIG_AUTH_OPTIONAL,
    CONFIG_AUTH_REQUIRED, /* before MAIL, RFC 6409 §4.3 */
};

/* Is a TLS client asked for a certificate? */
enum config_certificate {
    CONFIG_CERTIFICATE_OFF,
    CONFIG_CERTIFICATE_ASK,
    CONFIG_CERTIFICATE_REQUIRE, /* no handshake without a good one */
};

/* EHLO keywords that a listener may keep to itself; bits of `extensions_off`. */
enum config_extension {
    CONFIG_EXT_PIPELINING = 1 << 0,
    CONFIG_EXT_SIZE = 1 << 1,
    CONFIG_EXT_8BITMIME = 1 << 2,
    CONFIG_EXT_ENHANCEDSTATUSCODES = 1 << 3,
    CONFIG_EXT_CHUNKING = 1 << 4,
    CONFIG_EXT_BINARYMIME = 1 << 5,
    CONFIG_EXT_SMTPUTF8 = 1 << 6,
    CONFIG_EXT_DSN = 1 << 7,
};

struct config_listener {
    const char *name; /* the section's title */
    const struct sockaddr_storage *binds;
    size_t bind_count; /* at least 1 */
    uint64_t max_message_size_bytes;
    uint32_t max_recipients;

    enum config_tls tls;   /* not off: config.tls has a certificate */
    enum config_auth auth; /* not off: config.auth.users is given; required when `submission` */
    bool auth_without_tls; /* passwords may cross the network in the clear */
    bool submission;       /* RFC 6409: a message is completed rather than passed on as it is */

    bool proxy_protocol; /* every client in proxy_networks begins with a PROXY header, v1 or v2; others are
                            refused */
    bool xclient;        /* clients in proxy_networks may use XCLIENT and XFORWARD */
    const struct ip_network *proxy_networks; /* ask config_proxy_allows() */
    size_t proxy_network_count;              /* at least 1 with proxy_protocol or xclient, else 0 */

    uint32_t extensions_off; /* enum config_extension, or'ed; without CHUNKING or 8BITMIME no BINARYMIME,
                                without 8BITMIME no SMTPUTF8 */
    bool normalise_newlines; /* a bare CR or LF in content becomes CRLF; else it is refused */
    enum config_certificate client_certificate;
    uint32_t greeting_delay_ms; /* a client that speaks before the greeting is turned away; 0: no wait */
};

/* TLS on the way to a next hop. */
enum config_security {
    CONFIG_SECURITY_NONE,    /* never asked for */
    CONFIG_SECURITY_MAY,     /* where it is offered, and in the clear where it fails (RFC 7435) */
    CONFIG_SECURITY_ENCRYPT, /* nothing is sent without it */
    CONFIG_SECURITY_VERIFY,  /* nor to a host whose certificate does not name it */
    CONFIG_SECURITY_UNSET,   /* not said: MAY, unless somebody else says otherwise */
};

/* A `site` section: limits for what its title covers, with what it leaves out taken from "default". 0 in a
   number: no limit. */
struct config_limits {
    const char *pattern;  /* "default"; a site's name, like "google.com" or "relay.example.net:587"; or hosts:
                             "mx.example.com", or ".example.com" for it and all below. In lower case but for
                             the path of a socket */
    uint32_t index;       /* among all sections; "default" is 0, given or not */
    uint32_t connections; /* at a time, to all hosts together, over all workers; at least 1 */
    uint32_t connections_per_host;
    uint32_t connections_per_second; /* new ones */
    uint32_t messages_per_second;
    uint32_t messages_per_minute;
    uint32_t messages_per_hour;
    uint32_t messages_per_connection;
    uint32_t recipients_per_connection;
    uint32_t recipients_per_message; /* in one transaction; at least 1 */
    enum config_security tls;        /* UNSET: not said */
    bool has_list;                   /* it covers a list of hosts that a route of the file names */
};

struct destination;

/* Who may be written to within a domain: an address that is not in the file is refused at RCPT. */
struct config_recipients {
    const char *domain; /* "example.com", or ".example.com" for it and all below it; in lower case */
    const char *file;   /* absolute path */
};

/* SASL mechanisms; their bits, 1 << mechanism, make config.auth.mechanisms. */
enum config_mechanism {
    CONFIG_MECHANISM_PLAIN,
    CONFIG_MECHANISM_LOGIN,
    CONFIG_MECHANISM_SCRAM_SHA_256,
    CONFIG_MECHANISM_SCRAM_SHA_256_PLUS,
    CONFIG_MECHANISM_COUNT
};

/* Whom a rate counts together. */
enum config_rate_of {
    CONFIG_RATE_CLIENT,  /* one IP address */
    CONFIG_RATE_NETWORK, /* a /24, or a /64 of IPv6 */
    CONFIG_RATE_LOGIN,   /* one authenticated user */
    CONFIG_RATE_COUNT
};

/* Limits over the last minute, but for `connections`: those open at once. 0: no limit. A login has no limit
   of handshakes, which come before it. Clients in relay.networks are not subject to the rates of client and
   network. */
struct config_rate {
    uint32_t connections;
    uint32_t connections_per_minute;
    uint32_t messages_per_minute;
    uint32_t recipients_per_minute;
    uint32_t errors_per_minute; /* commands answered with 4xx or 5xx */
    uint32_t handshakes_per_minute;
};

/* Rules of admission that can be tried without refusing anybody; whether a client may relay is none of them.
 */
enum config_rule {
    CONFIG_RULE_EARLY_TALKER,   /* "early-talker" */
    CONFIG_RULE_CLIENT_RATE,    /* "client-rate" */
    CONFIG_RULE_NETWORK_RATE,   /* "network-rate" */
    CONFIG_RULE_LOGIN_RATE,     /* "login-rate" */
    CONFIG_RULE_RECIPIENT_LIST, /* "recipient-list" */
    CONFIG_RULE_AUTH_SENDER,    /* "auth-sender" */
    CONFIG_RULE_NULL_MX_SENDER, /* "null-mx-sender" */
    CONFIG_RULE_COUNT
};

/* All in milliseconds. Inbound: RFC 5321 §4.5.3.2.7; outbound: §4.5.3.2.1 – §4.5.3.2.6. */
struct config_timeouts {
    uint32_t inbound_command_ms;   /* from one command to the next */
    uint32_t inbound_data_ms;      /* from one piece of content to the next */
    uint32_t inbound_handshake_ms; /* a TLS handshake, from its begin to its end */
    uint32_t inbound_proxy_ms;     /* from accept to the end of the PROXY header */
    uint32_t outbound_connect_ms;
    uint32_t outbound_greeting_ms;
    uint32_t outbound_mail_ms; /* also EHLO */
    uint32_t outbound_rcpt_ms;
    uint32_t outbound_data_ms;  /* DATA to its 354 */
    uint32_t outbound_block_ms; /* a piece of content to be taken */
    uint32_t outbound_end_ms;   /* end of content to its reply */
    uint32_t outbound_idle_ms;  /* how long a connection without work is kept */
    uint32_t outbound_quit_ms;
};

struct config {
    const char *hostname;
    const char *data_dir;
    uint32_t workers; /* 0: one per CPU that the process may use */
    const char *user; /* "": stay who we are */

    const struct config_listener *listeners;
    size_t listener_count; /* at least 1 */

    const struct config_limits *site_limits; /* by index; ask config_limits_find() */
    size_t site_limits_count;                /* at least 1 */
    const struct destination *destinations;  /* of all routes, by index; ask routes_find() (base/routes.h) */
    size_t destination_count;
    const char *route_file; /* absolute path of more routes (base/routes.h); NULL: none */

    struct {
        const char *const *certificates; /* absolute paths of PEM files, each with its chain */
        const char *const *private_keys; /* beside the certificate of the same index */
        size_t certificate_count;        /* 0: no listener speaks TLS */
        uint16_t version_min;            /* 0x0303 (TLS 1.2) or 0x0304, as on the wire */
        const char *client_ca;           /* PEM file of who may sign a client's certificate; NULL: none */
    } tls;

    struct {
        const char *users;            /* file of logins; NULL: none */
        const char *senders;          /* file of who may send as whom; NULL: not restricted */
        uint32_t mechanisms;          /* 1 << enum config_mechanism, or'ed; never 0 */
        uint32_t failure_delay_ms;    /* before a failed login is answered */
        uint32_t failures_per_minute; /* per client and per user; beyond, logins fail unasked; 0: no limit */
    } auth;

    const struct config_recipients *recipients; /* ask config_recipients_find() */
    size_t recipients_count;
    char recipient_delimiter; /* what begins an extension in "user+extension"; 0: none */

    struct config_rate rates[CONFIG_RATE_COUNT];

    struct {
        uint32_t dry_run;           /* 1 << enum config_rule, or'ed: rules that are only logged and counted */
        bool reject_null_mx_sender; /* the DNS is asked about the domains of strangers (RFC 7505 §4.2) */
    } admission;

    struct {
        const uint64_t *schedule_ms; /* wait after attempt 1, 2, …; the last one repeats */
        size_t schedule_count;       /* at least 1 */
        uint64_t max_age_ms;
        uint32_t jitter_percent;   /* of each wait, to either side */
        uint64_t delay_warning_ms; /* when a sender is told that a message still waits; 0: never */
    } retry;

    struct {
        const char *passwords;   /* file of logins at next hops, "HOST[:PORT] USER PASSWORD"; NULL: none */
        const char *ca_file;     /* PEM file of who may sign a server's certificate; NULL: the system's */
        const char *certificate; /* PEM file with its chain, shown to servers that ask; NULL: none */
        const char *private_key; /* given exactly when `certificate` is */
        uint16_t version_min;    /* 0x0301 (TLS 1.0) to 0x0304 (TLS 1.3), as on the wire */
        const char *classes;     /* file of what replies mean; NULL: what is built in */
        bool convert_8bit;       /* for a next hop without 8BITMIME */
    } outbound;

    struct {
        const char *postmaster; /* address in From of notices */
        uint32_t per_minute;    /* notices in all; beyond, failures are only logged; 0: no limit */
        uint32_t per_address_per_minute;
        uint64_t content_max_bytes; /* of a larger message, only the header is returned */
    } notices;

    struct {
        const struct sockaddr_storage *servers; /* recursive name servers with their ports, in order */
        size_t server_count;                    /* 0: those of /etc/resolv.conf; 8 at most */
        bool trust_ad; /* the servers validate (DNSSEC), and nobody can change what they say on its way */
    } dns;

    struct {
        uint64_t memory_bytes;
        uint64_t min_free_disk_bytes;   /* one of the two is 0 */
        uint32_t min_free_disk_percent; /* of the file system under data_dir */
        uint32_t connections;           /* inbound, over all listeners and workers */
    } limits;

    struct {
        enum log_format format;
        enum log_level level;
        const char *destination; /* "stderr" or an absolute path */
    } log;

    struct {
        uint64_t segment_size_bytes;
        uint32_t commit_delay_us; /* how long a commit may wait for company */
    } queue;

    struct config_timeouts timeouts;

    struct config_inner *inner; /* lookup tables, origins of values, memory: private to config*.c */
};

/* Reads and checks the file. 0, or a negative errno with the reason in `error`: -EINVAL for what the file
   says, else why it could not be read. */
int config_load(const char *path, struct config **config, struct config_error *error)
    __attribute__((warn_unused_result));

/* The same for a text in memory; `name` stands for the file in errors. */
int config_load_text(const char *name, const char *text, struct config **config, struct config_error *error)
    __attribute__((warn_unused_result));

/* NULL is ignored. */
void config_free(struct config *config);

/* Checks what depends on this machine rather than on the file: the user exists, the log's folder too, and the
   files that it names can be read by who asks, outbound.passwords by nobody else but its owner. What is in
   them is for their readers to judge. 0 or -EINVAL with the reason. For `-t` and for start. */
int config_check_machine(const struct config *config, struct config_error *error)
    __attribute__((warn_unused_result));

/* May `new_config` take over from `old_config` while running? -EINVAL with file and line of what only a
   restart can change: data_dir, workers, user, listeners' addresses, queue's segment_size. */
int config_reload_check(const struct config *old_config, const struct config *new_config,
                        struct config_error *error) __attribute__((warn_unused_result));

/* The version of libConfuse in use, like "3.3". Any thread. */
const char *config_library_version(void);

/* May this client send to anyone? (relay.networks) */
bool config_relay_allows_client(const struct config *config, const struct sockaddr *client);

/* May a client with this certificate, which we or a proxy have verified, send to anyone?
   (relay.client_certificates) `name` is a DNS name of the certificate, compared without case, or "" when it
   has none; `fingerprint` is the SHA-256 of its DER form, all zero when it is not known. A certificate of
   several names is asked about once for each. */
bool config_relay_allows_certificate(const struct config *config, const char *name,
                                     const uint8_t fingerprint[32]);

/* May this peer speak for others, by a PROXY header or XCLIENT? (listener.proxy_networks) */
bool config_proxy_allows(const struct config_listener *listener, const struct sockaddr *peer);

/* The index in config.recipients of the list that covers this domain: the exact name, else the longest
   ".parent" (which also covers the parent itself); -1: none. As config_relay_domain(). */
ptrdiff_t config_recipients_find(const struct config *config, const char *domain, size_t size);

/* The rule's name in the file and in the log, like "early-talker". */
const char *config_rule_name(enum config_rule rule) __attribute__((returns_nonnull));

/* May anyone send to this domain? (relay.domains) A domain beyond ASCII is given as its key (base/idna.h), as
   the snapshot holds it, however it was written. Without case; constant time for a number of labels. */
bool config_relay_domain(const struct config *config, const char *domain, size_t size);

/* The limits of a site: the section that is named as the site is; else the longest that covers every one of
   its hosts, of MX hosts those that are tried first; else "default". Names in lower case, as those of a
   struct destination and of the DNS's keys are; a socket's by its path. Never NULL. Constant time for a
   number of labels and hosts; any thread. */
const struct config_limits *config_limits_find(const struct config *config, const char *site_name,
                                               const char *const *hosts, size_t host_count)
    __attribute__((returns_nonnull));
