#pragma once

/*
 * TLS for connections (BoringSSL): session ticket keys, the TLS side of a listener, what we are as a client,
 * and what is known about a connection that is secured. The bytes themselves are the business of conn.h
 * (conn_start_tls, conn_start_tls_client).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_NAME_MAX    255 /* bytes of a host name, RFC 1035 section 2.3.4 */
#define TLS_ERROR_MIN   64  /* bytes that tls_server_new and tls_client_new want for an error, at the least */
#define TLS_BINDING_MAX 64  /* bytes of the longest channel binding */

#define TLS_TICKET_KEY_MS   (UINT64_C(6) * 3600 * 1000)  /* so long a key makes new tickets */
#define TLS_TICKET_GRACE_MS (UINT64_C(12) * 3600 * 1000) /* and so long after that it still opens them */

/* The library's name and version as it states them; static. Any thread. */
const char *tls_library_version(void);

/*
 * Makes and frees a context through functions that only BoringSSL has. 0, or -ENOMEM. Any thread.
 */
int tls_self_check(void) __attribute__((warn_unused_result));

/*
 * The keys that seal session tickets (RFC 5077, RFC 8446 section 4.6.1), one set for all workers and all
 * listeners, kept in memory only: a session can be resumed at any worker, and after a reload. Each listener
 * seals with a key derived for itself.
 */
struct tls_tickets;

/* NULL without memory. Any thread. */
struct tls_tickets *tls_tickets_new(void) __attribute__((warn_unused_result));

/* Wipes the keys. Every tls_server made with them must be gone, and every connection of those. NULL is fine.
 */
void tls_tickets_free(struct tls_tickets *tickets);

/*
 * To be called every now and then (a minute is fine) by one thread, the control thread: makes a new key when
 * the current one is TLS_TICKET_KEY_MS old, forgets those retired for TLS_TICKET_GRACE_MS. `now_ms` is of any
 * clock that goes forward; the first call starts the first key's time. Workers read meanwhile, without locks.
 */
void tls_tickets_rotate(struct tls_tickets *tickets, uint64_t now_ms);

/*
 * The TLS side of one listener: certificates, versions, client authentication. Immutable, shared by all
 * threads. Connections hold references of their own: it may be freed while they live.
 */
struct tls_server;

/* Read by tls_server_new only; nothing of it is kept. */
struct tls_server_options {
    const char *name;                /* the listener's: a ticket is good only where it was made */
    const char *const *certificates; /* PEM files: the certificate, then its chain */
    const char *const *private_keys; /* PEM files without a passphrase; [n] belongs to certificates[n] */
    size_t certificate_count;        /* at least 1 */
    uint16_t version_min;            /* 0x0303 is TLS 1.2, 0x0304 is TLS 1.3 */
    const char *client_ca;       /* PEM file of the CAs that client certificates count by; NULL: never ask */
    bool client_required;        /* no handshake without a client certificate that verifies */
    struct tls_tickets *tickets; /* outlives the server and its connections; NULL: no resumption */
};

/*
 * Reads the files. On failure -ENOENT, -EACCES, ... (a file that cannot be read), -EINVAL (one that does not
 * hold what it should, a key that does not fit its certificate) or -ENOMEM, and `error` names the file and
 * the reason. The control thread, or any that may block.
 *
 * A client that names a host gets the first certificate whose DNS names cover it (a wildcard stands for one
 * label, RFC 6125 section 6.4.3); any other gets the first certificate. TLS 1.2 with ECDHE and AEAD ciphers
 * only, TLS 1.3 with all of its own; no early data, no renegotiation, no compression, no ALPN.
 *
 * Tickets outlive a reload: they are bound to the listener's name and to the client CAs, not to the
 * certificates.
 */
int tls_server_new(const struct tls_server_options *options, struct tls_server **out, char *error,
                   size_t error_size) __attribute__((warn_unused_result));

/* Gives up the caller's reference. NULL is fine. Any thread. */
void tls_server_free(struct tls_server *server);

/* The file that tls_client_new reads when it is told no other: where Debian keeps the world's CAs. */
#define TLS_SYSTEM_CA_FILE "/etc/ssl/certs/ca-certificates.crt"

/*
 * What we are when we connect to others: the CAs that we trust, the versions that we speak, the certificate
 * that we show. Immutable, shared by all threads. Connections hold references of their own: it may be freed
 * while they live.
 */
struct tls_client;

