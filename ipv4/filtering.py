"""What the kernel lets through to a socket: ICMP types, BPF programs, a minimum TTL."""

from __future__ import annotations

import os
from _thread import RLock

from .engine.connection import attached_program, drain
from .engine.kernel import KERNEL
from .wire.arguments import integer

TYPE_CHECKING = False  # typing's own would cost more to import than this whole module
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, ClassVar, SupportsIndex

    from .engine.sockopt import _Door
    from .types import Program
else:
    _Door = object

__all__ = ["Filtering", "ICMPFilter"]


# A filter is put together from the caller's program and `min_ttl`, which two threads may change:
# what is known of it and what the kernel has change in one step. It may be taken again by a signal
# handler of the thread that has it.
_step = RLock()


def _forked() -> None:
    global _step
    _step = RLock()  # the thread that had it may not be here


os.register_at_fork(after_in_child=_forked)

REFUSE_ALL = (6, 0, 0, 0)  # ret #0


class ICMPFilter:
    """Which ICMP types a raw ICMP socket does not receive (raw(7), ICMP_FILTER).

    A new filter accepts all. The kernel filters types 0-31 only and always delivers the others,
    so those are refused here.
    """

    __slots__ = ("_blocked",)

    def __init__(self) -> None:
        self._blocked = 0

    def accept(self, typ: SupportsIndex) -> None:
        """Receive messages of a type, 0-31."""
        self._blocked &= ~_bit(typ)

    def block(self, typ: SupportsIndex) -> None:
        """Do not receive messages of a type, 0-31.

        Raises
        ------
        ValueError
            For a type above 31, which the kernel cannot filter.
        """
        self._blocked |= _bit(typ)

    def set_all(self, block: bool) -> None:
        """Block, or accept, all of the types 0-31."""
        self._blocked = 0xFFFFFFFF if block else 0

    def will_block(self, typ: SupportsIndex) -> bool:
        """Whether messages of a type, 0-31, are not received."""
        return bool(self._blocked & _bit(typ))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ICMPFilter):
            return NotImplemented
        return self._blocked == other._blocked

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        blocked = [typ for typ in range(32) if self._blocked >> typ & 1]
        return f"<ipv4.ICMPFilter blocks {blocked}>"


def _bit(typ: SupportsIndex) -> int:
    return 1 << integer(typ, 0, 31, "typ")


