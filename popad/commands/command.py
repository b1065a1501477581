"""The administrator's commands, a row each, and their command line. A session and the daemon never load this file."""

import argparse
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def check(given: argparse.Namespace) -> int:
    """Run `popad check`."""
    from popad.commands.check import check

    return check(os.environ, given.changed, given.json)


def wrong_for_passwd(given: argparse.Namespace) -> str:
    """What is wrong with how `popad passwd` is called; "" for nothing."""
    from popad.auth.verifiers import ITERATIONS
    from popad.commands.passwd import wrong

    if given.iterations is None:
        given.iterations = str(ITERATIONS)
    return wrong(given)


def passwd(given: argparse.Namespace) -> int:
    """Run `popad passwd`."""
    from popad.commands.passwd import passwd

    return passwd(given)


def wrong_for_test_login(given: argparse.Namespace) -> str:
    """What is wrong with how `popad test-login` is called; "" for nothing."""
    from popad.commands.login_trial import wrong

    return wrong(given)


def test_login(given: argparse.Namespace) -> int:
    """Run `popad test-login`."""
    from popad.commands.login_trial import try_login

    return try_login(os.environ, given.name, given.address)


def wrong_for_inspect(given: argparse.Namespace) -> str:
    """What is wrong with how `popad inspect` is called; "" for nothing."""
    from popad.commands.inspection.inspect import wrong

    return wrong(given)


def inspect(given: argparse.Namespace) -> int:
    """Run `popad inspect`."""
    from popad.commands.inspection.inspect import inspect

    return inspect(os.environ, given)


def wrong_for_convert(given: argparse.Namespace) -> str:
    """What is wrong with how `popad convert` is called; "" for nothing."""
    from popad.commands.convert import wrong

    return wrong(given)


def convert(given: argparse.Namespace) -> int:
    """Run `popad convert`."""
    from popad.commands.convert import convert_all

    return convert_all(os.environ, given)


def wrong_for_migrate(given: argparse.Namespace) -> str:
    """What is wrong with how `popad migrate` is called; "" for nothing."""
    from popad.commands.migrate import wrong_options

    return wrong_options(given)


def migrate(given: argparse.Namespace) -> int:
    """Run `popad migrate`."""
    from popad.commands.migrate import migrate

    return migrate(os.environ, given)


def wrong_for_report(given: argparse.Namespace) -> str:
    """What is wrong with how `popad report` is called; "" for nothing."""
    from popad.commands.report.report import wrong

    return wrong(given)


def report(given: argparse.Namespace) -> int:
    """Run `popad report`."""
    from popad.commands.report.report import report

    return report(given)


def wrong_for_metrics(given: argparse.Namespace) -> str:
    """What is wrong with how `popad metrics` is called; "" for nothing."""
    from popad.commands.report.metrics import wrong

    return wrong(given)


def metrics(given: argparse.Namespace) -> int:
    """Run `popad metrics`."""
    from popad.commands.report.metrics import metrics

    return metrics(given)


def wrong_for_who(given: argparse.Namespace) -> str:
    """What is wrong with how `popad who` is called; "" for nothing."""
    from popad.commands.who import wrong

    return wrong(given)


def who(given: argparse.Namespace) -> int:
    """Run `popad who`."""
    from popad.commands.who import who

    return who(given)


def wrong_for_kick(given: argparse.Namespace) -> str:
    """What is wrong with how `popad kick` is called; "" for nothing."""
    from popad.commands.kick import wrong

    return wrong(given)


def kick(given: argparse.Namespace) -> int:
    """Run `popad kick`."""
    from popad.commands.kick import kick

    return kick(os.environ, given)


def tls_helper(_: argparse.Namespace) -> int:
    """Run `popad tls-helper`."""
    from popad.commands.tls_helper import tls_helper

    return tls_helper()


def auth_helper(_: argparse.Namespace) -> int:
    """Run `popad auth-helper`."""
    from popad.commands.auth_helper import auth_helper

    return auth_helper()


class Command:
    """A row of the table: what it does, who runs it, its arguments with their help. One in [] may be left out; with a
    word behind it an option takes a value, with WORD [WORD ...] one or more.
    """

    def __init__(
        self,
        does: str,
        run: "Callable[[argparse.Namespace], int]",
        arguments: "dict[str, str] | None" = None,
        wrong: "Callable[[argparse.Namespace], str]" = lambda _: "",
        example: str = "",
    ) -> None:
        self.does = does
        self.run = run
        self.arguments = arguments or {}
        self.wrong = wrong
        self.example = example


