"""What the standalone daemon learns of a session from its exit status: has somebody logged in, what was not logged.

It believes the status, which is root's until a login has passed: what clients send before that reaches a child
only, and that has no say here. From then on it is the user's, who has logged in indeed.
"""

LOGGED_IN = 1  # the lowest bit
MOST_LOST = 31  # the five above it: the largest status, 63, is none of sysexits.h, nor a shell's


def status(logged_in: bool, lost: int) -> int:
    """The exit status of a session that has come to its end; `lost`: entries that no log has taken."""
    return int(logged_in) | min(lost, MOST_LOST) << 1


def told(wait_status: int) -> tuple[bool, int] | None:
    """What a wait status says; None of a session that was killed, that crashed, or that popad's faults have ended."""
    said = wait_status >> 8
    if wait_status & 0xFF or said > status(True, MOST_LOST):
        return None
    return bool(said & LOGGED_IN), said >> 1
