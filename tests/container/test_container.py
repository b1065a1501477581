"""The container image as its Containerfile says it is built and run: mail comes out, and little else could."""

from __future__ import annotations

import contextlib
import itertools
import json
import poplib
import re
import shlex
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popad.settings import PREAUTH_UIDS
from tests.container.engine import RUN_HERE, Engine, EngineError, needs
from tests.support import certificates
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE, wait_until

CONTAINERFILE = (CHECKOUT / "Containerfile").read_text()
HEALTHCHECK = CHECKOUT / "packaging/container/healthcheck"
# What keeps the container in, as the file itself tells its reader to run it.
SAFETY = tuple(re.findall(r"--(?:read-only|cap-\S+|security-opt\S*)", CONTAINERFILE.partition("\nFROM")[0]))
PORT = 1110
MAIL_UID = 1000
NAME, PASSWORD = "jane", "correct horse"
MESSAGE = "Subject: first\n\nbody of the first\n"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine with the image; at the end nothing of it is left."""
    if reason := needs():
        pytest.skip(reason)
    place = Path(tempfile.mkdtemp(prefix="popad-container-"))
    with Engine(place) as running:
        running.build(CHECKOUT, "popad")
        yield running
    assert not place.exists()
    commands = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(place).encode() in read_if_there(path)]
    assert commands == []


def read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


class Container:
    """A running container with one user's mailbox."""

    def __init__(self, engine: Engine, name: str, configuration: Path) -> None:
        self.engine = engine
        self.name = name
        self.configuration = configuration

    def podman(self, *command: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return self.engine.run("podman", *command, check=check, stdin=stdin)

    def inspect(self, what: str) -> object:
        """A part of what podman knows of the container."""
        return json.loads(self.podman("inspect", self.name, "--format", f"{{{{json {what}}}}}").stdout)

    @property
    def pid(self) -> int:
        """The daemon, as the containers' namespace numbers it."""
        return int(str(self.inspect(".State.Pid")))

    def proc(self, file: str) -> str:
        """A file of /proc in the containers' namespace."""
        return self.engine.run("cat", f"/proc/{file}").stdout

    def status(self, pid: int) -> str:
        return self.proc(f"{pid}/status")

    def children(self, pid: int) -> list[int]:
        return [int(word) for word in self.proc(f"{pid}/task/{pid}/children").split()]

    def volume(self, which: str) -> Path:
        """The directory of this host in which a volume of the container is."""
        return Path(
            self.podman("volume", "inspect", f"{self.name}-{which}", "--format", "{{.Mountpoint}}").stdout.strip()
        )

    def passwd(self, name: str, password: str) -> None:
        """README's command, but with a pipe for a terminal."""
        (command,) = [line for line in readme() if " passwd " in line]
        words = command.replace("-it", "-i").replace("./popad.d", str(self.configuration)).replace("jane", name)
        podman, run, *rest = words.split()
        self.engine.run(podman, run, *RUN_HERE, *rest, stdin=f"{password}\n")

    def deliver(self, *messages: str) -> None:
        mailbox = self.volume("mail") / NAME
        self.engine.run(
            "install", "-m", "600", "-o", str(MAIL_UID), "-g", str(MAIL_UID), "/dev/stdin", str(mailbox),
            stdin="".join(f"From a@example.org Thu Jan  1 00:00:00 1970\n{message}\n" for message in messages),
        )  # fmt: skip

    def client(self, address: str = "127.0.0.1") -> poplib.POP3:
        """A client that has been greeted."""
        return self.engine.inside(self.pid, lambda: poplib.POP3(address, PORT, PATIENCE))

    def logged_in(self) -> poplib.POP3:
        client = self.client()
        client.user(NAME)
        client.pass_(PASSWORD)
        return client

    def log(self) -> list[dict[str, str]]:
        """The events on standard error; what is no event fails. Standard output is for nothing."""
        said = self.podman("logs", self.name)
        assert said.stdout == ""
        entries = [dict(field.partition("=")[::2] for field in shlex.split(line)) for line in said.stderr.splitlines()]
        assert all("event" in entry for entry in entries), said.stderr
        return entries

    def listens(self) -> bool:
        """Whether somebody listens on the port, without a connection that would be in the log."""
        return f":{PORT:04X} {'0' * 32}:0000 0A" in self.proc(f"{self.pid}/net/tcp6")

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.log()]


