#include "gateway/base/id.h"

#include <assert.h>
#include <errno.h>

static const char alphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";
_Static_assert(sizeof(alphabet) == 32 + 1, "base32 has 32 digits");

enum { BITS_PER_DIGIT = 5, FIRST_DIGIT_MAX = 15 }; /* 13 digits hold 65 bits: the first has only four */

void id_format(uint64_t id, char text[static ID_TEXT_SIZE])
{
    for (size_t index = ID_TEXT_SIZE; index-- > 0;) {
        text[index] = alphabet[id & 31];
        id >>= BITS_PER_DIGIT;
    }
    assert(id == 0);
}

static int digit_value(char character)
{
    if (character >= 'A' && character <= 'Z')
        character = (char)(character - 'A' + 'a');
    for (int value = 0; value < 32; value++) {
        if (alphabet[value] == character)
            return value;
    }
    return -EINVAL;
}

int id_parse(const char *text, size_t size, uint64_t *id)
{
    if (size != ID_TEXT_SIZE)
        return -EINVAL;
    uint64_t result = 0;
    for (size_t index = 0; index < size; index++) {
        int value = digit_value(text[index]);
        if (value < 0 || (index == 0 && value > FIRST_DIGIT_MAX))
            return -EINVAL;
        result = result << BITS_PER_DIGIT | (uint64_t)value;
    }
    *id = result;
    return 0;
}