/* Read by tls_client_new only; nothing of it is kept. */
struct tls_client_options {
    const char *ca_file;     /* PEM file of the CAs that servers are verified by; NULL: TLS_SYSTEM_CA_FILE */
    bool verify_possible;    /* false: no CAs are read, nothing is ever verified */
    uint16_t version_min;    /* 0x0301 is TLS 1.0, ..., 0x0304 is TLS 1.3; we begin with the newest */
    const char *certificate; /* PEM file, with its chain, to show to servers that ask; NULL: none */
    const char *private_key; /* PEM file without a passphrase; NULL exactly when `certificate` is */
};

/*
 * Reads the files; errors, `error` and the thread as with tls_server_new.
 *
 * Besides what a tls_server speaks, a client offers, last, CBC and RSA key exchange: there are servers in
 * the world that know nothing else, and mail to those would go in the clear instead (RFC 7435). No early
 * data, no renegotiation, no compression, no ALPN.
 */
int tls_client_new(const struct tls_client_options *options, struct tls_client **out, char *error,
                   size_t error_size) __attribute__((warn_unused_result));

/* Gives up the caller's reference. NULL is fine. Any thread. */
void tls_client_free(struct tls_client *client);

/* Whether they go by the same rules: the contents of the files are compared, not their names. */
bool tls_client_equals(const struct tls_client *a, const struct tls_client *b);

struct ssl_session_st; /* BoringSSL's SSL_SESSION */

/*
 * One session of a host, remembered so that the next handshake with it can be short. Belongs to its owner's
 * thread; the fields are private to gateway/net. Connections take the session and put newer ones (any number
 * of connections may share the slot), so it must outlive them: until their on_closed.
 *
 * A session is used only by a connection that asks for exactly what the first one asked for: the same
 * server_name, the same verify_name or none, a tls_client with the same CAs, versions and certificate. So one
 * that was made without verification never serves a connection that demands it. A connection that asks for
 * something else makes a session of its own, which replaces the old one: an owner who sends to one host by
 * several rules keeps a slot for each. A session is forgotten when a handshake that offered it fails.
 *
 * A resumed session is not verified anew, but its server certificate must still be valid by date, and no
 * session lives longer than a week after its verification.
 */
struct tls_session_slot {
    struct ssl_session_st *session; /* NULL: none */
    uint8_t policy[32];             /* a digest of what was asked for */
    uint32_t users;                 /* connections that know the slot */
};

void tls_slot_init(struct tls_session_slot *slot);

/* Forgets the session; the slot may be used on. No connection may know it any more. */
void tls_slot_drop(struct tls_session_slot *slot);

/* What is known about a secured connection. All strings are printable and end with a NUL. */
struct tls_info {
    const char *version; /* "TLSv1.3"; static */
    const char *cipher;  /* "TLS_AES_128_GCM_SHA256", the IANA name; static */
    uint16_t cipher_bits;
    bool is_resumed;
    char server_name[TLS_NAME_MAX + 1]; /* that the client asked for; empty: none */

    /* As the server: about the client. */
    bool has_client_certificate;
    bool client_verified; /* it leads to one of the client CAs and is valid now, or was when
                           * the resumed session began */

    /*
     * As the client: about the server. Verified is a certificate that is trusted and covers verify_name, or
     * in its absence server_name; without either it is not. Both are as they were when a resumed session
     * began.
     */
    bool is_trusted;      /* the certificate leads to one of our CAs, is for servers, and is valid now */
    bool is_verified;     /* always true when verify_name was given */
    const char *distrust; /* why it is not trusted, in the library's words; static; empty: it is */

    /* The other side's certificate: first DNS name, else the common name; empty when there is none, or it
     * holds control characters. */
    union {
        char client_name[TLS_NAME_MAX + 1];
        char peer_name[TLS_NAME_MAX + 1];
    };
    union {
        uint8_t client_fingerprint[32]; /* SHA-256 of the certificate (DER); 0 without one */
        uint8_t peer_fingerprint[32];
    };
};

/* Channel bindings, for SASL mechanisms that tie an authentication to the connection (RFC 5056). */
enum tls_binding {
    TLS_BINDING_EXPORTER,         /* RFC 9266; TLS 1.3, or TLS 1.2 with extended master secret */
    TLS_BINDING_UNIQUE,           /* RFC 5929 section 3; TLS 1.2 with extended master secret only */
    TLS_BINDING_SERVER_END_POINT, /* RFC 5929 section 4 */
};
