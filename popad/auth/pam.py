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
PAM_USER, PAM_RHOST = 2, 4  # items, pam_set_item(3)
PAM_SILENT, PAM_DISALLOW_NULL_AUTHTOK = 0x8000, 0x0001
# Codes of pam_authenticate(3) and pam_acct_mgmt(3) that say something about PAM, not about the user or the password.
UNAVAILABLE = {
    1,  # PAM_OPEN_ERR
    2,  # PAM_SYMBOL_ERR
    3,  # PAM_SERVICE_ERR
    4,  # PAM_SYSTEM_ERR
    5,  # PAM_BUF_ERR
    8,  # PAM_CRED_INSUFFICIENT
    9,  # PAM_AUTHINFO_UNAVAIL
    19,  # PAM_CONV_ERR
    26,  # PAM_ABORT
    28,  # PAM_MODULE_UNKNOWN
}


class Pam:
    """A PAM service.

    Making one loads libpam (and asks ldconfig where it is) and the service's modules: a warm helper does it before it
    forks. What a module's file or the service's says later counts all the same: each request reads them anew.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self.pam = pam.PamAuthenticator()
        library = ctypes.CDLL(ctypes.util.find_library("pam"))
        self.get_item = library.pam_get_item
        self.get_item.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p)]
        self.get_item.restype = ctypes.c_int
        self.modules = self.start()

    def start(self) -> tuple[object, object]:
        """A transaction that is never used and never ends, and its conversation: it keeps the modules in memory.

        A request that finds them there takes 1.4 ms less. Where they cannot be loaded each request will say so.
        """
        start = self.pam.pam_start
        conversation, handle = (pointer._type_() for pointer in start.argtypes[2:])
        start(self.service.encode(), None, ctypes.byref(conversation), ctypes.byref(handle))
        return conversation, handle

    def authenticate(self, name: str, password: bytes, rhost: str) -> Account:
        """Raises Unknown, LoginFailed and Unavailable. Can take as long as a module likes."""
        passed, code, final_name, step = self.ask(name.encode("utf-8"), password, rhost)
        reason = f"PAM, {step}: {self.pam.reason}"
        if passed:
            return Account(identity.checked_name(final_name))
        if code in UNAVAILABLE:
            raise Unavailable(reason)
        # What PAM calls an unknown user depends on its modules, so the journal asks NSS; after PAM, for every failure.
        raise (LoginFailed if identity.lookup(name) else Unknown)(reason)

    def ask(self, name: bytes, password: bytes, rhost: str) -> tuple[bool, int, bytes, str]:
        """Whether the login passes, PAM's code, the name as the modules leave it, and the last step taken."""
        syslog.openlog("popad", 0, syslog.LOG_AUTHPRIV)  # else modules log under the interpreter's name
        library = self.pam
        authenticate, account, end = library.pam_authenticate, library.pam_acct_mgmt, library.pam_end
        names = [name]
        steps = ["start"]

        def with_rhost(handle: object, flags: int) -> int:
            steps.append("authentication")
            if rhost:
                item = ctypes.c_char_p(rhost.encode("ascii", "replace"))
                if code := library.pam_set_item(handle, PAM_RHOST, item):
                    return int(code)
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
            passed = library.authenticate(name, password, self.service.encode(), encoding="latin-1", resetcreds=False)
        finally:
            library.pam_authenticate, library.pam_acct_mgmt, library.pam_end = authenticate, account, end
        return passed, library.code, names[-1], steps[-1]
