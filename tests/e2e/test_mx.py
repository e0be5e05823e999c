"""Delivery by the DNS: NSD and unbound answer, in a network of the test's own; sites and their limits; routes."""
import os
import re
import time

import pytest

from lab.content import trace
from lab.machine import patience, wait_until
from lab.names import NameServers
from lab.network import Network
from lab.scripted_names import ScriptedNames

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own and port 25: needs root")

HERE, NAME = "192.0.2.1", "relay.example.com"
CONTENT = b"From: a@example.com\r\nSubject: x\r\n\r\nbody\r\n"


def host(number):
    """An address at which a test may put a sink, or nothing."""
    return f"198.51.100.{number}"


def host6(number):
    return f"2001:db8::{number}"


RECORDS = f"""
one            IN MX 10 mx.one
mx.one         IN A {host(1)}
implicit       IN A {host(2)}
address        IN MX 10 {host(3)}.
alias          IN CNAME real
real           IN MX 10 mx.real
mx.real        IN A {host(4)}
towards-alias  IN MX 10 other-name
other-name     IN CNAME mx.one
xn--bcher-kva  IN MX 10 mx.books
mx.books       IN A {host(5)}
six            IN MX 10 mx.six
mx.six         IN A {host(6)}
mx.six         IN AAAA {host6(6)}
four           IN MX 10 mx.four
mx.four        IN A {host(7)}
mx.four        IN AAAA {host6(7)}
prefer         IN MX 20 b.prefer
prefer         IN MX 10 a.prefer
a.prefer       IN A {host(8)}
b.prefer       IN A {host(9)}
ahead          IN MX 10 mx.ahead
ahead          IN MX 20 {NAME}.
ahead          IN MX 30 behind.ahead
mx.ahead       IN A {host(10)}
behind.ahead   IN A {host(11)}
equal          IN MX 10 a.equal
equal          IN MX 10 b.equal
equal          IN MX 10 c.equal
a.equal        IN A {host(14)}
b.equal        IN A {host(15)}
c.equal        IN A {host(16)}
null           IN MX 0 .
nothing        IN TXT "neither mail nor an address"
dangling       IN MX 10 missing.dangling
ourselves      IN MX 10 {NAME}.
our-address    IN MX 10 mx.our-address
mx.our-address IN A {HERE}
second-best    IN MX 10 {NAME}.
second-best    IN MX 20 mx.one
circle         IN CNAME square
square         IN CNAME circle
mx1.provider   IN A {host(20)}
mx2.provider   IN A {host(21)}
x.pool         IN A {host(22)}
y.pool         IN A {host(23)}
pool-x         IN MX 10 x.pool
pool-y         IN MX 10 y.pool
""" + "".join(f"many IN MX {2000 - number} host{number}.many\nhost{number}.many IN A {host(12)}\n"
              for number in range(1000)) + "".join(
    f"hosted{number} IN MX 10 mx1.provider\nhosted{number} IN MX {20 + number} mx2.provider\n" for number in range(40))


@pytest.fixture(scope="module")
def names(shared):
    """The network, with both name servers in it."""
    with Network(f"{HERE}/24", "127.0.0.2/8", *(f"{host(number)}/24" for number in range(1, 40)),
                 *(f"{host6(number)}/64" for number in range(1, 10))):
        servers = NameServers(shared / "names", {"test": RECORDS, "broken.test": None})
        yield servers
        servers.stop()


@pytest.fixture
def relay(names, sluice):
    """relay(routes, …) is a gateway at port 25 of HERE that may be used by this network."""
    def make(routes="mx", **settings):
        return sluice(routes, hosts=(HERE,), ports=[25], hostname=NAME, dns={"servers": ["127.0.0.1"]},
                      relay={"networks": ["192.0.2.0/24"]}, **settings)
    return make


@pytest.fixture
def hop(names, sink):
    """hop(number, …) is a sink at port 25 of host(number)."""
    return lambda number, *script, **options: sink(*script, **{"host": host(number), "port": 25, **options})


