#include "net_test.h"

#include <string.h>

#include "gateway/net/tls.h"

static void the_process_is_bound_to_boringssl(void **state)
{
    assert_int_equal(tls_self_check(), 0);
    assert_non_null(strstr(tls_library_version(), "BoringSSL"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_process_is_bound_to_boringssl)};
    return cmocka_run_group_tests_name("net/tls", tests, NULL, NULL);
}
