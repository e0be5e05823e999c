"""kill -9 while next hops take, postpone, refuse and break off: every recipient that was accepted is delivered, waits, or is
reported to the sender."""
import os
import random
import threading
import time
from collections import Counter

import pytest

from lab.client import Closed
from lab.machine import IS_LONG, patience, wait_until
from receivers.receiver import Town

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

# How long before a kill a delivery may have happened whose outcome was not yet on the disk.
OUTCOME_WINDOW_S = 0.3

# Without CHUNKING two messages at most are under way on a connection: the one whose end is not answered, and the next one.
SITES, CONNECTIONS = 6, 10
IN_FLIGHT = SITES * CONNECTIONS * 2

SETTINGS = {"retry": {"schedule": ["100ms", "300ms", "1s", "10s"], "jitter": "20%"},
            "sites": {"default": {"connections": CONNECTIONS}}, "timeouts": {"outbound_end": "5s"},
            "notices": {"per_minute": 0, "per_address_per_minute": 0}}
REPORTED_TO = "senders.example"


class Load:
    """Clients that send to all kinds of recipients as fast as they can, and remember which were acknowledged."""

    def __init__(self, gateway, domains, seed, clients=4):
        self.gateway, self.domains = gateway, domains
        self.begun, self.acknowledged = {}, {}  # sender, one for each message: recipients
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
                        client.message(sender, recipients, f"Subject: {sender}\r\n\r\n".encode() + b"x\r\n" * (count % 99))
                        self.acknowledged[sender] = recipients
                        time.sleep(0.01)  # a load that mail can follow through all its second attempts
            except (Closed, OSError):
                time.sleep(0.01)

    def recipients(self, source, name):
        kinds = source.choices(list(KINDS), list(KINDS.values()), k=source.choice((1, 1, 1, 2, 5)))
        if ALONE & set(kinds):
            kinds = [kind for kind in kinds if kind in ALONE][:1]
        domain = source.choice(self.domains)
        return [f"{kind}-{name}-{index}@{domain}" for index, kind in enumerate(kinds)]

    def stop(self):
        self.is_stopped.set()
        for thread in self.threads:
            thread.join(patience(30))
            assert not thread.is_alive(), "a client hangs"


def kind_of(recipient):
    return recipient.split("-")[0]


def flat(acknowledged, *kinds):
    """(sender, recipient) of all that were accepted, or of these kinds."""
    return {(sender, one) for sender, recipients in acknowledged.items() for one in recipients
            if not kinds or kind_of(one) in kinds}


class Ledger:
    """What the receivers have of it."""

    def __init__(self, receivers, home):
        self.receivers, self.home = receivers, home

    def deliveries(self):
        """(sender, recipient): when, for each copy that was taken."""
        found = {}
        for receiver in self.receivers:
            for copy in list(receiver.copies):
                for one in copy.taken:
                    found.setdefault((copy.sender, one), []).append(copy.when)
        return found

    def reports(self):
        """(sender, recipient): when, for each notice about it."""
        found = {}
        for copy in list(self.home.copies):
            assert copy.sender == "", f"a message from {copy.sender} to the senders' domain"
            for line in copy.content.decode("latin-1").splitlines():
                if line.lower().startswith("final-recipient:"):
                    found.setdefault((copy.recipients[0], line.split(";")[1].strip()), []).append(copy.when)
        return found


