"""TLS as receivers show it: right, and wrong in each way that counts."""
import ssl
import warnings

from lab.certificates import Authority, Certificate, openssl


def issue(folder, name, subject, days, *signing):
    """A certificate for one DNS name and no address, signed as `signing` says."""
    one = Certificate(folder, name)
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:{subject}\n", encoding="ascii")
    request = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", one.key,
                      "-subj", f"/CN={subject}")
    signing = signing or ("-signkey", one.key)
    text = openssl("x509", "-req", "-days", days, *signing, "-extfile", extensions, text=request)
    with open(one.path, "w", encoding="ascii") as file:
        file.write(text)
    return one


def context_of(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key)
    return context


def old_context_of(certificate):
    """One that speaks TLS 1.1 at most."""
    context = context_of(certificate)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def make_contexts(folder):
    """{name: contexts of the first connection, the second, …}, and under "ca" the path of the CA that counts."""
    ours, stranger = Authority(folder / "right"), Authority(folder / "strange", "Stranger")
    signing = ("-CA", ours.path, "-CAkey", ours.key, "-CAcreateserial")
    good = ours.issue("good", names=("receiver.example",))
    right, strange = context_of(good), context_of(stranger.issue("strange", names=("receiver.example",)))
    return {
        "ca": ours.path,
        "good": [right],
        "stranger": [strange],
        "changing": [strange, right],
        "old": [old_context_of(good)],
        "other": [context_of(issue(ours.folder, "other", "mx.example.com", 90, *signing))],
        "expired": [context_of(issue(ours.folder, "expired", "receiver.example", -1, *signing))],
        "self": [context_of(issue(ours.folder, "self", "receiver.example", 90))],
    }
