"""commands/sandbox.py: what systemd's properties let a unit see and write. tests/system/test_check.py tries it."""

from pathlib import Path

import pytest

from popad.commands.sandbox import Sandbox, wrong_sandbox
from popad.commands.units import HELPER, SESSION
from popad.settings import Settings

SHIPPED = {
    "ProtectSystem": "strict",
    "ProtectHome": "tmpfs",
    "ReadWritePaths": "-/var/mail -/var/lib/popad -/var/cache/popad",
    "ReadOnlyPaths": "/sys",
    "TemporaryFileSystem": "/run:ro",
    "BindReadOnlyPaths": "/run:/run:rbind -/run/popad:/run/popad:rbind",
}


@pytest.mark.parametrize(
    ("path", "hidden"),
    [
        ("/var/mail", ""),
        ("/home/jane", "ProtectHome=tmpfs"),
        ("/root", "ProtectHome=tmpfs"),
        ("/home2", ""),
        ("/srv/x", "InaccessiblePaths=-/srv"),
    ],
)
def test_what_is_hidden(path: str, hidden: str) -> None:
    assert Sandbox(SESSION, SHIPPED | {"InaccessiblePaths": "-/srv"}).hides(path) == hidden


def test_what_is_bound_into_a_hidden_directory() -> None:
    shown = SHIPPED | {"BindReadOnlyPaths": "-/run/popad:/run/popad:rbind", "BindPaths": "/srv/x:/home/mail:rbind"}
    sandbox = Sandbox(SESSION, shown)
    for path, hidden in (
        ("/run/popad/auth.sock", ""),
        ("/run/other.sock", "TemporaryFileSystem=/run:ro"),
        ("/home/mail/jane", ""),
        ("/home/jane", "ProtectHome=tmpfs"),
    ):
        assert sandbox.hides(path) == hidden


@pytest.mark.parametrize(
    ("more", "path", "wanted"),
    [
        ({}, "/var/mail/jane", True),
        ({}, "/srv/mail", False),
        ({"ReadWritePaths": "/srv"}, "/srv/mail", True),
        ({"ReadWritePaths": "/srv", "ReadOnlyPaths": "/srv/mail"}, "/srv/mail/jane", False),
        ({"ReadWritePaths": "/"}, "/srv/mail", True),
        ({"ProtectSystem": "full", "ReadWritePaths": ""}, "/srv/mail", True),
        ({"ProtectSystem": "full", "ReadWritePaths": ""}, "/etc/mail", False),
        ({"ProtectSystem": "no", "ReadWritePaths": "", "ProtectHome": "read-only"}, "/home/jane", False),
        ({"ProtectSystem": "no", "ReadWritePaths": "", "ProtectHome": "no"}, "/home/jane", True),
    ],
)
def test_what_can_be_written(more: dict[str, str], path: str, wanted: bool) -> None:
    assert Sandbox(SESSION, SHIPPED | more).writes(path) == wanted


def test_a_directory_without_which_the_unit_does_not_start(tmp_path: Path) -> None:
    shown = SHIPPED | {"ReadWritePaths": f"{tmp_path} -{tmp_path}/a {tmp_path}/b"}
    (complaint,) = Sandbox(SESSION, shown).missing()
    assert complaint.startswith(f"popad@.service: there is no {tmp_path}/b, and so it does not start (226/NAMESPACE)")
    assert complaint.endswith(f"ReadWritePaths=-{tmp_path}/b")


@pytest.mark.parametrize(
    ("unit", "given", "complaint"),
    [
        (SESSION, {"POPAD_MAILDROP": "mbox:/srv/{user}"}, "POPAD_MAILDROP: popad@.service may not write to /srv: "),
        (SESSION, {"POPAD_MAILDROP": "mbox:/home/{user}/x"}, "POPAD_MAILDROP: popad@.service does not see /home "),
        (SESSION, {"POPAD_STATE": "/srv/state"}, "POPAD_STATE: popad@.service may not write to /srv/state: "),
        (SESSION, {"POPAD_AUTH_SOCKET": "/root/x"}, "POPAD_AUTH_SOCKET: popad@.service does not see /root/x "),
        (
            HELPER,
            {"POPAD_AUTH": "file", "POPAD_CREDENTIALS": "/root/x"},
            "POPAD_CREDENTIALS: popad-auth.service does not see /root/x (ProtectHome=tmpfs)",
        ),
    ],
)
def test_what_a_setting_needs(unit: str, given: dict[str, str], complaint: str) -> None:
    (said,) = wrong_sandbox(Settings(given), unit, SHIPPED)
    assert said.startswith(complaint)


@pytest.mark.parametrize("unit", [SESSION, HELPER])
def test_the_defaults_need_nothing(unit: str) -> None:
    assert list(wrong_sandbox(Settings({}), unit, SHIPPED)) == []
