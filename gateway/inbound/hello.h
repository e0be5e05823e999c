#pragma once

/*
 * The greeting and the answers to HELO and EHLO: who we are, and what this session may use at this moment.
 * Private to gateway/inbound; belongs to the worker's thread.
 */

#include <stdint.h>

struct session;

/* The SMTP_EXT_ bits of what the parser is to understand now: what EHLO announces, and STARTTLS and AUTH also
 * where they are not announced any more, or not yet, so that they are refused by their own replies. */
uint32_t hello_extensions(struct session *session);

/* The 220 with which a session begins. */
void hello_greet(struct session *session);

/* The answer to HELO or EHLO (session->is_esmtp). */
void hello_reply(struct session *session);
