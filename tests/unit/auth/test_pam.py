"""auth/pam.py with the real libpam and Debian's modules, in a mount namespace with users and services of its own."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from popad.auth import pam as _pam_is_importable  # noqa: F401
from tests.support import private
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE

# Answers requests (service, name, password, rhost; octets as Latin-1) with what authenticate() returns or raises.
PROBE = """
import json, sys
from popad.auth.pam import Pam
answers = []
for service, name, password, rhost in json.load(sys.stdin):
    try:
        account = Pam(service).authenticate(name, password.encode("latin-1"), rhost)
        answers.append(["Account", account.name])
    except Exception as error:
        answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
"""
UNIX = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n"
NULLOK = "auth required pam_unix.so nodelay nullok\naccount required pam_unix.so\n"
# crypt(3) of "secret" and of the octets b"p\xc3\xa4ss w\xffrd"; a cheap method: these tests are not about the hash.
SECRET, OCTETS = "$1$popad$UkYuFxWOWv9uc0d1OK2rV1", "$1$popad$cwRo4x0erVthdOE0ZOcO81"
# Sets PAM_USER, as modules for directories and certificates do. Needs no header: the three names are libpam's ABI.
MAPPING_MODULE = """
int pam_set_item(void *handle, int item, const void *value);
int pam_sm_authenticate(void *handle, int flags, int argc, const char **argv)
{
    return pam_set_item(handle, 2, argc > 0 ? argv[0] : "");
}
"""

Answer = list[str]


class Etc:
    """passwd, shadow and pam.d for a namespace."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.services = path / "pam.d"
        shutil.copytree("/etc/pam.d", self.services)
        users = {"alice": SECRET, "octets": OCTETS, "null": "", "locked": "!" + SECRET, "expired": SECRET}
        lines = [f"{name}:x:{61000 + number}:61000::/nonexistent:/bin/sh" for number, name in enumerate(users)]
        (path / "passwd").write_text(Path("/etc/passwd").read_text() + "\n".join(lines) + "\n")
        hashes = [f"{name}:{hashed}:1:::::{1 if name == 'expired' else ''}:" for name, hashed in users.items()]
        (path / "shadow").write_text(f"root:{SECRET}:1::::::\n" + "\n".join(hashes) + "\n")

    def service(self, text: str) -> str:
        """A service; its name."""
        (self.services / "popad-test").write_text(text)
        return "popad-test"

    def run(self, code: str, request: object) -> object:
        binds = {"/etc/passwd": self.path / "passwd", "/etc/shadow": self.path / "shadow", "/etc/pam.d": self.services}
        return private.run(code, binds, request)

    def ask(self, service: str, *logins: tuple[str, str], rhost: str = "192.0.2.7") -> list[Answer]:
        """What becomes of each (name, password)."""
        answers = self.run(PROBE, [(service, name, password, rhost) for name, password in logins])
        assert isinstance(answers, list)
        return answers


@pytest.fixture
def etc(tmp_path: Path) -> Etc:
    private.needs_a_namespace()
    return Etc(tmp_path)


def test_passwords(etc: Etc) -> None:
    right, wrong, empty, unknown, root = etc.ask(
        etc.service(UNIX),
        ("alice", "secret"),
        ("alice", "Secret"),
        ("alice", ""),
        ("nobody-here", "secret"),
        ("root", "secret"),
    )
    assert right == ["Account", "alice"]
    assert wrong == ["LoginFailed", "PAM, authentication: Authentication failure"]
    assert empty[0] == "LoginFailed"
    assert unknown[0] == "Unknown"
    assert root == ["Account", "root"]  # identity.py refuses it


def test_octets_go_to_crypt_as_they_came(etc: Etc) -> None:
    right, other = etc.ask(etc.service(UNIX), ("octets", "p\xc3\xa4ss w\xffrd"), ("octets", "p\xe4ss w\xffrd"))
    assert right == ["Account", "octets"]
    assert other[0] == "LoginFailed"


@pytest.mark.parametrize("service", [UNIX, NULLOK], ids=["", "nullok"])
def test_null_passwords_are_refused_whatever_the_service_says(etc: Etc, service: str) -> None:
    for answer in etc.ask(etc.service(service), ("null", ""), ("null", "x")):
        assert answer[0] == "LoginFailed"


