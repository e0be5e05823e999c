#pragma once

/* What the tests of the configuration share: texts that are right, and texts that are wrong with all that
   their writer is told. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmocka_base.h"
#include "gateway/base/config.h"

#define LISTENER "listener \"smtp\" { bind = \"127.0.0.1:2525\" }\n"

struct wrong_file {
    const char *text;
    const char *expected; /* after "test.conf:" */
};

static inline struct config *load(const char *text)
{
    struct config *config;
    struct config_error error;
    if (config_load_text("test.conf", text, &config, &error) < 0)
        fail_msg("%s", error.text);
    return config;
}

static inline void check_wrong(const struct wrong_file *files, size_t count)
{
    for (size_t index = 0; index < count; index++) {
        char expected[1024];
        struct config *config = NULL;
        struct config_error error;
        snprintf(expected, sizeof(expected), "test.conf:%s", files[index].expected);
        int result = config_load_text("test.conf", files[index].text, &config, &error);
        if (result != -EINVAL || strcmp(error.text, expected) != 0)
            fail_msg("%d\nfile:     %s\nexpected: %s\nis:       %s", result, files[index].text, expected,
                     error.text);
        assert_null(config);
    }
}

#define CHECK_WRONG(files) check_wrong(files, sizeof(files) / sizeof(files[0]))
