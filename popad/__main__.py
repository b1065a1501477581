"""The command line. Without arguments: serve the connection that systemd or inetd has handed over."""

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from popad.net.connection import Connection
    from popad.net.encryption import Encryption

from popad.errors import NotInvokedRight, SettingWrong
from popad.settings import Settings

USAGE_STATUS = 2  # popa3d's
NEEDS_STATUS, CONFIG_STATUS = 72, 78  # EX_OSFILE, EX_CONFIG of sysexits.h


def main() -> "NoReturn":
    """Run popad as `sys.argv` asks and leave the process."""
    arguments = sys.argv[1:]
    status = command(arguments) if arguments else session()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it was closed when popad was started
        try:
            stream.flush()
        except OSError:
            status = status or 1
    # Everything is said and done: tearing the interpreter down would cost each session 2 ms.
    os._exit(status)


def session() -> int:
    """Serve one connection. Returns the exit status."""
    gc.disable()  # all that is loaded stays, and to look through it costs 1 ms; serve() of postauth.py has it on again
    from popad.net.activation import accept

    try:
        connection = accept(os.environ)
    except NotInvokedRight as wrong:
        return explain(f"nothing to serve: {wrong}")
    from popad.net.arrival import arrive, facts_of, refuse_to_serve

    def encrypt(connection: "Connection") -> "Encryption | None":
        from popad.tls.start import at_once

        return at_once(connection, settings, meanwhile=load_session)

    def by_proxy(connection: "Connection") -> "Encryption | None":
        from popad.privsep.proxied import learn_client

        return learn_client(connection, facts)

    try:
        settings = Settings(os.environ)
        facts = facts_of(settings, with_rules=settings.wrappers == "always")
        arrived = arrive(connection, facts, encrypt, by_proxy)
    except SettingWrong as wrong:
        report(wrong)
        refuse_to_serve(connection, wrong)
        return CONFIG_STATUS
    if arrived is None:
        return 0
    load_session()
    from popad.session.monitor import SERVED, SUCCESS, serve

    outcome = serve(arrived)
    return SUCCESS if outcome == SERVED else outcome


def load_session() -> None:
    """What comes after the greeting; or while somebody else is busy."""
    from popad import precompiled

    precompiled.load("popad.session.monitor")
    from popad.session import monitor  # noqa: F401


def command(arguments: list[str]) -> int:
    """Do what the arguments ask for. Returns the exit status."""
    if arguments in (["-V"], ["--version"]):
        from popad import __version__

        print(f"popad version {__version__}")
        return 0
    try:
        if arguments == ["auth-helper"]:  # it stays in memory: without the modules of a command line
            from popad.commands.auth_helper import auth_helper

            return auth_helper()
        if arguments == ["tls-helper"]:
            from popad.commands.tls_helper import tls_helper

            return tls_helper()
        if arguments[0] == "help":
            arguments = [*arguments[1:2], "--help"]
        asks_for_help = arguments[0].startswith("-") and not {"-h", "--help"}.isdisjoint(arguments)
        if arguments[0].startswith("-") and not asks_for_help:
            from popad.daemon.packing import load_libraries

            load_libraries()
            from popad.daemon.command import main as daemon

            return daemon(arguments)
        from popad.commands.command import COMMANDS, USAGE, main

        if arguments[0] in COMMANDS:
            return main(arguments)
    except SettingWrong as wrong:
        report(wrong)
        return CONFIG_STATUS
    except NotInvokedRight as wrong:
        return explain(str(wrong))
    except ModuleNotFoundError as missing:
        from popad.commands.needs import lacks

        complain(f"popad: {lacks(missing.name)}\n")
        return NEEDS_STATUS
    if asks_for_help:
        print(USAGE, end="")
        return 0
    return explain(f"there is no command {arguments[0]!r}")


def explain(wrong: str) -> int:
    """Say what is wrong with how popad was invoked, and how it is used. Returns the exit status."""
    from popad.commands.command import USAGE

    complain(f"popad: {wrong}\n\n{USAGE}")
    return USAGE_STATUS


def report(wrong: SettingWrong) -> None:
    """Say on stderr which setting is wrong."""
    complain(f"popad: {wrong}\n")


def complain(text: str) -> None:
    """Say it on standard error; where that cannot be written to, the exit status has to do."""
    from popad.sinks import standard_error

    standard_error.put(text.encode("utf-8", "backslashreplace"))


if __name__ == "__main__":
    main()
