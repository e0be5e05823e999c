#include "gateway/outbound/dns/question.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int question_table_init(struct question_table *table, size_t size, const struct siphash_key *key)
{
    size_t count = 1;
    while (count < size)
        count *= 2;
    struct list *buckets = calloc(count, sizeof(*buckets));
    if (buckets == NULL)
        return -ENOMEM;
    for (size_t index = 0; index < count; index++)
        list_init(&buckets[index]);
    *table = (struct question_table){.buckets = buckets, .mask = count - 1, .key = *key};
    return 0;
}

void question_table_deinit(struct question_table *table)
{
    for (size_t index = 0; table->buckets != NULL && index <= table->mask; index++)
        assert(list_is_empty(&table->buckets[index]));
    free(table->buckets);
    table->buckets = NULL;
}

static uint64_t question_hash(const struct question_table *table, const char *name, enum dns_type type)
{
    return siphash(&table->key, name, strlen(name)) + (uint64_t)type;
}

struct question *question_find(const struct question_table *table, const char *name, enum dns_type type)
{
    uint64_t hash = question_hash(table, name, type);
    list_each(link, &table->buckets[hash & table->mask])
    {
        struct question *question = list_entry(link, struct question, link);
        if (question->hash == hash && question->type == type && strcmp(question->name, name) == 0)
            return question;
    }
    return NULL;
}

void question_insert(struct question_table *table, struct question *question, const char *name,
                     enum dns_type type)
{
    assert(question_find(table, name, type) == NULL);
    question->name = name;
    question->type = type;
    question->hash = question_hash(table, name, type);
    list_init(&question->link);
    list_push_back(&table->buckets[question->hash & table->mask], &question->link);
}

void question_remove(struct question *question)
{
    assert(!list_is_empty(&question->link));
    list_remove(&question->link);
}
