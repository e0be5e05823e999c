"""The table of test_smuggling.py: what was said, what was answered, what reached the next hop."""
import base64
import re
from dataclasses import dataclass

from conftest import USERS

USER, PASSWORD = next(iter(USERS.items()))
ID = "i" * 13  # Stands for a word that is unique to each play; as long as that, since chunks have announced sizes.
MAIL = f"MAIL FROM:<{ID}@example.com>\r\n"
RCPT = "RCPT TO:<to@example.net>\r\n"
ENVELOPE = MAIL + RCPT
DATA = ENVELOPE + "DATA\r\n"
HEAD = "Subject: outer\r\n\r\n"
INNER = f"MAIL FROM:<inner-{ID}@example.com>\r\nRCPT TO:<to@example.net>\r\nDATA\r\nSubject: inner\r\n"
SMALL = "small\r\n"


def word(text):
    return base64.b64encode(text.encode()).decode()


PLAIN = word(f"\0{USER}\0{PASSWORD}")
WRONG = word(f"\0{USER}\0not {PASSWORD}")


def bdat(content, last=True):
    return f"BDAT {len(content)}{' LAST' if last else ''}\r\n{content}"


@dataclass
class Row:
    """One line of the table. Strings are octets (latin-1). `replies` are those behind the EHLO's, as CODE or CODE/STATUS, with
    "closed" at the end if the server is to hang up; else a QUIT is added. `arrived` are the contents at the next hop."""
    name: str
    said: str
    replies: str
    arrived: tuple = ()
    listener: str = "smtp"
    source: str = None


# -- The end of a message -------------------------------------------------------------------------------------

# name: (what stands between "outer" and the inner message, what the next hop reads in its place when it came behind DATA to a
# listener that normalises; None where all readers agree that it is the end of the message, or that it is refused)
ENDINGS = {
    "LF.LF": ("\n.\n", "\r\n.\r\n"),
    "LF.CRLF": ("\n.\r\n", "\r\n.\r\n"),
    "CRLF.LF": ("\r\n.\n", "\r\n\r\n"),
    "CR.CR": ("\r.\r", "\r\n.\r\n"),
    "CR.CRLF": ("\r.\r\n", "\r\n.\r\n"),
    "CRLF.CR": ("\r\n.\r", "\r\n\r\n"),
    "CRLF.CR CRLF": ("\r\n.\r\r\n", "\r\n\r\n\r\n"),
    "CRLF.LF.CRLF": ("\r\n.\n.\r\n", "\r\n\r\n.\r\n"),
    "LF.CR": ("\n.\r", "\r\n.\r\n"),
    "CR.LF": ("\r.\n", "\r\n.\r\n"),
    "LFCR.LFCR": ("\n\r.\n\r", "\r\n\r\n.\r\n\r\n"),
    "LF..CRLF": ("\n..\r\n", "\r\n..\r\n"),
    "CRLF.blank CRLF": ("\r\n. \r\n", "\r\n \r\n"),
    "CRLF..CRLF": ("\r\n..\r\n", "\r\n.\r\n"),
    "NEL.NEL": ("\x85.\x85", "\x85.\x85"),
    "vertical tab": ("\v.\v", "\v.\v"),
    "LINE SEPARATOR": ("\xe2\x80\xa8.\xe2\x80\xa8", "\xe2\x80\xa8.\xe2\x80\xa8"),
}
BARE = re.compile(r"(?<!\r)\n|\r(?!\n)")


