"""What the package's files say of the code is true: settings, events, commands, versions, paths."""

import ast
import base64
import hashlib
import hmac
import re
import subprocess
from pathlib import Path

import popad
from popad import journal, settings
from popad.commands.command import COMMANDS, USAGE
from popad.protocol import authorization, transaction
from tests.support.here import CHECKOUT

PACKAGING = CHECKOUT / "packaging"
UNITS = CHECKOUT / "units"
PRIORITIES = {3: "err", 4: "warning", 5: "notice", 6: "info"}


def text(path: str) -> str:
    return (CHECKOUT / path).read_text()


def rendered(page: str) -> str:
    """A man page as a reader sees it, without the folding of lines."""
    command = ["mandoc", "-T", "utf8", "-O", "width=500", str(PACKAGING / "man" / page)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(".\b", "", shown)  # bold and underlined are overstruck


DEFAULTS = {name: row.default for name, row in settings.TABLE.items()}


class TestSettings:
    def test_conf_file_has_each_setting_with_its_default(self) -> None:
        listed = re.findall(r"^#(POPAD_\w+)=(.*)$", text("packaging/popad.conf"), re.M)
        assert len(listed) == len(dict(listed))
        assert dict(listed) == DEFAULTS

    def test_conf_file_sets_nothing(self) -> None:
        assert [line for line in text("packaging/popad.conf").splitlines() if line and not line.startswith("#")] == []

    def test_conf_file_gives_unit_and_reason(self) -> None:
        for block in text("packaging/popad.conf").split("\n\n"):
            if found := re.search(r"^#(POPAD_\w+)=", block, re.M):
                unit = settings.TABLE[found[1]].unit
                comment = block[: found.start()]
                assert len(comment) > 40, found[1]
                assert unit.lower() in comment.lower(), found[1]

    def test_man_page_has_each_setting_with_its_default(self) -> None:
        listed = re.findall(r"^\.It Ev (POPAD_\w+) Ns =(.*)$", text("packaging/man/popad.conf.5"), re.M)
        assert len(listed) == len(dict(listed))
        assert dict(listed) == DEFAULTS

    def test_documents_name_no_other_setting(self) -> None:
        fields = logged_fields() | {"POPAD_EVENT"}
        documents = [CHECKOUT / "README.md", PACKAGING / "popad.catalog", PACKAGING / "pam"]
        for document in [
            *documents,
            *(PACKAGING / "man").iterdir(),
            *(PACKAGING / "doc").glob("*.md"),
            *UNITS.iterdir(),
        ]:
            # POPAD_TEST_* is of the tests; POPAD_ alone is the prefix.
            named = set(re.findall(r"\bPOPAD_(?!TEST_)\w+", document.read_text()))
            assert named <= DEFAULTS.keys() | fields, document.name

    def test_units_set_known_settings(self) -> None:
        for unit in UNITS.glob("*.service"):
            assigned = re.findall(r"^Environment=(\w+)=(.*)$", unit.read_text(), re.M)
            settings.Settings(dict(assigned))

    def test_services_read_the_conf_file(self) -> None:
        """All but what has none: metrics are of the journal."""
        services = [
            unit
            for unit in UNITS.glob("*.service")
            if "ExecStart=/usr/sbin/popad" in unit.read_text() and unit.name != "popad-metrics@.service"
        ]
        assert len(services) >= 2
        for unit in services:
            assert "EnvironmentFile=-/etc/popad/popad.conf\n" in unit.read_text(), unit.name

    def test_tmpfiles_makes_the_directories(self) -> None:
        made = re.findall(r"^d\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)", text("packaging/tmpfiles.conf"), re.M)
        for setting in ("POPAD_STATE", "POPAD_CACHE"):
            assert (DEFAULTS[setting], "1733", "root", "root") in made

    def test_sysusers_makes_the_user(self) -> None:
        assert re.findall(r"^u (\S+) ", text("packaging/sysusers.conf"), re.M) == [
            DEFAULTS["POPAD_USER"],
            DEFAULTS["POPAD_TLS_USER"],
        ]


def logged_fields() -> set[str]:
    """The fields that the sources give to the journal, as keywords of a call or as keys of what each entry says."""
    given: set[str] = set()
    for source in (CHECKOUT / "popad").rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("log", "send")
            ):
                given |= {keyword.arg for keyword in node.keywords if keyword.arg}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "taken":
                said = [each for each in node.args if isinstance(each, ast.Dict)]
                given |= {ast.literal_eval(key) for each in said for key in each.keys if key}
            elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and isinstance(node.value, ast.Dict):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if ast.unparse(target).rpartition(".")[2] in ("known", "fields"):
                    given |= {
                        key.value
                        for key in node.value.keys
                        if isinstance(key, ast.Constant) and isinstance(key.value, str)
                    }
    return {f"POPAD_{name.upper()}" for name in given}


