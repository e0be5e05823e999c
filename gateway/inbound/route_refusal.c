#include "gateway/inbound/route_refusal.h"

#include "gateway/base/destination.h"
#include "gateway/base/panic.h"
#include "gateway/inbound/session.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    CODE_SHUTTING_DOWN = 421,
    CODE_NO_MAIL_HERE = 521,
    LINE_SIZE = DESTINATION_ERROR_TEXT_MAX + 32, /* code, CRLF, and the enhanced code that may be added */
};

bool route_refuses(const struct route_found *route)
{
    static const char prefix[] = "error:";
    const size_t prefix_size = sizeof(prefix) - 1;
    if (route->destination != NULL)
        return route->destination->kind == DESTINATION_ERROR;
    return route->text_size >= prefix_size && memcmp(route->text, prefix, prefix_size) == 0;
}

static void refuse_by(struct session *session, const struct destination *destination,
                      struct smtp_slice recipient)
{
    char line[LINE_SIZE];
    assert(destination->kind == DESTINATION_ERROR);
    const int size = snprintf(line, sizeof(line), "%u %s\r\n", destination->code, destination->text);
    assert(size > 0 && (size_t)size < sizeof(line));
    session_refuse_recipient_by(session, (struct smtp_slice){line, (uint32_t)size},
                                SMTP_SLICE("ROUTE_REFUSES"), recipient);
    if (destination->code == CODE_SHUTTING_DOWN || destination->code == CODE_NO_MAIL_HERE)
        session_end(session, SESSION_REFUSED);
}

void route_refuse(struct session *session, const struct route_found *route, struct smtp_slice recipient)
{
    struct destination_text text;
    char error[256];
    assert(route_refuses(route));
    if (route->destination != NULL)
        refuse_by(session, route->destination, recipient);
    else if (destination_parse(route->text, route->text_size, &text, error, sizeof(error)) == 0)
        refuse_by(session, &text.destination, recipient);
    else
        panic("a route file that was found good is not");
}
