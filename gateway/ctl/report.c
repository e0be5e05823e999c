#include "gateway/ctl/report.h"

#include "gateway/sasl/text.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The octets of the character at the beginning of the text: 0 when there is none that JSON may hold as it is.
 */
static size_t clean_size(const char *text)
{
    size_t left = strlen(text);
    for (size_t size = 1; size <= 4 && size <= left; size++) {
        if (sasl_text_is_valid(text, size))
            return size;
    }
    return 0;
}

void report_json_string(const char *text)
{
    putchar('"');
    while (*text != '\0') {
        unsigned char octet = (unsigned char)*text;
        size_t size = clean_size(text);
        if (octet == '"' || octet == '\\')
            printf("\\%c", octet);
        else if (size > 0)
            fwrite(text, 1, size, stdout);
        else if (octet < 0x80)
            printf("\\u%04x", octet);
        else
            fputs("\\ufffd", stdout);
        text += size > 0 ? size : 1;
    }
    putchar('"');
}

int report_error(const struct report *report, int code, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (!report->is_json) {
        fprintf(stderr, "sluicectl: %s: %s\n", report->command, text);
        return code;
    }
    fputs("{\"command\":", stdout);
    report_json_string(report->command);
    fputs(",\"error\":", stdout);
    report_json_string(text);
    printf(",\"code\":%d}\n", code);
    return code;
}
