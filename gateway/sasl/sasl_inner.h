#pragma once

/*
 * What the files of an exchange share; nobody outside the room includes it.
 */

#include "gateway/sasl/sasl.h"
#include "proto/slice.h"

/* Notes why the exchange ends, and returns how. `reason` is static. */
enum sasl_result sasl_end(struct sasl_exchange *exchange, enum sasl_result result, const char *reason)
    __attribute__((warn_unused_result));

/* Keeps the name that the client gave; at most USER_NAME_MAX octets. */
void sasl_claim(struct sasl_exchange *exchange, struct smtp_slice name);

/* Looks the claimed user up, by lookup.c: fills in exchange->check, or the keys of exchange->scram, with the
   user's own or with a stand-in's, at the same cost; sets is_known, and lets go of the users. */
void lookup_password(struct sasl_exchange *exchange);

struct scram_salt {
    uint8_t octets[SCRAM_SALT_MAX];
    uint32_t size;
    uint32_t iterations;
};

void lookup_scram(struct sasl_exchange *exchange, struct scram_salt *salt);

/* SCRAM, by scram.c. Each reads one message (in clear), and with SASL_CHALLENGE gives the answer (in clear),
   which lives in the exchange until the next call. */
enum sasl_result scram_client_first(struct sasl_exchange *exchange, struct smtp_slice message,
                                    struct smtp_slice *answer) __attribute__((warn_unused_result));
enum sasl_result scram_client_final(struct sasl_exchange *exchange, struct smtp_slice message,
                                    struct smtp_slice *answer) __attribute__((warn_unused_result));
