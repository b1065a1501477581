"""The command scripts that popa3d and popad are compared with."""

from collections.abc import Callable

LOGIN = b"USER reader\r\nPASS secret\r\n"
# The generator's mailboxes hold fewer messages; the large ones are read in part.
NUMBERS = range(1, 15)


def lines(*commands: str) -> bytes:
    return b"".join(command.encode("latin-1") + b"\r\n" for command in commands)


def each(verb: str, numbers: range, argument: str = "") -> list[str]:
    return [f"{verb} {number}{argument}" for number in numbers]


# Everything a client can read of a mailbox.
READ = LOGIN + lines(
    "STAT", "LIST", "UIDL", *each("LIST", NUMBERS), *each("UIDL", NUMBERS), *each("RETR", NUMBERS), "LAST",
    *each("TOP", NUMBERS, " 0"), *each("TOP", NUMBERS, " 1"), *each("TOP", NUMBERS, " 7"),
    *each("TOP", NUMBERS[1:], " 2147483647"), "LAST", "QUIT",
)  # fmt: skip

# In TRANSACTION, after the login; {n} is the number of the last message, {m} of one in the middle.
_TRANSACTION = {
    "QUIT at once": "QUIT",
    "NOOP": "NOOP|noop|NoOp|nOOP",
    "NOOP and spaces": "NOOP |NOOP  |NOOP x| NOOP|NOOP\t|\tNOOP|NOOP\r",
    "STAT": "STAT|stat|STAT |STAT  |STAT 1",
    "LIST": "LIST|list|LIST |LIST  ",
    "LIST n": "LIST 1|LIST {n}|LIST {m}|LIST 1 |LIST 1  |LIST  1|LIST 1 2|LIST 1\t",
    "LIST of what is not there": "LIST 0|LIST 99999|LIST -1|LIST 2147483647",
    "LIST of what wraps around": "LIST 2147483648|LIST 4294967297|LIST 18446744073709551617|LIST 4294967295",
    "LIST of what is no number": "LIST x|LIST 1x|LIST 0x1|LIST 1.0|LIST *|LIST \xb2|LIST \xa01|LIST 1,2|LIST 1-2",
    "leading zeros": f"LIST 01|LIST 00|RETR 0001|TOP 01 00|UIDL 01|DELE 01|LIST {'0' * 39}2|LIST {'0' * 40}2",
    "signs": "LIST +1|TOP 1 +0|TOP 1 -0|RETR +1|DELE +1|UIDL +1|STAT",
    "white space that is no space": "LIST \t1|LIST \v1|TOP 1 \t0|RETR \f1|DELE \t1|STAT",
    "UIDL": "UIDL|uidl|UIDL |UIDL  ",
    "UIDL n": "UIDL 1|UIDL {n}|UIDL {m}|UIDL 1 |UIDL 1 1|UIDL 0|UIDL 99999|UIDL x",
    "RETR": "RETR 1|retr 1|RETR {n}|RETR 1 ",
    "RETR, bad": "RETR|RETR |RETR 0|RETR 99999|RETR 1 1|RETR  1|RETR x|RETR -1|RETR 4294967297",
    "RETR twice": "RETR 1|RETR 1|RETR {n}|RETR {n}",
    "TOP": "TOP 1 0|top 1 1|TOP 1 1 |TOP {n} 2|TOP {m} 3|TOP 1 10|TOP 1 100000",
    "TOP, huge": "TOP 1 2147483646|TOP 1 2147483647|TOP 1 2147483648|TOP 1 4294967296|TOP 1 99999999999999999999",
    "TOP, bad": "TOP|TOP |TOP 1|TOP 1 |TOP 1  1|TOP 1 1 1|TOP  1 1|TOP 1 0  ",
    "TOP, bad numbers": "TOP 0 1|TOP 99999 1|TOP x 1|TOP 1 x|TOP 1 -1|TOP -1 1|TOP {n} 1x",
    "LAST": "LAST|last|LAST |LAST x",
    "LAST after RETR": "LAST|RETR {m}|LAST|RETR 1|LAST|RETR {n}|LAST|RETR 99999|LAST",
    "LAST after TOP": "TOP {n} 0|LAST|TOP 1 0|LAST|LIST {n}|UIDL {n}|LAST",
    "LAST after DELE": "DELE {m}|LAST|DELE {m}|LAST|DELE {n}|LAST|RSET|LAST",
    "LAST after RSET": "RETR {n}|LAST|RSET|LAST|RETR 1|LAST|RSET x|LAST",
    "DELE": "DELE 1|STAT|LIST|UIDL|LIST 1|UIDL 1|RETR 1|TOP 1 0",
    "DELE, bad": "DELE|DELE |DELE 0|DELE 99999|DELE 1 1|DELE x|DELE -1|DELE 4294967297|STAT|QUIT",
    "DELE twice": "DELE 1|DELE 1|STAT|QUIT",
    "DELE and the others": "DELE {m}|RETR {m}|TOP {m} 1|LIST {m}|UIDL {m}|RETR 1|RETR {n}|STAT|LIST|UIDL",
    "RSET": "DELE 1|DELE {n}|STAT|RSET|STAT|LIST|UIDL|RETR 1|RSET |RSET x|QUIT",
    "RSET and DELE": "DELE 1|RSET|DELE {n}|STAT|QUIT",
    "QUIT with an argument": "DELE 1|QUIT now|QUIT  |STAT|QUIT ",
    "QUIT after DELE of the first": "DELE 1|QUIT",
    "QUIT after DELE of the middle": "DELE {m}|QUIT",
    "QUIT after DELE of the last": "DELE {n}|QUIT",
    "QUIT after DELE of each other": "{odd}|STAT|QUIT",
    "QUIT after DELE of the even ones": "{even}|STAT|QUIT",
    "QUIT after DELE of all": "{odd}|{even}|STAT|LIST|UIDL|LAST|QUIT",
    "QUIT after DELE of all but the last": "{front}|STAT|QUIT",
    "QUIT after DELE of all but the first": "{back}|STAT|QUIT",
    "QUIT after reading and DELE": "UIDL|RETR 1|DELE 1|RETR {n}|DELE {n}|LIST|QUIT",
    "DELE without QUIT": "DELE 1|DELE {n}|STAT",
    "commands after QUIT": "DELE {n}|QUIT|RSET|STAT|QUIT",
    "lower case throughout": "stat|list|uidl|retr 1|top 1 0|dele 1|last|rset|noop|quit",
    "of the other state": "USER reader|PASS secret|APOP x y|STLS|STAT",
    "unknown": "XYZZY|LISTX|LIS|LISTING 1||HELP|EXPN|\u00c4|STAT",
    "empty lines": "|||STAT|",
    "NUL": "NO\0OP|\0|LIST\x001|LIST 1\0|RETR \x001|QUIT\0|\0STAT|STAT",
    "CAPA": "CAPA|capa|CAPA |STAT|QUIT",
    "format strings": "%s%s%n|LIST %d|RETR %n|UIDL %s|STAT",
    "long arguments": f"LIST {'1' * 41}|RETR {'x' * 41}|NOOP {'x' * 100}|{'N' * 100}|TOP 1 {'0' * 40}|TOP 1 {'0' * 41}",
    "lines over 127 octets": f"NOOP {'x' * 130}|NOOP{' ' * 200}|{'x' * 250}|LIST {'0' * 200}1|STAT",
    "lines over 255 octets": f"NOOP {'x' * 300}|{'x' * 256}|LIST {'0' * 4000}1|STAT|{'QUIT' * 300}|NOOP|DELE 1|QUIT",
}

