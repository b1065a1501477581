"""commands/pam_service.py: what a PAM service names, and what of it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from popad.commands import pam_service
from popad.commands.pam_service import words_of, wrong_service
from tests.support.here import CHECKOUT


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Services, and two modules."""
    for name in ("pam.d", "lib/security"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("pam_unix.so", "pam_deny.so"):
        (tmp_path / "lib/security" / name).touch()
    monkeypatch.setattr(pam_service, "DIRECTORIES", (f"{tmp_path}/pam.d",))
    monkeypatch.setattr(pam_service, "MODULES", (f"{tmp_path}/*/security",))
    return tmp_path / "pam.d"


def wrong(place: Path, text: str) -> list[str]:
    (place / "popad").write_text(text)
    return [each.removeprefix(f"POPAD_PAM_SERVICE: {place}/") for each in wrong_service("popad")]


@pytest.mark.parametrize(
    "text",
    [
        "auth required pam_unix.so nullok\naccount required pam_unix.so\n",
        "auth [success=1 default=ignore] pam_unix.so\n",
        "# comment\n\nauth \\\n required \\\n pam_unix.so # comment\n",
        "@include others\n",
        "auth include others\n",
        "auth substack others\n",
        "auth required pam_unix.so\n-auth optional pam_none.so\n",
        "auth required pam_unix.so\nsession required pam_none.so\npassword required pam_none.so\n",
    ],
)
def test_what_is_right(place: Path, text: str) -> None:
    """Sessions are not opened, and passwords not changed; what begins with a dash need not be there."""
    (place / "others").write_text("auth required pam_unix.so\naccount required pam_deny.so\n")
    assert wrong(place, text) == []


def test_a_module_by_its_path(place: Path) -> None:
    path = place.parent / "lib/security/pam_unix.so"
    assert wrong(place, f"auth required {path}\n") == []
    path.unlink()
    assert len(wrong(place, f"auth required {path}\n")) == 1


@pytest.mark.parametrize(
    ("text", "said", "mended"),
    [
        (
            "auth required pam_unix.so\naccount required pam_ldap.so\n",
            "popad:2: there is no module pam_ldap.so, so nobody can log in: install its package, or take the line out",
            "auth required pam_unix.so\n",
        ),
        (
            "auth required pam_unix.so\n@include common-none\n",
            "popad:2: there is no common-none to include, so nobody can log in: take the line out",
            "auth required pam_unix.so\n",
        ),
        (
            "account required pam_unix.so\n",
            "popad: no line checks a password, so nobody can log in: @include common-auth",
            "account required pam_unix.so\n@include common-auth\n",
        ),
    ],
)
def test_what_is_wrong_and_mended(place: Path, text: str, said: str, mended: str) -> None:
    (place / "common-auth").write_text("auth required pam_unix.so\n")
    assert wrong(place, text) == [said]
    assert wrong(place, mended) == []


def test_a_module_that_is_missing_in_an_included_file(place: Path) -> None:
    (place / "others").write_text("\nauth required pam_none.so\n")
    assert wrong(place, "@include others\n")[0].startswith("others:2: there is no module pam_none.so")


def test_files_that_include_one_another(place: Path) -> None:
    """However often."""
    assert wrong(place, "@include popad\n" * 9 + "auth required pam_unix.so\n") == []


def test_a_file_that_cannot_be_read(place: Path) -> None:
    (place / "popad").mkdir()
    assert list(wrong_service("popad")) == [f"POPAD_PAM_SERVICE: [Errno 21] Is a directory: '{place}/popad'"]


@pytest.mark.parametrize("line", ["@include", "auth include", "auth required", "auth"])
def test_lines_that_are_cut_off(place: Path, line: str) -> None:
    """PAM's own business, and no traceback."""
    assert wrong(place, f"auth required pam_unix.so\n{line}\n") == []


def test_no_file(place: Path) -> None:
    assert list(wrong_service("none")) == [
        f"POPAD_PAM_SERVICE: no file none in {place} (the package's own is popad)",
    ]


def test_popads_own_with_this_machines_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "popad").write_text((CHECKOUT / "packaging/pam").read_text())
    monkeypatch.setattr(pam_service, "DIRECTORIES", (str(tmp_path), "/etc/pam.d"))
    assert list(wrong_service("popad")) == []


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("auth [a=1 b=2] x.so y", ["auth", "[a=1 b=2]", "x.so", "y"]),
        ("auth required x.so [a b]", ["auth", "required", "x.so", "[a", "b]"]),
        ("", []),
    ],
)
def test_words(row: str, words: list[str]) -> None:
    assert words_of(row) == words
