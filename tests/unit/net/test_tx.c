#include "net_test.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/net/tx.h"

struct counted_ref {
    struct conn_ref ref;
    int released;
};

static void count_release(struct conn_ref *ref)
{
    list_entry(ref, struct counted_ref, ref)->released++;
}

/* Checks the first `size` bytes that the prepared operation would send, and returns how many it offers. */
static size_t check_prepared(const struct io_uring_sqe *sqe, uint64_t offset)
{
    if (sqe->opcode == IORING_OP_SEND) {
        net_test_check((const char *)(uintptr_t)sqe->addr, sqe->len, offset);
        return sqe->len;
    }
    assert_int_equal(sqe->opcode, IORING_OP_SENDMSG);
    const struct msghdr *message = (const struct msghdr *)(uintptr_t)sqe->addr;
    assert_true(message->msg_iovlen > 1);
    assert_true(message->msg_iovlen <= TX_GATHER_MAX);
    size_t total = 0;
    for (size_t index = 0; index < message->msg_iovlen; index++) {
        const struct iovec *piece = &message->msg_iov[index];
        assert_true(piece->iov_len > 0);
        net_test_check(piece->iov_base, piece->iov_len, offset + total);
        total += piece->iov_len;
    }
    return total;
}

static void small_copies_become_one_send(void **state)
{
    struct tx_pool pool;
    struct tx_queue queue = {0};
    struct io_uring_sqe sqe = {0};
    char bytes[30];
    tx_pool_init(&pool);
    net_test_fill(bytes, sizeof(bytes), 0);
    assert_int_equal(tx_copy(&pool, &queue, bytes, 10), 0);
    assert_int_equal(tx_copy(&pool, &queue, bytes + 10, 10), 0);
    assert_int_equal(tx_copy(&pool, &queue, bytes + 20, 10), 0);
    tx_prepare(&pool, &queue, &sqe, 5);
    assert_int_equal(sqe.opcode, IORING_OP_SEND);
    assert_int_equal(check_prepared(&sqe, 0), 30);
    tx_consume(&pool, &queue, 30);
    assert_int_equal(queue.bytes, 0);
    assert_int_equal(pool.in_use, 0);
    tx_pool_deinit(&pool);
}

static void a_piece_in_flight_does_not_grow(void **state)
{
    struct tx_pool pool;
    struct tx_queue queue = {0};
    struct io_uring_sqe sqe = {0};
    char bytes[20];
    tx_pool_init(&pool);
    net_test_fill(bytes, sizeof(bytes), 0);
    assert_int_equal(tx_copy(&pool, &queue, bytes, 10), 0);
    tx_prepare(&pool, &queue, &sqe, 5);
    assert_int_equal(tx_copy(&pool, &queue, bytes + 10, 10), 0);
    assert_int_equal(check_prepared(&sqe, 0), 10);
    assert_int_equal(queue.first->pieces[0].iov_len, 10);
    tx_consume(&pool, &queue, 10);
    tx_prepare(&pool, &queue, &sqe, 5);
    assert_int_equal(check_prepared(&sqe, 10), 10);
    tx_drop(&pool, &queue);
    tx_pool_deinit(&pool);
}

static void drop_releases_each_reference_once(void **state)
{
    enum { REFS = 100 };
    struct tx_pool pool;
    struct tx_queue queue = {0};
    struct io_uring_sqe sqe = {0};
    struct counted_ref refs[REFS] = {0};
    tx_pool_init(&pool);
    for (int index = 0; index < REFS; index++) {
        refs[index].ref.release = count_release;
        assert_int_equal(tx_refer(&pool, &queue, "x", 1, &refs[index].ref), 0);
    }
    tx_prepare(&pool, &queue, &sqe, 5);
    tx_consume(&pool, &queue, 30);
    for (int index = 0; index < REFS; index++)
        assert_int_equal(refs[index].released, index < 30 ? 1 : 0);
    tx_drop(&pool, &queue);
    for (int index = 0; index < REFS; index++)
        assert_int_equal(refs[index].released, 1);
    assert_int_equal(pool.in_use, 0);
    tx_pool_deinit(&pool);
}

/* Random pieces, random short sends, output queued while a send is in flight. */
static void random_traffic_keeps_order_and_references(void **state)
{
    enum { STREAM = 40000000, REFS = 20000, PIECE_MAX = 500000 };
    struct tx_pool pool;
    struct tx_queue queue = {0};
    struct counted_ref *refs = calloc(REFS, sizeof(*refs));
    char *stream = malloc(STREAM);
    uint64_t seed = 7;
    size_t queued = 0;
    size_t sent = 0;
    int used = 0;
    bool in_flight = false;
    size_t offered = 0;
    tx_pool_init(&pool);
    net_test_fill(stream, STREAM, 0);
    while (sent < STREAM) {
        uint64_t draw = net_test_random(&seed) % 10;
        size_t size = net_test_random(&seed) % (draw == 0 ? 5000 : draw == 5 ? PIECE_MAX : 200) + 1;
        if (size > STREAM - queued)
            size = STREAM - queued;
        if (size > 0 && draw < 5) {
            assert_int_equal(tx_copy(&pool, &queue, stream + queued, size), 0);
            queued += size;
        } else if (size > 0 && draw < 8 && used < REFS) {
            refs[used].ref.release = count_release;
            assert_int_equal(tx_refer(&pool, &queue, stream + queued, size, &refs[used].ref), 0);
            used++;
            queued += size;
        } else if (in_flight) {
            size_t taken = net_test_random(&seed) % offered + 1;
            tx_consume(&pool, &queue, taken);
            sent += taken;
            in_flight = false;
        }
        if (!in_flight && queue.bytes > 0 && draw % 2 == 0) {
            struct io_uring_sqe sqe = {0};
            tx_prepare(&pool, &queue, &sqe, 5);
            offered = check_prepared(&sqe, sent);
            assert_true(offered < TX_GATHER_BYTES + PIECE_MAX);
            in_flight = true;
        }
        assert_int_equal(queue.bytes, queued - sent);
    }
    for (int index = 0; index < used; index++)
        assert_int_equal(refs[index].released, 1);
    assert_int_equal(pool.in_use, 0);
    tx_pool_deinit(&pool);
    free(stream);
    free(refs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_copies_become_one_send),
        cmocka_unit_test(a_piece_in_flight_does_not_grow),
        cmocka_unit_test(drop_releases_each_reference_once),
        cmocka_unit_test(random_traffic_keeps_order_and_references),
    };
    return cmocka_run_group_tests_name("net/tx", tests, NULL, NULL);
}