@contextlib.contextmanager
def container(
    engine: Engine,
    *options: str,
    safety: tuple[str, ...] = SAFETY,
    with_user: bool = True,
    prepare: Callable[[Path], object] = lambda _: None,
) -> Iterator[Container]:
    """A container that listens, with volumes of its own; removed at the end. `prepare` gets its popad.d."""
    name = f"popad{next(NUMBERS)}"
    configuration = engine.place / f"{name}.d"
    configuration.mkdir()
    line = engine.run("podman", "run", "--rm", "-i", *RUN_HERE, "popad", "passwd", NAME, stdin=f"{PASSWORD}\n").stdout
    if with_user:
        (configuration / "credentials").touch(0o600)
        (configuration / "credentials").write_text(line)
    prepare(configuration)
    running = Container(engine, name, configuration)
    places = {"mail": "/var/mail/popad", "state": "/var/lib/popad", "cache": "/var/cache/popad"}
    volumes = [f"{name}-{volume}:{place}" for volume, place in places.items()]
    mounts = [f"--volume={volume}" for volume in (f"{configuration}:/etc/popad:ro", *volumes)]
    try:
        running.podman("run", "--detach", "--name", name, *RUN_HERE, *safety, *mounts, *options, "popad")
        wait_until(running.listens)
        yield running
    finally:
        running.podman("rm", "--force", "--time=0", name)
        running.podman("volume", "rm", *(f"{name}-{volume}" for volume in places))


def attempt(address: tuple[str, int]) -> bytes:
    """What a server says to a login, up to the end of the stream or of its connection."""
    with (
        socket.create_connection(address, PATIENCE) as connection,
        connection.makefile("rb") as answers,
        contextlib.suppress(ConnectionError),
    ):
        connection.sendall(f"USER {NAME}\r\nPASS {PASSWORD}\r\nQUIT\r\n".encode())
        return answers.read()
    return b""


@pytest.fixture(scope="module")
def served(engine: Engine) -> Iterator[Container]:
    """A container that all tests share which leave it as it was."""
    with container(engine) as running:
        yield running


def readme() -> list[str]:
    """The commands of README's container section, each in one line."""
    section = (CHECKOUT / "README.md").read_text().partition("\n## Container\n")[2].partition("\n- ")[0]
    return [line.strip() for line in section.replace("\\\n", "").splitlines() if line.startswith("    ")]


def test_readme_from_an_empty_directory(engine: Engine) -> None:
    """Its commands in their order, but for the build, with ports and volumes of this test's."""
    built, made, _, ran = readme()
    assert built == "podman build --format docker -t popad ."
    name = f"popad{next(NUMBERS)}"
    configuration = engine.place / f"{name}.d"
    engine.run(*made.replace("popad.d", str(configuration)).split())
    running = Container(engine, name, configuration)
    try:
        running.passwd(NAME, PASSWORD)
        places = {"./popad.d:": f"{configuration}:", "--name popad": f"--name {name}", " -p 110:1110": ""}
        places |= {f"-v {volume}:": f"-v {name}-{volume}:" for volume in ("mail", "state", "cache")}
        for shown, here in places.items():
            assert shown in ran
            ran = ran.replace(shown, here)
        podman, run, *rest = ran.split()
        running.podman(run, *RUN_HERE, *rest)
        wait_until(running.listens)
        running.deliver(MESSAGE)
        assert running.logged_in().quit().startswith(b"+OK")
        running.podman("healthcheck", "run", name)
        assert podman == "podman"
    finally:
        running.podman("rm", "--force", "--time=0", name)
        running.podman("volume", "rm", *(f"{name}-{volume}" for volume in ("mail", "state", "cache")))


def test_the_file_says_how_to_keep_it_in() -> None:
    assert SAFETY == ("--read-only", "--cap-drop=all", "--cap-add=setuid,setgid", "--security-opt=no-new-privileges")
    assert " ".join(SAFETY) in (CHECKOUT / "README.md").read_text()


