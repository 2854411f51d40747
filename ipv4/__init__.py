"""IP-level control of IPv4 sockets.

TTL and type of service, multicast membership, per-packet control messages, ICMP and BPF filters,
raw datagrams with their headers, and batches of packets in one system call: what Go programs get
from ``golang.org/x/net/ipv4``, with Python's manners.

>>> import ipv4, time
>>> with ipv4.PacketConn.udp(("127.0.0.1", 0)) as conn:
...     conn.set_control_message(ipv4.ControlFlags.TTL | ipv4.ControlFlags.INTERFACE, True)
...     conn.set_read_deadline(time.monotonic() + 1)
...     _ = conn.write_to(b"hello", conn.local_addr)
...     n, cm, src = conn.read_from(bytearray(1500))
...     n, cm.ttl, cm.ifindex
(5, 64, 1)
"""

try:
    import _socket  # noqa: F401
except ImportError:
    import sys

    raise ImportError(f"ipv4 does not support {sys.platform}: it has no sockets") from None

try:
    from .wire.arguments import __name__ as _built  # noqa: F401
except ModuleNotFoundError as _error:
    import sys
    from os.path import dirname, exists, join

    _folder = dirname(__file__)
    if exists(join(_folder, "meson.build")):
        raise ImportError(
            f"this is ipv4's source folder, {_folder}, which is not built; Python put"
            " the current directory first. Install with `pip install .`, then run `ipv4` and"
            " `pytest` (or `python -P -m ipv4`), or start Python from another directory."
        ) from _error
    raise ImportError(
        f"ipv4 in {_folder} has no compiled modules for this Python"
        f" ({sys.implementation.cache_tag}): it was installed for another one. Install it with"
        f" `{sys.executable} -m pip install ipv4`."
    ) from _error
except ImportError as _error:
    if "interpreter" not in str(_error).lower():
        raise
    raise ImportError(
        "ipv4 works in one interpreter of a process, the first that imports it, and in none with"
        " a lock of its own: its compiled modules keep their state in variables that all"
        " interpreters would share (the manual's page on thread safety says more). Use threads of"
        " one interpreter, or processes."
    ) from _error

from .conn import Conn, PacketConn, RawConn
from .engine.message import Message
from .engine.message_batch import MessageBatch
from .filtering import ICMPFilter
from .wire.checksum import checksum, pseudo_header
from .wire.cmsg import new_control_message
from .wire.control import ControlMessage
from .wire.header import Header, parse_header

TYPE_CHECKING = False  # typing's own would cost more to import than this package
if TYPE_CHECKING:
    from . import aio as aio
    from . import bpf as bpf
    from . import types as types
    from .constants import (
        HEADER_LEN,
        ROUTER_ALERT,
        VERSION,
        ControlFlags,
        ErrorOrigin,
        HeaderFlags,
        ICMPType,
        PathMTUDiscovery,
    )
    from .engine.errqueue import ErrorReport
    from .interface import Interface, MemoryInfo
    from .trials import features

    __version__: str

__all__ = [
    "HEADER_LEN",
    "ROUTER_ALERT",
    "VERSION",
    "Conn",
    "ControlFlags",
    "ControlMessage",
    "ErrorOrigin",
    "ErrorReport",
    "Header",
    "HeaderFlags",
    "ICMPFilter",
    "ICMPType",
    "Interface",
    "MemoryInfo",
    "Message",
    "MessageBatch",
    "PacketConn",
    "PathMTUDiscovery",
    "RawConn",
    "bpf",
    "checksum",
    "features",
    "new_control_message",
    "parse_header",
    "pseudo_header",
]


# Enumerations and named tuples take longer to make than the rest of the package to load: each
# comes when it is first named.
_LATER = {
    "HEADER_LEN": "constants",
    "ROUTER_ALERT": "constants",
    "VERSION": "constants",
    "ControlFlags": "constants",
    "ErrorOrigin": "constants",
    "HeaderFlags": "constants",
    "ICMPType": "constants",
    "PathMTUDiscovery": "constants",
    "ErrorReport": "engine.errqueue",
    "Interface": "interface",
    "MemoryInfo": "interface",
    "features": "trials",
}


if not TYPE_CHECKING:  # for which every name would be one of the package

    def __getattr__(name):
        from importlib import import_module

        if name in ("aio", "bpf", "types"):
            return import_module(f".{name}", __name__)
        if name in _LATER:
            found = getattr(import_module(f".{_LATER[name]}", __name__), name)
            globals()[name] = found
            return found
        if name == "__version__":
            from importlib.metadata import version

            return version("ipv4")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, "aio", "bpf", "types", "__version__"})
