#include <assert.h>
#include <string.h>

#include "gateway/base/config_inner.h"

/* The words that stand for values. */

static const struct word {
    enum config_kind kind;
    const char *word;
    uint32_t value;
} words[] = {
    {KIND_SWITCH, "true", true},
    {KIND_SWITCH, "false", false},
    {KIND_NEWLINES, "refuse", false},
    {KIND_NEWLINES, "normalise", true},
    {KIND_LOG_FORMAT, "text", LOG_TEXT},
    {KIND_LOG_FORMAT, "json", LOG_JSON},
    {KIND_LOG_LEVEL, "debug", LOG_DEBUG},
    {KIND_LOG_LEVEL, "info", LOG_INFO},
    {KIND_LOG_LEVEL, "notice", LOG_NOTICE},
    {KIND_LOG_LEVEL, "warning", LOG_WARNING},
    {KIND_LOG_LEVEL, "error", LOG_ERROR},
    {KIND_TLS, "off", CONFIG_TLS_OFF},
    {KIND_TLS, "starttls", CONFIG_TLS_STARTTLS},
    {KIND_TLS, "implicit", CONFIG_TLS_IMPLICIT},
    {KIND_AUTH, "off", CONFIG_AUTH_OFF},
    {KIND_AUTH, "optional", CONFIG_AUTH_OPTIONAL},
    {KIND_AUTH, "required", CONFIG_AUTH_REQUIRED},
    {KIND_CERTIFICATE, "off", CONFIG_CERTIFICATE_OFF},
    {KIND_CERTIFICATE, "ask", CONFIG_CERTIFICATE_ASK},
    {KIND_CERTIFICATE, "require", CONFIG_CERTIFICATE_REQUIRE},
    {KIND_SECURITY, "none", CONFIG_SECURITY_NONE},
    {KIND_SECURITY, "may", CONFIG_SECURITY_MAY},
    {KIND_SECURITY, "encrypt", CONFIG_SECURITY_ENCRYPT},
    {KIND_SECURITY, "verify", CONFIG_SECURITY_VERIFY},
    {KIND_CLIENT_TLS_VERSION, "1.0", 0x0301},
    {KIND_CLIENT_TLS_VERSION, "1.1", 0x0302},
    {KIND_CLIENT_TLS_VERSION, "1.2", 0x0303},
    {KIND_CLIENT_TLS_VERSION, "1.3", 0x0304},
    {KIND_TLS_VERSION, "1.2", 0x0303}, /* RFC 5246 section 6.2.1, RFC 8446 section 4.2.1 */
    {KIND_TLS_VERSION, "1.3", 0x0304},
    {KIND_EXTENSIONS, "PIPELINING", CONFIG_EXT_PIPELINING},
    {KIND_EXTENSIONS, "SIZE", CONFIG_EXT_SIZE},
    {KIND_EXTENSIONS, "8BITMIME", CONFIG_EXT_8BITMIME},
    {KIND_EXTENSIONS, "ENHANCEDSTATUSCODES", CONFIG_EXT_ENHANCEDSTATUSCODES},
    {KIND_EXTENSIONS, "CHUNKING", CONFIG_EXT_CHUNKING},
    {KIND_EXTENSIONS, "BINARYMIME", CONFIG_EXT_BINARYMIME},
    {KIND_EXTENSIONS, "SMTPUTF8", CONFIG_EXT_SMTPUTF8},
    {KIND_EXTENSIONS, "DSN", CONFIG_EXT_DSN},
    {KIND_MECHANISMS, "PLAIN", 1 << CONFIG_MECHANISM_PLAIN},
    {KIND_MECHANISMS, "LOGIN", 1 << CONFIG_MECHANISM_LOGIN},
    {KIND_MECHANISMS, "SCRAM-SHA-256", 1 << CONFIG_MECHANISM_SCRAM_SHA_256},
    {KIND_MECHANISMS, "SCRAM-SHA-256-PLUS", 1 << CONFIG_MECHANISM_SCRAM_SHA_256_PLUS},
    {KIND_RULES, "early-talker", 1 << CONFIG_RULE_EARLY_TALKER},
    {KIND_RULES, "client-rate", 1 << CONFIG_RULE_CLIENT_RATE},
    {KIND_RULES, "network-rate", 1 << CONFIG_RULE_NETWORK_RATE},
    {KIND_RULES, "login-rate", 1 << CONFIG_RULE_LOGIN_RATE},
    {KIND_RULES, "recipient-list", 1 << CONFIG_RULE_RECIPIENT_LIST},
    {KIND_RULES, "auth-sender", 1 << CONFIG_RULE_AUTH_SENDER},
    {KIND_RULES, "null-mx-sender", 1 << CONFIG_RULE_NULL_MX_SENDER},
};

enum { WORD_COUNT = sizeof(words) / sizeof(words[0]) };

bool config_word_find(enum config_kind kind, const char *word, uint32_t *value)
{
    for (size_t index = 0; index < WORD_COUNT; index++) {
        if (words[index].kind == kind && strcmp(words[index].word, word) == 0) {
            *value = words[index].value;
            return true;
        }
    }
    return false;
}

const char *config_word_name(enum config_kind kind, uint32_t value)
{
    size_t index = 0;
    while (index < WORD_COUNT && (words[index].kind != kind || words[index].value != value))
        index++;
    assert(index < WORD_COUNT);
    return words[index].word;
}

const char *config_rule_name(enum config_rule rule)
{
    assert(rule < CONFIG_RULE_COUNT);
    return config_word_name(KIND_RULES, UINT32_C(1) << rule);
}