def ending_rows():
    """Every ending behind DATA, in a chunk, and with each of its octets in a chunk of its own; for both kinds of listener."""
    for name, (ending, behind_data) in ENDINGS.items():
        content = HEAD + "outer" + ending + INNER
        normalised = HEAD + "outer" + behind_data + INNER
        is_bare = BARE.search(ending) is not None
        verdict = ("521/5.5.2 closed", ()) if is_bare else ("250/2.0.0", (normalised,))
        yield Row(f"{name}, DATA", DATA + content + ".\r\n", f"250 250 354 {verdict[0]}", verdict[1])
        yield Row(f"{name}, DATA, normalised", DATA + content + ".\r\n", "250 250 354 250/2.0.0", (normalised,), "normalise")
        chunk = content + ".\r\n"
        verdict = ("554/5.6.0", ()) if is_bare else ("250/2.0.0", (chunk,))
        yield Row(f"{name}, BDAT", ENVELOPE + bdat(chunk), f"250 250 {verdict[0]}", verdict[1])
        as_crlf = BARE.sub("\r\n", chunk)
        yield Row(f"{name}, BDAT, normalised", ENVELOPE + bdat(chunk), "250 250 250/2.0.0", (as_crlf,), "normalise")
        yield from octet_rows(name, ending, chunk, as_crlf)


def octet_rows(name, ending, chunk, as_crlf):
    start = len(HEAD + "outer")
    pieces = [chunk[:start], *ending, chunk[start + len(ending):]]
    said = ENVELOPE + "".join(bdat(piece, False) for piece in pieces[:-1]) + bdat(pieces[-1])
    bare = BARE.search(chunk)
    # That a CR is bare shows in the octet behind it.
    good = bare.start() - start + 1 + (bare.group() == "\r") if bare else len(pieces)
    replies = ["250"] * min(good, len(pieces)) + ["554/5.6.0"] * (len(pieces) - good)
    yield Row(f"{name}, octets", said, "250 250 " + " ".join(replies), () if bare else (chunk,))
    yield Row(f"{name}, octets, normalised", said, "250 250" + " 250" * len(pieces), (as_crlf,), "normalise")


