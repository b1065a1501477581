"""auth/nss.py, and what the helper makes of it: a real NSS module, in a mount namespace, whose directory goes down."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from popad.auth import credentials, nss, verifiers
from tests.support import private
from tests.support.patience import PATIENCE

# A directory with one user, who is in one group more than her own. The first letter of the file POPAD_TEST_NSS says how
# it does: up, (d)own as most modules say it, (r)efusing connections, (g)roups down.
MODULE = r"""
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum nss_status state(int groups, int *errnop)
{
    char how = 'u';
    int fd = open(getenv("POPAD_TEST_NSS"), O_RDONLY);
    if (read(fd, &how, 1) < 0)
        how = 'd';
    close(fd);
    *errnop = ENOENT;
    if (how == 'd' || (how == 'g' && groups)) {
        *errnop = EAGAIN;
        return NSS_STATUS_TRYAGAIN;
    }
    if (how == 'r') {
        *errnop = ECONNREFUSED;
        return NSS_STATUS_UNAVAIL;
    }
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_popadtest_getpwnam_r(const char *name, struct passwd *entry, char *text, size_t size, int *errnop)
{
    enum nss_status status = state(0, errnop);
    if (status != NSS_STATUS_SUCCESS)
        return status;
    if (strcmp(name, "dora"))
        return NSS_STATUS_NOTFOUND;
    if (size < 5000) {
        *errnop = ERANGE;
        return NSS_STATUS_TRYAGAIN;
    }
    strcpy(text, "dora");
    *entry = (struct passwd){text, text, 61050, 61051, text, "/nonexistent", "/bin/sh"};
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_popadtest_getgrnam_r(const char *name, struct group *entry, char *text, size_t size, int *errnop)
{
    enum nss_status status = state(1, errnop);
    return status == NSS_STATUS_SUCCESS ? NSS_STATUS_NOTFOUND : status;
}

enum nss_status _nss_popadtest_initgroups_dyn(const char *name, gid_t own, long *start, long *size, gid_t **groups,
                                              long limit, int *errnop)
{
    enum nss_status status = state(1, errnop);
    if (status != NSS_STATUS_SUCCESS)
        return status;
    if (!strcmp(name, "dora") && *start < *size)
        (*groups)[(*start)++] = 61052;
    return NSS_STATUS_SUCCESS;
}
"""

LOOK = """
import json, sys
from popad.auth import nss
answers = []
for name in json.load(sys.stdin):
    try:
        found = nss.user(name)
        answers.append(found and [found.pw_uid, nss.groups(found)])
    except nss.Unanswered as error:
        answers.append(str(error))
print(json.dumps(answers))
"""
JUDGE = """
import json, os, sys
from popad.auth.helper import Helper
from popad.auth.sasl.password import Password
from popad.settings import Settings
given, state, logins = json.load(sys.stdin)
made = Helper(Settings(given))
answers = []
for how, name, password in logins:
    with open(state, "w") as file:
        file.write(how)
    attempt = Password([bytearray(b"USER"), bytearray(name.encode()), bytearray(password.encode())], made.source)
    verdict = made.judge(attempt, "192.0.2.7")
    made.due(verdict, attempt, "192.0.2.7", 0.0)
    counted = made.guesses.wrong.count(b"source " + bytes([192, 0, 2, 7]), 0)
    answers.append([verdict.which.decode(), verdict.reason, list(verdict.groups), counted])
print(json.dumps(answers))
"""
SERVICE = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n"


class Directory:
    """The module, and files of /etc that name it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state"
        self.state.write_text("up")
        source = path / "module.c"
        source.write_text(MODULE)
        library = path / "libnss_popadtest.so.2"
        built = subprocess.run(
            ["gcc", "-shared", "-fPIC", "-o", library, source], capture_output=True, timeout=PATIENCE, check=False
        )
        assert built.returncode == 0, built.stderr.decode()
        self.switch = path / "nsswitch.conf"
        self.switch.write_text("passwd: files popadtest\ngroup: files popadtest\nshadow: files\n")
        shutil.copytree("/etc/pam.d", path / "pam.d")
        (path / "pam.d/popad").write_text(SERVICE)
        (path / "shadow").write_text("")
        (path / "credentials").touch(0o600)
        (path / "credentials").write_text(credentials.line("dora", b"secret", verifiers.LEAST_ITERATIONS) + "\n")

    def run(self, code: str, request: object) -> object:
        binds = {
            "/etc/nsswitch.conf": self.switch,
            "/etc/pam.d": self.path / "pam.d",
            "/etc/shadow": self.path / "shadow",
        }
        environment = {"LD_LIBRARY_PATH": str(self.path), "POPAD_TEST_NSS": str(self.state)}
        return private.run(code, binds, request, environment)

    def judge(self, given: dict[str, str], *logins: tuple[str, str, str]) -> list[tuple[str, str, list[int], int]]:
        """(state, name, password) each; the verdict, its reason, the groups, and the guesses counted so far."""
        settings = {"POPAD_USER": "daemon", "POPAD_CREDENTIALS": str(self.path / "credentials"), **given}
        answers = self.run(JUDGE, (settings, str(self.state), logins))
        assert isinstance(answers, list)
        return answers


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    private.needs_a_namespace()
    if not shutil.which("gcc"):
        pytest.skip("needs gcc: no module of Debian's fails at will")
    tmp_path.chmod(0o755)
    return Directory(tmp_path)


def test_a_directory_that_answers(directory: Directory) -> None:
    assert directory.run(LOOK, ["dora", "nobody-here"]) == [[61050, [61051, 61052]], None]


@pytest.mark.parametrize(
    ("how", "why"), [("down", "Resource temporarily unavailable"), ("refusing", "Connection refused")]
)
def test_a_directory_that_is_down(directory: Directory, how: str, why: str) -> None:
    """Nobody is unknown then but for the files, which answer for those whom they know."""
    directory.state.write_text(how)
    dora, unknown = (f"NSS, getpwnam_r: {why}",) * 2
    assert directory.run(LOOK, ["dora", "nobody-here"]) == [dora, unknown]


def test_groups_that_cannot_be_known(directory: Directory) -> None:
    directory.state.write_text("groups")
    assert directory.run(LOOK, ["dora", "daemon"]) == ["NSS, getgrnam_r: Resource temporarily unavailable"] * 2


@pytest.mark.parametrize("switch", ["passwd: files\n", "passwd: files nosuch\ngroup: files nosuch\n", ""])
def test_a_module_that_is_not_there_knows_nobody(directory: Directory, switch: str) -> None:
    """As nsswitch.conf names it on many machines that have no such package: no reason to let nobody in."""
    directory.switch.write_text(switch)
    answers = directory.run(LOOK, ["daemon", "nobody-here"])
    assert isinstance(answers, list)
    assert (answers[0][0], answers[1]) == (pwd.getpwnam("daemon").pw_uid, None)


@pytest.mark.parametrize("auth", ["pam", "file"])
def test_a_login_while_the_directory_is_down(directory: Directory, auth: str) -> None:
    """Nothing is known about the password, so nothing is counted; then it is counted again."""
    before, down, groups, refused, unknown = directory.judge(
        {"POPAD_AUTH": auth},
        ("up", "dora", "wrong"),
        ("down", "dora", "secret"),
        ("groups", "dora", "secret"),
        ("refusing", "nobody-here", "secret"),
        ("up", "nobody-here", "secret"),
    )
    assert (before[0], before[3]) == ("failed", 1)
    for verdict in (down, groups, refused):
        assert (verdict[0], verdict[3]) == ("unavailable", 1), verdict
        assert verdict[1].startswith("NSS, get")
    assert (unknown[0], unknown[3]) == ("unknown", 2)


def test_groups_of_a_login(directory: Directory) -> None:
    [right] = directory.judge({"POPAD_AUTH": "file"}, ("up", "dora", "secret"))
    assert (right[0], right[2]) == ("passed", [61051, 61052])


def test_names_that_cannot_be() -> None:
    assert nss.user("a\0b") is None
    assert nss.user("") is None
    assert nss.user(nss.NOBODY) is None


def test_the_groups_of_this_user() -> None:
    entry = nss.user("daemon")
    assert entry is not None
    assert nss.groups(entry) == sorted({entry.pw_gid, *os.getgrouplist("daemon", entry.pw_gid)})
