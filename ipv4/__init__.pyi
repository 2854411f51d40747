from . import aio as aio
from . import bpf as bpf
from . import types as types
from .conn import Conn, PacketConn, RawConn
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
from .engine.message import Message
from .engine.message_batch import MessageBatch
from .filtering import ICMPFilter
from .interface import Interface, MemoryInfo
from .trials import features
from .wire.checksum import checksum, pseudo_header
from .wire.cmsg import new_control_message
from .wire.control import ControlMessage
from .wire.header import Header, parse_header

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
