#include "peer.h"

#include <setjmp.h>
#include <stdarg.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
    TYPE_A = 1,
    TYPE_NS = 2,
    TYPE_CNAME = 5,
    TYPE_SOA = 6,
    TYPE_MX = 15,
    TYPE_TXT = 16,
    TYPE_AAAA = 28,
    HEADER_SIZE = 12,
    CHASE_MAX = 8,
};

/* A packet under construction. */
struct packet {
    uint8_t *bytes;
    size_t size;
    const char *question; /* the name in it; NULL: none */
};

struct asked {
    uint16_t id;
    uint16_t flags;
    uint16_t type;
    bool has_edns;
    char name[256];
    size_t end; /* of the question */
};

static void put16(struct packet *packet, uint32_t value)
{
    assert_true(packet->size + 2 <= PEER_PACKET_MAX);
    packet->bytes[packet->size++] = (uint8_t)(value >> 8);
    packet->bytes[packet->size++] = (uint8_t)value;
}

static void put32(struct packet *packet, uint32_t value)
{
    put16(packet, value >> 16);
    put16(packet, value & 0xffff);
}

/* Labels may hold anything; "\032" stands for the octet 32. */
static void put_name(struct packet *packet, const char *name)
{
    while (*name != '\0' && strcmp(name, ".") != 0) {
        size_t length_at = packet->size++;
        while (*name != '\0' && *name != '.') {
            bool is_escape = name[0] == '\\';
            packet->bytes[packet->size++] =
                is_escape ? (uint8_t)((name[1] - '0') * 100 + (name[2] - '0') * 10 + (name[3] - '0'))
                          : (uint8_t)*name;
            name += is_escape ? 4 : 1;
        }
        packet->bytes[length_at] = (uint8_t)(packet->size - length_at - 1);
        if (*name == '.')
            name++;
        assert_true(packet->size < PEER_PACKET_MAX - 300);
    }
    packet->bytes[packet->size++] = 0;
}

static void put_value(struct packet *packet, const struct peer_record *record)
{
    switch (record->type) {
    case TYPE_A:
        assert_int_equal(inet_pton(AF_INET, record->value, packet->bytes + packet->size), 1);
        packet->size += 4;
        break;
    case TYPE_AAAA:
        assert_int_equal(inet_pton(AF_INET6, record->value, packet->bytes + packet->size), 1);
        packet->size += 16;
        break;
    case TYPE_MX:
        put16(packet, record->preference);
        put_name(packet, record->value);
        break;
    case TYPE_TXT:
        packet->bytes[packet->size++] = (uint8_t)strlen(record->value);
        memcpy(packet->bytes + packet->size, record->value, strlen(record->value));
        packet->size += strlen(record->value);
        break;
    default:
        put_name(packet, record->value);
    }
}

static void count_section(struct packet *packet, size_t section)
{
    uint8_t *at = packet->bytes + 4 + 2 * section;
    uint32_t count = ((uint32_t)at[0] << 8 | at[1]) + 1;
    at[0] = (uint8_t)(count >> 8);
    at[1] = (uint8_t)count;
}

static void put_record(struct packet *packet, const struct peer_record *record, size_t section)
{
    if (packet->question != NULL && strcasecmp(record->name, packet->question) == 0)
        put16(packet, 0xc000 | HEADER_SIZE); /* a pointer to the question */
    else
        put_name(packet, record->name);
    put16(packet, record->type);
    put16(packet, 1);
    put32(packet, record->ttl_s);
    size_t length_at = packet->size;
    put16(packet, 0);
    put_value(packet, record);
    size_t length = packet->size - length_at - 2;
    packet->bytes[length_at] = (uint8_t)(length >> 8);
    packet->bytes[length_at + 1] = (uint8_t)length;
    count_section(packet, section);
}

static void put_soa(struct packet *packet, const struct peer *peer)
{
    put_name(packet, "test");
    put16(packet, TYPE_SOA);
    put16(packet, 1);
    put32(packet, peer->soa_ttl_s);
    put16(packet, 2 + 5 * 4);
    put_name(packet, "");
    put_name(packet, "");
    for (int field = 0; field < 4; field++)
        put32(packet, 1);
    put32(packet, peer->soa_minimum_s);
    count_section(packet, 2);
}