class TestServing:
    def test_mail_is_fetched_and_deleted(self, served: Container) -> None:
        served.deliver(MESSAGE, MESSAGE.replace("first", "second"))
        client = served.logged_in()
        assert client.retr(1)[1] == MESSAGE.encode().splitlines()
        client.dele(1)
        assert client.quit().startswith(b"+OK")
        mailbox = served.volume("mail") / NAME
        assert b"body of the second" in mailbox.read_bytes()
        assert b"body of the first" not in mailbox.read_bytes()
        assert mailbox.stat().st_uid == MAIL_UID

    def test_ipv4_and_ipv6(self, served: Container) -> None:
        for address in ("127.0.0.1", "::1"):
            client = served.client(address)
            assert client.quit().startswith(b"+OK")

    def test_a_wrong_password_is_refused(self, served: Container) -> None:
        client = served.client()
        client.user(NAME)
        with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
            client.pass_("wrong")
        client.close()

    def test_tls(self, engine: Engine) -> None:
        """With a certificate in popad.d: by STLS, and on the other port at once."""

        def prepare(configuration: Path) -> None:
            certificates.make(configuration)
            names = "POPAD_TLS_CERTIFICATE=/etc/popad/tls.pem\nPOPAD_TLS_KEY=/etc/popad/tls.key\n"
            (configuration / "popad.conf").write_text(names)

        with container(engine, prepare=prepare) as running:
            running.deliver(MESSAGE)
            trusting = ssl.create_default_context(cafile=str(running.configuration / "tls.pem"))
            trusting.check_hostname = False  # poplib asks for the address
            client = running.client()
            client.stls(trusting)
            at_once = running.engine.inside(
                running.pid, lambda: poplib.POP3_SSL("127.0.0.1", 1995, timeout=PATIENCE, context=trusting)
            )
            for each in (client, at_once):
                each.user(NAME)
                each.pass_(PASSWORD)
                assert each.stat()[0] == 1
                each.quit()
            wait_until(lambda: running.events().count("session-closed") == 2)
            assert all(
                entry["tls"].startswith("TLSv1.3") for entry in running.log() if entry["event"] == "session-closed"
            )
            said = running.podman("exec", running.name, "/usr/sbin/popad", "check", check=False).stdout
            assert "note: POPAD_TLS_CERTIFICATE: /etc/popad/tls.pem: " in said
            assert [line for line in said.splitlines() if line.startswith("wrong: POPAD_TLS")] == []

    def test_a_new_user_counts_at_once(self, served: Container) -> None:
        """Added as README says; so is another password, and neither is the end of who was there before."""
        for password in ("first", "secret"):
            served.passwd("john", password)
        served.logged_in().quit()
        client = served.client()
        client.user("john")
        assert client.pass_("secret").startswith(b"+OK")
        client.quit()

    def test_the_start_and_where_it_listens_are_in_the_log(self, served: Container) -> None:
        started = served.log()[0]
        assert (started["event"], started["addresses"]) == ("daemon-started", f"[::]:{PORT}")

    def test_events_are_on_standard_error(self, served: Container) -> None:
        before = len(served.events())
        served.logged_in().quit()
        wait_until(lambda: served.events()[-1] == "session-closed")
        assert served.events()[before:] == ["session-opened", "login-passed", "maildrop-loaded", "session-closed"]

    def test_volumes_belong_to_who_writes_there(self, served: Container) -> None:
        mail = served.volume("mail").stat()
        assert (mail.st_uid, mail.st_gid, mail.st_mode & 0o1777) == (MAIL_UID, MAIL_UID, 0o700)
        for shared in (served.volume("state").stat(), served.volume("cache").stat()):
            assert (shared.st_uid, shared.st_gid, shared.st_mode & 0o1777) == (0, 0, 0o1733)

    def test_no_key_is_in_the_image(self, served: Container) -> None:
        """It would be everybody's. The daemon makes one when it starts."""
        show = ["ls", "-A", "/var/lib/popad", "/var/cache/popad"]
        image = served.podman("run", "--rm", *RUN_HERE, "--entrypoint", show[0], "popad", *show[1:]).stdout
        assert ".key" not in image
        assert "/var/cache/popad" in image
        for volume in ("state", "cache"):
            assert (served.volume(volume) / ".key").stat().st_size == 32

    def test_an_interrupted_update_outlives_the_container(self, served: Container) -> None:
        """The messages that an update moves are in a volume, on a disk: not in the container."""
        mounts = served.inspect(".Mounts")
        assert isinstance(mounts, list)
        assert {mount["Destination"] for mount in mounts if mount["Type"] == "volume"} == {
            "/var/mail/popad",
            "/var/lib/popad",
            "/var/cache/popad",
        }

    def test_check_finds_nothing_wrong(self, served: Container) -> None:
        assert served.podman("exec", served.name, "popad", "check").stdout.splitlines()[-1] == "no problem found"


