"""Scenarios of misbehaviour and the play in which they are acted: one gateway, and for each a receiver and a domain."""
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lab.gateway import Gateway, parse_event
from lab.machine import SLOWNESS, patience, wait_until

from .receiver import Town

TIMEOUTS = {f"outbound_{name}": f"{patience(2000):.0f}ms"
            for name in ("connect", "greeting", "mail", "rcpt", "data", "block", "end", "idle", "quit")}
SETTINGS = {"timeouts": TIMEOUTS, "retry": {"schedule": ["100ms"], "jitter": "0%"},
            "notices": {"per_minute": 0, "per_address_per_minute": 0}}
LOGIN = "relay secret"    # user and password wherever one is needed
SENDERS = 8
HOME = "senders.example"  # where notices go

# What a recipient's last event is called, and how often it must have come.
ENDS = {"delivered": ("deliver", 1), "bounced": ("bounce", 1), "waiting": ("defer", 2)}


def of_recipient(value, recipient):
    """What a field of a scenario has for this recipient."""
    return value.get(re.match("[a-z]+", recipient).group(), "") if isinstance(value, dict) else value


@dataclass
class Scenario:
    """What a receiver does, and what is to come of it."""
    script: str
    ends: object = "delivered"  # the end of every recipient, or of each by the first word of its address
    says: object = ""           # a pattern that the reply of the first deferral (or of the bounce) holds; or for each
    copies: int = -1            # how often each content came in whole; -1: once, and once more for each double; None: any
    doubles: int = 0            # deferrals that say that a second delivery is possible
    deferred: object = None     # is there a deferral before a delivery? None: if `says` something; "maybe"
    to: tuple = ("to",)
    messages: int = 1
    size: int = 1000
    dots: bool = True           # a line of the content begins with a dot, so that it cannot go as a chunk
    connections: int = 1        # the site's limit
    secure: bool = None         # do all copies come through TLS, or none?
    certificate: str = ""       # of the receiver: the name of one of the play's contexts
    login: bytes = None         # what must have been said to log in
    route: dict = field(default_factory=dict)    # further keys of the route
    options: dict = field(default_factory=dict)  # of the receiver
    receiver: object = None
    domain: str = ""
    sent: dict = field(default_factory=dict)     # content by queue id
    senders: dict = field(default_factory=dict)  # the sender's address by queue id

    def end_of(self, recipient):
        return of_recipient(self.ends, recipient)

    def expected_copies(self):
        if self.copies != -1:
            return self.copies
        is_delivered = any(self.end_of(one) == "delivered" for one in self.to)
        return 1 + self.doubles if is_delivered else 0

    def is_deferred(self, recipient):
        """Whether it is postponed before it is delivered."""
        if self.deferred is not None:
            return self.deferred
        return bool(of_recipient(self.says, recipient))

    def address(self, recipient):
        return f"{recipient}@{self.domain}"


