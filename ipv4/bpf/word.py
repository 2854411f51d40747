"""Machine words, and what all instructions have in common."""

from __future__ import annotations

from collections import namedtuple
from enum import IntEnum
from operator import index

TYPE_CHECKING = False  # typing's own would cost more to import than this whole package
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import NamedTuple, NoReturn, TypeVar

    _Item = TypeVar("_Item")

    class _Word(NamedTuple):
        op: int
        jt: int
        jf: int
        k: int
else:
    _Word = namedtuple("_Word", ("op", "jt", "jf", "k"))

__all__ = ["Instruction", "RawInstruction"]


def integer(value: int, field: str) -> int:
    """The value as an integer; a TypeError names the field."""
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{field} must be an integer, not {type(value).__name__}") from None


def walk(program: Iterable[_Item], name: str) -> Iterator[_Item]:
    """Iterator over a program; a TypeError names what is none."""
    try:
        return iter(program)
    except TypeError:
        given = type(program).__name__
        raise TypeError(f"{name} must be an iterable of instructions, not {given}") from None


def unsigned(value: int, bits: int, field: str) -> int:
    """The value as an unsigned integer of so many bits."""
    number = integer(value, field)
    if not 0 <= number < 1 << bits:
        # Beyond some size the interpreter refuses to write a number in decimal.
        given = number if number.bit_length() <= 1024 else f"one of {number.bit_length()} bits"
        raise ValueError(f"{field} must be in 0..{(1 << bits) - 1:#x}, not {given}")
    return number


def named(value: int, names: type[IntEnum]) -> int:
    """Give a number its name, if it has one."""
    try:
        return names(value)
    except ValueError:
        return value


def _show(value: int) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, IntEnum) else str(value)


class Instruction:
    """What all instructions have in common: immutable, compared and hashed by value.

    ``str()`` is the text of the classic assembler, bpf_asm; what has no text says
    ``unknown instruction`` and its fields.
    """

    __slots__ = ()
    __match_args__: tuple[str, ...] = ()

    def assemble(self) -> RawInstruction:
        """Encode as a machine word.

        Raises
        ------
        ValueError
            For a field whose value means nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it assembles")

    def _fill(self, *values: int) -> None:
        for field, value in zip(self.__match_args__, values, strict=True):
            object.__setattr__(self, field, value)

    def _values(self) -> tuple[int, ...]:
        return tuple(map(self.__getattribute__, self.__match_args__))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __reduce__(self) -> tuple[type[Instruction], tuple[int, ...]]:
        return type(self), self._values()

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{field}={_show(value)}"
            for field, value in zip(self.__match_args__, self._values(), strict=True)
        )
        return f"{type(self).__name__}({fields})"

    def __str__(self) -> str:
        try:
            self.assemble()
        except ValueError:
            return self._unknown()
        return self._text() or self._unknown()

    def _text(self) -> str:
        """Return the assembler's text, or "" where it has none."""
        # A class of a program's own is what it assembles to.
        try:
            return RawInstruction(*self.assemble())._text()
        except (TypeError, ValueError):
            return ""

    def _unknown(self) -> str:
        # As golang.org/x/net/bpf prints it: these three are signed fields there.
        fields = ", ".join(
            f"{field.capitalize()}:{int(value) if field in ('n', 'num', 'size') else hex(value)}"
            for field, value in zip(self.__match_args__, self._values(), strict=True)
        )
        return f"unknown instruction: bpf.{type(self).__name__}{{{fields}}}"


class RawInstruction(_Word, Instruction):
    """A machine word, ``struct sock_filter`` of <linux/filter.h>; equal to the tuple of its fields.

    Parameters
    ----------
    op : int
        Operation code, 16 bits.
    jt, jf : int
        Instructions to skip when a test is true, or false; 8 bits each.
    k : int
        Operand, 32 bits.

    Raises
    ------
    TypeError, ValueError
        For a field that is no integer, or does not fit; the message names it.
    """

    __slots__ = ()

    def __new__(cls, op: int, jt: int, jf: int, k: int) -> RawInstruction:
        return super().__new__(
            cls,
            unsigned(op, 16, "op"),
            unsigned(jt, 8, "jt"),
            unsigned(jf, 8, "jf"),
            unsigned(k, 32, "k"),
        )

    # A word keeps the order and the hash of the tuple that it is.
    __eq__ = tuple.__eq__  # type: ignore[assignment]
    __hash__ = tuple.__hash__

    def _values(self) -> tuple[int, ...]:
        return tuple(self)

    def assemble(self) -> RawInstruction:
        """Return the word itself."""
        return self

    def disassemble(self) -> Instruction:
        """Decode; a word that no instruction assembles to is returned as it is."""
        decoded = self._decode()
        return self if decoded is None or decoded.assemble() != self else decoded

    def _text(self) -> str:
        decoded = self._decode()
        return "" if decoded is None else str(decoded)

    def _decode(self) -> Instruction | None:
        """The instruction of this word: assembler.py, which knows them all, puts it here."""
        raise NotImplementedError