class TestAdministration:
    """The administrator's commands, as README has them for a container."""

    PRIVILEGED = ("podman exec --privileged popad popad", "podman logs --timestamps popad 2>&1 | podman exec -i popad")

    def test_readme_says_so(self) -> None:
        text = " ".join((CHECKOUT / "README.md").read_text().split())
        assert all(each in text for each in self.PRIVILEGED)

    def test_who_and_kick(self, served: Container) -> None:
        """With both capabilities that the container itself has not; a message that was marked as deleted stays."""

        def run(*command: str) -> str:
            return served.podman("exec", "--privileged", served.name, "popad", *command).stdout

        def who() -> dict[str, tuple[str, int | None, int | None]]:
            shown = map(json.loads, run("who", "--json").splitlines())
            return {each["user"]: (each["address"], each["messages"], each["deleted"]) for each in shown}

        served.deliver(MESSAGE, MESSAGE)
        client = served.logged_in()
        client.dele(1)
        with contextlib.closing(served.client()):
            wait_until(lambda: who() == {NAME: ("127.0.0.1", 2, 1), None: ("127.0.0.1", None, None)})
        assert f"of {NAME} (vmail) from 127.0.0.1: ended" in run("kick", NAME)
        with pytest.raises((OSError, EOFError, poplib.error_proto)):
            client.noop()
        client.close()
        again = served.logged_in()
        assert again.stat()[0] == 2
        again.quit()
        assert "session-interrupted" in served.events()

    def test_report_of_its_log(self, engine: Engine) -> None:
        """As podman has it, with the times."""
        with container(engine) as running:
            running.deliver(MESSAGE, MESSAGE)
            client = running.logged_in()
            client.retr(1)
            client.dele(2)
            client.quit()
            wait_until(lambda: running.events().count("session-closed") == 1)
            log = running.podman("logs", "--timestamps", running.name).stderr
            counting = ("popad", "report", "--logfmt", "-", "--json")
            said = json.loads(running.podman("exec", "-i", running.name, *counting, stdin=log).stdout)
            exposed = running.podman("exec", "-i", running.name, "popad", "metrics", "--logfmt", "-", stdin=log).stdout
        assert {name: count for name, count in said["events"].items() if count} == dict.fromkeys(
            (
                "daemon-started",
                "session-opened",
                "login-passed",
                "maildrop-loaded",
                "maildrop-updated",
                "session-closed",
            ),
            1,
        )
        assert (said["sums"]["retrieved"], said["sums"]["deleted"], said["notes"]) == (1, 1, [])
        assert said["distributions"]["login"]["number"] == 1
        assert 'popad_entries_total{event="login-passed"} 1\n' in exposed