def check_doubles(copies, kills):
    """A second copy is allowed where the first came just before a kill, and that for no more than was under way then; or where
    the receiver broke off behind the first. Returns how many there are, and the longest time from a first copy to its kill."""
    at_kills, longest = Counter(), 0.0
    for (sender, recipient), times in copies.items():
        near = [kill for when in times[:-1] for kill in kills if kill - patience(OUTCOME_WINDOW_S) < when < kill + 0.1]
        broken_off = 1 if kind_of(recipient) == "lost" else 0
        assert len(times) - 1 <= len(near) + broken_off, (
            f"{len(times)} copies for {recipient} of {sender}, with no kill near: {times}, kills {kills}")
        if not broken_off:
            at_kills.update((kill, sender) for kill in near[:1])
            longest = max([longest, *(kill - times[0] for kill in near)])
    for kill in kills:
        messages = sum(one == kill for one, _ in at_kills)
        assert messages <= IN_FLIGHT, f"{messages} messages were delivered twice at one kill"
    return len(at_kills), longest


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
    domains = [f"mixed{index}.example" for index in range(SITES)]
    receivers = {domain: town.receiver(SCRIPT, keep=False) for domain in domains}
    home = town.receiver()
    ledger = Ledger(list(receivers.values()), home)
    gateway = sluice({**{domain: one.target for domain, one in receivers.items()}, REPORTED_TO: home.target}, **SETTINGS)
    load, kills = Load(gateway, domains, seed), []
    for index in range(rounds):
        time.sleep(patience(source.uniform(0.2, 1.2)))
        gateway.kill()
        kills.append(time.monotonic())
        gateway.settings["workers"] = (1, 3, 2)[index % 3]
        gateway.start()
    time.sleep(0.5)
    load.stop()
    assert len(load.acknowledged) > 20 * rounds, "there was no load to speak of"
    unknown = {sender: load.begun[sender] for sender in load.begun.keys() - load.acknowledged.keys()}
    check_ends(gateway, ledger, load.acknowledged, kills)
    check_waiting(gateway, load.acknowledged, unknown)


def check_waiting(gateway, acknowledged, unknown):
    """What should wait does; with it may wait what was accepted in the moment of a kill."""
    least, more = (len({sender for sender, _ in flat(some, "never")}) for some in (acknowledged, unknown))
    wait_until(lambda: least <= gateway.stats()["messages_waiting"] <= least + more, 20,
               lambda: f"{least} to {least + more} messages to wait: {gateway.stats()['messages_waiting']}")


def check_ends(gateway, ledger, acknowledged, kills):
    """Each recipient that was accepted, and should not wait, has come to its end."""
    due = flat(acknowledged, "ok", "slow", "late", "lost", "gone")
    refused = flat(acknowledged, "bad", "worse")

    def missing():
        return due - ledger.deliveries().keys(), refused - ledger.reports().keys()
    try:
        wait_until(lambda: not any(missing()), 180 if IS_LONG else 60, "every recipient to be delivered or reported")
    except AssertionError:
        undelivered, unreported = missing()
        for sender, recipient in [*sorted(undelivered)[:3], *sorted(unreported)[:3]]:
            for event in [*gateway.events(all_starts=True, to=recipient), *gateway.events(all_starts=True, to=sender)][-6:]:
                print(event)
        raise AssertionError(f"of {len(due)} and {len(refused)}: {len(undelivered)} never arrived: {sorted(undelivered)[:5]}, "
                             f"{len(unreported)} were never reported: {sorted(unreported)[:5]}") from None
    deliveries, reports = ledger.deliveries(), ledger.reports()
    never = [one for one in deliveries if kind_of(one[1]) in ("bad", "worse", "never")]
    assert not never, f"delivered, though the receiver refused: {never[:5]}"
    strange = reports.keys() - refused
    assert not {one for one in strange if one[0] in acknowledged}, f"reported, but not refused: {sorted(strange)[:5]}"
    (doubles, longest), (twice, _) = check_doubles(deliveries, kills), check_doubles(reports, kills)
    print(f"{len(kills)} kills, {len(acknowledged)} messages with {len(flat(acknowledged))} recipients: {len(due)} delivered, "
          f"{len(refused)} reported, {len(flat(acknowledged, 'never'))} waiting, 0 lost, {doubles} messages "
          f"and {twice} notices twice, the first of them {longest * 1000:.0f} ms before a kill at most")
