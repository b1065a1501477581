"""PAM through python-pam: authenticate and acct_mgmt, no session; PAM_RHOST set, the name as PAM leaves it.

python-pam does not hand out the handle between pam_start() and pam_authenticate(), nor the final name. Both are reached
by standing in for one of the library functions it has looked up, for the length of one call.
"""

import ctypes
import ctypes.util
import syslog

import pam

from popad.auth import identity
from popad.auth.identity import Account, LoginFailed, Unavailable, Unknown

PAM_SUCCESS = 0
PAM_USER, PAM_RHOST, PAM_FAIL_DELAY = 2, 4, 10  # items, pam_set_item(3), pam_fail_delay(3)
PAM_SILENT, PAM_DISALLOW_NULL_AUTHTOK = 0x8000, 0x0001
# Codes of pam_authenticate(3), pam_acct_mgmt(3) and of modules (_pam_types.h) that say something about PAM, not about
# the user or the password. PAM_MAXTRIES is no such code: it is a wrong password, and says not to ask for another one.
UNAVAILABLE = {
    1,  # PAM_OPEN_ERR
    2,  # PAM_SYMBOL_ERR
    3,  # PAM_SERVICE_ERR
    4,  # PAM_SYSTEM_ERR
    5,  # PAM_BUF_ERR
    8,  # PAM_CRED_INSUFFICIENT
    9,  # PAM_AUTHINFO_UNAVAIL
    18,  # PAM_NO_MODULE_DATA
    19,  # PAM_CONV_ERR
    22,  # PAM_AUTHTOK_LOCK_BUSY
    24,  # PAM_TRY_AGAIN
    26,  # PAM_ABORT
    28,  # PAM_MODULE_UNKNOWN
    29,  # PAM_BAD_ITEM
    30,  # PAM_CONV_AGAIN
    31,  # PAM_INCOMPLETE
}


class Pam:
    """A PAM service.

    Making one loads libpam (and asks ldconfig where it is) and the service's modules: the helper does it before it
    forks. What the service's file says later counts all the same, as each request reads it anew. A module that is in
    memory stays as it is: loaded.py notices when its file is replaced.
    """

    # libpam waits after a failure, by its dice, where a module asks for it: after a wrong password, and not after a
    # right one of an account that has expired. So it does not wait here, and every refusal has a time of its own that
    # is no shorter than what Debian's modules ask for (2 seconds).
    refused_soonest = 4.0  # seconds

    def __init__(self, service: str) -> None:
        self.service = service
        self.pam = pam.PamAuthenticator()
        library = ctypes.CDLL(ctypes.util.find_library("pam"))
        self.get_item = library.pam_get_item
        self.get_item.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p)]
        self.get_item.restype = ctypes.c_int
        # What libpam calls in place of waiting: a function of C that does nothing, whatever it is given. One of Python
        # would need memory that may be executed: the workers forked from here share it, and each would free it.
        self.no_delay = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p)
        self.modules = self.start()

    def start(self) -> tuple[object, object]:
        """A transaction that is never used and never ends, and its conversation: it keeps the modules in memory.

        A request that finds them there takes 1.4 ms less. Where they cannot be loaded each request will say so.
        """
        start = self.pam.pam_start
        conversation, handle = (pointer._type_() for pointer in start.argtypes[2:])
        start(self.service.encode(), None, ctypes.byref(conversation), ctypes.byref(handle))
        return conversation, handle

    def authenticate(self, name: str, password: bytes | None, rhost: str) -> Account:
        """Raises Unknown, LoginFailed and Unavailable. Can take as long as a module likes. None: the account counts
        alone (pam_acct_mgmt(3)).
        """
        passed, code, final_name, step = self.ask(name.encode("utf-8"), password, rhost)
        reason = f"PAM, {step}: {self.pam.reason}"
        if passed:
            return Account(identity.checked_name(final_name))
        if code in UNAVAILABLE:
            raise Unavailable(reason)
        # What PAM calls an unknown user depends on its modules, so the journal asks NSS; after PAM, for every failure.
        raise (LoginFailed if identity.lookup(name) else Unknown)(reason)

    def vouch(self, name: str, rhost: str) -> Account:
        """An account of somebody who has shown without a password who it is. Raises as authenticate() does."""
        return self.authenticate(name, None, rhost)

    def ask(self, name: bytes, password: bytes | None, rhost: str) -> tuple[bool, int, bytes, str]:
        """Whether the login passes, PAM's code, the name as the modules leave it, and the last step taken."""
        syslog.openlog("popad", 0, syslog.LOG_AUTHPRIV)  # else modules log under the interpreter's name
        library = self.pam
        authenticate, account, end = library.pam_authenticate, library.pam_acct_mgmt, library.pam_end
        names = [name]
        steps = ["start"]

        def with_rhost(handle: object, flags: int) -> int:
            steps.append("authentication")
            items = {PAM_FAIL_DELAY: self.no_delay}
            if rhost:
                items[PAM_RHOST] = ctypes.cast(ctypes.c_char_p(rhost.encode("ascii", "replace")), ctypes.c_void_p)
            for kind, item in items.items():
                if code := library.pam_set_item(handle, kind, item):
                    return int(code)
            if password is None:
                return PAM_SUCCESS
            return int(authenticate(handle, flags | PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK))

        def without_nulls(handle: object, flags: int) -> int:
            steps.append("account")
            return int(account(handle, flags | PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK))

        def after_a_look_at_the_name(handle: object, status: int) -> int:
            item = ctypes.c_void_p()
            if (
                self.get_item(getattr(handle, "handle", None), PAM_USER, ctypes.byref(item)) == PAM_SUCCESS
                and item.value
            ):
                names.append(ctypes.string_at(item.value))
            return int(end(handle, status))

        library.pam_authenticate = with_rhost
        library.pam_acct_mgmt = without_nulls
        library.pam_end = after_a_look_at_the_name
        try:
            # Octets as they came: PAM and crypt(3) compare octets. Latin-1 for the conversation, which must not fail to
            # decode a module's prompt.
            passed = library.authenticate(
                name, password or b"", self.service.encode(), encoding="latin-1", resetcreds=False
            )
        finally:
            library.pam_authenticate, library.pam_acct_mgmt, library.pam_end = authenticate, account, end
        return passed, library.code, names[-1], steps[-1]