class TestEvents:
    def test_catalog_has_each_event(self) -> None:
        explained = re.findall(r"^-- ([0-9a-f]{32})$", text("packaging/popad.catalog"), re.M)
        assert explained == [event.message_id for event in journal.EVENTS]

    def test_catalog_says_what_it_means_and_what_to_do(self) -> None:
        for entry in re.split(r"^-- [0-9a-f]{32}\n", text("packaging/popad.catalog"), flags=re.M)[1:]:
            header, _, body = entry.partition("\n\n")
            assert re.fullmatch(r"Subject: .+\nDefined-By: popad\nDocumentation: man:popad\(8\).*", header), header
            assert body.count("\n\n") >= 1, header

    def test_systemd_takes_the_catalog(self, tmp_path: Path) -> None:
        for directory in ("usr/lib/systemd/catalog", "var/lib/systemd/catalog"):
            (tmp_path / directory).mkdir(parents=True)
        (tmp_path / "usr/lib/systemd/catalog/popad.catalog").write_text(text("packaging/popad.catalog"))
        journalctl = ["journalctl", f"--root={tmp_path}", "--no-pager"]
        updated = subprocess.run([*journalctl, "--update-catalog"], capture_output=True, text=True, check=True)
        assert updated.stdout + updated.stderr == ""
        listed = subprocess.run([*journalctl, "--list-catalog"], capture_output=True, text=True, check=True).stdout
        assert {line.split()[0] for line in listed.splitlines()} == {event.message_id for event in journal.EVENTS}

    def test_man_page_has_each_event(self) -> None:
        listed = re.findall(r"^\.It ([a-z-]+) Ta (\w+) Ta ", text("packaging/man/popad.8"), re.M)
        assert listed == [(event.name, PRIORITIES[event.priority]) for event in journal.EVENTS]

    def test_man_page_has_each_field(self) -> None:
        fields = text("packaging/man/popad.8").partition("An entry has these fields")[2].partition(".El")[0]
        assert set(re.findall(r"POPAD_\w+", fields.partition("-compact")[2])) == logged_fields() | {"POPAD_EVENT"}

    def test_catalog_shows_fields_that_exist(self) -> None:
        assert set(re.findall(r"@(\w+)@", text("packaging/popad.catalog"))) <= logged_fields()


class TestCommands:
    def test_man_page_has_each_command(self) -> None:
        before, after = text("packaging/man/popad.8").split("In the TRANSACTION state:")
        for table, section in ((authorization.TABLE, before), (transaction.TABLE, after)):
            listed = re.findall(r"^\.It Ic (\w+)", section, re.M)
            assert set(listed) == {verb.decode().upper() for verb in table}