class TestConfinement:
    def test_serves_with_no_other_place_to_write_at_all(self, engine: Engine) -> None:
        """Not even podman's /tmp and /run in memory."""
        with container(engine, "--read-only-tmpfs=false") as confined:
            confined.deliver(MESSAGE)
            client = confined.logged_in()
            client.dele(1)
            assert client.quit().startswith(b"+OK")
            for place in ("/", "/tmp", "/run", "/etc/popad", "/usr/lib/popad"):
                refused = confined.podman("exec", confined.name, "touch", f"{place}/x", check=False)
                assert "Read-only file system" in refused.stderr

    def test_has_the_rights_to_become_the_user_and_no_other(self, served: Container) -> None:
        status = served.proc(f"{served.pid}/status")
        setgid, setuid = 6, 7  # capability.h
        for which in ("CapBnd", "CapPrm", "CapEff"):
            assert int(re.findall(rf"^{which}:\t(\w+)$", status, re.M)[0], 16) == 1 << setgid | 1 << setuid
        assert "NoNewPrivs:\t1\n" in status

    @pytest.mark.parametrize("fewer", ["setuid", "setgid", ""])
    def test_needs_each_of_them(self, engine: Engine, fewer: str) -> None:
        safety = tuple(f"--cap-add={fewer}" if option.startswith("--cap-add") else option for option in SAFETY)
        with container(engine, safety=tuple(option for option in safety if option != "--cap-add=")) as crippled:
            answers = crippled.engine.inside(crippled.pid, lambda: attempt(("127.0.0.1", PORT)))
            assert b"messages" not in answers
            said = crippled.podman("logs", crippled.name).stderr
            assert "event=contract-broken" in said
            assert "event=login-passed" not in said

    def test_who_reads_what_unauthenticated_clients_send_has_a_uid_of_its_own(self, served: Container) -> None:
        """By its number in the container; without CAP_KILL nobody but its session can end it. (Root's are the helper's
        workers.)
        """
        client = served.client()
        client.capa()
        uids: dict[int, int] = {}
        for parent in served.children(served.pid):
            for child in served.children(parent):
                status = served.proc(f"{child}/status")
                inside = int(re.findall(r"^NSpid:.*\t(\d+)$", status, re.M)[0])
                uids[inside] = int(re.findall(r"^Uid:\t(\d+)\t", status, re.M)[0])
        children = {inside: uid for inside, uid in uids.items() if uid}
        assert children
        assert children == {inside: PREAUTH_UIDS[inside] for inside in children}
        client.quit()

    def test_a_user_has_no_rights_left(self, served: Container) -> None:
        client = served.logged_in()
        (helper_or_session,) = {
            pid for pid in served.children(served.pid) if "Uid:\t1000" in served.proc(f"{pid}/status")
        }
        status = served.proc(f"{helper_or_session}/status")
        assert "Uid:\t1000\t1000\t1000\t1000\n" in status
        assert "CapPrm:\t0000000000000000\n" in status
        client.quit()


