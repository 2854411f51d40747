"""A network namespace of one's own (network_namespaces(7), user_namespaces(7))."""

import os

from .ifreq import bring_up

__all__ = ["enter"]

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def enter() -> None:
    """Move this process into a new network namespace, with nothing in it but a loopback.

    A process that may not make one makes itself a user namespace first, in which it may.

    Raises
    ------
    OSError
        If the system forbids it; the process is then where it was.
    """
    # A process that was let in, but is refused the loopback inside, could not come back: a child
    # goes first.
    child = os.fork()
    if child == 0:
        try:
            _enter()
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, os.strerror(status) if status > 0 else "the first try was killed")
    _enter()


def _enter() -> None:
    try:
        _unshare(CLONE_NEWNET)
    except PermissionError:
        # The capabilities inside come with the user namespace; no user ids need to be mapped.
        _unshare(CLONE_NEWUSER | CLONE_NEWNET)
    bring_up("lo")


def _unshare(flags: int) -> None:
    if hasattr(os, "unshare"):  # Python 3.12
        os.unshare(flags)
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
