#pragma once

/* What the tests of the room share: files made on the spot, exchanges spoken in clear, and a SCRAM client. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/sasl/sasl.h"

/* The user of RFC 7677 §3: name "user", password "pencil". */
#define RFC7677_LINE                                                                                         \
    "user:-:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"                                                    \
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n"

/* Hashes of "secret"; the second was made by another implementation, OpenSSL's. */
#define YESCRYPT_OF_SECRET "$y$j9T$95b01iEMJfbcPuYPHVY921$9vm5YOGXwkvDqNrdNvcvW82v4ZoNcogOgNE2l5BbJO/"
#define SHA512_OF_SECRET                                                                                     \
    "$6$NaCl5alt$g7J23aynDN2pUF4fQygLWdmzc.zfynvHoss7K/ypzP6vFvHnnYHs3Q0qIipbx/UMdeAcOuOtsWmjPyNTJzaxl/"

/* Writes a temporary file with the mode 0600 and gives its path, which lives until the next call. */
const char *make_file(const char *text, size_t size);
void remove_file(void);

/* Loads the users of a text, which must be right. */
struct users *make_users(const char *text);

extern const uint8_t test_secret[SASL_SECRET_SIZE];

/* An exchange as the client sees it, without base64. */
struct talk {
    struct sasl_exchange exchange;
    char answer[SASL_CHALLENGE_MAX]; /* the last challenge in clear, zero-terminated */
    size_t answer_size;
};

void talk_begin(struct talk *talk, enum sasl_mechanism mechanism, const struct users *users);
void talk_begin_bound(struct talk *talk, enum sasl_mechanism mechanism, const struct users *users,
                      const struct sasl_binding *bindings, size_t count);

/* Sends the octets in base64; asserts that a challenge is base64. */
enum sasl_result talk_send(struct talk *talk, const void *octets, size_t size);
enum sasl_result talk_say(struct talk *talk, const char *text);
/* Sends the line as it is; NULL: none. */
enum sasl_result talk_raw(struct talk *talk, const char *line);

/* Does the hasher's work on the spot. */
enum sasl_result talk_check(struct talk *talk);

/* A SCRAM client's second message for the server's first, as RFC 5802 has it; written without the server's
   code. `gs2` and `bare` are the client's first message; `binding` is what c= holds behind the GS2 header. */
void client_final(char *message, size_t capacity, const char *gs2, const char *bare, const char *server_first,
                  const char *password, const void *binding, size_t binding_size);

/* The whole of SCRAM up to the result of the proof, with the fixed client nonce "cn". */
enum sasl_result talk_scram(struct talk *talk, const char *gs2, const char *user, const char *password,
                            const void *binding, size_t binding_size);