# Octets as they stand: other line ends, and no end.
_RAW = {
    "bare LF": LOGIN.replace(b"\r", b"") + b"STAT\nLIST\nDELE 1\nRETR 1\nQUIT\n",
    "mixed line ends": LOGIN + b"STAT\nLIST\r\nNOOP\r\r\nNOOP\rNOOP\r\n\r\n\n\rSTAT\r\nQUIT\n",
    "end of file before the login": b"USER reader\r\n",
    "end of file at once": b"",
    "end of file in the middle of a command": LOGIN + b"DELE 1\r\nSTA",
    "QUIT without a line end": LOGIN + b"DELE 1\r\nQUIT",
    "QUIT and CR": LOGIN + b"DELE 1\r\nQUIT\r",
    "RETR without a line end": LOGIN + b"STAT\r\nRETR 1",
    "PASS without a line end": LOGIN.rstrip(),
    "USER, bad": lines("USER", "USER ", "USER a b", "USER  a", "USER " + "a" * 41, "USER reader ", "PASS x", "STAT"),
    "USER twice": lines("USER reader", "USER other", "USER reader", "PASS secret", "STAT", "QUIT"),
    "USER again, another name": lines("USER nobody-here", "USER reader", "PASS secret", "STAT", "QUIT"),
    "errors without an end": lines("USER reader", *["NOOP"] * 12, "PASS secret", "STAT", "QUIT"),
    "PASS first": lines("PASS secret", "PASS", "USER reader", "PASS", "PASS ", "PASS secret", "STAT"),
    "commands before the login": lines(
        "STAT", "LIST", "NOOP", "RETR 1", "XYZZY", "", "USER reader", "STAT", "PASS secret", "STAT"
    ),
    "QUIT before the login": lines("QUIT x", "QUIT", "USER reader"),
    "QUIT between USER and PASS": lines("user reader", "quit"),
    "login in lower case": lines("user reader", "pass secret", "stat", "quit"),
    "user name in upper case": lines("USER READER", "PASS secret", "STAT"),
    "unknown user": lines("USER nobody-here", "PASS secret", "STAT"),
    "superuser": lines("USER root", "PASS secret", "STAT"),
    "NUL before the login": b"USER rea\0der\r\nUSER reader\r\nPASS se\0cret\r\nPASS secret\r\nSTAT\r\n",
    "password of 300 octets": lines("USER reader", "PASS " + "x" * 300, "PASS secret", "STAT"),
    "wrong password": lines("USER reader", "PASS Secret", "PASS secret", "STAT"),
    "password and spaces": lines("USER reader", "PASS secret ", "STAT"),
    "password behind two spaces": lines("USER reader", "PASS  secret", "STAT"),
    "login with bare CR": b"USER reader\rPASS secret\r\nQUIT\r\n",
}

Script = Callable[[int], bytes]


def _transaction(text: str) -> Script:
    def script(count: int) -> bytes:
        def marks(numbers: range) -> str:
            return "|".join(each("DELE", numbers))

        filled = text.format(
            n=count,
            m=(count + 1) // 2,
            odd=marks(range(1, count + 1, 2)),
            even=marks(range(2, count + 1, 2)),
            front=marks(range(1, count)),
            back=marks(range(2, count + 1)),
        )
        return LOGIN + lines(*filled.split("|"))

    return script


def _raw(octets: bytes) -> Script:
    return lambda _: octets


# By name; each is made for a mailbox of so many messages.
SCRIPTS: dict[str, Script] = {name: _transaction(text) for name, text in _TRANSACTION.items()}
SCRIPTS |= {name: _raw(octets) for name, octets in _RAW.items()}
