#include "gateway/outbound/words.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { NO_WORD = 0xffff };

/* While words are added, nodes form a tree: each has a list of its children. */
struct words_node {
    uint16_t child;   /* the first one; 0: none, as the root is nobody's child */
    uint16_t sibling; /* the next child of the same parent; 0: none */
    uint16_t fall;    /* the node of the longest proper end of this node's text that is in the tree */
    uint16_t shorter; /* the nearest node, fall by fall, at which a word ends; 0: none */
    uint16_t word;    /* that ends here, or NO_WORD */
    uint8_t octet;    /* that leads here from the parent */
    bool is_end;      /* a word ends here or at `shorter` */
};

/*
 * For the search each node has a row of the nodes that come next, one for each letter: octets that occur in
 * words have a letter of their own, all others share letter 0.
 */
struct words {
    struct words_node *nodes;
    uint16_t *next;
    uint32_t count; /* nodes; the first is the root */
    uint32_t capacity;
    uint32_t word_count;
    uint32_t letter_count;
    uint8_t letters[256];
};

struct words *words_new(void)
{
    struct words *words = calloc(1, sizeof(*words));
    struct words_node *root = calloc(64, sizeof(*root));
    if (words == NULL || root == NULL) {
        free(words);
        free(root);
        return NULL;
    }
    root->word = NO_WORD;
    words->nodes = root;
    words->count = 1;
    words->capacity = 64;
    words->letter_count = 1;
    return words;
}

void words_free(struct words *words)
{
    if (words == NULL)
        return;
    free(words->nodes);
    free(words->next);
    free(words);
}

static uint16_t find_child(const struct words *words, uint16_t parent, uint8_t octet)
{
    uint16_t child = words->nodes[parent].child;
    while (child != 0 && words->nodes[child].octet != octet)
        child = words->nodes[child].sibling;
    return child;
}

static int add_child(struct words *words, uint16_t parent, uint8_t octet, uint16_t *child)
{
    if (words->count == WORDS_NODES_MAX)
        return -ENOSPC;
    if (words->count == words->capacity) {
        struct words_node *grown = realloc(words->nodes, 2 * words->capacity * sizeof(*grown));
        if (grown == NULL)
            return -ENOMEM;
        words->nodes = grown;
        words->capacity *= 2;
    }
    *child = (uint16_t)words->count++;
    words->nodes[*child] =
        (struct words_node){.sibling = words->nodes[parent].child, .word = NO_WORD, .octet = octet};
    words->nodes[parent].child = *child;
    /* all 256 octets would need 257 letters, so the last to come would share letter 0 with nobody */
    if (words->letters[octet] == 0 && words->letter_count < 256)
        words->letters[octet] = (uint8_t)words->letter_count++;
    return 0;
}

int words_add(struct words *words, struct smtp_slice word, uint32_t *number)
{
    uint16_t node = 0;
    assert(word.size > 0);
    assert(words->next == NULL);
    for (uint32_t i = 0; i < word.size; i++) {
        const uint8_t octet = (uint8_t)word.data[i];
        uint16_t child = find_child(words, node, octet);
        const int result = child != 0 ? 0 : add_child(words, node, octet, &child);
        if (result < 0)
            return result;
        node = child;
    }
    if (words->nodes[node].word == NO_WORD) {
        if (words->word_count == WORDS_MAX)
            return -ENOSPC;
        words->nodes[node].word = (uint16_t)words->word_count++;
    }
    *number = words->nodes[node].word;
    return 0;
}

/* A node's row begins as its fall's, whose text is shorter and which is therefore complete already. */
static void build_node(struct words *words, uint16_t index, uint16_t *queue, uint32_t *queued)
{
    struct words_node *node = &words->nodes[index];
    const struct words_node *fall = &words->nodes[node->fall];
    uint16_t *row = words->next + (size_t)index * words->letter_count;
    if (index != 0) {
        memcpy(row, words->next + (size_t)node->fall * words->letter_count,
               words->letter_count * sizeof(*row));
        node->shorter = fall->word != NO_WORD ? node->fall : fall->shorter;
    }
    node->is_end = node->word != NO_WORD || node->shorter != 0;
    for (uint16_t child = node->child; child != 0; child = words->nodes[child].sibling) {
        const uint8_t letter = words->letters[words->nodes[child].octet];
        words->nodes[child].fall = index != 0 ? row[letter] : 0;
        row[letter] = child;
        queue[(*queued)++] = child;
    }
}

int words_build(struct words *words)
{
    assert(words->next == NULL);
    uint16_t *queue = malloc(words->count * sizeof(*queue));
    words->next = calloc((size_t)words->count * words->letter_count, sizeof(*words->next));
    if (queue == NULL || words->next == NULL) {
        free(queue);
        return -ENOMEM;
    }
    uint32_t queued = 1;
    queue[0] = 0;
    for (uint32_t done = 0; done < queued; done++)
        build_node(words, queue[done], queue, &queued);
    assert(queued == words->count);
    free(queue);
    return 0;
}

static void note(const struct words *words, uint16_t index, struct words_found *found)
{
    if (words->nodes[index].word == NO_WORD)
        index = words->nodes[index].shorter;
    for (; index != 0; index = words->nodes[index].shorter) {
        const uint16_t word = words->nodes[index].word;
        assert(word < words->word_count);
        found->bits[word / 64] |= UINT64_C(1) << (word % 64);
    }
}

void words_find(const struct words *words, struct smtp_slice text, struct words_found *found)
{
    assert(words->next != NULL);
    memset(found->bits, 0, (words->word_count + 63) / 64 * sizeof(found->bits[0]));
    uint16_t node = 0;
    for (uint32_t i = 0; i < text.size; i++) {
        const uint8_t letter = words->letters[(uint8_t)text.data[i]];
        node = words->next[(size_t)node * words->letter_count + letter];
        if (words->nodes[node].is_end)
            note(words, node, found);
    }
}
