"""Fixtures of the end-to-end tests. Everything a test starts is stopped by its fixture, by process id."""
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(__file__))
pytest.register_assert_rewrite("lab")

# pylint: disable=wrong-import-position
from lab.certificates import Authority
from lab.gateway import BINARY, Gateway, add_user
from lab.machine import disk_folder, free_port, tool, wait_until
from lab.sink import Sink

# Logins that tests use: the name is the address that it may write from.
USERS = {"anna@example.com": "correct horse", "bob@example.com": "battery:staple"}


def pytest_configure(config):
    config.counts = {"passed": 0, "failed": 0, "skipped": 0}
    if not os.access(BINARY, os.X_OK):
        pytest.exit(f"no gateway at {BINARY}: build it, or name it in SLUICE", returncode=2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failing test shows the log of every gateway that it used."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for gateway in getattr(item, "gateways", []):
            report.sections.append((f"log of {gateway.name} ({gateway.log_path})", gateway.log_tail()))
    counts = item.config.counts
    if report.when == "call" or report.failed or report.skipped:
        counts[report.outcome] += 1


def pytest_terminal_summary(terminalreporter, config):
    """The line that tests/count reads."""
    terminalreporter.write_line("cases: {passed} passed, {failed} failed, {skipped} skipped".format(**config.counts))


@pytest.fixture
def folder():
    """A folder on a disk, removed at the end."""
    path = disk_folder()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def shared():
    """A folder for what is dear to make, for all tests of a run; servers that gave up root may look into it."""
    path = pathlib.Path(disk_folder())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def authority(shared):
    """A CA that signed `authority.server`, the certificate of relay.example.com."""
    one = Authority(shared / "ca")
    one.server = one.issue("server", key="rsa")
    return one


@pytest.fixture(scope="session")
def users(shared):
    """The path of a file of users, with those of USERS."""
    path = str(shared / "users")
    for name, password in USERS.items():
        add_user(path, name, password)
    return path


@pytest.fixture
def open_folder(folder):
    """The test's folder as a path; servers that gave up root may look into it."""
    os.chmod(folder, 0o755)
    return pathlib.Path(folder)


def sluice_maker(node, path):
    """A function that makes gateways; and one that finishes them all."""
    made = []
    node.gateways = made

    def make(routes, *, start=True, **settings):
        gateway = Gateway(path, target(routes), name=f"gateway{len(made) + 1}", **settings)
        made.append(gateway)
        return gateway.start() if start else gateway

    def finish():
        failures = []
        for gateway in made:
            try:
                gateway.finish()
            except AssertionError as error:
                failures.append(str(error))
        assert not failures, "\n".join(failures)

    return make, finish


def target(routes):
    """Routes as the config has them, with all their keys; a sink or a list of sinks stands for its address."""
    if isinstance(routes, dict):
        return {pattern: target(value) for pattern, value in routes.items()}
    if isinstance(routes, (list, tuple)):
        return [target(value) for value in routes]
    if isinstance(routes, (str, int)):
        return routes
    host = f"[{routes.host}]" if ":" in routes.host else routes.host
    return f"smtp://{host}:{routes.port}"


@pytest.fixture
def sluice(request, folder):
    """sluice(routes, **settings) makes and starts a gateway; see lab/gateway.py for the settings."""
    make, finish = sluice_maker(request.node, folder)
    yield make
    finish()


@pytest.fixture
def sink():
    """sink(script, …) starts a scripted sink; see lab/sink.py for the language."""
    made = []

    def make(script="", **options):
        made.append(Sink(script, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()
    errors = [error for one in made for error in one.errors]
    assert not errors, f"a sink failed itself: {errors}"


class SmtpSink:
    """Postfix's smtp-sink, which dumps each message into a file of its own."""

    def __init__(self, path, *options, host="127.0.0.1"):
        self.host, self.port = host, free_port(host)
        self.path = os.path.join(path, f"dump{self.port}")
        os.mkdir(self.path)
        os.chmod(self.path, 0o777)
        os.chmod(path, 0o711)
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        where = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            [tool("smtp-sink"), *user, "-m", "1000", "-d", f"{self.path}/m.", *options, where, "1024"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def dumps(self):
        """The dumps: lines of smtp-sink's own (X-…), then the message; LF line ends."""
        for name in os.listdir(self.path):
            with open(os.path.join(self.path, name), "rb") as dump:
                yield dump.read()

    def count(self):
        return len(os.listdir(self.path))

    def stop(self):
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def smtp_sink(folder):
    """smtp_sink(option, …) starts Postfix's smtp-sink with dumps."""
    made = []

    def make(*options, **where):
        one = SmtpSink(folder, *options, **where)
        made.append(one)
        wait_until(lambda: is_listening(one), 10, "smtp-sink")
        return one

    yield make
    for one in made:
        one.stop()


def is_listening(sink):
    with open("/proc/net/tcp6" if ":" in sink.host else "/proc/net/tcp", encoding="ascii") as table:
        return any(line.split()[1].endswith(f":{sink.port:04X}") and line.split()[3] == "0A"
                   for line in table.readlines()[1:])


@pytest.fixture
def smtp_source():
    """smtp_source(gateway, option, …) runs Postfix's smtp-source to its end."""
    def run(gateway, *options):
        host = gateway.hosts[0]
        where = f"[{host}]:{gateway.port}" if ":" in host else f"{host}:{gateway.port}"
        result = subprocess.run([tool("smtp-source"), "-f", "source@example.com", "-t", "to@example.net", *options, where],
                                text=True, capture_output=True, check=False, timeout=300)
        assert result.returncode == 0 and "fatal" not in result.stderr and "warning" not in result.stderr, (
            f"smtp-source {options} exited {result.returncode}: {result.stderr[-1000:]}")
    return run
