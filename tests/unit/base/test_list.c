#include "cmocka_base.h"
#include "gateway/base/list.h"

struct item {
    int number;
    struct list link;
};

enum { ITEM_COUNT = 5 };

static void fill(struct list *head, struct item *items)
{
    list_init(head);
    for (int index = 0; index < ITEM_COUNT; index++) {
        items[index].number = index;
        list_init(&items[index].link);
        list_push_back(head, &items[index].link);
    }
}

static void assert_order(const struct list *head, const int *numbers, size_t count)
{
    size_t seen = 0;
    list_each(link, head)
    {
        assert_true(seen < count);
        assert_int_equal(list_entry(link, struct item, link)->number, numbers[seen]);
        seen++;
    }
    assert_int_equal(seen, count);
}

static void members_keep_their_order(void **state)
{
    struct list head;
    struct item items[ITEM_COUNT];
    fill(&head, items);
    assert_order(&head, (int[]){0, 1, 2, 3, 4}, 5);

    list_remove(&items[2].link);
    assert_true(list_is_empty(&items[2].link));
    assert_order(&head, (int[]){0, 1, 3, 4}, 4);

    list_push_front(&head, &items[2].link);
    assert_order(&head, (int[]){2, 0, 1, 3, 4}, 5);
    assert_ptr_equal(list_pop_front(&head), &items[2].link);
    list_remove(&items[2].link); /* twice does no harm */
    assert_order(&head, (int[]){0, 1, 3, 4}, 4);
}

static void the_current_member_may_leave_during_a_walk(void **state)
{
    struct list head;
    struct item items[ITEM_COUNT];
    fill(&head, items);
    list_each_safe(link, &head)
    {
        if (list_entry(link, struct item, link)->number % 2 == 0)
            list_remove(link);
    }
    assert_order(&head, (int[]){1, 3}, 2);
}

static void splicing_moves_all_and_leaves_nothing(void **state)
{
    struct list from;
    struct list to;
    struct item items[ITEM_COUNT];
    fill(&from, items);
    list_init(&to);
    list_splice_back(&to, &from);
    assert_true(list_is_empty(&from));
    assert_null(list_first(&from));
    assert_order(&to, (int[]){0, 1, 2, 3, 4}, 5);
    list_splice_back(&to, &from);
    assert_order(&to, (int[]){0, 1, 2, 3, 4}, 5);
    while (list_pop_front(&to) != NULL)
        ;
    assert_true(list_is_empty(&to));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_keep_their_order),
        cmocka_unit_test(the_current_member_may_leave_during_a_walk),
        cmocka_unit_test(splicing_moves_all_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