static bool read_question(const uint8_t *bytes, size_t size, struct asked *asked)
{
    if (size < HEADER_SIZE)
        return false;
    *asked = (struct asked){.id = (uint16_t)(bytes[0] << 8 | bytes[1]),
                            .flags = (uint16_t)(bytes[2] << 8 | bytes[3]),
                            .has_edns = bytes[11] == 1};
    size_t at = HEADER_SIZE;
    size_t length = 0;
    while (at < size && bytes[at] != 0) {
        size_t count = bytes[at++];
        assert_true(at + count < size && length + count + 1 < sizeof(asked->name));
        if (length > 0)
            asked->name[length++] = '.';
        memcpy(asked->name + length, bytes + at, count);
        length += count;
        at += count;
    }
    assert_true(at + 5 <= size);
    asked->type = (uint16_t)(bytes[at + 1] << 8 | bytes[at + 2]);
    asked->end = at + 5;
    return true;
}

static enum peer_trick next_trick(struct peer *peer, const char *name)
{
    if (peer->deaf_to != NULL && strncasecmp(name, peer->deaf_to, strlen(peer->deaf_to)) == 0)
        return PEER_SILENT;
    for (size_t index = 0; index < peer->trick_count; index++) {
        if (strcasecmp(peer->tricks[index].name, name) != 0 || peer->tricks[index].times == 0)
            continue;
        if (peer->tricks[index].times != UINT32_MAX)
            peer->tricks[index].times--;
        return peer->tricks[index].trick;
    }
    return PEER_HONEST;
}

static void begin_answer(const struct peer *peer, const struct asked *asked, const uint8_t *query,
                         bool with_question, int code, struct packet *packet)
{
    bool is_authenticated = peer->is_authenticated && (asked->flags & 0x20) != 0;
    memset(packet->bytes, 0, HEADER_SIZE);
    packet->size = 0;
    put16(packet, asked->id);
    put16(packet, 0x8180u | (is_authenticated ? 0x20u : 0) | (unsigned)code); /* QR, RD, RA */
    packet->size = HEADER_SIZE;
    packet->question = with_question ? asked->name : NULL;
    if (with_question) {
        memcpy(packet->bytes + HEADER_SIZE, query + HEADER_SIZE, asked->end - HEADER_SIZE);
        packet->size = asked->end;
        packet->bytes[5] = 1;
    }
}

/* Puts what the zone has of this name; returns whether the name exists, and where a CNAME leads. */
static bool put_records(const struct peer *peer, const char *name, uint16_t type, struct packet *packet,
                        bool *found, const char **alias)
{
    bool exists = false;
    for (size_t index = 0; index < peer->record_count; index++) {
        const struct peer_record *record = &peer->records[index];
        if (strcasecmp(record->name, name) != 0)
            continue;
        exists = true;
        if (record->type == type || record->type == TYPE_CNAME) {
            put_record(packet, record, 1);
            *found |= record->type == type;
            *alias = record->type == TYPE_CNAME ? record->value : *alias;
        }
    }
    return exists;
}

static void honest_answer(const struct peer *peer, const struct asked *asked, const uint8_t *query,
                          enum peer_trick trick, struct packet *packet)
{
    begin_answer(peer, asked, query, true, 0, packet);
    const char *name = asked->name;
    bool found = false;
    bool exists = false;
    for (int step = 0; step < CHASE_MAX && name != NULL && !found; step++) {
        const char *alias = NULL;
        exists = put_records(peer, name, asked->type, packet, &found, &alias);
        name = alias;
        if (trick == PEER_NO_CHASE && alias != NULL)
            return;
    }
    if (!exists)
        packet->bytes[3] |= 3; /* NXDOMAIN */
    if (!found && trick != PEER_NO_SOA)
        put_soa(packet, peer);
}

static void refer(const struct peer *peer, const struct asked *asked, const uint8_t *query,
                  struct packet *packet)
{
    begin_answer(peer, asked, query, true, 0, packet);
    packet->bytes[3] &= 0x7f; /* no recursion here */
    struct peer_record record = {.name = "test", .type = TYPE_NS, .ttl_s = 300, .value = "ns.elsewhere.test"};
    put_record(packet, &record, 2);
}

static size_t make_answer(struct peer *peer, const struct asked *asked, const uint8_t *query,
                          enum peer_trick trick, bool over_tcp, uint8_t into[static PEER_PACKET_MAX])
{
    static struct packet packet;
    packet.bytes = into;
    bool truncates = trick == PEER_TRUNCATES || trick == PEER_TRUNCATES_TCP || trick == PEER_CLOSES_TCP;
    switch (trick) {
    case PEER_SERVFAIL:
    case PEER_REFUSED:
        begin_answer(peer, asked, query, true, trick == PEER_SERVFAIL ? 2 : 5, &packet);
        return packet.size;
    case PEER_REFERS:
        refer(peer, asked, query, &packet);
        return packet.size;
    case PEER_HATES_EDNS:
        if (asked->has_edns) {
            begin_answer(peer, asked, query, false, 1, &packet);
            return packet.size;
        }
        break;
    default:
        break;
    }
    honest_answer(peer, asked, query, trick, &packet);
    size_t limit = over_tcp ? PEER_PACKET_MAX : asked->has_edns ? 1232 : 512;
    if (packet.size > limit || (truncates && !over_tcp) || trick == PEER_TRUNCATES_TCP) {
        begin_answer(peer, asked, query, true, 0, &packet);
        into[2] |= 2; /* TC */
    }
    return packet.size;
}

