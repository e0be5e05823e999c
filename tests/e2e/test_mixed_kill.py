"""kill -9 while next hops take, postpone, refuse and break off, in every gear: every recipient that was accepted is
delivered, waits, or is reported to the sender; and who asked for it hears of a delay or of a delivery."""
import os
import random
import re
import threading
import time
from collections import Counter

import pytest

from lab.client import Closed, queue_id
from lab.machine import IS_LONG, patience, wait_until
from receivers.receiver import EXTENSIONS, Town

# What becomes of an address, by its first word: of a hundred recipients. `never` waits for ever.
KINDS = {"ok": 58, "slow": 7, "late": 8, "bad": 8, "worse": 7, "lost": 5, "gone": 5, "never": 2}
SCRIPT = """
rcpt <slow once: 451 4.2.1 later
end late once: 452 4.3.1 later
rcpt <bad: 550 5.1.1 nobody
rcpt <never: 450 4.2.1 not today
end worse: 554 5.6.0 not this
end lost once: take; close
end gone once: reset
"""
ALONE = {"late", "worse", "lost", "gone"}  # decided at the end of a message, so for all of its recipients
BREAKS = {"lost", "gone"}
REFUSED = {"bad", "worse"}

# What a recipient's sender asks to be told, by the second word of its address: of a hundred recipients. A refusal is always
# among it, so that each recipient's end can be seen.
WISHES = {"plain": ("", 70), "all": (" NOTIFY=SUCCESS,FAILURE,DELAY", 20), "nodelay": (" NOTIFY=SUCCESS,FAILURE", 10)}

# How long before a kill a delivery may have happened whose outcome was not yet on the disk: this, and longer where the disk
# was slow.
OUTCOME_WINDOW_S = 0.3

# Next hops by domain, (has CHUNKING, breaks off). One that breaks off goes down a gear at once, so some never do.
SITES = {"mixed0.example": (False, True), "mixed1.example": (False, True), "mixed2.example": (False, True),
         "chunks0.example": (True, True), "chunks1.example": (True, False), "chunks2.example": (True, False)}
CONNECTIONS = 10
# Messages that are under way on a connection: the one whose end is not answered and the next one; with CHUNKING more.
DEPTH, CHUNKED_DEPTH = 2, 8

SETTINGS = {"retry": {"schedule": ["100ms", "300ms", "1s", "10s"], "jitter": "20%", "delay_warning": "300ms"},
            "sites": {"default": {"connections": CONNECTIONS}}, "timeouts": {"outbound_end": "5s"},
            "notices": {"per_minute": 0, "per_address_per_minute": 0}}
REPORTED_TO = "senders.example"


class Load:
    """Clients that send to all kinds of recipients as fast as they can, and remember which were acknowledged."""

    def __init__(self, gateway, seed, clients=4):
        self.gateway = gateway
        self.begun, self.acknowledged = {}, {}  # sender, one for each message: recipients
        self.waits = []  # (from, until) of each end of a message and its 250, or the kill
        self.is_stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(number, random.Random(seed + number)), daemon=True)
                        for number in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, number, source):
        """One client: reconnects whenever the gateway goes."""
        count = 0
        while not self.is_stopped.is_set():
            try:
                with self.gateway.client(timeout=20) as client:
                    client.hello()
                    while not self.is_stopped.is_set():
                        count += 1
                        sender = f"s{number}-{count}@{REPORTED_TO}"
                        recipients = self.recipients(source, f"{number}-{count}")
                        self.begun[sender] = recipients
                        self.send(client, sender, recipients, b"x\r\n" * (count % 99))
                        self.acknowledged[sender] = recipients
                        time.sleep(0.01)  # a load that mail can follow through all its second attempts
            except (Closed, OSError):
                time.sleep(0.01)

    def send(self, client, sender, recipients, body):
        """A whole transaction with the recipients' wishes."""
        client.command(f"MAIL FROM:<{sender}>", 250)
        for recipient in recipients:
            client.command(f"RCPT TO:<{recipient}>{wish_of(recipient)}", 250)
        client.command("DATA", 354)
        began = time.monotonic()
        try:
            client.send(f"Subject: {sender}\r\n\r\n".encode() + body + b".\r\n")
            queue_id(client.expect(250))
        finally:
            self.waits.append((began, time.monotonic()))

    def window(self, kill):
        """How long before this kill an outcome may have come unwritten: what is acknowledged waits for the disk, too."""
        slowest = max((until - since for since, until in self.waits if since < kill and until > kill - 2), default=0)
        return patience(OUTCOME_WINDOW_S) + 2 * slowest

    def recipients(self, source, name):
        domain = source.choice(list(SITES))
        shares = {kind: share for kind, share in KINDS.items() if SITES[domain][1] or kind not in BREAKS}
        kinds = source.choices(list(shares), list(shares.values()), k=source.choice((1, 1, 1, 2, 5)))
        if ALONE & set(kinds):
            kinds = [kind for kind in kinds if kind in ALONE][:1]
        wishes = source.choices(list(WISHES), [share for _, share in WISHES.values()], k=len(kinds))
        return [f"{kind}-{wish}-{name}-{index}@{domain}" for index, (kind, wish) in enumerate(zip(kinds, wishes))]

    def stop(self):
        self.is_stopped.set()
        for thread in self.threads:
            thread.join(patience(30))
            assert not thread.is_alive(), "a client hangs"