def content_of(name, number, size, dots=True):
    lines = b"".join(b"%06d %s\r\n" % (index, b"." * (index % 60)) for index in range(min(size, 40_000) // 40))
    whole = lines * (size // 40_000 or 1)
    return f"Subject: {name} {number}\r\n\r\n".encode() + whole + b".a line with a dot\r\n" * dots


class Play:
    """The scenarios of one gateway, {name: Scenario}, all under way at once. `contexts` come from make_contexts."""

    def __init__(self, folder, scenarios, contexts=(), **settings):
        self.town = Town()
        self.folder = folder
        self.scenarios, self.contexts = scenarios, dict(contexts)
        self.home = self.town.receiver()
        routes = {HOME: self.home.target}
        for number, scenario in enumerate(scenarios.values()):
            self.prepare(scenario, number)
            routes[scenario.domain] = {"to": scenario.receiver.target, **scenario.route}
        self.gateway = Gateway(folder, routes, name="misbehaving",
                               **{**SETTINGS, "sites": self.sites(), "outbound": self.outbound(), **settings})
        self.began = 0.0
        self.log = {}
        self.log_offset = 0

    def prepare(self, scenario, number):
        options = dict(scenario.options)
        if scenario.certificate:
            options["contexts"] = self.contexts[scenario.certificate]
        if options.get("path"):
            options["path"] = str(self.folder / f"{number}.sock")
        scenario.domain = f"s{number}.example"
        scenario.sent, scenario.senders = {}, {}
        scenario.receiver = self.town.receiver(scenario.script, **options)

    def outbound(self):
        """The logins, and the CA that signed the certificates which count."""
        logins = [f"{one.receiver.host}:{one.receiver.port} {LOGIN}\n" for one in self.scenarios.values()
                  if one.login is not None]
        path = self.folder / "passwords"
        path.write_text("".join(logins), encoding="ascii")
        path.chmod(0o600)
        return {"passwords": str(path), **({"ca_file": self.contexts["ca"]} if "ca" in self.contexts else {})}

    def sites(self):
        sites = {f"{one.receiver.host}:{one.receiver.port}": {"connections": one.connections}
                 for one in self.scenarios.values() if one.connections != 1}
        return {"default": {"connections": 1}, **sites}

    def begin(self):
        """Starts the gateway and sends everything, over several connections at once."""
        self.gateway.start()
        self.began = time.monotonic()
        scenarios = list(self.scenarios.values())
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(self.send, (scenarios[number::SENDERS] for number in range(SENDERS))))
        return self

    def send(self, scenarios):
        with self.gateway.client(timeout=20) as client:
            client.hello()
            for scenario in scenarios:
                for number in range(scenario.messages):
                    content = content_of(scenario.domain, number, scenario.size, scenario.dots)
                    sender = f"{scenario.domain}-{number}@{HOME}"
                    identity = client.message(sender, [scenario.address(one) for one in scenario.to], content)
                    scenario.sent[identity], scenario.senders[identity] = content, sender

    def finish(self):
        try:
            self.gateway.finish()
        finally:
            self.town.stop()

    # -- what became of it -----------------------------------------------------------------------------------

    def events(self, identity, address=None):
        """What the log has about the recipients of a message, or about one of them."""
        if os.stat(self.gateway.log_path).st_size > self.log_offset:
            self.read_log()
        return [event for event in self.log.get(identity, []) if address in (None, event["to"])]

    def read_log(self):
        with open(self.gateway.log_path, "rb") as log:
            log.seek(self.log_offset)
            text = log.read()
        text = text[:text.rfind(b"\n") + 1]
        self.log_offset += len(text)
        for line in text.splitlines():
            event = parse_event(line)
            if event and event["event"] in ("deliver", "bounce", "defer", "expire"):
                self.log.setdefault(event["id"], []).append(event)

    def has_ended(self, scenario):
        """Whether each recipient of each message has the end that it should have."""
        for identity in scenario.sent:
            for one in scenario.to:
                name, least = ENDS[scenario.end_of(one)]
                found = sum(event["event"] == name for event in self.events(identity, scenario.address(one)))
                if found < least:
                    return False
        return True

    def story(self, scenario):
        """For a failure: what the log and the receiver say."""
        lines = [f"{identity} {event['event']} to={event['to']} reply={event.get('reply')} "
                 f"possible_duplicate={event.get('possible_duplicate')}"
                 for identity in scenario.sent for event in self.events(identity)]
        lines += [f"connection {number}: {line[:80]}" for number, line in scenario.receiver.commands[-30:]]
        return "\n".join([f"script: {scenario.script[:300]}", *lines, f"{len(scenario.receiver.copies)} copies"])

    def wait(self, scenario, seconds=25):
        """Waits for the end of a scenario; all of them have the same time."""
        left = seconds - (time.monotonic() - self.began) / SLOWNESS
        wait_until(lambda: self.has_ended(scenario), max(left, 0),
                   lambda: f"every recipient to be {scenario.ends}\n{self.story(scenario)}")

    def check(self, scenario, classes=()):
        """Waits for the end of a scenario and holds it against what was expected; `classes` is what the beginning of
        a reply says about the class in the log."""
        self.wait(scenario)
        try:
            for identity, content in scenario.sent.items():
                for one in scenario.to:
                    self.check_recipient(scenario, identity, one)
                self.check_classes(self.events(identity), dict(classes))
                self.check_message(scenario, identity, content)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story(scenario)}") from None

    def check_recipient(self, scenario, identity, recipient):
        end, address = scenario.end_of(recipient), scenario.address(recipient)
        events = self.events(identity, address)
        names = [event["event"] for event in events]
        finals = [name for name in names if name != "defer"]
        assert finals == ([] if end == "waiting" else [ENDS[end][0]]), f"the events of {address} are {names}"
        taken = sum(address in copy.taken for copy in self.copies(scenario, scenario.sent[identity]))
        assert taken > 0 if end == "delivered" else taken == 0, f"{end}, but taken {taken} times"
        if scenario.messages == 1 and scenario.deferred != "maybe":
            is_deferred = end == "waiting" or end == "delivered" and scenario.is_deferred(recipient)
            assert ("defer" in names) == is_deferred, f"the events of {address} are {names}"
        self.check_told(scenario, recipient, [event for event in events if event["event"] != "deliver"])

    @staticmethod
    def check_told(scenario, recipient, events):
        """What the log says about the first attempt that failed."""
        says = of_recipient(scenario.says, recipient)
        if says:
            assert events and re.search(says, events[0]["reply"], re.DOTALL), f"{says!r} is not in the reply of {events[:1]}"

    @staticmethod
    def check_classes(events, classes):
        for event in events:
            for begin, name in classes.items():
                if event["event"] != "deliver" and event["reply"].startswith(begin):
                    assert event["class"] == name, f"not of the class {name}: {event}"

    def check_message(self, scenario, identity, content):
        copies = self.copies(scenario, content)
        expected = scenario.expected_copies()
        assert expected is None or len(copies) == expected, f"{len(copies)} copies, not {expected}"
        for copy in copies:
            assert set(copy.recipients) <= {scenario.address(one) for one in scenario.to}
            assert copy.sender == scenario.senders[identity]
            assert scenario.secure in (None, copy.is_secure), f"through TLS: {copy.is_secure}"
        doubles = sum(bool(event.get("possible_duplicate")) for event in self.events(identity))
        if scenario.copies is not None:
            assert doubles == scenario.doubles, f"{doubles} possible duplicates, not {scenario.doubles}"
        if scenario.login:
            assert scenario.login in scenario.receiver.answers, f"the login was {scenario.receiver.answers}"
        self.check_notices(scenario, identity)

    def check_notices(self, scenario, identity):
        """The sender hears of each recipient that bounced, once, and of no other."""
        expected = sorted(scenario.address(one) for one in scenario.to if scenario.end_of(one) == "bounced")
        wait_until(lambda: len(self.told(scenario.senders[identity])) >= len(expected), 10,
                   lambda: f"notices about {expected}, got {self.told(scenario.senders[identity])}")
        told = sorted(self.told(scenario.senders[identity]))
        assert told == expected, f"notices about {told}, not {expected}"

    def told(self, sender):
        """The recipients that notices to a sender are about."""
        notices = [copy.content.decode("latin-1") for copy in list(self.home.copies) if copy.recipients == [sender]]
        return [address for text in notices
                for address in re.findall(r"^Final-Recipient: rfc822; *(\S+?)\r$", text, re.MULTILINE | re.IGNORECASE)]

    @staticmethod
    def copies(scenario, content):
        """What the receiver has of this content: whole, behind the line that the gateway puts before it."""
        subject = content[:content.index(b"\r\n") + 2]
        return [copy for copy in list(scenario.receiver.copies)
                if copy.content.endswith(b"\r\n" + content) and copy.content.startswith(b"Received: ") and
                copy.content.count(subject) == 1]

    def check_strays(self, scenario):
        """No receiver has anything that nobody sent to it; content for nobody must be empty."""
        for copy in scenario.receiver.copies:
            if not copy.recipients:
                assert copy.content == b"", f"content for nobody: {copy.content[:100]}"
            else:
                assert any(copy.content.endswith(b"\r\n" + content) for content in scenario.sent.values()), (
                    f"nobody sent {copy.content[:300]}")

    def check_waiting(self):
        """What waits in the queue is what should, no more and no less."""
        expected = sum(scenario.messages for scenario in self.scenarios.values()
                       if any(scenario.end_of(one) == "waiting" for one in scenario.to))
        found = -1

        def is_right():
            nonlocal found
            found = self.gateway.stats()["messages_waiting"]
            return found == expected
        wait_until(is_right, 10, lambda: f"{expected} messages to wait, not {found}")