class Filtering(_Door):
    """Filters of PacketConn and RawConn."""

    __slots__ = ()

    @property
    def icmp_filter(self) -> ICMPFilter:
        """The `ICMPFilter` of a raw ICMP socket (raw(7), ICMP_FILTER, Linux 2.2); a copy: assign to
        change. It takes no privilege beyond the CAP_NET_RAW that opened the socket.

        Raises
        ------
        AttributeError
            When it is read on a socket of another kind; setting it there is the kernel's OSError,
            EOPNOTSUPP or ENOPROTOOPT.
        """
        if KERNEL["ICMP_FILTER"] >= 0:
            self._require_kind("icmp_filter", "raw ICMP")
        found = ICMPFilter()
        found._blocked = (
            self._get_int(KERNEL["SOL_RAW"], KERNEL["ICMP_FILTER"], "ICMP_FILTER") & 0xFFFFFFFF
        )
        return found

    @icmp_filter.setter
    def icmp_filter(self, value: ICMPFilter) -> None:
        if not isinstance(value, ICMPFilter):
            raise TypeError(f"icmp_filter must be an ICMPFilter, not {type(value).__name__}")
        number = value._blocked
        self._set_int(
            KERNEL["SOL_RAW"],
            KERNEL["ICMP_FILTER"],
            number - (1 << 32) if number >> 31 else number,
            "ICMP_FILTER",
        )

    def set_bpf(self, filter: Program | None, drain: bool = False) -> None:
        """Attach a BPF program that decides which packets are received (socket(7),
        SO_ATTACH_FILTER, Linux 2.2), in place of any before. It takes no privilege.

        Parameters
        ----------
        filter : sequence of bpf.RawInstruction, of 4-tuples, or of instructions; or None
            The program; None detaches. On UDP sockets offset 0 is the UDP header, on raw sockets
            the IP header. Its result is how many bytes to deliver, 0 for none.
        drain : bool
            Also throw away what was queued before the filter, and so was not filtered: all
            packets are refused, the queue is emptied, then the program is attached. It knows no
            deadline.

        Raises
        ------
        ValueError
            If the program is empty, longer than 4096 instructions, or has a field out of range.
        OSError
            EINVAL for a program that the kernel's checker refuses, EPERM once locked. What was
            attached before stays then, and nothing is thrown away.
        """
        from . import bpf

        program = None if filter is None else bpf.to_raw(filter)
        with _step:
            whole = self._effective(program, self._min_ttl)
            self._attach(whole)  # what the kernel does not take is refused before anything is lost
            self._program = program
            if drain:
                self._drain(whole)

    def _drain(self, whole: list[Any] | None) -> None:
        """Throw away what came before a program was attached, then attach it for good."""
        try:
            self._attach([REFUSE_ALL])
            drain(self)
        finally:
            self._attach(whole)

    def _refuse_all(self) -> bool:
        """Let nothing in, for an opener that has not set everything; whether that could be done."""
        try:
            self._attach([REFUSE_ALL])
        except (OSError, NotImplementedError):
            return False  # no filters here: what comes early is thrown away all the same
        return True

    def _hear(self, refusing: bool, min_ttl: int, filters: Iterable[Any]) -> None:
        """Throw away what came early, and let in what the opener's caller wants."""
        drain(self)
        for option in filters:
            self.setsockopt(*option)
        if filters:
            self.min_ttl = min_ttl
        elif min_ttl:
            number = integer(min_ttl, 0, 255, "min_ttl")
            self._attach(self._effective(None, number))
            self._min_ttl = number
        elif refusing:
            self._attach(None)

    def _foreign(self) -> list[Any] | None:
        """The program that the conn did not attach itself: its socket came with it, or another
        that shares the socket attached it. None where the kernel has what is known here.
        """
        import struct

        from . import bpf

        try:
            packed = attached_program(self)
        except PermissionError as error:
            reason = f"{error.strerror}: it was no classic BPF program, with which min_ttl could be"
            raise PermissionError(
                error.errno, f"{reason} put together; set_bpf(None) takes it off"
            ) from None
        except OSError:  # a kernel before 3.8
            return None
        known = self._effective(self._program, self._min_ttl)
        if not packed or (known is not None and bpf.pack(known) == packed):
            return None
        return list(struct.iter_unpack("=HBBI", packed))

    def _effective(self, program: list[Any] | None, minimum: int) -> list[Any] | None:
        """The program that the kernel is given: the TTL's check, then the caller's own."""
        from . import bpf

        if not minimum:
            return program
        check = bpf.minimum_ttl(minimum)
        if program is None:
            return check
        # The check's last instruction accepts; the caller's program begins there instead, with
        # A zero, as programs expect it.
        whole = [*check[:-1], *bpf.to_raw([bpf.LoadConstant(bpf.Register.A, 0)]), *program]
        if len(whole) > 4096:
            raise ValueError(
                f"a program of {len(program)} instructions and the check of min_ttl before it"
                f" make {len(whole)}; the kernel takes at most 4096"
            )
        return whole

    def _attach(self, program: list[Any] | None) -> None:
        from . import bpf

        if program is None:
            try:
                self._set_int(KERNEL["SOL_SOCKET"], KERNEL["SO_DETACH_FILTER"], 0, "detach BPF")
            except FileNotFoundError:
                return  # there was none
        else:
            self._set_program(
                KERNEL["SO_ATTACH_FILTER"],
                bpf.pack(program),
                f"SO_ATTACH_FILTER, {len(program)} instructions",
            )

    def lock_bpf(self) -> None:
        """Forbid every later change of the filter, `set_bpf(None)` and `min_ttl` included
        (socket(7), SO_LOCK_FILTER, Linux 3.9); it cannot be undone. It takes no privilege.
        """
        self._set_int(KERNEL["SOL_SOCKET"], KERNEL["SO_LOCK_FILTER"], 1, "SO_LOCK_FILTER")

    def set_reuseport_bpf(self, program: Program) -> None:
        """Steer packets within a group of SO_REUSEPORT sockets (socket(7),
        SO_ATTACH_REUSEPORT_CBPF, Linux 4.5 for UDP). It takes no privilege.

        Parameters
        ----------
        program : sequence, as for `set_bpf`
            Its result is the index, in the order of binding, of the socket that gets the packet;
            beyond the group's size the kernel chooses. Offset 0 is the payload.

        Notes
        -----
        The program is the whole group's: whichever member sets it, it holds for all, and the one
        set last counts. When a member leaves, the last one of the group takes its place, and with
        it its index; the others keep theirs.

        Raises
        ------
        OSError
            EINVAL on a socket without SO_REUSEPORT or for a program that the kernel refuses.
        """
        from . import bpf

        raw = bpf.to_raw(program)
        self._set_program(
            KERNEL["SO_ATTACH_REUSEPORT_CBPF"],
            bpf.pack(raw),
            f"SO_ATTACH_REUSEPORT_CBPF, {len(raw)} instructions",
        )

    @property
    def min_ttl(self) -> int:
        """Smallest TTL of packets to be received, 1-255, or 0 for any (RFC 5082).

        Linux ignores IP_MINTTL (ip(7)) on UDP and raw sockets, so this is a filter that the kernel
        runs before the one of `set_bpf` (socket(7), SO_ATTACH_FILTER, Linux 2.2), or before the one
        that the socket came with (SO_GET_FILTER, Linux 3.8). It takes no privilege; a filter that
        was locked makes it EPERM, and so does one of eBPF, which cannot be put together with it.
        """
        return self._min_ttl

    @min_ttl.setter
    def min_ttl(self, value: SupportsIndex) -> None:
        number = integer(value, 0, 255, "min_ttl")
        with _step:
            foreign = self._foreign()
            program = self._program if foreign is None else foreign
            self._attach(self._effective(program, number))
            self._program = program
            self._min_ttl = number