ROWS = [
    *ending_rows(),
    Row("the true end", DATA + HEAD + "outer\r\n.\r\n" + INNER + ".\r\n", "250 250 354 250 250 250 354 250",
        (HEAD + "outer\r\n", "Subject: inner\r\n")),
    Row("CR CRLF.CRLF", DATA + HEAD + "outer\r\r\n.\r\n" + INNER + ".\r\n", "250 250 354 521/5.5.2 closed"),
    Row("CR CRLF.CRLF, normalised: true end of a line with a CR", DATA + HEAD + "outer\r\r\n.\r\n" + INNER + ".\r\n",
        "250 250 354 250 250 250 354 250", (HEAD + "outer\r\n\r\n", "Subject: inner\r\n"), "normalise"),
    Row("the end at once", DATA + ".\r\n", "250 250 354 250", ("",)),
    Row("LF at once, then the end", DATA + "\n.\r\n", "250 250 354 521/5.5.2 closed"),
    Row("LF at once, then no end, normalised", DATA + "\n.\r\nx\r\n.\r\n", "250 250 354 250", ("\r\n.\r\nx\r\n",), "normalise"),

    # -- Newlines in commands ----------------------------------------------------------------------------------
    Row("command with LF", "NOOP\nNOOP\r\n", "521/5.5.2 closed"),
    Row("command with CR", "NOOP\rNOOP\r\n", "521/5.5.2 closed"),
    Row("command with CR CRLF", "NOOP\r\r\nNOOP\r\n", "521/5.5.2 closed"),
    Row("LF in an envelope", f"MAIL FROM:<{ID}@example.com>\n" + RCPT + "DATA\r\nx\r\n.\r\n", "521/5.5.2 closed"),
    Row("LF before a command", MAIL + "\n" + RCPT, "250 521/5.5.2 closed"),
    Row("commands with LF, normalised", (ENVELOPE + "DATA\r\n").replace("\r", "") + "x\r\n.\r\n", "250 250 354 250", ("x\r\n",),
        "normalise"),
    Row("command with CR, normalised", "NOOP\rNOOP\r\n", "521/5.5.2 closed", (), "normalise"),

    # -- NUL and other controls --------------------------------------------------------------------------------
    Row("NUL in a command", "NO\0OP\r\nNOOP\0\r\n\0\r\nNOOP\r\n", "500/5.5.2 500/5.5.2 500/5.5.2 250"),
    Row("NUL in addresses", f"MAIL FROM:<{ID}\0@example.com>\r\n" + MAIL + "RCPT TO:<to@exam\0ple.net>\r\n" + RCPT,
        "500/5.5.2 250 500/5.5.2 250"),
    Row("escape and DEL in addresses", f"MAIL FROM:<\x1b{ID}@example.com>\r\nMAIL FROM:<\x7f{ID}@example.com>\r\n",
        "500/5.5.2 500/5.5.2"),
    Row("NUL in content", DATA + "a\0b\r\n.\r\nNOOP\r\n", "250 250 354 554/5.6.0 250"),
    Row("NUL in content, normalised", DATA + "a\0b\r\n.\r\nNOOP\r\n", "250 250 354 554/5.6.0 250", (), "normalise"),
    Row("NUL beside the end", DATA + HEAD + "x\r\n.\0\r\n" + INNER + ".\r\n", "250 250 354 554/5.6.0"),
    Row("NUL before the dot", DATA + HEAD + "x\r\n\0.\r\n" + INNER + ".\r\n", "250 250 354 554/5.6.0"),
    Row("NUL in a chunk", ENVELOPE + bdat("a\0b\r\n") + "NOOP\r\n", "250 250 554/5.6.0 250"),
    Row("NUL and bare newlines in BINARYMIME", MAIL.replace(">", "> BODY=BINARYMIME") + RCPT + bdat("\0\r\n.\r\n\r.\r\n.\n", False)
        + bdat("\0"), "250 250 250 250", ("\0\r\n.\r\n\r.\r\n.\n\0",)),

    # -- Lines that are long -----------------------------------------------------------------------------------
    Row("a command of 2048 octets", "NOOP " + "x" * 2041 + "\r\n", "250"),
    Row("a command of 2049 octets", "NOOP " + "x" * 2042 + "\r\nNOOP\r\n", "500/5.5.2 250"),
    Row("a name of 255", "EHLO " + "x" * 255 + "\r\n", "250"),
    Row("a name of 256", "EHLO " + "x" * 256 + "\r\n", "501/5.5.4"),
    Row("a command behind 2048 octets of another", "x" * 2048 + MAIL + RCPT, "500/5.5.2 503"),
    Row("a long command with LF", "x" * 3000 + "\n" + MAIL + RCPT, "521/5.5.2 closed"),
    Row("a line of 998", DATA + "x" * 998 + "\r\n.\r\n", "250 250 354 250", ("x" * 998 + "\r\n",)),
    Row("a line of 999", DATA + "x" * 999 + "\r\n.\r\n", "250 250 354 250", ("x" * 999 + "\r\n",)),
    Row("a line of 100,000", DATA + "x" * 100000 + "\r\n.\r\n", "250 250 354 250", ("x" * 100000 + "\r\n",)),
    Row("a line of 100,000 in a chunk", ENVELOPE + bdat("." * 100000 + "\r\n"), "250 250 250", ("." * 100000 + "\r\n",)),

    # -- Chunks ------------------------------------------------------------------------------------------------
    Row("chunks of nothing", ENVELOPE + bdat("", False) * 3 + bdat(SMALL, False) + bdat(""),
        "250 250 250 250 250 250 250", (SMALL,)),
    Row("an empty message", ENVELOPE + bdat(""), "250 250 250", ("",)),
    Row("a chunk without a line end", ENVELOPE + bdat("x"), "250 250 250", ("x\r\n",)),
    Row("a chunk that ends in CR", ENVELOPE + bdat("x\r"), "250 250 554/5.6.0"),
    Row("a message, a chunk, a message", DATA + "1\r\n.\r\n" + ENVELOPE + bdat("2\r\n") + DATA + "3\r\n.\r\n",
        "250 250 354 250 250 250 250 250 250 354 250", ("1\r\n", "2\r\n", "3\r\n")),
    Row("DATA between chunks", ENVELOPE + bdat("a", False) + "DATA\r\n" + bdat("b\r\n"), "250 250 250 503/5.5.1 250", ("ab\r\n",)),
    Row("an envelope between chunks", ENVELOPE + bdat("a", False) + MAIL + RCPT + bdat("b\r\n"), "250 250 250 503 503 250",
        ("ab\r\n",)),
    Row("RSET between chunks", ENVELOPE + bdat("a", False) + "RSET\r\n" + bdat(INNER) + ENVELOPE + bdat(SMALL),
        "250 250 250 250 503 250 250 250", (SMALL,)),
    Row("EHLO between chunks", ENVELOPE + bdat("a", False) + "EHLO b\r\n" + bdat(INNER), "250 250 250 250 503"),
    Row("QUIT between chunks", ENVELOPE + bdat("a", False) + "QUIT\r\nNOOP\r\n", "250 250 250 221 closed"),
    Row("commands in a chunk that nobody wants", bdat(INNER + ".\r\n") + "NOOP\r\n", "503/5.5.1 250"),
    Row("commands in a chunk before RCPT", MAIL + bdat(INNER) + RCPT + bdat(SMALL), "250 503/5.5.1 250 250", (SMALL,)),
    Row("a refused chunk leaves no mark on DATA", bdat("x") + DATA + SMALL + ".\r\n", "503 250 250 354 250", (SMALL,)),
    Row("a chunk after refused recipients", MAIL + "RCPT TO:<a b>\r\n" + bdat(INNER) + "NOOP\r\n", "250 501 554/5.5.1 250"),
    Row("chunks behind a refused one", ENVELOPE + bdat("\0", False) + bdat(INNER, False) + bdat(INNER) + "NOOP\r\n" + RCPT,
        "250 250 554/5.6.0 554/5.6.0 554/5.6.0 250 503"),
    Row("a chunk that is too big", ENVELOPE + bdat("x" * (1 << 20), False) + bdat("x", False) + bdat(INNER) + DATA + "s\r\n.\r\n",
        "250 250 250 552/5.3.4 552/5.3.4 250 250 354 250", ("s\r\n",)),
    Row("BINARYMIME by DATA", MAIL.replace(">", "> BODY=BINARYMIME") + RCPT + "DATA\r\n" + bdat(SMALL), "250 250 503/5.5.1 250",
        (SMALL,)),
    *(Row(f"BDAT {size!r}", ENVELOPE + f"BDAT{size}\r\n" + INNER, "250 250 501/5.5.4 closed") for size in (
        "", " ", " x", " -1", " +1", " 0x10", " 1.0", " 1 FIRST", " 1 LAST LAST", " 1\0", " 18446744073709551616")),
    Row("BDAT behind HELO is no command", "HELO a\r\nBDAT 4\r\n", "250 502/5.5.1"),

    # -- DATA that is refused, and what stays -------------------------------------------------------------------
    Row("DATA after refused recipients", MAIL + "RCPT TO:<a b>\r\nRCPT TO:<>\r\nDATA\r\nRSET\r\n" + DATA + SMALL + ".\r\n",
        "250 501 501 554/5.5.1 250 250 250 354 250", (SMALL,)),
    Row("DATA of a stranger who may not relay", DATA + f"{HEAD}.\r\n", "250 550/5.7.1 554/5.5.1 500 500 500", (), "smtp",
        "127.0.0.2"),
    Row("DATA without recipients", MAIL + "DATA\r\n" + RCPT + "DATA\r\n" + SMALL + ".\r\n", "250 503/5.5.1 250 354 250", (SMALL,)),
    Row("one recipient of three", MAIL + "RCPT TO:<a b>\r\n" + RCPT + "RCPT TO:<c@>\r\nDATA\r\n" + SMALL + ".\r\n",
        "250 501 250 501 354 250", (SMALL,)),
    Row("DATA with an argument", ENVELOPE + "DATA 5\r\nDATA\r\n" + SMALL + ".\r\n", "250 250 501 354 250", (SMALL,)),
    Row("MAIL refused", "MAIL FROM:<a b>\r\n" + RCPT + "DATA\r\n" + DATA + SMALL + ".\r\n",
        "501 503 503 250 250 354 250", (SMALL,)),
    Row("MAIL refused for its size", MAIL.replace(">", "> SIZE=1048577") + RCPT + "DATA\r\n", "552/5.3.4 503 503"),
    Row("MAIL within a transaction", ENVELOPE + "MAIL FROM:<b@example.com>\r\nDATA\r\n" + SMALL + ".\r\n", "250 250 503 354 250",
        (SMALL,)),
    Row("commands that change nothing", ENVELOPE + "NOOP\r\nVRFY a\r\nHELP\r\nWHAT\r\nRSET 1\r\nQUIT 1\r\nEHLO\r\nHELO\r\n"
        "EXPN a\r\nSTARTTLS\r\nDATA\r\n" + SMALL + ".\r\n", "250 250 250 252 214 500 501 501 501 501 502 502 354 250", (SMALL,)),
    Row("RSET", ENVELOPE + "RSET\r\nDATA\r\n" + RCPT, "250 250 250 503 503"),
    Row("EHLO", ENVELOPE + "EHLO b\r\nDATA\r\n" + RCPT, "250 250 250 503 503"),
    Row("HELO", ENVELOPE + "HELO b\r\nDATA\r\n" + RCPT + MAIL.replace(">", "> SIZE=1"), "250 250 250 503 503 555"),
    Row("content refused, then another message", DATA + "\0\r\n.\r\n" + "DATA\r\n" + DATA + SMALL + ".\r\n",
        "250 250 354 554 503 250 250 354 250", (SMALL,)),

    # -- Logins -------------------------------------------------------------------------------------------------
    Row("mail behind a login", f"AUTH PLAIN {PLAIN}\r\n" + DATA + SMALL + ".\r\n", "235 250 250 354 250", (SMALL,), "login"),
    Row("mail behind a login that fails", f"AUTH PLAIN {WRONG}\r\n" + DATA + "QUIT\r\n", "535/5.7.8 530 503 503 221 closed", (),
        "login"),
    Row("a login line by line", f"AUTH LOGIN\r\n{word(USER)}\r\n{word(PASSWORD)}\r\n" + ENVELOPE,
        "334 334 235 250 250", (), "login"),
    Row("commands where a login's line belongs", "AUTH LOGIN\r\n" + MAIL + RCPT, "334 501/5.5.2 503", (), "login"),
    Row("a login that is cancelled", "AUTH PLAIN\r\n*\r\n" + MAIL, "334 501/5.7.0 530", (), "login"),
    Row("a login's line that is too long", "AUTH PLAIN\r\n" + "A" * 20000 + "\r\n" + MAIL, "334 500/5.5.6 530", (), "login"),
    Row("a login's line with LF", f"AUTH PLAIN\r\n{PLAIN}\n" + MAIL, "334 521/5.5.2 closed", (), "login"),
    Row("NUL in a login's line", f"AUTH PLAIN\r\n{PLAIN}\0\r\n" + MAIL, "334 501/5.5.2 530", (), "login"),
    Row("a second login", f"AUTH PLAIN {PLAIN}\r\nAUTH PLAIN {PLAIN}\r\n" + MAIL, "235 503 250", (), "login"),
    Row("a login within a transaction", f"AUTH PLAIN {PLAIN}\r\n" + ENVELOPE + f"AUTH PLAIN {PLAIN}\r\nDATA\r\n" + SMALL + ".\r\n",
        "235 250 250 503 354 250", (SMALL,), "login"),
    Row("AUTH= of somebody who is logged in", f"AUTH PLAIN {PLAIN}\r\n" + MAIL.replace(">", "> AUTH=<>") + "RSET\r\n"
        + MAIL.replace(">", "> AUTH=a+0D+0Ab") + MAIL.replace(">", "> AUTH=+00") + MAIL.replace(">", "> AUTH=a+40b"),
        "235 250 250 501/5.5.4 501/5.5.4 250", (), "login"),
]