class TestOptions:
    def test_man_page_has_each_option_of_the_daemon(self) -> None:
        """In the synopsis, explained, and in the order in which popad itself lists them."""
        page = text("packaging/man/popad.8")
        (usage,) = re.findall(r"popad -D (.*)", USAGE)
        options = re.findall(r"--?[\w-]+", usage)
        synopsis = page.partition(".Fl D\n")[2].partition(".Nm\n")[0]
        listed = re.findall(r"^\.Op Fl (Fl )?([\w-]+)", synopsis, re.M)
        assert [("--" if long else "-") + name for long, name in listed] == options
        explained = page.partition("Its options are:")[2].partition(".El")[0]
        described = re.findall(r"^\.It Fl (Fl )?([\w-]+)", explained, re.M)
        assert [("--" if long else "-") + name for long, name in described] == options

    def test_man_page_has_each_subcommand_with_its_arguments(self) -> None:
        page = text("packaging/man/popad.8")
        synopsis = page.partition(".Sh SYNOPSIS\n")[2].partition(".Sh ")[0]
        for name, command in COMMANDS.items():
            written = "".join(map(self.as_written, command.arguments))
            assert f".Cm {name}{written}\n.Nm" in synopsis
            in_one_line = re.sub(r"\n\.Op ([^\n]*)", r" Oo \1 Oc", written).replace("\n.", " ")
            assert f".It Nm Cm {name}{in_one_line}\n" in page

    @staticmethod
    def as_written(argument: str) -> str:
        """An argument of the table in the language of man pages."""
        if argument.startswith("--"):
            option, _, value = argument.strip("-").partition(" ")
            return f"\n.Fl Fl {option} Ar {value.lower()}"
        if not argument.startswith("["):
            return f"\n.Ar {argument.lower()}"
        if not argument.startswith("[-"):
            return f"\n.Op Ar {argument.strip('[]').lower()}"
        option, _, value = argument.strip("[]").partition(" ")
        value, _, more = value.partition(" ")
        return f"\n.Op Fl Fl {option.strip('-')}" + (f" Ar {value.lower()}" if value else "") + (" ..." if more else "")


class TestUnits:
    def test_man_page_has_each_unit(self) -> None:
        section = text("packaging/man/popad.8").partition(".Ss Units")[2].partition(".Sh ")[0]
        items = "".join(re.findall(r"^\.It (.*)$", section, re.M))
        assert set(re.findall(r"popad\S*\.[a-z]+", items)) == {unit.name for unit in UNITS.iterdir()}


class TestMetadata:
    def test_package_has_the_version_of_the_code(self) -> None:
        assert text("packaging/debian/changelog").startswith(f"popad ({popad.__version__}) ")

    def test_license_is_the_same_everywhere(self) -> None:
        words = text("LICENSE").split("\n\n", 2)[2].split()
        copyright_file = text("packaging/debian/copyright").rpartition("License: ISC\n")[2]
        assert [word for word in copyright_file.split() if word != "."] == words

    def test_man_pages_are_rendered(self) -> None:
        for page in (PACKAGING / "man").iterdir():
            name, section = page.name.rsplit(".", 1)
            assert f"{name.upper()}({section})" in rendered(page.name)


class TestCredentialsPage:
    def test_example_is_a_verifier_of_its_password(self) -> None:
        line = text("packaging/man/popad-credentials.5").replace("\\e\n", "")
        found = re.search(r"^jane SCRAM-SHA-256\$(\d+):(\S+)\$(\S+):(\S+)$", line, re.M)
        assert found
        salted = hashlib.pbkdf2_hmac("sha256", b"pencil", base64.b64decode(found[2]), int(found[1]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        assert hashlib.sha256(client_key).digest() == base64.b64decode(found[3])
        assert hmac.digest(salted, b"Server Key", "sha256") == base64.b64decode(found[4])


def test_pictures_are_there_and_small() -> None:
    """Those that documents show; and no other is kept."""
    shown = re.findall(r"!\[[^]]+\]\((packaging/doc/gallery/[^)]+)\)", text("CONTRIBUTING.md"))
    assert sorted(CHECKOUT / path for path in shown) == sorted((PACKAGING / "doc/gallery").iterdir())
    assert all((CHECKOUT / path).stat().st_size < 150_000 for path in shown)