def test_accounts_that_may_not_log_in(etc: Etc) -> None:
    """The password is right: acct_mgmt says no."""
    locked, expired = etc.ask(etc.service(UNIX), ("locked", "secret"), ("expired", "secret"))
    assert locked[0] == "LoginFailed"
    assert expired == ["LoginFailed", "PAM, account: User account has expired"]


def test_modules_are_loaded_before_the_first_request(etc: Etc) -> None:
    """A warm helper forks for each request: what its children need is in memory already."""
    code = """
import json, sys
from popad.auth.pam import Pam
kept = [Pam(service) for service in json.load(sys.stdin)]
print(json.dumps("/pam_debug.so" in open("/proc/self/maps").read()))
"""
    service = etc.service("auth required pam_debug.so\n")
    assert etc.run(code, ["nobody-has-this"]) is False
    assert etc.run(code, [service]) is True


def test_the_service_that_is_shipped(etc: Etc) -> None:
    shutil.copy(CHECKOUT / "packaging/pam", etc.services / "popad")
    right, null = etc.ask("popad", ("alice", "secret"), ("null", ""))
    assert (right, null[0]) == (["Account", "alice"], "LoginFailed")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("auth required pam_debug.so auth=auth_err", "LoginFailed"),
        ("auth required pam_debug.so auth=maxtries", "LoginFailed"),
        ("auth required pam_debug.so auth=perm_denied", "LoginFailed"),
        ("auth required pam_debug.so auth=user_unknown", "LoginFailed"),  # NSS knows alice
        ("auth required pam_debug.so auth=authinfo_unavail", "Unavailable"),
        ("auth required pam_debug.so auth=cred_insufficient", "Unavailable"),
        ("auth required pam_debug.so auth=service_err", "Unavailable"),
        ("auth required pam_debug.so auth=system_err", "Unavailable"),
        ("auth required pam_debug.so auth=buf_err", "Unavailable"),
        ("auth required pam_debug.so auth=conv_err", "Unavailable"),
        ("auth required pam_debug.so auth=abort", "Unavailable"),
        ("auth required pam_debug.so auth=try_again", "Unavailable"),
        ("auth required pam_debug.so auth=incomplete", "Unavailable"),
        ("auth required pam_debug.so auth=conv_again", "Unavailable"),
        ("auth required pam_debug.so auth=authtok_lock_busy", "Unavailable"),
        ("auth required pam_debug.so auth=no_module_data", "Unavailable"),
        ("auth required pam_debug.so auth=bad_item", "Unavailable"),
        ("auth required pam_debug.so auth=success\naccount required pam_debug.so acct=success", "Account"),
        ("auth required pam_debug.so auth=success\naccount required pam_debug.so acct=acct_expired", "LoginFailed"),
        ("auth required pam_debug.so auth=success\naccount required pam_debug.so acct=new_authtok_reqd", "LoginFailed"),
        ("auth required pam_debug.so auth=success\naccount required pam_debug.so acct=authinfo_unavail", "Unavailable"),
        ("auth required pam_permit.so\naccount required pam_deny.so", "LoginFailed"),
        ("auth required pam_no_such_module.so", "Unavailable"),
    ],
)
def test_what_pam_says(etc: Etc, line: str, kind: str) -> None:
    """What says something about the user is an answer; what says something about PAM may be tried again later."""
    account = "" if "account" in line else "\naccount required pam_permit.so"
    [(answer, _)] = etc.ask(etc.service(f"{line}{account}\n"), ("alice", "secret"))
    assert answer == kind


def test_libpam_does_not_wait_after_a_failure(etc: Etc) -> None:
    """After a wrong password it would, and not after a right one of an account that has expired: that tells which."""
    begun = time.monotonic()
    service = etc.service("auth optional pam_faildelay.so delay=30000000\n" + UNIX.replace("nodelay", ""))
    for answer in etc.ask(service, ("alice", "wrong"), ("expired", "secret"), ("nobody-here", "wrong")):
        assert answer[0] in ("LoginFailed", "Unknown")
    assert time.monotonic() - begun < 15  # the dice make it 15 to 45 seconds for each


