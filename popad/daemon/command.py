"""The command `popad -D`: its options, its settings, its sockets. What is wrong is said before it detaches."""

import getopt
import os
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

from popad import sinks
from popad.configuration import CONFIGURATION, configuration
from popad.daemon.listeners import listening, passed
from popad.daemon.refusing import refuse_clients
from popad.daemon.supervisor import Supervisor, facts_for_all
from popad.errors import NotInvokedRight, SettingWrong
from popad.net.activation import open_standard_streams
from popad.notify import Notifier
from popad.session.monitor import SUCCESS
from popad.settings import PREFIX, Settings
from popad.tls.identity import tls_identity

TLS_PORT = 995  # POP3S, RFC 8314


class Options:
    """What follows popad on the command line of a daemon."""

    def __init__(self, arguments: "Sequence[str]") -> None:
        """Raises NotInvokedRight."""
        try:
            given, rest = getopt.getopt(
                list(arguments), "D46", ["foreground", "listen=", "listen-tls=", "config=", "test"]
            )
        except getopt.GetoptError as wrong:
            raise NotInvokedRight(str(wrong)) from None
        names = [name for name, _ in given]
        if rest:
            raise NotInvokedRight(f"unexpected argument {rest[0]}")
        if "-D" not in names:
            raise NotInvokedRight(f"{names[0]} is an option of the standalone daemon: -D is missing")
        self.foreground = "--foreground" in names
        self.only_test = "--test" in names
        self.addresses = [value for name, value in given if name == "--listen"]
        self.tls_addresses = [value for name, value in given if name == "--listen-tls"]
        self.config = next((value for name, value in given if name == "--config"), "")
        chosen = {family for name, family in (("-4", socket.AF_INET), ("-6", socket.AF_INET6)) if name in names}
        if chosen and self.addresses:
            raise NotInvokedRight("--listen names the family; -4 and -6 do not go with it")
        self.anywhere = not chosen and not self.addresses  # nothing is said about where to listen
        self.families = frozenset(chosen or (socket.AF_INET, socket.AF_INET6))  # both, as popa3d does, is dual stack


def main(arguments: "Sequence[str]") -> int:
    """`popad -D`: returns the exit status. Errors are said on stderr before the daemon detaches."""
    options = Options(arguments)
    os.close(open_standard_streams())
    sinks.guard_standard_error()
    load = loader(options.config, [int(port) for address in options.tls_addresses if (port := port_in(address))])
    if options.only_test:
        test(load())
        return 0
    try:
        from_systemd = passed(os.environ)
        if from_systemd and (options.tls_addresses or not options.anywhere):
            raise ValueError("systemd has passed sockets: -4, -6, --listen and --listen-tls do not go with them")
        listeners = from_systemd or listening(options.addresses, options.families)
        if not from_systemd and load().tls_certificate:
            at_once = options.tls_addresses or ([f":{TLS_PORT}"] if options.anywhere else [])
            listeners += listening(at_once, options.families) if at_once else []
    except (OSError, ValueError) as error:
        sys.stderr.write(f"popad: cannot listen: {error}\n")
        return 1
    notifier = Notifier()
    os.environ.pop("NOTIFY_SOCKET", None)  # sessions do not speak for the daemon
    if from_systemd:
        daemon = supervisor_in_time(listeners, load, notifier)
    else:
        daemon = Supervisor(listeners, load, notifier)  # what is wrong is for who started it to read
    if not daemon:
        return SUCCESS
    if not options.foreground:
        detach()
    return daemon.run()


def test(settings: Settings) -> None:
    """What a start or a reload would do with them; the keys of TLS are in this process alone, which ends.

    Raises SettingWrong.
    """
    facts_for_all(settings)
    if settings.tls_certificate:
        from popad.tls.certificates import CertificateWrong, Contexts

        tls_identity(settings)
        try:
            Contexts(settings)
        except CertificateWrong as wrong:
            raise SettingWrong("POPAD_TLS_CERTIFICATE", str(wrong)) from wrong


def supervisor_in_time(
    listeners: "Sequence[socket.socket]", load: "Callable[[], Settings]", notifier: Notifier
) -> Supervisor | None:
    """The supervisor, as soon as the settings are right; None if the daemon is told to stop before."""
    while True:
        try:
            return Supervisor(listeners, load, notifier)
        except SettingWrong as wrong:
            if not refuse_clients(listeners, wrong, notifier):
                return None


def port_in(address: str) -> str:
    """The port of an address that somebody has typed; "" where there is none, which listening() complains of."""
    digits = address.rpartition(":")[2]
    return digits if digits.isascii() and digits.isdigit() else ""


def loader(config: str, tls_ports: "Sequence[int]" = ()) -> "Callable[[], Settings]":
    """What reads the settings: those of `config`, or of popad.conf if there is one, and before them the environment's,
    but for those that systemd has read in `config`: when they go from there, they go. On `tls_ports`, too, TLS begins
    at once. It raises SettingWrong.
    """
    given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    try:
        from_file = read(config)
    except SettingWrong:
        from_file = {}  # systemd could not read it, either
    given = {name: value for name, value in given.items() if from_file.get(name) != value}

    def load() -> Settings:
        settings = Settings({**read(config), **given})
        settings.tls_ports = (*settings.tls_ports, *tls_ports)
        return settings

    return load


def read(config: str) -> dict[str, str]:
    """What `config` says, which must be there, or popad.conf, which need not. Raises SettingWrong."""
    if config and not os.path.exists(config):
        raise SettingWrong("--config", f"there is no file {config}")
    try:
        return configuration(config or CONFIGURATION)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingWrong(config or CONFIGURATION, str(error)) from error


def detach() -> None:
    """Become a daemon: no terminal, no directory in use, no standard streams."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