size_t peer_answer(struct peer *peer, const uint8_t *query, size_t query_size, bool over_tcp,
                   uint8_t into[static PEER_PACKET_MAX])
{
    struct asked asked;
    assert_true(read_question(query, query_size, &asked));
    return make_answer(peer, &asked, query, next_trick(peer, asked.name), over_tcp, into);
}

static void send_to(struct peer *peer, const struct sockaddr_storage *to, const uint8_t *bytes, size_t size)
{
    assert_true(sendto(peer->udp, bytes, size, 0, (const struct sockaddr *)to, sizeof(struct sockaddr_in)) ==
                (ssize_t)size);
}

/* Everything that is no answer to the question, though it comes from the right place. */
static void send_strays(struct peer *peer, const struct sockaddr_storage *to, uint8_t *right, size_t size)
{
    right[size - 1] ^= 0x40; /* whoever takes one of them gets a wrong address */
    send_to(peer, to, right, 0);
    send_to(peer, to, right, 5);
    right[0] ^= 0x40; /* another id */
    send_to(peer, to, right, size);
    right[0] ^= 0x40;
    right[2] ^= 0x80; /* a question */
    send_to(peer, to, right, size);
    right[2] ^= 0x80;
    right[13] ^= 1; /* another name */
    send_to(peer, to, right, size);
    right[13] ^= 1;
    right[5] = 0; /* no question */
    send_to(peer, to, right, size);
    right[5] = 1;
    static uint8_t large[1400]; /* more than was said to be taken */
    memcpy(large, right, size);
    send_to(peer, to, large, sizeof(large));
    right[size - 1] ^= 0x40;
    send_to(peer, to, right, size);
}

static void answer_udp(struct peer *peer, const struct sockaddr_storage *from, const uint8_t *query,
                       size_t size)
{
    static uint8_t answer[PEER_PACKET_MAX];
    struct asked asked;
    if (!read_question(query, size, &asked))
        return;
    size_t slot = peer->udp_count++ % 64;
    peer->ports[slot] = ntohs(((const struct sockaddr_in *)from)->sin_port);
    peer->ids[slot] = asked.id;
    peer->edns_count += asked.has_edns;
    peer->ad_count += (asked.flags & 0x20) != 0;
    snprintf(peer->last_name, sizeof(peer->last_name), "%s", asked.name);
    enum peer_trick trick = peer->is_deaf ? PEER_SILENT : next_trick(peer, asked.name);
    if (trick == PEER_SILENT)
        return;
    size_t answer_size = make_answer(peer, &asked, query, trick, false, answer);
    switch (trick) {
    case PEER_STRAYS:
        send_strays(peer, from, answer, answer_size);
        break;
    case PEER_FLOODS:
        for (int count = 0; count < 40; count++) {
            answer[1] = (uint8_t)(asked.id + 1 + count);
            send_to(peer, from, answer, answer_size);
        }
        break;
    case PEER_CUTS:
        send_to(peer, from, answer, answer_size - 7);
        break;
    default:
        send_to(peer, from, answer, answer_size);
    }
}

