#pragma once

/*
 * What both sides of SCRAM share (RFC 5802 §5 and §7): the parts that messages are made of, and the signature
 * over an exchange. Pure functions of this room alone; any thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "gateway/sasl/users.h"
#include "proto/slice.h"

/* Takes a comma off the front; false: there is none. */
bool scram_take_comma(struct smtp_slice *rest) __attribute__((warn_unused_result));

/* attr-val = ALPHA "=" value, value = 1*value-char: everything up to a comma or the end. False: the next one
   has another name or no value; *rest may have moved then. */
bool scram_take_attribute(struct smtp_slice *rest, char name, struct smtp_slice *value)
    __attribute__((warn_unused_result));

/* One extension that we do not know, which is to be ignored (§5.1), as long as it has the form. */
bool scram_take_extension(struct smtp_slice *rest) __attribute__((warn_unused_result));

/* printable = %x21-2B / %x2D-7E; at least one. */
bool scram_nonce_is_valid(struct smtp_slice nonce);

/* HMAC(key, AuthMessage), §3: `openings` is client-first-message-bare "," server-first-message. */
void scram_sign(const uint8_t key[static SCRAM_KEY_SIZE], struct smtp_slice openings,
                struct smtp_slice final_without_proof, uint8_t signature[static SCRAM_KEY_SIZE]);
