#pragma once

/*
 * Intrusive doubly linked list: the links live in the listed object, so that joining and leaving a list
 * neither allocates nor fails.
 *
 * The list owns nothing. A list and all its members belong to one thread. A link that is in no list points
 * to itself; only such a link may be inserted, and only such a link's object may be freed.
 */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *prev;
};

/* The object of type `type` whose member `member` is the link `link`. */
#define list_entry(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* Walks all links; the body must not take any of them out (see list_each_safe). */
#define list_each(link, head) for (struct list *link = (head)->next; link != (head); link = link->next)

/* Walks all links; the body may take out the current one. */
#define list_each_safe(link, head)                                                                           \
    for (struct list *link = (head)->next, *link##_next = link->next; link != (head);                        \
         link = link##_next, link##_next = link->next)

static inline void list_init(struct list *link)
{
    link->next = link;
    link->prev = link;
}

/* True for a head without members, and for a link that is in no list. */
static inline bool list_is_empty(const struct list *link)
{
    assert(link->next != NULL);
    assert((link->next == link) == (link->prev == link));
    return link->next == link;
}

static inline void list_insert_before(struct list *place, struct list *link)
{
    assert(list_is_empty(link));
    assert(place->prev->next == place);
    link->next = place;
    link->prev = place->prev;
    place->prev->next = link;
    place->prev = link;
}

static inline void list_push_back(struct list *head, struct list *link)
{
    list_insert_before(head, link);
}

static inline void list_push_front(struct list *head, struct list *link)
{
    list_insert_before(head->next, link);
}

/* Takes `link` out of its list; harmless when it is in none. */
static inline void list_remove(struct list *link)
{
    assert(link->next->prev == link);
    assert(link->prev->next == link);
    link->next->prev = link->prev;
    link->prev->next = link->next;
    list_init(link);
}

/* The first link, or NULL when the list is empty; it stays in the list. */
static inline struct list *list_first(const struct list *head)
{
    return list_is_empty(head) ? NULL : head->next;
}

/* Takes the first link out and returns it, or NULL when the list is empty. */
static inline struct list *list_pop_front(struct list *head)
{
    struct list *link = list_first(head);
    if (link != NULL)
        list_remove(link);
    return link;
}

/* Moves all members of `from`, in their order, to the end of `to`; `from` is empty afterwards. */
static inline void list_splice_back(struct list *to, struct list *from)
{
    assert(to != from);
    if (list_is_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}