COMMANDS = {
    "check": Command(
        "show the settings and check what they name",
        check,
        {
            "[--changed]": "show only the settings that are not the defaults, and what is wrong with them",
            "[--json]": "print one object",
        },
    ),
    "passwd": Command(
        "read a password, print a line for the credentials file, or put it into the file",
        passwd,
        {
            "[--file FILE]": "change this file: NAME's line is added, or replaced where there is one",
            "[--delete]": "take NAME's line out of the file",
            "[--list]": "print the names in the file, and what each line has",
            "[--verify]": "say whether a password is NAME's in the file",
            "[--batch]": "read NAME:PASSWORD from each line of standard input, and do with all as with one",
            "[--sha1]": "for SCRAM-SHA-1, too, which old clients know and POPAD_SASL has to name",
            "[--iterations N]": "4096 to 10000000, 100000 without it; more make each guess slower, and each login",
            "[NAME]": "the name that the client gives",
        },
        wrong_for_passwd,
    ),
    "test-login": Command(
        "say what becomes of a login, step by step, and try it with a password",
        test_login,
        {
            "[--address ADDRESS]": "ADDRESS:PORT where popad listens; without it, where the unit in use does",
            "NAME": "the name that the client gives",
        },
        wrong_for_test_login,
    ),
    "inspect": Command(
        "show what popad would serve of a maildrop, and why it would refuse it; nothing is changed",
        inspect,
        {
            "[--user NAME]": "become this user; without it, the owner of MAILDROP",
            "[--format FORMAT]": "mbox or maildir; without it, that of POPAD_MAILDROP",
            "[--all]": "all rows of each list, not the first 10 (with --json: 1000)",
            "[--json]": "print one object",
            "[MAILDROP]": "a path, mbox:PATH or maildir:PATH; without it, the one that NAME is served",
        },
        wrong_for_inspect,
        "popad inspect --user jane; popad inspect --format mbox /tmp/old-mail --all",
    ),
    "convert": Command(
        "copy maildrops from mbox to Maildir or back, with what clients know of them",
        convert,
        {
            "[--user NAME]": "whose maildrop it is; without it, that of the user who runs this",
            "[--all]": "the maildrops of all users that have one",
            "[--rename]": "then rename what was converted to NAME.converted-TIME",
            "[--flags]": "to an mbox: write flags into the headers, which clients see",
            "[--group GROUP]": "have this group besides, as delivery programs do, to make files in /var/mail",
            "[--json]": "print an object for each maildrop",
            "[FROM]": "the maildrop that there is, as POPAD_MAILDROP has it; without it, the one that popad serves",
            "TO": "the new maildrop, in the other format: {user}, {home} and {domain} stand for what they are",
        },
        wrong_for_convert,
    ),
    "migrate": Command(
        "show what clients will see after a move from another server, and keep the unique-ids that they know",
        migrate,
        {
            "--from SERVER": "dovecot, dovecot:FORMAT, courier, qpopper, popa3d; or pop3, which asks the server itself",
            "[--user NAME [NAME ...]]": "these users",
            "[--all]": "all of the credentials file; or all people of the system who have a maildrop",
            "[--dry-run]": "write no list",
            "[--json]": "say it for a program",
            "[--server HOST]": "of pop3: HOST, HOST:PORT or [ADDRESS]:PORT",
            "[--tls]": "of pop3: with TLS from the first octet, port 995 if none is given",
            "[--stls]": "of pop3: with TLS by STLS",
            "[--ca FILE]": "of pop3: believe certificates that these have signed, and no others",
            "[--login TEMPLATE]": "of pop3: the name to log in with, {user} without it",
            "[--passwords FILE]": "of pop3: lines of NAME:PASSWORD, * for all others; standard input without it",
        },
        wrong_for_migrate,
    ),
    "report": Command(
        "count what the journal has of sessions, logins, mailboxes and errors",
        report,
        {
            "[--since MOMENT]": "entries from then on: 2026-11-23 18:00, yesterday, -1h, as journalctl has it",
            "[--until MOMENT]": "entries until then",
            "[--user NAME]": "entries that name this user",
            "[--address ADDRESS]": "entries of clients with this address, or of this network: 192.0.2.0/24",
            "[--json]": "print all figures as an object",
            "[--html FILE]": "write a page with plots; - prints it",
            "[--logfmt FILE]": "not the journal but lines that popad has written to standard error; - reads them there",
            "[--directory DIRECTORY]": "the journal's files in this directory",
        },
        wrong_for_report,
        "popad report --since yesterday --until today --html yesterday.html",
    ),
    "metrics": Command(
        "print counters and histograms of the journal, as OpenMetrics text",
        metrics,
        {
            "[--state FILE]": "go on where the last run with this file ended: counters only grow",
            "[--output FILE]": "replace this file in one step, for node_exporter's textfile collector",
            "[--http]": "answer a request of Prometheus on the connection that systemd has passed",
            "[--logfmt FILE]": "not the journal but lines that popad has written to standard error; - reads them there",
            "[--directory DIRECTORY]": "the journal's files in this directory",
        },
        wrong_for_metrics,
        example="popad metrics --state /var/lib/popad-metrics/state --output /var/lib/node_exporter/popad.prom",
    ),
    "who": Command(
        "show the live sessions: who, from where, what they do, since when",
        who,
        {
            "[--watch]": "a screen that stays up to date, until q is typed",
            "[--json]": "print an object for each session",
        },
        wrong_for_who,
        "popad who --watch",
    ),
    "kick": Command(
        "end sessions so that nothing is deleted",
        kick,
        {
            "[--user]": "WHO is a user, even where it is a number or could be an address",
            "[--address]": "WHO is an address, or a network as ADDRESS/BITS",
            "[--session]": "WHO is the number of a session, as popad who has it",
            "[--json]": "print an object for each session with what became of it",
            "WHO": "a session if it is a number, else an address if it is one, else a user",
        },
        wrong_for_kick,
        "popad kick jane; popad kick 2001:db8::/32; popad kick 4711",
    ),
    "tls-helper": Command("hold the keys of TLS, on the socket that systemd has passed", tls_helper),
    "auth-helper": Command("answer sessions on the socket that systemd has passed", auth_helper),
}

