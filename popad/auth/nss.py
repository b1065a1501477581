"""Users and groups as NSS knows them. "There is no such user" is told from "the directory does not answer".

Python's pwd module says KeyError to both. getpwnam_r(3) returns 0 where nobody has the name (some modules ENOENT or
ESRCH), and any other number where that is not known: EAGAIN of a directory that is down, EMFILE, EIO.
"""

import errno
import os
import pwd

NOT_FOUND = (0, errno.ENOENT, errno.ESRCH)
ENTRY_OCTETS = 256  # of a struct passwd or group, with much to spare
TEXT_OCTETS = 1 << 10, 1 << 20  # what its texts need: at first, and at most
NOBODY = "popad: nobody"  # nobody can have such a name: /etc/passwd, /etc/group and the credentials file cannot hold it


class Unanswered(Exception):
    """NSS cannot say now. The text is for the journal."""


def user(name: str) -> pwd.struct_passwd | None:
    """The user, None where there is none. Raises Unanswered."""
    try:
        return pwd.getpwnam(name)
    except ValueError:  # it has a NUL
        return None
    except KeyError:
        if look_again("getpwnam_r", name):
            raise Unanswered(f"NSS knew nothing of {name!a}, and then it did") from None
        return None


def groups(entry: pwd.struct_passwd) -> list[int]:
    """All groups of a user: the own one, and those of initgroups(3). Raises Unanswered.

    The C library leaves out without a word what a source of groups that is down would say: so it is asked for a group
    that cannot be, which each source has to answer.
    """
    try:
        found = sorted({entry.pw_gid, *os.getgrouplist(entry.pw_name, entry.pw_gid)})
    except OSError as error:
        raise Unanswered(f"the groups of {entry.pw_name!a}: {error}") from error
    look_again("getgrnam_r", NOBODY)
    return found


def look_again(function: str, name: str) -> bool:
    """Whether there is an entry, by getpwnam_r(3) or getgrnam_r(3). Raises Unanswered where that is not known."""
    import ctypes  # PAM has loaded it; else 3 ms, and only for those whom NSS does not know or who have passed

    ask = getattr(ctypes.CDLL(None), function)
    entry, found = ctypes.create_string_buffer(ENTRY_OCTETS), ctypes.c_void_p()
    size, most = TEXT_OCTETS
    while True:
        text = ctypes.create_string_buffer(size)
        code = ask(os.fsencode(name), entry, text, ctypes.c_size_t(size), ctypes.byref(found))
        if code != errno.ERANGE or size >= most:
            break
        size *= 2
    if code not in NOT_FOUND:
        raise Unanswered(f"NSS, {function}: {os.strerror(code)}")
    return bool(found.value)
