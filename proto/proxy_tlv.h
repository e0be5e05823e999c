/*
 * What a PROXY header of version 2 tells besides addresses: values with type and length in front. Private to
 * proto/. Pure; any thread may call it.
 */
#pragma once

#include "proto/proxy.h"

/*
 * Reads the TLVs that fill the complete header in the parser from octet `at` to its end, and writes what is
 * known of them to *out. False, with *out perhaps written in part, if they do not fill it exactly, a sum is
 * wrong, or a value is not acceptable.
 */
bool smtp_proxy_tlvs_parse(const struct smtp_proxy_parser *parser, size_t at, struct smtp_proxy *out)
    __attribute__((warn_unused_result));
