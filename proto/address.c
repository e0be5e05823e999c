#include "proto/address.h"

size_t smtp_domain_lower(struct smtp_slice domain, char *into, size_t capacity)
{
    if (domain.size > capacity)
        return 0;
    for (uint32_t i = 0; i < domain.size; i++)
        into[i] = smtp_ascii_lower(domain.data[i]);
    return domain.size;
}
