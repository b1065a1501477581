"""One POP3 session after the other by popa3d or popad, inetd-style on a socket pair, in a mount namespace of its own.

Run by `unshare --mount` as root, with the number of a Connection's fd: a request is (server, mailbox, steps), the
answer is (octets received, mailbox afterwards, standard error). The namespace has its own passwd, pam.d, /var/mail,
/var/lib and /run, so that neither server meets an account, a mailbox or a journal of the host.

popad costs tens of milliseconds of start-up a session when it is executed. Thousands of sessions are therefore forked
from this process, which has imported popad already ("popad"); what goes through execve as under inetd is "popad-exec".
"popad-indexed" is a session that finds the index of an earlier one, whatever the size of the mailbox.
"""

import base64
import hashlib
import hmac
import importlib
import os
import pkgutil
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

USER, PASSWORD = "reader", "secret"
UID, POPA3D_UID, POPAD_UID = 61971, 61972, 61973
MAILBOX = Path("/var/mail") / USER
POOL = Path("/mnt")
POPAD = ["/usr/bin/python3", "-m", "popad"]
POPA3D, CHECKOUT, STDERR = POOL / "popa3d", POOL / "checkout", POOL / "stderr"
CREDENTIALS, STATE, CACHE = POOL / "credentials", POOL / "state", POOL / "cache"
LEARN = f"USER {USER}\r\nPASS {PASSWORD}\r\nUIDL\r\nQUIT\r\n".encode()
REMEMBERED = b"the mailbox was not scanned\n"
# An old mailbox: both servers wait for the clock to move on where a mailbox was modified this very moment.
MODIFIED_AGO = 1000
# Nobody waits for this long on purpose: it ends a session that hangs, and the test then shows what came until there.
PATIENCE = 120  # as in tests/support/patience.py: this file runs alone

ACCOUNTS = {"root": 0, "mail": 8, "popa3d": POPA3D_UID, "popad": POPAD_UID, USER: UID}
FILES = {
    "passwd": "".join(f"{name}:x:{uid}:{uid}::/nonexistent:/bin/false\n" for name, uid in ACCOUNTS.items()),
    "group": "".join(f"{name}:x:{uid}:\n" for name, uid in ACCOUNTS.items()),
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\n",
    # The password is "secret", the superuser's too; a cheap hash, for the servers are compared and not crypt.
    "shadow": "".join(f"{name}:$1$popad$UkYuFxWOWv9uc0d1OK2rV1:::::::\n" for name in ("root", USER)),
    "pam.d/popa3d": "auth required pam_unix.so nodelay\naccount required pam_unix.so\n",
}


def furnish(popa3d: str, checkout: str) -> None:
    """Mount the namespace's own directories, with the two servers in POOL, as some of them may hide where those are."""

    def mount(*words: str) -> None:
        subprocess.run(["mount", *words], check=True)

    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(POOL))
    shutil.copy(popa3d, POPA3D)
    CHECKOUT.mkdir()
    mount("--bind", checkout, str(CHECKOUT))
    for name, text in FILES.items():
        (POOL / name).parent.mkdir(exist_ok=True)
        (POOL / name).write_text(text)
    for name in ("passwd", "shadow", "group", "nsswitch.conf", "pam.d"):
        mount("--bind", str(POOL / name), f"/etc/{name}")
    for directory in ("/var/mail", "/var/lib", "/run"):
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
    os.chown("/var/mail", 0, ACCOUNTS["mail"])
    os.chmod("/var/mail", 0o2775)
    os.mkdir("/var/lib/popa3d", 0o755)
    CREDENTIALS.touch(0o600)
    CREDENTIALS.write_text(f"{USER} {verifier()}\nroot {verifier()}\n")
    for shared in (STATE, CACHE):
        shared.mkdir()
        shared.chmod(0o1733)
    os.chdir(CHECKOUT)


def put_mailbox(content: bytes | str | None, path: Path = MAILBOX) -> None:
    """Make the mailbox: octets, None for no file, or the name of something that is not a regular file."""
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    match content:
        case None:
            return
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "symlink":
            target = path.with_name("target")
            target.write_bytes(b"From a\nSubject: s\n\nbody\n\n")
            os.chown(target, UID, UID)
            path.symlink_to(target)
        case bytes():
            path.write_bytes(content)
            path.chmod(0o600)
        case _:
            raise ValueError(content)
    os.chown(path, UID, UID, follow_symlinks=False)
    if isinstance(content, bytes):
        age(path, MODIFIED_AGO)


