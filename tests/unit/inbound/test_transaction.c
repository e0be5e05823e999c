/* The envelope of a transaction as it grows, to the end of what the queue takes. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/pool.h"
#include "gateway/inbound/transaction.h"
#include "gateway/message/envelope.h"
#include "gateway/message/received.h"
#include "gateway/message/recipient.h"
#include "queue/queue.h"
#include "tests/unit/inbound/fake_queue.h"

static void assert_slice(struct smtp_slice actual, const char *expected)
{
    assert_int_equal(actual.size, strlen(expected));
    assert_memory_equal(actual.data, expected, actual.size);
}

static int begin(struct transaction *transaction, struct pool *pool, struct smtp_slice sender)
{
    const struct smtp_command mail = {.verb = SMTP_VERB_MAIL, .path = {.text = sender}};
    return transaction_begin(transaction, pool, &mail);
}

static int add(struct transaction *transaction, struct pool *pool, struct smtp_slice address,
               struct smtp_slice key)
{
    const struct recipient recipient = {.address = address};
    return transaction_add(transaction, pool, &recipient, key);
}

static struct received trace_of(const char *helo)
{
    return (struct received){
        .helo = {helo, (uint32_t)strlen(helo)},
        .hostname = SMTP_SLICE("relay.test"),
        .date = {"Sat, 21 Nov 2026 22:19:42 +0000", RECEIVED_DATE_SIZE},
    };
}

static void test_parts_stay_apart(void **state)
{
    struct pool pool;
    pool_init(&pool, NULL, SIZE_MAX);
    struct transaction transaction = {0};
    assert_int_equal(begin(&transaction, &pool, SMTP_SLICE("from@a.test")), 0);
    assert_int_equal(transaction_sole_recipient(&transaction).size, 0);
    assert_int_equal(add(&transaction, &pool, SMTP_SLICE("one@B.test"), SMTP_SLICE("b.test")), 0);
    assert_slice(transaction_sole_recipient(&transaction), "one@B.test");
    assert_int_equal(add(&transaction, &pool, SMTP_SLICE("two@c.test"), SMTP_SLICE("c.test")), 0);
    assert_int_equal(transaction_sole_recipient(&transaction).size, 0);

    struct received received = trace_of("client.test");
    assert_int_equal(transaction_trace(&transaction, &pool, &received, false), 0);
    assert_slice(transaction_trace_text(&transaction),
                 "Received: from client.test\r\n\tby relay.test with SMTP;\r\n"
                 "\tSat, 21 Nov 2026 22:19:42 +0000\r\n");
    assert_slice(transaction_sender(&transaction), "from@a.test");
    struct queue_envelope envelope;
    transaction_recipients(&transaction, &envelope);
    assert_int_equal(envelope.recipient_count, 2);
    char *text = fake_recipients_text(envelope.recipients, envelope.recipients_size);
    assert_string_equal(text, "one@B.test b.test\ntwo@c.test c.test\n");
    free(text);
    transaction_reset(&transaction, &pool);
    assert_int_equal(pool.used_bytes, 0);
    pool_deinit(&pool);
}

/* The sole recipient of the trace field lies in the block that grows to make room for that field. */
static void test_the_block_moves_under_the_trace_field(void **state)
{
    char address[SMTP_PATH_MAX];
    memset(address, 'r', sizeof(address));
    char helo[RECEIVED_NAME_MAX + 1] = {0};
    memset(helo, 'h', RECEIVED_NAME_MAX);
    struct pool pool;
    pool_init(&pool, NULL, 0);
    struct transaction transaction = {0};
    assert_int_equal(begin(&transaction, &pool, (struct smtp_slice){address, sizeof(address)}), 0);
    assert_int_equal(
        add(&transaction, &pool, (struct smtp_slice){address, sizeof(address)}, SMTP_SLICE("example.com")),
        0);
    const char *before = transaction.memory;
    struct received received = trace_of(helo);
    assert_int_equal(transaction_trace(&transaction, &pool, &received, false), 0);
    assert_ptr_not_equal(transaction.memory, before);
    const struct smtp_slice trace = transaction_trace_text(&transaction);
    const char *found = memmem(trace.data, trace.size, "for <", 5);
    assert_non_null(found);
    assert_memory_equal(found + 5, address, sizeof(address));
    transaction_reset(&transaction, &pool);
    assert_int_equal(pool.used_bytes, 0);
    pool_deinit(&pool);
}

static void test_an_envelope_has_an_end(void **state)
{
    char address[SMTP_PATH_MAX];
    memset(address, 'r', sizeof(address));
    const struct smtp_slice slice = {address, sizeof(address)};
    struct pool pool;
    pool_init(&pool, NULL, SIZE_MAX);
    struct transaction transaction = {0};
    assert_int_equal(begin(&transaction, &pool, slice), 0);
    int error = 0;
    uint32_t taken = 0;
    for (; taken < 10000; taken++) {
        error = add(&transaction, &pool, slice, SMTP_SLICE("example.com"));
        if (error != 0)
            break;
    }
    assert_int_equal(error, -ENOSPC);
    struct queue_envelope envelope;
    transaction_recipients(&transaction, &envelope);
    assert_int_equal(envelope.recipient_count, taken);
    assert_true(envelope.recipients_size + ENVELOPE_SIZE_MAX <= QUEUE_ENVELOPE_MAX);
    assert_true(envelope.recipients_size + ENVELOPE_SIZE_MAX + 300 > QUEUE_ENVELOPE_MAX);
    struct received received = trace_of("client.test"); /* our own field still fits */
    assert_int_equal(transaction_trace(&transaction, &pool, &received, false), 0);
    transaction_reset(&transaction, &pool);
    pool_deinit(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_stay_apart),
        cmocka_unit_test(test_the_block_moves_under_the_trace_field),
        cmocka_unit_test(test_an_envelope_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