USAGE = """\
usage: popad                 serve the connection on standard input (inetd) or LISTEN_FDS (systemd)
       popad -D [-4] [-6] [--foreground] [--listen ADDRESS]... [--listen-tls ADDRESS]... [--config FILE] [--test]
                             listen, and serve every connection (standalone daemon)
"""
for name, command in COMMANDS.items():
    USAGE += f"       {' '.join(['popad', name, *command.arguments])}\n{'':29}{command.does}\n"
USAGE += """\
       popad COMMAND --help  print how a command is used; popad help COMMAND does, too
       popad -V | --version  print the version
       popad -h | --help     print this

Settings are POPAD_* environment variables: see popad(8) and popad.conf(5).
"""


def main(arguments: "Sequence[str]") -> int:
    """Run the command that the arguments name. Returns the exit status: 2 where they are wrong, after saying why."""
    command = COMMANDS[arguments[0]]
    parser = argparse.ArgumentParser(f"popad {arguments[0]}", description=command.does, allow_abbrev=False)
    if command.example:
        parser.epilog = f"example: {command.example}"
    arguments = [*joined(arguments, command)]
    for argument, meaning in command.arguments.items():
        name, _, value = argument.strip("[]").partition(" ")
        if value:
            metavar, _, more = value.partition(" ")
            is_required = not argument.startswith("[")
            parser.add_argument(name, metavar=metavar, help=meaning, required=is_required, nargs="+" if more else None)
        elif name.startswith("--"):
            parser.add_argument(name, action="store_true", help=meaning)
        else:
            parser.add_argument(
                name.lower(), metavar=name, help=meaning, nargs="?" if argument.startswith("[") else None
            )
    try:
        given = parser.parse_args(arguments[1:])
        if wrong := command.wrong(given):
            parser.error(wrong)
    except SystemExit as done:  # it has printed the help, or what is wrong
        return int(done.code or 0)
    return command.run(given)


def joined(arguments: "Sequence[str]", command: Command) -> "Iterator[str]":
    """The arguments, `--since -1h` as `--since=-1h`: argparse would take the value for an option."""
    taking = {argument.strip("[]").partition(" ")[0] for argument in command.arguments if " " in argument}
    rest = iter(arguments)
    for argument in rest:
        if argument in taking and (value := next(rest, None)) is not None:
            is_span = value[:1] == "-" and value[1:2].isdigit()
            yield from (f"{argument}={value}",) if is_span else (argument, value)
        else:
            yield argument