def send(gateway, *recipients, sender="", parameters="", each=1):
    """A message for each recipient (or several), in one session; recipient -> the ids."""
    identities = {}
    with gateway.client() as client:
        client.hello()
        for recipient in recipients * each:
            client.send(f"MAIL FROM:<{sender}>{parameters}\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
            for code in (250, 250, 354):
                client.expect(code)
            client.send(CONTENT + b".\r\n")
            identities.setdefault(recipient, []).append(client.expect(250).split()[-1].decode())
    return identities


def taken(*hops):
    """What arrived: (recipient, address of the host), sorted."""
    return sorted((recipient, one.host) for one in hops for message in list(one.messages)
                  for recipient in message.recipients)


def arrive(expected, *hops, seconds=20):
    """Until that many messages are there; they must be those, each where it belongs."""
    expected = sorted(expected)
    wait_until(lambda: len(taken(*hops)) >= len(expected), seconds,
               lambda: f"missing: {set(expected) - set(taken(*hops))}, not expected: {set(taken(*hops)) - set(expected)}")
    assert taken(*hops) == expected
    for one in hops:
        assert all(trace(message.content)[1] == CONTENT for message in list(one.messages))


WHERE = {
    "x@one.test": host(1),
    "x@implicit.test": host(2),
    "x@address.test": host(3),
    "x@alias.test": host(4),
    "x@towards-alias.test": host(1),
    "x@xn--bcher-kva.test": host(5),
    "x@six.test": host6(6),
    "x@four.test": host(7),
    "x@prefer.test": host(9),
    "x@ahead.test": host(10),
    "x@many.test": host(12),
    f"x@[{host(13)}]": host(13),
    "x@ONE.Test": host(1),
}


def test_where_mail_goes(relay, hop):
    hops = [hop(number) for number in (1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 13)] + [hop(6, host=host6(6))]
    gateway = relay()
    identities = send(gateway, *WHERE)
    arrive(WHERE.items(), *hops)
    for recipient, (identity,) in identities.items():
        event, = gateway.wait_event("deliver", id=identity)
        assert WHERE[recipient] in event["host"], event
    gateway.wait_empty()
    assert not gateway.events("bounce") and not gateway.events("defer")


def test_a_domain_in_its_own_letters(relay, hop):
    books = hop(5, extensions=("PIPELINING", "8BITMIME", "SMTPUTF8"))
    gateway = relay()
    send(gateway, "käufer@bücher.test", parameters=" SMTPUTF8")
    wait_until(lambda: books.messages, 20, "the message")
    assert books.messages[0].recipients == ["käufer@bücher.test".encode().decode("latin-1")]


REFUSED = {
    "x@null.test": ("bounce", "556 5.1.10", "bad-domain"),
    "x@nowhere.test": ("bounce", "5.1.2", "bad-domain"),
    "x@nothing.test": ("bounce", "5.4.4", None),
    "x@dangling.test": ("bounce", "5.4.4", None),
    "x@ourselves.test": ("bounce", "5.4.6", "loop"),
    "x@our-address.test": ("bounce", "5.4.6", "loop"),
    "x@second-best.test": ("bounce", "5.4.6", "loop"),
    "x@broken.test": ("defer", "4.4.3", "dns"),
    "x@circle.test": ("defer", "4.4.3", "dns"),
}


def test_where_mail_cannot_go(relay, hop):
    one = hop(1)
    gateway = relay()
    for recipient, (identity,) in send(gateway, *REFUSED).items():
        name, status, reason = REFUSED[recipient]
        event = gateway.wait_event(name, id=identity)[0]
        assert status in event["reply"], event
        assert reason in (None, event["class"]), event
    # What is only put off stays; all else is gone.
    assert gateway.stats()["messages_waiting"] == sum(name == "defer" for name, _, _ in REFUSED.values())
    assert not one.connections


def test_mail_without_a_way_is_tried_again_and_again(relay):
    """Until there is one; also when its envelope is no longer in memory."""
    gateway = relay(workers=1, retry={"schedule": ["100ms"], "max_age": "1h"})
    identities = send(gateway, "x@broken.test", "x@below.broken.test", "x@circle.test", each=15)

    def least():
        attempts = {event["id"]: event["attempt"] for event in gateway.events("defer")}
        return min((attempts.get(identity, 0) for each in identities.values() for identity in each))
    wait_until(lambda: least() >= 35, 20, lambda: f"35 attempts with each message, there were only {least()} with one")


def test_a_name_server_that_is_silent_for_a_while(relay, hop, names):
    """Its next answer is soon enough: no mail is put off, and none of what came meanwhile is lost."""
    one, real = hop(1), hop(4)
    gateway = relay()
    send(gateway, "x@one.test")
    wait_until(lambda: one.messages, 10, "the message whose way is known")
    with names.silent():
        send(gateway, "y@one.test", *["x@real.test"] * 20)
        wait_until(lambda: len(one.messages) == 2, 10, "another one")
        wait_until(lambda: gateway.stats()["dns_timeouts"], 10, "a question in vain")
        assert not real.messages
    wait_until(lambda: len(real.messages) == 20, 20, "those that waited for an answer")
    assert not gateway.events("defer")


def test_mail_waits_rather_than_goes_back(relay, hop):
    """Whoever is less preferred than we are may hand mail to us: it must never get any from us."""
    behind = hop(11)
    ahead = hop(10)
    ahead.down()
    gateway = relay()
    identity, = send(gateway, "x@ahead.test")["x@ahead.test"]
    gateway.wait_event("defer", id=identity)
    ahead.up()
    arrive([("x@ahead.test", host(10))], ahead, behind)


def test_a_connection_that_comes_too_late(relay, hop):
    """The first one fails, the second greets when the site was given up, and nobody has use for it then."""
    one = hop(1, "greeting #1: delay 0.5; close\ngreeting #2: delay 0.8; ok")
    gateway = relay(workers=1, timeouts={"outbound_idle": "200ms"})
    identity, = send(gateway, "x@one.test")["x@one.test"]
    gateway.wait_event("defer", id=identity)
    wait_until(lambda: one.messages, 15, lambda: f"the message, not only {one.commands}")
    assert one.connections == 3 and not one.commands[0][1].startswith("MAIL"), one.commands


def test_equal_preferences_share_the_load(relay, hop):
    hops = [hop(number, "end: delay 0.02; ok") for number in (14, 15, 16)]
    gateway = relay(sites={"default": {"messages_per_connection": 2}})
    send(gateway, "x@equal.test", each=120)
    wait_until(lambda: sum(len(one.messages) for one in hops) == 120, 30, lambda: [len(one.messages) for one in hops])
    assert min(len(one.messages) for one in hops) >= 12, [len(one.messages) for one in hops]
    # One that is down costs nothing but its part.
    hops[1].down()
    before = [len(one.messages) for one in hops]
    send(gateway, "x@equal.test", each=20)
    wait_until(lambda: sum(len(one.messages) for one in hops) == 140, 30, lambda: [len(one.messages) for one in hops])
    assert len(hops[1].messages) == before[1]


HOSTED = [f"x@hosted{number}.test" for number in range(40)]


def test_domains_with_the_same_hosts_are_one_site(relay, hop):
    """Forty domains at one provider share its connections, its limits and its name; and cost few questions."""
    first, second = hop(20, "end: delay 0.01; ok"), hop(21)
    gateway = relay(sites={"provider.test": {"connections": 3}})
    send(gateway, *HOSTED, each=6)
    wait_until(lambda: len(first.messages) == 240, 30, lambda: f"{len(first.messages)} and {len(second.messages)}")
    assert {event["site"] for event in gateway.wait_event("deliver", count=240)} == {"provider.test"}
    assert first.peak == 3 and not second.connections
    # MX of forty domains, A and AAAA of two hosts.
    assert gateway.stats()["dns_queries"] <= 1.1 * (40 + 2 * 2), gateway.stats()


def most_within(times, span):
    """The most events in any span of so many seconds."""
    return max(sum(start <= each < start + span for each in times) for start in times)


def test_limits_hold(relay, hop):
    """In every second and minute, over all workers and domains; and they are used."""
    first = hop(20)
    gateway = relay(workers=2, sites={"provider.test": {"messages_per_second": 10, "connections_per_second": 2,
                                                        "messages_per_connection": 4}})
    began = time.monotonic()
    send(gateway, *HOSTED)
    wait_until(lambda: len(first.messages) == 40, 30, lambda: f"40 messages, got {len(first.messages)}")
    took = time.monotonic() - began
    # What the sink sees is a little later than what the gateway counts.
    assert most_within(first.connection_times, 0.9) <= 2
    assert most_within(first.times, 0.9) <= 10
    assert 3.5 < took < patience(10), took
    per_connection = [sum(message.connection == number for message in first.messages)
                      for number in range(1, first.connections + 1)]
    assert max(per_connection) <= 4, per_connection


def test_a_limit_for_a_minute_holds(relay, hop):
    first = hop(20)
    gateway = relay(sites={"provider.test": {"messages_per_minute": 20}})
    send(gateway, *HOSTED)
    began = time.monotonic()
    wait_until(lambda: len(first.messages) >= 2, 20, "the first messages")
    time.sleep(4)
    allowed = 20 * (time.monotonic() - began + 1) / 60 + 1
    assert len(first.messages) <= allowed, f"{len(first.messages)} messages, {allowed} were allowed"
    assert gateway.stats()["messages_waiting"] == 40 - len(first.messages)


def test_a_section_for_several_sites_is_one_limit(relay, hop):
    """".pool.test" covers both sites: together they get what it says."""
    x, y = (hop(number, "end: delay 0.05; ok") for number in (22, 23))
    gateway = relay(sites={".pool.test": {"connections": 2, "connections_per_host": 1}})
    counts = []
    send(gateway, "x@pool-x.test", "x@pool-y.test", each=30)

    def all_there():
        counts.append((x.open_connections, y.open_connections))
        return len(x.messages) + len(y.messages) == 60
    wait_until(all_there, 30, lambda: f"60 messages, got {len(x.messages)} and {len(y.messages)}")
    assert len(x.messages) == len(y.messages) == 30
    assert x.peak == 1 and y.peak == 1, (x.peak, y.peak)
    assert max(a + b for a, b in counts) <= 2
    assert {event["site"] for event in gateway.wait_event("deliver", count=60)} == {"pool.test"}


def test_routes(relay, hop):
    """By domain, by the domains above it, by the sender's domain; where there is no other, by MX."""
    one, exact, above, ours = hop(1), hop(25), hop(26), hop(27)
    gateway = relay({"exact.test": exact, ".above.test": above, "from:news.example": ours, "from:.brand.example": ours,
                     "gone.test": "discard", "*": "mx",
                     "refused.test": "error:550 5.7.1 We do not write to them"})
    send(gateway, "x@exact.test", "x@very.far.above.test", "x@one.test", sender="")
    send(gateway, "y@one.test", sender="autumn@news.example")
    send(gateway, "z@one.test", sender="autumn@shop.brand.example")
    # The recipient's own route comes first.
    send(gateway, "y@exact.test", sender="autumn@news.example")
    arrive([("x@exact.test", host(25)), ("y@exact.test", host(25)), ("x@very.far.above.test", host(26)),
            ("x@one.test", host(1)), ("y@one.test", host(27)), ("z@one.test", host(27))], one, exact, above, ours)
    identity, = send(gateway, "x@gone.test")["x@gone.test"]
    gateway.wait_event("deliver", id=identity)
    with gateway.client() as client:
        client.hello()
        client.command("MAIL FROM:<>", 250)
        client.send(b"RCPT TO:<x@refused.test>\r\n")
        assert client.reply()[1][-1] == b"550 5.7.1 We do not write to them"
    gateway.wait_empty()


def write(path, text):
    """As an operator should: a new file, then renamed over the old one."""
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(text)
    os.rename(path + ".new", path)


def test_the_file_of_routes_is_read_again(relay, hop, folder):
    path = os.path.join(folder, "routes")
    first, second, named = hop(28), hop(29), hop(1, port=2525)
    write(path, f"filed.test  smtp://{host(28)}\nboth.test   smtp://{host(28)}\nnamed.test  smtp://mx.one.test:2525\n"
                + "".join(f"other{number}.test  mx\n" for number in range(10000)))
    gateway = relay({"both.test": "error:550 5.7.1 the file comes first", "*": "mx"}, route_file=path)
    send(gateway, "x@filed.test", "x@both.test", "x@named.test")
    arrive([("x@filed.test", host(28)), ("x@both.test", host(28))], first)
    arrive([("x@named.test", host(1))], named)
    write(path, f"filed.test  smtp://{host(29)},smtp://{host(28)}\n")

    def has_moved():
        send(gateway, "y@filed.test")
        return second.messages
    wait_until(has_moved, 20, "mail at the route's new host")
    # A file with a mistake changes nothing.
    write(path, "filed.test  gopher://192.0.2.9\n")
    time.sleep(2.5)
    before = len(second.messages)
    send(gateway, "z@filed.test")
    wait_until(lambda: len(second.messages) > before, 20, "mail at the host of the last good file")


def test_weights_spread_mail(relay, hop):
    heavy, light = hop(30), hop(31)
    gateway = relay({"*": {"to": [heavy, light], "weights": [3, 1]}}, sites={"default": {"messages_per_connection": 1}})
    send(gateway, "x@one.test", each=160)
    wait_until(lambda: len(heavy.messages) + len(light.messages) == 160, 30, "all messages")
    assert 92 <= len(heavy.messages) <= 148, (len(heavy.messages), len(light.messages))
    light.down()
    send(gateway, "y@one.test", each=10)
    wait_until(lambda: len(heavy.messages) + len(light.messages) == 170, 30, "those that the other one takes over")


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue("mx", names=("mx.one.test",))


SAFE, FREE = "x@safe.test", "x@free.test"


def test_what_must_be_verified_never_shares_a_connection(relay, hop, authority, certificate):
    """At the same host, at the same time, whoever opened a connection first."""
    one = hop(1, "end: delay 0.01; ok", certificate=certificate)
    routes = {"safe.test": {"to": one, "tls": "verify", "tls_names": ["mx.one.test"]},
              "free.test": {"to": one, "tls": "none"}, "*": {"to": one, "tls": "may"}}
    gateway = relay(routes, outbound={"ca_file": authority.path})
    send(gateway, FREE, SAFE, "x@any.test", each=30)
    wait_until(lambda: len(one.messages) == 90, 30, lambda: f"90 messages, got {len(one.messages)}")
    connections = {name: {message.connection for message in one.messages if message.recipients == [name]}
                   for name in (SAFE, FREE, "x@any.test")}
    assert not connections[SAFE] & (connections[FREE] | connections["x@any.test"]), connections
    assert all(message.is_tls == (message.recipients != [FREE]) for message in one.messages)


def test_what_cannot_be_verified_waits(relay, hop, authority, certificate):
    """The certificate has another name; TLS is fine for `encrypt` and for `may`, whose connections stay open."""
    one = hop(1, certificate=certificate)
    routes = {"safe.test": {"to": one, "tls": "verify", "tls_names": ["mx.other.test"]},
              "coded.test": {"to": one, "tls": "encrypt"}, "*": {"to": one, "tls": "may"}}
    gateway = relay(routes, outbound={"ca_file": authority.path})
    send(gateway, "x@any.test", "x@coded.test", each=5)
    identity, = send(gateway, SAFE)[SAFE]
    send(gateway, "x@any.test", "x@coded.test", each=5)
    event = gateway.wait_event("defer", id=identity)[0]
    assert event["class"] == "tls", event
    wait_until(lambda: len(one.messages) == 20, 20, lambda: f"20 messages, got {len(one.messages)}")
    assert all(message.is_tls and message.recipients != [SAFE] for message in one.messages)


def test_our_own_certificate_is_shown_to_who_asks(relay, hop, authority, certificate):
    """A next hop that wants one takes our mail with it, and not without."""
    ours = authority.issue("ours", names=(NAME,), usage="client")
    one = hop(1, certificate=certificate, client_authority=authority)
    routes = {"*": {"to": one, "tls": "encrypt"}}
    gateway = relay(routes, outbound={"ca_file": authority.path, "certificate": ours.path, "private_key": ours.key})
    send(gateway, "x@any.test")
    wait_until(lambda: one.messages, 20, "the message")
    assert one.messages[0].is_tls
    gateway.stop()
    gateway = relay(routes, outbound={"ca_file": authority.path})
    identity, = send(gateway, "x@any.test")["x@any.test"]
    gateway.wait_event("defer", id=identity) # TLS 1.3 has no way to say why before it closes
    assert len(one.messages) == 1


def test_tls_as_a_section_wants_it(relay, hop, authority, certificate):
    """By MX: the hosts' own names are verified, and who has no TLS gets nothing."""
    one, clear = hop(1, certificate=certificate), hop(4)
    gateway = relay(sites={"mx.one.test": {"tls": "verify"}, "mx.real.test": {"tls": "encrypt"}},
                    outbound={"ca_file": authority.path})
    identities = send(gateway, "x@one.test", "x@real.test")
    arrive([("x@one.test", host(1))], one)
    assert one.messages[0].is_tls
    event = gateway.wait_event("defer", id=identities["x@real.test"][0])[0]
    assert event["class"] == "tls" and re.search("4.7.[45]", event["reply"]), event
    assert not clear.messages


@pytest.fixture
def changing(names, sluice):
    """changing(zone, …) is a gateway with a name server whose zone may change, and that zone."""
    servers = []

    def make(zone, ttl=5, **settings):
        servers.append(ScriptedNames(zone, ttl))
        return sluice("mx", hosts=(HERE,), ports=[25], hostname=NAME, dns={"servers": [servers[-1].address]},
                      relay={"networks": ["192.0.2.0/24"]}, **settings)
    yield make
    for server in servers:
        server.stop()


def test_mail_follows_an_mx_that_moves(changing, hop):
    """Nothing new comes for the domain, and its host is dead: what waits asks again when the answer is too old."""
    zone = {"moves.test": [(10, "old.moves.test")], "old.moves.test": [host(30)], "new.moves.test": [host(31)]}
    gateway = changing(zone)
    send(gateway, "a@moves.test", each=20)
    gateway.wait_event("warning", what="site is down")
    new = hop(31)
    zone["moves.test"] = [(10, "new.moves.test")]
    wait_until(lambda: len(new.messages) >= 18, 30, lambda: f"mail at the new host, got {len(new.messages)}")


def test_a_verdict_does_not_outlive_its_time(changing, hop):
    """The retry is sent, not told once more what was wrong before it."""
    zone = {"cured.test": "SERVFAIL", "mx.cured.test": [host(32)]}
    gateway = changing(zone, retry={"schedule": ["11s", "1h"], "jitter": "0%"})
    one = hop(32)
    identity, = send(gateway, "a@cured.test")["a@cured.test"]
    gateway.wait_event("defer", id=identity)
    zone["cured.test"] = [(10, "mx.cured.test")]
    event, = gateway.wait_event("deliver", 25, id=identity)
    assert event["attempt"] == 2 and len(one.messages) == 1


def test_new_mail_is_not_judged_by_an_old_verdict(changing, hop):
    """A domain that did not exist for a while, whose lane (one worker has one) is kept by a message that waits."""
    zone = {"back.test": [(10, "mx.back.test")], "mx.back.test": [host(33)]}
    gateway = changing(zone, workers=1, retry={"schedule": ["1h"]})
    one = hop(33, "rcpt keep: 450 4.2.0 later")
    identity, = send(gateway, "keep@back.test")["keep@back.test"]
    gateway.wait_event("defer", id=identity)
    records = zone.pop("back.test")
    time.sleep(6)
    send(gateway, "first@back.test")  # it asks; may still go to the hosts of old
    wait_until(lambda: gateway.events("deliver") or gateway.events("bounce"), 10, "the end of the first")
    second, = send(gateway, "second@back.test")["second@back.test"]
    gateway.wait_event("bounce", id=second)
    zone["back.test"] = records
    time.sleep(6)
    third, = send(gateway, "third@back.test")["third@back.test"]
    gateway.wait_event("deliver", id=third)
    assert not gateway.events("bounce", id=third)
