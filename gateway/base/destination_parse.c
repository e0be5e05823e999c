#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/base/config_key.h"
#include "gateway/base/destination.h"

/* A line of a route file: destinations, then options, separated by blanks. */

struct piece {
    const char *text;
    size_t size;
};

struct complaint {
    char *text;
    size_t size;
};

static int refuse(const struct complaint *complaint, struct piece piece, const char *what, const char *right)
{
    int shown = piece.size < 200 ? (int)piece.size : 200;
    int written = snprintf(complaint->text, complaint->size, "\"%.*s\" %s; would be right: %s", shown,
                           piece.text, what, right);
    assert(written > 0 && complaint->size > 0);
    for (char *cursor = complaint->text; *cursor != '\0'; cursor++) {
        if ((unsigned char)*cursor < ' ' || *cursor == 0x7f)
            *cursor = '?';
    }
    return -EINVAL;
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* What stands before the next blank; the rest loses it and the blanks behind it. */
static struct piece next_word(struct piece *rest)
{
    struct piece word = {.text = rest->text};
    while (word.size < rest->size && !is_blank(rest->text[word.size]))
        word.size++;
    size_t used = word.size;
    while (used < rest->size && is_blank(rest->text[used]))
        used++;
    rest->text += used;
    rest->size -= used;
    return word;
}

/* What stands before the next comma. False when the list has ended; "a," has an empty last element. */
static bool next_element(struct piece *list, struct piece *element)
{
    if (list->text == NULL)
        return false;
    const char *comma = list->size > 0 ? memchr(list->text, ',', list->size) : NULL;
    *element = *list;
    if (comma == NULL) {
        list->text = NULL;
        return true;
    }
    element->size = (size_t)(comma - list->text);
    list->text = comma + 1;
    list->size -= element->size + 1;
    return true;
}

static int take_destinations(struct destination_text *out, struct piece list,
                             const struct complaint *complaint)
{
    struct piece element;
    while (next_element(&list, &element)) {
        const char *problem = destination_add(out, element.text, element.size);
        if (problem != NULL)
            return refuse(complaint, element, problem, DESTINATION_RIGHT);
    }
    return 0;
}

static bool read_weight(struct piece piece, uint16_t *weight)
{
    unsigned value = 0;
    for (size_t index = 0; index < piece.size; index++) {
        if (piece.text[index] < '0' || piece.text[index] > '9' || value > DESTINATION_WEIGHT_MAX)
            return false;
        value = value * 10 + (unsigned)(piece.text[index] - '0');
    }
    *weight = (uint16_t)value;
    return value > 0 && value <= DESTINATION_WEIGHT_MAX;
}

static int take_weights(struct destination_text *out, struct piece list, const struct complaint *complaint)
{
    static const char right[] = "a number from 1 to 1000 for each host, like \"weights=3,1\"";
    uint16_t weights[DESTINATION_HOSTS_MAX];
    size_t count = 0;
    struct piece element;
    struct piece whole = list;
    while (next_element(&list, &element)) {
        if (count == DESTINATION_HOSTS_MAX || !read_weight(element, &weights[count]))
            return refuse(complaint, element, "is no weight, or one too many", right);
        count++;
    }
    const char *problem = destination_set_weights(out, weights, count);
    return problem != NULL ? refuse(complaint, whole, problem, right) : 0;
}

static int take_tls_names(struct destination_text *out, struct piece list, const struct complaint *complaint)
{
    struct piece element;
    while (next_element(&list, &element)) {
        const char *problem = destination_add_tls_name(out, element.text, element.size);
        if (problem != NULL)
            return refuse(complaint, element, problem, "a name like \"mx.example.com\"");
    }
    return 0;
}

static bool find_security(struct piece word, enum config_security *tls)
{
    char text[16];
    uint32_t value;
    if (word.size >= sizeof(text) || memchr(word.text, '\0', word.size) != NULL)
        return false;
    memcpy(text, word.text, word.size);
    text[word.size] = '\0';
    if (!config_word_find(KIND_SECURITY, text, &value))
        return false;
    *tls = (enum config_security)value;
    return true;
}

/* Each option once at most; what is behind its "=" is taken when all is known. */
enum option { OPTION_TLS, OPTION_TLS_NAMES, OPTION_WEIGHTS, OPTION_COUNT };

static const char *const option_names[OPTION_COUNT] = {"tls=", "tls_names=", "weights="};

static int read_options(struct piece rest, struct piece options[static OPTION_COUNT],
                        const struct complaint *complaint)
{
    while (rest.size > 0) {
        struct piece word = next_word(&rest);
        int option = 0;
        while (option < OPTION_COUNT &&
               (word.size < strlen(option_names[option]) ||
                memcmp(word.text, option_names[option], strlen(option_names[option])) != 0))
            option++;
        if (option == OPTION_COUNT)
            return refuse(complaint, word, "is unknown",
                          "\"tls=WORD\", \"tls_names=NAME,...\" or \"weights=NUMBER,...\"");
        if (options[option].text != NULL)
            return refuse(complaint, word, "is given twice", "once");
        options[option].text = word.text + strlen(option_names[option]);
        options[option].size = word.size - strlen(option_names[option]);
    }
    return 0;
}

static int take_options(struct destination_text *out, const struct piece options[static OPTION_COUNT],
                        const struct complaint *complaint)
{
    static const char right[] = "\"none\", \"may\", \"encrypt\" or \"verify\"";
    enum config_security tls = CONFIG_SECURITY_UNSET;
    struct piece word = options[OPTION_TLS];
    int result = take_tls_names(out, options[OPTION_TLS_NAMES], complaint);
    if (result == 0 && options[OPTION_WEIGHTS].text != NULL)
        result = take_weights(out, options[OPTION_WEIGHTS], complaint);
    if (result < 0)
        return result;
    if (word.text != NULL && !find_security(word, &tls))
        return refuse(complaint, word, "is unknown", right);
    const char *problem = destination_set_tls(out, tls);
    if (problem == NULL)
        return 0;
    bool is_about_names = word.text == NULL || out->destination.kind == DESTINATION_MX;
    struct piece subject = is_about_names ? (struct piece){"tls_names", 9} : word;
    return refuse(complaint, subject, problem, "to leave it out");
}

int destination_parse(const char *text, size_t size, struct destination_text *out, char *error,
                      size_t error_size)
{
    struct complaint complaint = {.text = error, .size = error_size};
    struct piece rest = {.text = text, .size = size};
    struct piece options[OPTION_COUNT] = {0};
    destination_init(out);
    if (size > DESTINATION_VALUE_SIZE_MAX)
        return refuse(&complaint, rest, "is longer than 4096 bytes", "a shorter line");
    if (size >= 6 && memcmp(text, "error:", 6) == 0) {
        const char *problem = destination_add(out, text, size);
        return problem != NULL ? refuse(&complaint, rest, problem, DESTINATION_RIGHT) : 0;
    }
    struct piece list = next_word(&rest);
    int result = take_destinations(out, list, &complaint);
    if (result == 0)
        result = read_options(rest, options, &complaint);
    return result == 0 ? take_options(out, options, &complaint) : result;
}
