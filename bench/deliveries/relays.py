"""Servers that send: those of the harness, with routes, limits and name servers as a profile wants them."""

import re

from harness import servers

RESOLVER = "127.0.0.1"


class Sluice(servers.Sluice):
    """`routes`: text of the configuration that takes the place of the one route; `extra`: further sections."""

    def __init__(self, home, port, tools, routes, extra=""):
        super().__init__(home, port, 0, tools)
        self.routes, self.extra = routes, extra

    def prepare(self):
        command = super().prepare()
        config = self.home / "sluice.conf"
        text = re.sub(r'^route .*$', lambda _: self.routes + "\n" + self.extra, config.read_text(), flags=re.M)
        config.write_text(text)
        return command


class Postfix(servers.Postfix):
    """`target`: "HOST:PORT", or None for MX; `parameters`: further lines of main.cf."""

    def __init__(self, home, port, tools, target, parameters=""):
        super().__init__(home, port, 0, tools)
        self.target, self.parameters = target, parameters

    def prepare(self):
        command = super().prepare()
        config = self.home / "config/main.cf"
        own = self.parameters.strip().splitlines()
        if self.target:
            host, port = self.target.split(":")
            own += [f"relayhost = [{host}]:{port}", f"smtp_connection_cache_destinations = [{host}]:{port}"]
        else:
            own += ["relayhost =", "smtp_dns_support_level = enabled", "smtp_connection_cache_destinations =",
                    "smtp_host_lookup = dns"]
        names = {line.partition("=")[0].strip() for line in own}
        kept = [line for line in config.read_text().splitlines() if line.partition("=")[0].strip() not in names]
        config.write_text("\n".join(kept + own) + "\n")
        return command


class Exim(servers.Exim):
    """Queues what comes, and sends with `runners` queue runners at a time: as many connections."""

    def __init__(self, home, port, tools, target, runners):
        super().__init__(home, port, 0, tools)
        self.target, self.runners = target, runners

    def prepare(self):
        host, port = self.target.split(":")
        self.sink = port
        command = super().prepare()
        config = self.home / "etc/exim4/exim4.conf"
        text = config.read_text().replace(f"route_list = * {servers.HOST}", f"route_list = * {host}")
        text = text.replace("queue_run_max = 10", f"queue_run_max = {self.runners + 2}\nqueue_only = true")
        config.write_text(text)
        shell = command[-1].replace("-bdf -q1m", "-bdf")
        # The runners start anew until the server is ended.
        runner = f"while :; do {self.tools['rivals']}/usr/sbin/exim4 -q; sleep 0.2; done &\n"
        command[-1] = shell.replace("exec ", runner * self.runners + "exec ", 1)
        return command