def test_a_service_that_does_not_exist_lets_nobody_in(etc: Etc) -> None:
    """PAM takes the service "other" then, which denies."""
    (etc.services / "other").write_text("auth required pam_deny.so\naccount required pam_deny.so\n")
    [(answer, _)] = etc.ask("popad-missing", ("alice", "secret"))
    assert answer != "Account"


@pytest.mark.parametrize("rhost", ["192.0.2.7", "2001:db8::1", ""])
def test_modules_see_the_clients_address(etc: Etc, rhost: str) -> None:
    seen = etc.path / "seen"
    script = etc.path / "script"
    script.write_text(f'#!/bin/sh\necho "$PAM_TYPE $PAM_SERVICE $PAM_USER $PAM_RHOST" >>{seen}\n')
    script.chmod(0o755)
    service = etc.service(f"auth required pam_exec.so {script}\naccount required pam_exec.so {script}\n")
    assert etc.ask(service, ("alice", "secret"), rhost=rhost) == [["Account", "alice"]]
    assert seen.read_text().splitlines() == [f"{kind} popad-test alice {rhost}" for kind in ("auth", "account")]


def test_no_session_is_opened(etc: Etc) -> None:
    """authenticate and acct_mgmt, as popa3d; a session module that fails does not matter."""
    service = etc.service("auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_deny.so\n")
    assert etc.ask(service, ("alice", "secret")) == [["Account", "alice"]]


@pytest.fixture(scope="module")
def mapping_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc: no module of Debian's changes PAM_USER")
    module = tmp_path_factory.mktemp("module") / "pam_map.so"
    source = module.with_suffix(".c")
    source.write_text(MAPPING_MODULE)
    built = subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", module, source, "-l:libpam.so.0"], capture_output=True, timeout=PATIENCE
    )
    assert built.returncode == 0, built.stderr.decode()
    return module


@pytest.mark.parametrize(
    ("mapped", "answer"),
    [
        ("octets", ["Account", "octets"]),
        ("root", ["Account", "root"]),  # identity.py refuses it, as it sees the final name
        ("../alice", ["Unknown", "the name could mean another path"]),
    ],
)
def test_the_name_is_the_one_that_pam_ends_with(etc: Etc, mapping_module: Path, mapped: str, answer: Answer) -> None:
    service = etc.service(f"auth required {mapping_module} {mapped}\naccount required pam_permit.so\n")
    assert etc.ask(service, ("alice", "secret")) == [answer]


def test_one_login_leaves_nothing_for_the_next(etc: Etc) -> None:
    """The functions of python-pam that were stood in for are its own again; the reason is of this login."""
    code = """
import json, sys
from popad.auth.pam import Pam
pam = Pam(json.load(sys.stdin))
functions = [(f.__name__, id(f)) for f in (pam.pam.pam_authenticate, pam.pam.pam_acct_mgmt, pam.pam.pam_end)]
answers = []
for name, password in (("alice", b"secret"), ("alice", b"wrong"), ("octets", b"secret"), ("alice", b"secret")):
    try:
        answers.append(pam.authenticate(name, password, "192.0.2.7").name)
    except Exception as error:
        answers.append(str(error))
answers.append(functions == [
    (f.__name__, id(f)) for f in (pam.pam.pam_authenticate, pam.pam.pam_acct_mgmt, pam.pam.pam_end)])
print(json.dumps(answers))
"""
    failure = "PAM, authentication: Authentication failure"
    assert etc.run(code, etc.service(UNIX)) == ["alice", failure, failure, "alice", True]


def test_a_failed_login_closes_its_handle(etc: Etc) -> None:
    """A thousand logins in one process: pam_end() is called each time. A request has a process of its own anyway."""
    code = """
import json, sys
from popad.auth.pam import Pam
pam = Pam(json.load(sys.stdin))
ended = []
real = pam.pam.pam_end
def end(handle, status):
    ended.append(status)
    return real(handle, status)
pam.pam.pam_end = end
for password in (b"secret", b"wrong"):
    try:
        pam.authenticate("alice", password, "")
    except Exception:
        pass
print(json.dumps(ended))
"""
    assert etc.run(code, etc.service(UNIX)) == [0, 7]