def kind_of(recipient):
    """The first word of its address, as in KINDS."""
    return recipient.split("-")[0]


def wish_of(recipient):
    """What its RCPT has behind the address."""
    return WISHES[recipient.split("-")[1]][0]


def wants_delay(recipient):
    return "SUCCESS" not in wish_of(recipient) or "DELAY" in wish_of(recipient)


def site_of(recipient):
    return recipient.split("@")[1]


class Accounts:
    """What has to become of the recipients that were accepted, each as (sender, recipient)."""

    def __init__(self, acknowledged):
        self.senders = acknowledged.keys()
        self.all = {(sender, one) for sender, recipients in acknowledged.items() for one in recipients}
        self.refused = self.having(lambda one: kind_of(one) in REFUSED)
        self.waiting = self.having(lambda one: kind_of(one) == "never")
        self.due = self.all - self.refused - self.waiting
        self.told = {"failed": self.refused,
                     "relayed": {one for one in self.due if "SUCCESS" in wish_of(one[1])},
                     "delayed": {one for one in self.waiting if wants_delay(one[1])}}
        # Whatever waits long enough, as it may when the gateway is killed again and again.
        self.may_be_told = {**self.told, "delayed": self.having(wants_delay)}

    def having(self, condition):
        return {(sender, one) for sender, one in self.all if condition(one)}


class Ledger:
    """What the receivers have of it; `receivers` is {domain: receiver}, `home` the one that notices go to."""

    def __init__(self, receivers, home):
        self.receivers, self.home = receivers, home
        self.read = 0  # of the home's copies
        self.told = {}

    def deliveries(self):
        """(sender, recipient): when, for each copy that was taken."""
        found = {}
        for receiver in self.receivers.values():
            for copy in list(receiver.copies):
                for one in copy.taken:
                    found.setdefault((copy.sender, one), []).append(copy.when)
        return found

    def reports(self, action):
        """(sender, recipient): when, for each notice that says so about it."""
        for copy in self.home.copies[self.read:]:
            self.read += 1
            assert copy.sender == "", f"a message from {copy.sender} to the senders' domain"
            for block in copy.content.decode("latin-1").split("\r\n\r\n"):
                fields = {name.lower(): value for name, value in re.findall(r"^([\w-]+): *(.*)\r?$", block, re.MULTILINE)}
                if "final-recipient" in fields:
                    about = (copy.recipients[0], fields["final-recipient"].split(";")[1].strip())
                    self.told.setdefault(fields["action"].strip(), {}).setdefault(about, []).append(copy.when)
        strange = self.told.keys() - {"failed", "relayed", "delayed"}
        assert not strange, f"notices say {strange}"
        return self.told.get(action, {})

    def broken_off(self):
        """By sender, how often the answer to its message may have been lost because the receiver broke off a connection: at
        that very message, or with CHUNKING at one of those that came behind it."""
        found = Counter()
        for domain, receiver in self.receivers.items():
            connections, broken = {}, set()
            for copy in list(receiver.copies):
                before = connections.setdefault(copy.connection, [])
                before.append(copy)
                # What `once` of the script means: the command differs between DATA and BDAT.
                which = (copy.sender, copy.is_chunked)
                if kind_of(copy.recipients[0]) in BREAKS and which not in broken:
                    broken.add(which)
                    found.update(one.sender for one in before[-CHUNKED_DEPTH if SITES[domain][0] else -1:])
        return found


def check_doubles(gateway, copies, kills, depth_of, broken_off=()):
    """A second copy is allowed where the first came just before a kill, and that for no more than was under way then; or where
    the receiver broke off. `kills` is {when: its window}; `depth_of` gives a recipient's site and how many messages are
    under way on one of its connections. Returns how many there are, and the longest time from a first copy to its kill."""
    at_kills, longest = {}, 0.0
    for (sender, recipient), times in copies.items():
        near = [(when, kill) for when in times[:-1] for kill, window in kills.items() if kill - window < when < kill + 0.1]
        near = dict(reversed(near))  # to each copy the first of its kills
        excused = broken_off[sender] if broken_off else 0
        assert len(times) - 1 <= len(near) + excused, (
            f"{len(times)} copies for {recipient} of {sender}, {excused} of them broken off, with no kill near: {times}, "
            f"kills {kills}\n{story(gateway, (sender, recipient))}")
        for when, kill in near.items() if not excused else ():
            at_kills.setdefault((kill, *depth_of(recipient)), set()).add(sender)
            longest = max(longest, kill - when)
    for (_, site, depth), senders in at_kills.items():
        assert len(senders) <= CONNECTIONS * depth, f"{len(senders)} messages to {site} came twice at one kill"
    return sum(map(len, at_kills.values())), longest


