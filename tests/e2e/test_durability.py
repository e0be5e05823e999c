"""What was acknowledged is never lost: by kill -9, by a full disk, by a next hop that is away."""
import os
import random
import re
import subprocess
import threading
import time

import pytest

from lab.client import Closed
from lab.machine import IS_LONG, patience, tool, wait_until

SUBJECT = re.compile(rb"^Subject: (\S+)\r\n", re.MULTILINE)

# How long before a kill a delivery may have happened whose outcome was not yet on the disk.
OUTCOME_WINDOW_S = 0.3


class Load:
    """Clients that send numbered messages as fast as they can, and remember which were acknowledged."""

    def __init__(self, gateway, clients=8):
        self.gateway = gateway
        self.acknowledged = set()
        self.is_stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(number,), daemon=True) for number in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        """One client: reconnects whenever the gateway goes."""
        count = 0
        while not self.is_stopped.is_set():
            try:
                with self.gateway.client(timeout=20) as client:
                    client.hello()
                    while not self.is_stopped.is_set():
                        name = f"{number}-{count}"
                        count += 1
                        content = f"Subject: {name}\r\n\r\n".encode() + b"x" * 500 + b"\r\n" + b"y\r\n" * (count % 50)
                        client.message("from@example.com", ["to@example.net"], content)
                        self.acknowledged.add(name)
            except (Closed, OSError):
                time.sleep(0.01)

    def stop(self):
        self.is_stopped.set()
        for thread in self.threads:
            thread.join(patience(30))
            assert not thread.is_alive(), "a client hangs"


def names(hop):
    return [SUBJECT.search(message.content).group(1).decode() for message in list(hop.messages)]


def assert_all_arrived(hop, acknowledged, seconds=60):
    def missing():
        return acknowledged - set(names(hop))
    try:
        wait_until(lambda: not missing(), seconds, "every acknowledged message at the next hop")
    except AssertionError:
        lost = sorted(missing())
        raise AssertionError(f"{len(lost)} of {len(acknowledged)} acknowledged messages never arrived: {lost[:10]}") \
            from None


def count_doubles(hop, kills):
    """Doubles at the sink; each one's first delivery must lie shortly before a kill."""
    first, doubles = {}, 0
    for name, when in zip(names(hop), list(hop.times)):
        if name in first:
            doubles += 1
            assert any(kill - patience(OUTCOME_WINDOW_S) < first[name] < kill + 0.1 for kill in kills), (
                f"{name} arrived twice, but was first delivered {min(abs(k - first[name]) for k in kills):.2f} s "
                "away from every kill")
        first.setdefault(name, when)
    return doubles


def test_kill_under_load(sluice, sink):
    """kill -9 at random moments, and a restart with another number of workers, while clients keep sending."""
    rounds = 50 if IS_LONG else 5
    seed = random.randrange(1 << 32)
    source = random.Random(seed)
    print(f"seed {seed}")
    hop = sink(keep=False)
    gateway = sluice(hop)
    load, kills = Load(gateway), []
    for index in range(rounds):
        time.sleep(patience(source.uniform(0.2, 1.5)))
        gateway.kill()
        kills.append(time.monotonic())
        gateway.settings["workers"] = (1, 3, 2)[index % 3]
        gateway.start()
    time.sleep(0.5)
    load.stop()
    assert len(load.acknowledged) > 20 * rounds, "there was no load to speak of"
    assert_all_arrived(hop, load.acknowledged)
    doubles = count_doubles(hop, kills)
    print(f"{rounds} kills, {len(load.acknowledged)} acknowledged, 0 lost, {doubles} doubles")
    gateway.wait_empty()