class TestHealth:
    def test_well(self, served: Container) -> None:
        served.podman("healthcheck", "run", served.name)
        assert served.inspect(".State.Healthcheck.Status") == "healthy"

    def test_nobody_could_log_in(self, engine: Engine) -> None:
        """No file, one without a user, one that others may read: it serves and refuses everybody. One is added."""
        with container(engine, with_user=False) as running:
            file = running.configuration / "credentials"
            for text, mode in ((None, 0), ("# nobody yet\n", 0o600), (f"{NAME} X\n", 0o644)):
                if text is not None:
                    file.write_text(text)
                    file.chmod(mode)
                assert running.podman("healthcheck", "run", running.name, check=False).returncode == 1
            file.unlink()
            running.passwd(NAME, PASSWORD)
            running.podman("healthcheck", "run", running.name)

    def test_hangs(self, engine: Engine) -> None:
        """A daemon that listens and serves nobody: the kernel accepts, no greeting comes."""
        with container(engine) as hanging:
            hanging.podman("healthcheck", "run", hanging.name)
            hanging.podman("kill", "--signal=STOP", hanging.name)
            retries = int(re.findall(r"^HEALTHCHECK .*--retries=(\d+)", CONTAINERFILE, re.M)[0])
            for _ in range(retries):
                assert hanging.podman("healthcheck", "run", hanging.name, check=False).returncode == 1
            assert hanging.inspect(".State.Healthcheck.Status") == "unhealthy"
            hanging.podman("kill", "--signal=CONT", hanging.name)
            hanging.podman("healthcheck", "run", hanging.name)
            assert hanging.inspect(".State.Healthcheck.Status") == "healthy"

    @pytest.mark.parametrize(
        ("answers", "status"),
        [
            (b"+OK ready\r\n+OK\r\nUSER\r\n.\r\n+OK bye\r\n", 0),
            (b"", 1),
            (b"-ERR [SYS/PERM] not now\r\n", 1),
            (b"220 mail ESMTP\r\n", 1),
            (b"+OK ready\r\n-ERR what\r\n", 1),
            (b"+OK ready\r\n+OK\r\nUSER\r\n", 1),
            (b"+OK ready\r\n+OK\r\nUSER\r\n.\r\n", 1),
        ],
    )
    def test_verdict(self, answers: bytes, status: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            program = ["/usr/bin/python3", "-IS", str(HEALTHCHECK), "127.0.0.1", str(port)]
            with subprocess.Popen(program, stderr=subprocess.DEVNULL) as check:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(answers)
                    connection.shutdown(socket.SHUT_WR)
                    assert check.wait(PATIENCE) == status

    def test_nobody_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        program = ["/usr/bin/python3", "-IS", str(HEALTHCHECK), "127.0.0.1", str(port)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 1
        assert done.stderr == "healthcheck: [Errno 111] Connection refused\n"


class TestLife:
    def test_stops_when_the_sessions_have_ended(self, engine: Engine) -> None:
        with container(engine) as stopping:
            stopping.deliver(MESSAGE)
            client = stopping.logged_in()
            client.dele(1)
            stop = threading.Thread(target=stopping.podman, args=("stop", stopping.name))
            stop.start()
            wait_until(lambda: not stopping.listens())
            assert client.quit().startswith(b"+OK")
            stop.join()
            assert stopping.inspect(".State.ExitCode") == 0
            assert stopping.events()[-3:] == ["maildrop-updated", "session-closed", "daemon-stopped"]

    def test_stops_though_a_session_does_not_end(self, engine: Engine) -> None:
        with container(engine, "--env=POPAD_STOP_TIMEOUT=1") as stopping:
            client = stopping.logged_in()
            stopping.podman("stop", "--time=60", stopping.name)
            assert client.file.read() == b""
            client.close()
            assert stopping.inspect(".State.ExitCode") == 0

    @pytest.mark.parametrize("more", [["--cap-add=kill"], []])
    def test_a_session_that_hangs(self, engine: Engine, more: list[str]) -> None:
        """What README says of CAP_KILL: with it the daemon ends a session of the user's, without it cannot."""
        with container(engine, *more, "--env=POPAD_TIMEOUT=1") as running:
            before = running.children(running.pid)
            client = running.logged_in()
            (session,) = [pid for pid in running.children(running.pid) if f"Uid:\t{MAIL_UID}" in running.status(pid)]
            engine.run("kill", "-STOP", str(session))
            wait_until(lambda: "session-stopped" in running.events())
            if more:
                wait_until(lambda: session not in running.children(running.pid))
            else:
                assert session in running.children(running.pid)
                engine.run("kill", "-CONT", str(session))
            client.close()
            assert len(before) == 2

    def test_gives_up_before_podman_does(self) -> None:
        """podman stop waits for 10 seconds, and then kills."""
        assert int(re.findall(r"POPAD_STOP_TIMEOUT=(\d+)", CONTAINERFILE)[0]) < 10

    def test_buries_the_children_of_a_session_that_was_killed(self, served: Container) -> None:
        """The daemon is process 1 here: whom nobody else waits for, it has to."""
        wait_until(lambda: len(served.children(served.pid)) == 2)
        _, parent = served.children(served.pid)  # the helper, and the session that waits for this client
        client = served.client()
        (orphan,) = served.children(parent)
        served.engine.run("kill", "-KILL", str(parent))
        client.close()
        wait_until(lambda: not {parent, orphan} & set(served.children(served.pid)))
        assert served.engine.run("test", "-e", f"/proc/{orphan}", check=False).returncode == 1

    def test_a_wrong_setting_is_said_and_ends_it(self, engine: Engine) -> None:
        done = engine.run("podman", "run", "--rm", *RUN_HERE, *SAFETY, "--env=POPAD_TIMEOUT=soon", "popad", check=False)
        assert done.returncode == 78
        assert "popad: POPAD_TIMEOUT" in done.stderr


def test_a_failed_build_is_an_error(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(EngineError):
        engine.run("buildah", "build", "--isolation", "chroot", str(tmp_path))
