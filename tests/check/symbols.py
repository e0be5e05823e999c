#!/usr/bin/python3
"""Checks what the gateway's binary is bound to.

    symbols.py SLUICE

Debian's libldns brings OpenSSL's libcrypto into the process, beside BoringSSL. That works as long as we call
no function of ldns that calls crypto, and as long as our own calls bind to BoringSSL. Both are checked here.
"""
import os
import re
import subprocess
import sys

# Each of these was read: none reaches ldns's crypto, its resolver or its random numbers (which are OpenSSL's). A new
# name is added only after the same reading.
LDNS_ALLOWED = {
    "ldns_dname_new_frm_str", "ldns_pkt2wire", "ldns_pkt_free", "ldns_pkt_query_new",
    "ldns_pkt_set_edns_udp_size", "ldns_pkt_set_id", "ldns_rdf_data", "ldns_rdf_deep_free", "ldns_rdf_size",
    "ldns_rr_free", "ldns_rr_get_class", "ldns_rr_get_type", "ldns_rr_list_deep_free", "ldns_rr_list_new",
    "ldns_rr_list_push_rr", "ldns_rr_list_rr", "ldns_rr_list_rr_count", "ldns_rr_owner", "ldns_rr_rd_count",
    "ldns_rr_rdf", "ldns_rr_ttl", "ldns_version", "ldns_wire2rr",
}

BINDING = re.compile(r"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: normal symbol `([^']+)'")


def run(*command, **environment):
    result = subprocess.run(command, text=True, capture_output=True, check=False, env={**os.environ, **environment})
    assert result.returncode == 0, f"{command} exited {result.returncode}: {result.stderr[-2000:]}"
    return result.stdout, result.stderr


def dynamic_symbols(path, option):
    output, _ = run("nm", "-D", "-P", option, path)
    return {line.split()[0].split("@")[0] for line in output.splitlines()}


def needed(sluice):
    output, _ = run("readelf", "-d", sluice)
    return re.findall(r"\(NEEDED\).*\[(.+)\]", output)


def libraries(sluice):
    """Soname -> path, as the loader resolves it."""
    output, _ = run("ldd", sluice)
    return dict(re.findall(r"^\s*(\S+) => (\S+)", output, re.MULTILINE))


def check_ldns(sluice):
    imported = {name for name in dynamic_symbols(sluice, "--undefined-only") if name.startswith("ldns_")}
    foreign = sorted(imported - LDNS_ALLOWED)
    assert not foreign, f"the binary imports these symbols of ldns, which the list does not allow: {foreign}"
    unused = sorted(LDNS_ALLOWED - imported)
    assert not unused, f"the list allows these symbols of ldns, which the binary does not import: {unused}"


def check_boringssl(sluice):
    names = needed(sluice)
    foreign = [name for name in names if re.match(r"lib(ssl|crypto)\.so\.[1-9]", name)]
    assert not foreign, f"linked to OpenSSL: {foreign}"
    ours = [libraries(sluice)[name] for name in names if re.match(r"lib(ssl|crypto)\.so", name)]
    assert ours, f"no libssl or libcrypto among {names}"
    offered = set().union(*(dynamic_symbols(path, "--defined-only") for path in ours))
    used = dynamic_symbols(sluice, "--undefined-only") & offered
    assert used, "the binary calls nothing of BoringSSL, so nothing would be checked"
    _, trace = run(sluice, "--version", LD_DEBUG="bindings", LD_BIND_NOW="1")
    bound = {symbol: os.path.realpath(target) for source, target, symbol in BINDING.findall(trace)
             if os.path.basename(source) == os.path.basename(sluice)}
    wrong = {name: bound.get(name) for name in used if bound.get(name) not in map(os.path.realpath, ours)}
    assert not wrong, f"symbols that did not bind to BoringSSL: {wrong}"


def check_jemalloc(sluice):
    assert any(name.startswith("libjemalloc.so") for name in needed(sluice)), f"no jemalloc in {needed(sluice)}"
    version, _ = run(sluice, "--version")
    for library in ("jemalloc", "BoringSSL", "ldns", "liburing", "libConfuse"):
        assert library.lower() in version.lower(), f"--version does not name {library}:\n{version}"


def main():
    sluice = os.path.realpath(sys.argv[1])
    failures = 0
    for check in (check_ldns, check_boringssl, check_jemalloc):
        try:
            check(sluice)
            print(f"{check.__name__}: good")
        except AssertionError as error:
            print(f"{check.__name__}: {error}")
            failures += 1
    sys.exit(1 if failures else 0)


main()
