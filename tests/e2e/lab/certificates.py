"""A small public-key infrastructure for one run: a CA, certificates that it signed, and one of a stranger."""
import hashlib
import pathlib
import ssl
import subprocess

from .machine import tool

EXTENSIONS = {
    "server": "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n",
    "client": "keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n",
}


def openssl(*arguments, text=None):
    result = subprocess.run([tool("openssl"), *map(str, arguments)], input=text, text=True, capture_output=True,
                            check=False)
    assert result.returncode == 0, f"openssl {arguments} exited {result.returncode}: {result.stderr}"
    return result.stdout


class Certificate:
    """A certificate and its private key as files."""

    def __init__(self, folder, name):
        self.path, self.key = str(folder / f"{name}.pem"), str(folder / f"{name}.key")

    def fingerprint(self):
        """SHA-256 of its DER form, in lower-case hex."""
        with open(self.path, encoding="ascii") as file:
            first = file.read().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()


class Authority:
    """A CA in a folder of its own."""

    def __init__(self, folder, name="Test CA"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        # Servers that give up root read these before and after.
        self.folder.chmod(0o755)
        self.path, self.key = str(self.folder / "ca.pem"), str(self.folder / "ca.key")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 100,
                "-subj", f"/O={name}/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self.key, "-out", self.path)

    def issue(self, name, *, names=("relay.example.com",), usage="server", key="ec", common_name=None):
        """A certificate for these DNS names (and, for a server, 127.0.0.1 and ::1); `key` is "ec" or "rsa"."""
        one = Certificate(self.folder, name)
        alternatives = ",".join(f"DNS:{each}" for each in names)
        alternatives += ",IP:127.0.0.1,IP:::1" if usage == "server" else ""
        extensions = self.folder / f"{name}.ext"
        # Scanners complain of a certificate that says nothing about how it would be revoked.
        extensions.write_text(f"basicConstraints=critical,CA:FALSE\n{EXTENSIONS[usage]}"
                              + (f"subjectAltName={alternatives}\n" if alternatives else "")
                              + "crlDistributionPoints=URI:http://127.0.0.1:9/ca.crl\n", encoding="ascii")
        kind = ["rsa:2048"] if key == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        request = openssl("req", "-new", "-newkey", *kind, "-nodes", "-keyout", one.key,
                          "-subj", f"/CN={common_name or (names[0] if names else name)}")
        text = openssl("x509", "-req", "-days", 90, "-CA", self.path, "-CAkey", self.key, "-CAcreateserial",
                       "-extfile", extensions, text=request)
        with open(one.path, "w", encoding="ascii") as file:
            file.write(text)
        return one


def trusting(*authorities, certificate=None, check_hostname=True):
    """A client's SSL context that trusts these CAs and shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = check_hostname
    for authority in authorities:
        context.load_verify_locations(authority.path)
    if certificate:
        context.load_cert_chain(certificate.path, certificate.key)
    return context