def age(path: Path, seconds: int) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def change_mailbox(how: str, octets: bytes) -> None:
    """What another program does to the mailbox during a session; the time stamp moves, but stays in the past."""
    if how == "append":
        with MAILBOX.open("ab") as file:
            file.write(octets)
    elif how == "rewrite":
        with MAILBOX.open("r+b") as file:
            file.write(octets)
            file.truncate()
    elif how == "replace":
        fresh = MAILBOX.with_suffix(".new")
        fresh.write_bytes(octets)
        os.chown(fresh, UID, UID)
        fresh.rename(MAILBOX)
    else:
        raise ValueError(how)
    age(MAILBOX, MODIFIED_AGO // 2)


def converse(start: Callable[[socket.socket], int], steps: list[bytes | tuple[str, int, bytes]]) -> bytes:
    """One session: send each step, end the sending side, and return all octets received.

    A step is octets to send, or (change, n, octets): the mailbox is changed when n lines have been received.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            pid = start(theirs)
        ours.settimeout(PATIENCE)
        received = bytearray()
        try:
            for step in steps:
                if isinstance(step, bytes):
                    ours.sendall(step)
                    continue
                how, lines, octets = step
                while received.count(b"\n") < lines and (block := ours.recv(65536)):
                    received += block
                change_mailbox(how, octets)
            ours.shutdown(socket.SHUT_WR)
            while block := ours.recv(65536):
                received += block
        except (BrokenPipeError, ConnectionResetError):
            pass  # The server has hung up before it had read everything.
        except TimeoutError:
            received += b"(timeout)"
            os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return bytes(received)


def starter(server: Callable[[], object]) -> Callable[[socket.socket], int]:
    """Start a server as inetd does: the connection is its standard input and output."""

    def start(connection: socket.socket) -> int:
        with STDERR.open("wb") as stderr:
            if pid := os.fork():
                return pid
            try:
                for standard, fd in enumerate((connection.fileno(), connection.fileno(), stderr.fileno())):
                    os.dup2(fd, standard)
                server()
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(127)

    return start


def exec_popa3d() -> None:
    os.execv(POPA3D, [str(POPA3D)])


def exec_popad() -> None:
    os.execve(POPAD[0], POPAD, popad_environment())


def import_popad() -> Callable[[], object]:
    """What `python3 -m popad` runs, with all modules loaded but PAM's, which needs Debian's python-pam."""
    sys.path.insert(0, str(CHECKOUT))
    popad = importlib.import_module("popad")
    for module in pkgutil.walk_packages(popad.__path__, "popad."):
        if module.name != "popad.auth.pam":
            importlib.import_module(module.name)
    os.environ.clear()
    os.environ.update(popad_environment())
    sys.argv = ["popad"]
    main: Callable[[], object] = sys.modules["popad.__main__"].main
    return main


def remembering(main: Callable[[], object]) -> Callable[[], object]:
    """popad as for a large mailbox. A session that needs no scan says REMEMBERED on standard error."""

    def indexed() -> None:
        index: Any = sys.modules["popad.maildrop.mbox.index"]
        store: Any = sys.modules["popad.maildrop.mbox.store"]
        recall = index.Index.recall

        def recall_aloud(*arguments: object) -> object:
            messages = recall(*arguments)
            if messages and messages.remembered:
                os.write(2, REMEMBERED)
            return messages

        index.Index.recall = recall_aloud
        store.LARGE = 1
        main()

    return indexed


def popad_environment() -> dict[str, str]:
    files = {"POPAD_CREDENTIALS": str(CREDENTIALS), "POPAD_STATE": str(STATE), "POPAD_CACHE": str(CACHE)}
    return {"PATH": "/usr/bin:/bin", "POPAD_AUTH": "file", "POPAD_GUESS_DELAY": "0", **files}


def verifier() -> str:
    """The password for popad's credentials file. One iteration: the servers are compared and not the hash."""
    salt = b"sixteen octets.."
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, 1)
    client_key, server_key = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    keys = (salt, hashlib.sha256(client_key).digest(), server_key)
    return "SCRAM-SHA-256$1:{}${}:{}".format(*(base64.b64encode(octets).decode() for octets in keys))


def serve(channel: Connection) -> None:
    """Answer requests until the other end is closed."""
    popad = import_popad()
    servers: dict[str, Callable[[socket.socket], int]] = {
        "popa3d": starter(exec_popa3d),
        "popad": starter(popad),
        "popad-indexed": starter(remembering(popad)),
        "popad-exec": starter(exec_popad),
    }
    while True:
        try:
            server, content, steps = channel.recv()
        except EOFError:
            return
        put_mailbox(content)
        for remembered in STATE.glob("*.ids"):
            remembered.unlink()  # of an earlier mailbox: the same messages came there, and went
        if server == "popad-indexed":
            converse(servers[server], [LEARN])
        output = converse(servers[server], steps)
        after = MAILBOX.read_bytes() if MAILBOX.is_file() and not MAILBOX.is_symlink() else None
        channel.send((output, after, STDERR.read_bytes()))


def listen(server: str, listening: int) -> NoReturn:
    """Become a systemd-socket-activate that starts `server` for each connection to the listening socket."""
    os.dup2(listening, 3)
    print("ready", flush=True)
    activation = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "PATH": os.environ["PATH"]}
    program = ["--inetd", str(POPA3D)]
    if server == "popad":
        program = [*(word for pair in popad_environment().items() for word in ("-E", "=".join(pair))), *POPAD]
    os.execvpe("systemd-socket-activate", ["systemd-socket-activate", "--accept", *program], activation)


if __name__ == "__main__":
    role, *arguments, popa3d, checkout = sys.argv[1:]
    furnish(popa3d, checkout)
    if role == "listen":
        listen(arguments[0], int(arguments[1]))
    with Connection(int(arguments[0])) as channel:
        serve(channel)
