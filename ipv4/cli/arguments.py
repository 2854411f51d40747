"""What users type, as argparse types: each says what is wrong and what is expected."""

import argparse
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address

import ipv4

__all__ = ["address", "area", "endpoint", "integer", "interface", "netmask", "record", "seconds"]


def integer(low: int, high: int) -> Callable[[str], int]:
    """A type for whole numbers of ``low..high``, in decimal or with 0x."""

    def number(text: str) -> int:
        try:
            value = int(text, 0)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not in {low}..{high}")
        return value

    return number


def seconds(text: str) -> float:
    """A time in seconds, above 0 and at most an hour."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 3600 seconds")
    return value


def address(text: str) -> IPv4Address:
    """An address as a dotted quad."""
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an IPv4 address such as 192.0.2.1"
        ) from None


def netmask(text: str) -> IPv4Address:
    """A network mask: ones, then zeros."""
    mask = address(text)
    zeros = int(mask) ^ 0xFFFFFFFF
    if zeros & (zeros + 1):
        raise argparse.ArgumentTypeError(f"{text} is not a mask such as 255.255.255.0")
    return mask


def area(text: str) -> IPv4Address:
    """An OSPF area, as an address or in decimal, as routers' configurations have it."""
    if text.isascii() and text.isdecimal():
        return IPv4Address(integer(0, 0xFFFFFFFF)(str(int(text[:20]))))
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an area, such as 1 or 0.0.0.1") from None


def endpoint(text: str) -> tuple[str, int]:
    """A host, by address or name, and a port: ``HOST:PORT``."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not ADDRESS:PORT, such as 127.0.0.1:1024 or localhost:1024"
        )
    number = integer(0, 65535)(port)
    with suppress(AddressValueError):
        return str(IPv4Address(host)), number
    if re.fullmatch(r"[0-9.:\[\]]+", host):  # 127.1, ::1: no names
        raise argparse.ArgumentTypeError(f"{host!r} is not an IPv4 address such as 192.0.2.1")
    try:
        found = socket.getaddrinfo(host, number, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise argparse.ArgumentTypeError(
            f"{host!r} is neither an IPv4 address nor a host with one: {reason}"
        ) from None
    return str(found[0][4][0]), number


def record(text: str) -> tuple[str, str]:
    """A name and its address, ``NAME=ADDRESS``."""
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=ADDRESS, such as printer=192.0.2.7")
    try:
        return name, str(address(value))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=ADDRESS: {error}") from None


def interface(text: str) -> ipv4.Interface:
    """An interface of this machine, by its name."""
    try:
        return ipv4.Interface(socket.if_nametoindex(text), text)
    except OSError:
        names = ", ".join(name for _, name in socket.if_nameindex())
        raise argparse.ArgumentTypeError(
            f"there is no interface {text!r}; this machine has {names}"
        ) from None
