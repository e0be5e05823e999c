#include "gateway/message/notice_class.h"

#include <assert.h>

static const struct class_row {
    const char *name;
    const char *why;
    const char *advice;
    uint8_t subject;
    uint8_t detail;
} rows[NOTICE_CLASS_COUNT] = {
#define NOTICE_CLASS(name, text, subject, detail, why, advice)                                               \
    [NOTICE_CLASS_##name] = {text, why, advice, subject, detail},
#include "gateway/message/notice_class.def"
#undef NOTICE_CLASS
};

static const struct class_row *row_of(enum notice_class class)
{
    assert(class < NOTICE_CLASS_COUNT);
    assert(rows[class].name != NULL);
    return &rows[class];
}

const char *notice_class_name(enum notice_class class)
{
    return row_of(class)->name;
}

const char *notice_class_why(enum notice_class class)
{
    return row_of(class)->why;
}

const char *notice_class_advice(enum notice_class class)
{
    return row_of(class)->advice;
}

struct smtp_status notice_class_status(enum notice_class class, uint16_t digit)
{
    assert(digit == 4 || digit == 5);
    const struct class_row *row = row_of(class);
    return (struct smtp_status){.class = digit, .subject = row->subject, .detail = row->detail};
}

bool notice_class_find(struct smtp_slice name, enum notice_class *class)
{
    for (uint32_t i = 0; i < NOTICE_CLASS_COUNT; i++) {
        const struct smtp_slice known = {rows[i].name, (uint32_t)strlen(rows[i].name)};
        if (smtp_slice_equals(name, known)) {
            *class = (enum notice_class)i;
            return true;
        }
    }
    return false;
}
