#pragma once

/*
 * Sealing and opening session tickets, for gateway/net alone; keys and their rotation are in tls.h.
 *
 * A sealed ticket is `ciphertext tag name nonce`: AES-256-GCM (16 bytes of tag, 12 of nonce) under a key that
 * HKDF-SHA256 derives from the secret called `name` (16 bytes) and from the context of the one who seals. So
 * two listeners share the secrets and their rotation, and yet neither opens the other's tickets.
 */

#include "gateway/net/tls.h"

#define TLS_TICKET_CONTEXT  32 /* bytes that say who seals */
#define TLS_TICKET_OVERHEAD (16 + 16 + 12)

/*
 * Seals with the newest key; `out` has room for size + TLS_TICKET_OVERHEAD and may be `in`. False when the
 * library fails. Any thread.
 */
bool tls_ticket_seal(const struct tls_tickets *tickets, const uint8_t *context, uint8_t *out,
                     size_t *out_size, size_t capacity, const uint8_t *in, size_t size)
    __attribute__((warn_unused_result));

/* Opens a ticket; `out` may be `in`. False when it is not one of ours, or too old. Any thread. */
bool tls_ticket_open(const struct tls_tickets *tickets, const uint8_t *context, uint8_t *out,
                     size_t *out_size, size_t capacity, const uint8_t *in, size_t size)
    __attribute__((warn_unused_result));
