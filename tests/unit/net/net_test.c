#include "net_test.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/net/listener.h"

uint64_t net_test_now_us(void)
{
    return clock_monotonic_us();
}

struct loop *net_test_loop(uint32_t buffer_count, uint32_t buffer_size)
{
    struct loop_options options = {.receive_buffer_count = buffer_count, .receive_buffer_size = buffer_size};
    struct loop *loop = NULL;
    assert_int_equal(loop_new(&options, &loop), 0);
    return loop;
}

int net_test_setup(void **state)
{
    *state = net_test_loop(0, 0);
    return 0;
}

int net_test_teardown(void **state)
{
    loop_free(*state);
    return 0;
}

int net_test_listen(struct sockaddr_storage *address)
{
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = listener_open_socket((struct sockaddr *)&local, sizeof(local));
    assert_true(fd >= 0);
    assert_int_equal(listener_address(fd, address), 0);
    return fd;
}

void net_test_pair(int fds[2])
{
    struct sockaddr_storage address = {0};
    int listening = net_test_listen(&address);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fds[0] >= 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&address, sizeof(struct sockaddr_in)), 0);
    fds[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fds[1] >= 0);
    close(listening);
}

uint64_t net_test_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

unsigned char net_test_byte(uint64_t offset)
{
    uint64_t mixed = (offset / 8 + 1) * UINT64_C(0x9e3779b97f4a7c15);
    mixed ^= mixed >> 29;
    return (unsigned char)(mixed >> (offset % 8 * 8));
}

void net_test_fill(char *bytes, size_t size, uint64_t offset)
{
    for (size_t index = 0; index < size; index++)
        bytes[index] = (char)net_test_byte(offset + index);
}

void net_test_check(const char *bytes, size_t size, uint64_t offset)
{
    for (size_t index = 0; index < size; index++) {
        if ((unsigned char)bytes[index] != net_test_byte(offset + index))
            fail_msg("the stream differs at byte %zu", (size_t)offset + index);
    }
}

void net_test_write(int fd, const void *bytes, size_t size)
{
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
}

size_t net_test_read_all(int fd, char *bytes, size_t size)
{
    size_t total = 0;
    while (total < size) {
        ssize_t got = recv(fd, bytes + total, size - total, 0);
        if (got <= 0)
            break;
        total += (size_t)got;
    }
    return total;
}

void net_test_reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    close(fd);
}