/* Reads one question; a small packet on loopback comes whole. False: the client is gone, or is sent away. */
static bool answer_tcp(struct peer *peer, int client)
{
    static uint8_t answer[2 + PEER_PACKET_MAX];
    uint8_t query[600];
    ssize_t got = recv(client, query, sizeof(query), MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN;
    struct asked asked;
    if (got < 2 || !read_question(query + 2, (size_t)got - 2, &asked))
        return false;
    assert_int_equal((query[0] << 8 | query[1]) + 2, got);
    peer->tcp_count++;
    enum peer_trick trick = peer->is_deaf ? PEER_SILENT : next_trick(peer, asked.name);
    if (trick == PEER_SILENT)
        return true;
    if (trick == PEER_CLOSES_TCP)
        return false;
    size_t size = make_answer(peer, &asked, query + 2, trick, true, answer + 2);
    answer[0] = (uint8_t)(size >> 8);
    answer[1] = (uint8_t)size;
    /* In three pieces, so that the reader has to put them together. */
    assert_int_equal(send(client, answer, 1, MSG_NOSIGNAL), 1);
    usleep(2000);
    assert_int_equal(send(client, answer + 1, 9, MSG_NOSIGNAL), 9);
    usleep(2000);
    assert_int_equal(send(client, answer + 10, size - 8, MSG_NOSIGNAL), size - 8);
    return true;
}

static void accept_clients(struct peer *peer)
{
    for (size_t index = 0; index < PEER_CLIENTS_MAX; index++) {
        if (peer->clients[index] < 0)
            peer->clients[index] = accept4(peer->tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    }
}

void peer_serve(struct peer *peer)
{
    for (;;) {
        uint8_t query[600];
        struct sockaddr_storage from = {0};
        socklen_t from_size = sizeof(from);
        ssize_t got =
            recvfrom(peer->udp, query, sizeof(query), MSG_DONTWAIT, (struct sockaddr *)&from, &from_size);
        if (got < 0)
            break;
        answer_udp(peer, &from, query, (size_t)got);
    }
    accept_clients(peer);
    for (size_t index = 0; index < PEER_CLIENTS_MAX; index++) {
        if (peer->clients[index] < 0 || answer_tcp(peer, peer->clients[index]))
            continue;
        close(peer->clients[index]);
        peer->clients[index] = -1;
    }
}

struct peer *peer_new(void)
{
    struct peer *peer = calloc(1, sizeof(*peer));
    assert_non_null(peer);
    peer->soa_ttl_s = 900;
    peer->soa_minimum_s = 60;
    for (size_t index = 0; index < PEER_CLIENTS_MAX; index++)
        peer->clients[index] = -1;
    struct sockaddr_in *address = (struct sockaddr_in *)&peer->address;
    /* A port that is free for TCP is nearly always free for UDP, too. */
    for (int attempt = 0; attempt < 20; attempt++) {
        *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(*address);
        peer->tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        peer->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(peer->tcp, (struct sockaddr *)address, size), 0);
        assert_int_equal(getsockname(peer->tcp, (struct sockaddr *)address, &size), 0);
        assert_int_equal(listen(peer->tcp, 16), 0);
        if (bind(peer->udp, (struct sockaddr *)address, size) == 0)
            return peer;
        close(peer->tcp);
        close(peer->udp);
    }
    fail_msg("no port is free for both UDP and TCP");
    return NULL;
}

void peer_free(struct peer *peer)
{
    for (size_t index = 0; index < PEER_CLIENTS_MAX; index++) {
        if (peer->clients[index] >= 0)
            close(peer->clients[index]);
    }
    close(peer->tcp);
    close(peer->udp);
    free(peer);
}

static uint16_t type_of(const char *word)
{
    static const struct {
        const char *name;
        uint16_t type;
    } types[] = {
        {"A", TYPE_A}, {"AAAA", TYPE_AAAA}, {"MX", TYPE_MX}, {"TXT", TYPE_TXT}, {"CNAME", TYPE_CNAME}};
    for (size_t index = 0; index < sizeof(types) / sizeof(types[0]); index++) {
        if (strcmp(types[index].name, word) == 0)
            return types[index].type;
    }
    return 0;
}

static void add_line(struct peer *peer, char *line)
{
    char *rest = NULL;
    const char *word = strtok_r(line, " ", &rest);
    if (word == NULL)
        return;
    assert_true(peer->record_count < PEER_RECORDS_MAX);
    struct peer_record *record = &peer->records[peer->record_count++];
    snprintf(record->name, sizeof(record->name), "%s", word);
    record->ttl_s = 300;
    word = strtok_r(NULL, " ", &rest);
    if (word[0] >= '0' && word[0] <= '9') {
        record->ttl_s = (uint32_t)strtoul(word, NULL, 10);
        word = strtok_r(NULL, " ", &rest);
    }
    record->type = type_of(word);
    assert_int_not_equal(record->type, 0);
    if (record->type == TYPE_MX)
        record->preference = (uint16_t)strtoul(strtok_r(NULL, " ", &rest), NULL, 10);
    snprintf(record->value, sizeof(record->value), "%s", strtok_r(NULL, "", &rest));
}

void peer_zone(struct peer *peer, const char *text)
{
    char *copy = strdup(text);
    char *rest = copy;
    char *line;
    while ((line = strsep(&rest, "\n")) != NULL)
        add_line(peer, line);
    free(copy);
}

void peer_play(struct peer *peer, const char *name, enum peer_trick trick, uint32_t times)
{
    assert_true(peer->trick_count < PEER_TRICKS_MAX);
    snprintf(peer->tricks[peer->trick_count].name, sizeof(peer->tricks[0].name), "%s", name);
    peer->tricks[peer->trick_count].trick = trick;
    peer->tricks[peer->trick_count++].times = times;
}
