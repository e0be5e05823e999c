#include <string.h>

#include "cmocka_base.h"
#include "gateway/base/siphash.h"

/* Key 00 01 … 0f and message 00 01 … (n - 1): the vectors that the algorithm's authors give. */
static void the_authors_vectors(void **state)
{
    static const uint64_t expected[] = {
        0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a, 0x85676696d7fb7e2d, 0xcf2794e0277187b7,
        0x18765564cd99a68d, 0xcbc9466e58fee3ce, 0xab0200f58b01d137, 0x93f5f5799a932462,
    };
    const struct siphash_key key = {{0x0706050403020100, 0x0f0e0d0c0b0a0908}};
    unsigned char message[64];
    for (unsigned index = 0; index < sizeof(message); index++)
        message[index] = (unsigned char)index;
    for (size_t size = 0; size < sizeof(expected) / sizeof(expected[0]); size++)
        assert_true(siphash(&key, message, size) == expected[size]);
    assert_true(siphash(&key, message, 15) == 0xa129ca6149be45e5);
    assert_true(siphash(&key, message, 63) == 0x958a324ceb064572);
}

static void key_and_place_in_memory(void **state)
{
    char text[32];
    uint64_t first = 0;
    for (size_t shift = 0; shift < 8; shift++) {
        memcpy(text + shift, "somebody@example.com", 20);
        uint64_t hash = siphash(&(struct siphash_key){{1, 2}}, text + shift, 20);
        if (shift == 0)
            first = hash;
        assert_true(hash == first);
        assert_true(hash != siphash(&(struct siphash_key){{1, 3}}, text + shift, 20));
        assert_true(hash != siphash(&(struct siphash_key){{0, 2}}, text + shift, 20));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_authors_vectors),
        cmocka_unit_test(key_and_place_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