def depth_of_site(recipient):
    return site_of(recipient), CHUNKED_DEPTH if SITES[site_of(recipient)][0] else DEPTH


@pytest.fixture(name="town")
def fixture_town():
    town = Town()
    yield town
    town.stop()


def test_kill_under_mixed_outcomes(sluice, town):
    rounds = 100 if IS_LONG else 8
    seed = int(os.environ.get("SLUICE_SEED", random.randrange(1 << 32)))
    source = random.Random(seed)
    print(f"seed {seed}")
    receivers = {domain: town.receiver(SCRIPT, keep=False, extensions=EXTENSIONS + ("CHUNKING",) * has_chunking)
                 for domain, (has_chunking, _) in SITES.items()}
    home = town.receiver()
    ledger = Ledger(receivers, home)
    gateway = sluice({**{domain: one.target for domain, one in receivers.items()}, REPORTED_TO: home.target}, **SETTINGS)
    load, kills = Load(gateway, seed), []
    for index in range(rounds):
        time.sleep(patience(source.uniform(0.2, 0.9)))
        gateway.kill()
        kills.append(time.monotonic())
        gateway.settings["workers"] = (1, 3, 2)[index % 3]
        gateway.start()
    time.sleep(0.5)
    load.stop()
    assert len(load.acknowledged) > 20 * rounds, "there was no load to speak of"
    chunked = sum(copy.is_chunked for one in receivers.values() for copy in one.copies)
    assert chunked > 5 * rounds, f"only {chunked} messages came in gear 4"
    unknown = {sender: load.begun[sender] for sender in load.begun.keys() - load.acknowledged.keys()}
    accounts = Accounts(load.acknowledged)
    wait_for_ends(gateway, ledger, accounts)
    print(f"{chunked} copies in gear 4")
    check_ends(gateway, ledger, accounts, {kill: load.window(kill) for kill in kills})
    check_waiting(gateway, accounts, Accounts(unknown))


def check_waiting(gateway, accounts, unknown):
    """What should wait does; with it may wait what was accepted in the moment of a kill."""
    least, more = (len({sender for sender, _ in some.waiting}) for some in (accounts, unknown))
    wait_until(lambda: least <= gateway.stats()["messages_waiting"] <= least + more, 20,
               lambda: f"{least} to {least + more} messages to wait: {gateway.stats()['messages_waiting']}")


def story(gateway, one):
    """What the log has about a (sender, recipient)."""
    events = gateway.events(all_starts=True, to=one[1]) + gateway.events(all_starts=True, to=one[0])
    return "\n".join(map(str, events[-20:]))


def wait_for_ends(gateway, ledger, accounts):
    """Until each recipient that was accepted has come to its end, and each notice that is due has come."""
    def missing():
        return {"delivered": accounts.due - ledger.deliveries().keys(),
                **{action: due - ledger.reports(action).keys() for action, due in accounts.told.items()}}
    try:
        wait_until(lambda: not any(missing().values()), 180 if IS_LONG else 60, "every recipient's end")
    except AssertionError:
        lacking = missing()
        for one in [one for some in lacking.values() for one in sorted(some)[:3]]:
            print(story(gateway, one))
        raise AssertionError("".join(f"{len(some)} were never {end}: {sorted(some)[:5]}. "
                                     for end, some in lacking.items() if some)) from None


def check_ends(gateway, ledger, accounts, kills):
    """Nothing came that should not, and nothing twice without a reason."""
    deliveries = ledger.deliveries()
    never = [one for one in deliveries if kind_of(one[1]) in (*REFUSED, "never")]
    assert not never, f"delivered, though the receiver refused: {never[:5]}"
    doubles, longest = check_doubles(gateway, deliveries, kills, depth_of_site, ledger.broken_off())
    twice = 0
    for action, allowed in accounts.may_be_told.items():
        reports = ledger.reports(action)
        strange = sorted(one for one in reports.keys() - allowed if one[0] in accounts.senders)
        assert not strange, f"reported as {action}: {strange[:5]}"
        twice += check_doubles(gateway, reports, kills, lambda _: (REPORTED_TO, DEPTH))[0]
    print(f"{len(kills)} kills, {len(accounts.senders)} messages with {len(accounts.all)} recipients: {len(accounts.due)} "
          f"delivered, {len(accounts.refused)} reported, {len(accounts.waiting)} waiting, 0 lost; "
          f"{len(accounts.told['relayed'])} successes and {len(ledger.reports('delayed'))} delays told; {doubles} messages "
          f"and {twice} notices twice, the first of them {longest * 1000:.0f} ms before a kill at most")