def test_kill_with_the_next_hop_away(sluice, sink):
    """Mail that waits survives several kills, each in the middle of the recovery or of the retry before."""
    hop = sink(keep=False)
    gateway = sluice(hop)
    hop.down()
    load = Load(gateway)
    for _ in range(3):
        time.sleep(patience(0.7))
        gateway.kill()
        gateway.start()
    load.stop()
    for pause in (0.0, 0.01, 0.05, 0.2):
        gateway.kill()
        gateway.launch()
        time.sleep(pause)
    gateway.kill()
    gateway.start()
    hop.up()
    assert_all_arrived(hop, load.acknowledged)
    gateway.wait_empty()
    assert len(names(hop)) == len(set(names(hop))), "doubles, though nothing was delivered before the last kill"


def send_all(gateway, count, size=2000, prefix="m"):
    sent = set()
    with gateway.client() as client:
        client.hello()
        for index in range(count):
            name = f"{prefix}{index}"
            client.message("from@example.com", ["to@example.net"],
                           f"Subject: {name}\r\n\r\n".encode() + b"z" * 70 + b"\r\n" * (size // 2))
            sent.add(name)
    return sent


@pytest.mark.parametrize("counts", [(2, 1), (1, 4), (4, 2)], ids=str)
def test_number_of_workers_may_change(sluice, sink, counts):
    """Mail of a shard whose worker is gone is found and delivered."""
    hop = sink()
    gateway = sluice(hop, workers=counts[0])
    hop.down()
    sent = set()
    for index in range(8):  # Several connections, so that several workers accept.
        sent |= send_all(gateway, 20, prefix=f"c{index}-")
    gateway.stop()
    gateway.settings["workers"] = counts[1]
    hop.up()
    gateway.start()
    assert_all_arrived(hop, sent)
    gateway.wait_empty()
    assert sorted(names(hop)) == sorted(sent)
    assert gateway.events("recover"), "expected a recover event"


def test_messages_wait_for_the_next_hop(sluice, sink):
    hop = sink()
    gateway = sluice(hop)
    hop.down()
    sent = send_all(gateway, 100)
    gateway.wait_event("defer")
    assert gateway.stats()["messages_waiting"] == 100
    hop.up()
    assert_all_arrived(hop, sent, 20)
    gateway.wait_empty()
    assert sorted(names(hop)) == sorted(sent)


def test_restart_delivers_nothing_twice(sluice, sink):
    hop = sink()
    gateway = sluice(hop)
    sent = send_all(gateway, 50)
    assert_all_arrived(hop, sent)
    gateway.wait_empty()
    for _ in range(3):
        gateway.stop()
        gateway.start()
    assert gateway.stats()["messages_waiting"] == 0
    assert sorted(names(hop)) == sorted(sent)


def test_the_disk_is_used_again(sluice, sink):
    """Many times the size of a segment goes through, and the data folder does not grow with it."""
    gateway = sluice(sink(keep=False), workers=1, queue={"segment_size": "1M"})
    for index in range(20):
        send_all(gateway, 10, size=200_000, prefix=f"r{index}-")
        gateway.wait_empty()
    used = int(subprocess.run(["du", "-sk", gateway.data], text=True, capture_output=True, check=True).stdout.split()[0])
    assert used < 24 << 10, f"40 MB went through and {used} KiB are in use"


def try_message(client, name, size):
    """Sends one message and returns the code that it ended with, wherever that came."""
    for line, good in (("MAIL FROM:<from@example.com>", 250), ("RCPT TO:<to@example.net>", 250), ("DATA", 354)):
        client.send(line.encode() + b"\r\n")
        code, lines = client.reply()
        if code != good:
            client.send(b"RSET\r\n")
            client.expect(250)
            return code, lines[-1]
    client.send(f"Subject: {name}\r\n\r\n".encode() + (b"f" * 98 + b"\r\n") * (size // 100) + b".\r\n")
    code, lines = client.reply()
    return code, lines[-1]


def fill(gateway, size=100_000, limit=64 << 20):
    """Sends until the gateway says that its disk is full; the names of what it accepted."""
    accepted = set()
    with gateway.client(timeout=30) as client:
        client.hello()
        for index in range(limit // size):
            code, line = try_message(client, f"full{index}", size)
            if code != 250:
                assert line.startswith(b"452 4.3.1"), f"expected 452 4.3.1 on a full disk, got {line!r}"
                return accepted
            accepted.add(f"full{index}")
    raise AssertionError(f"{limit} bytes were accepted on a disk of that size")


def check_recovery(gateway, hop, accepted):
    """After the next hop is back everything is delivered, and new mail is taken again."""
    hop.up()
    assert_all_arrived(hop, accepted)

    def is_taken():
        with gateway.client() as client:
            return try_message(client.hello(), "after", 1000)[0] == 250
    wait_until(is_taken, 20, "mail to be accepted again")
    assert_all_arrived(hop, {"after"})


def on_file_system(gateway, mount):
    """Lets the gateway run in a mount namespace of its own, where its data folder is another file system."""
    os.makedirs(gateway.data, exist_ok=True)
    unshare = [tool("unshare"), "-m"] if os.geteuid() == 0 else [tool("unshare"), "-rm"]
    gateway.wrapper = [*unshare, "sh", "-c", f'{mount} "$0" && exec "$@"', gateway.data]


SMALL = {"queue": {"segment_size": "2M"}, "retry": {"schedule": ["2s"]}}


def test_full_tmpfs(sluice, sink):
    """A disk that refuses direct I/O, and is full."""
    hop = sink(keep=False)
    gateway = sluice(hop, start=False, **SMALL)
    on_file_system(gateway, "mount -t tmpfs -o size=64M tmpfs")
    gateway.start()
    hop.down()
    accepted = fill(gateway)
    assert len(accepted) > 100, f"only {len(accepted)} messages of 100 KB fit on 64 MB"
    assert gateway.wait_event("disk-full")
    check_recovery(gateway, hop, accepted)


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/loop-control"),
                    reason="needs root and the kernel's loop devices")
def test_full_ext4_and_a_kill(sluice, sink, folder):
    """A small ext4 with direct I/O: full, killed while full, started again."""
    image = os.path.join(folder, "disk.img")
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    subprocess.run([tool("mkfs.ext4"), "-q", "-F", image], check=True)
    hop = sink(keep=False)
    gateway = sluice(hop, start=False, **SMALL)
    on_file_system(gateway, f"mount -o loop '{image}'")
    gateway.start()
    hop.down()
    accepted = fill(gateway)
    assert len(accepted) > 100, f"only {len(accepted)} messages of 100 KB fit on 64 MB"
    gateway.kill()
    time.sleep(0.5)  # The kernel unmounts what the namespace held.
    gateway.start()
    check_recovery(gateway, hop, accepted)


def test_data_folder_belongs_to_one(sluice, sink):
    """A second gateway on the same data folder must not start: it would recycle the first one's segments."""
    hop = sink()
    first = sluice(hop)
    second = sluice(hop, start=False, data_dir=first.data)
    second.launch()
    assert second.wait_exit() == 75
    assert first.data in second.log_text()
    sent = send_all(first, 5)
    assert_all_arrived(hop, sent)


def test_another_segment_size_is_refused(sluice, sink):
    """Reading a part of each segment would lose the rest: the gateway must not start, and say why."""
    gateway = sluice(sink(), workers=1, queue={"segment_size": "2M"})
    gateway.stop()
    smaller = sluice(sink(), start=False, data_dir=gateway.data, workers=1, queue={"segment_size": "1M"})
    smaller.launch()
    assert smaller.wait_exit() == 78
    assert "segment_size" in smaller.log_text()


if "SLUICE_SHIM_NO_DIRECT" in os.environ:
    def test_file_system_without_direct_io(sluice, sink):
        """Writes followed by fdatasync take over, the log says so, and a kill loses nothing."""
        hop = sink(keep=False)
        gateway = sluice(hop, start=False)
        gateway.wrapper = ["env", "LD_PRELOAD=" + os.environ["SLUICE_SHIM_NO_DIRECT"]]
        gateway.start()
        assert gateway.events("start")[0]["direct_io"] is False
        hop.down()
        sent = send_all(gateway, 50)
        gateway.kill()
        gateway.start()
        hop.up()
        assert_all_arrived(hop, sent)
