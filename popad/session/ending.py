"""A session that is told to end from outside: systemctl stop, a stop of the daemon, a machine that is shut down."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

SIGNALS: dict[int, str] = {signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP", signal.SIGINT: "SIGINT"}


class ToldToEnd(BaseException):
    """The session ends here, and nothing is removed; the text is the signal. No Exception: whoever handles errors does
    not handle this.
    """


def end_when_told(may_end: "Callable[[], bool]" = lambda: True) -> None:
    """From now on a signal raises ToldToEnd, once, wherever this process is, unless `may_end` says that it is about to
    end anyway. An update blocks the signals itself (maildrop/mbox).
    """

    def told(number: int, _: object) -> None:
        if may_end():
            for each in SIGNALS:
                signal.signal(each, signal.SIG_IGN)
            raise ToldToEnd(SIGNALS[number])

    for each in SIGNALS:
        signal.signal(each, told)
