"""What of an IPv4 header is no plain number: its form on each system, its flags, its options."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int32_t

from .arguments cimport shown
from ..libc.threads cimport Kept, keep, kept

import os
import sys

cdef Kept _flags  # the eight values of HeaderFlags, made when one is first read

FORMATS = {
    "wire": WIRE,
    "linux": WIRE,
    "openbsd": WIRE,
    "freebsd": WIRE,
    "freebsd11": WIRE,
    "freebsd10": HOST_ORDER,
    "freebsd9": HOST_ORDER_WITHOUT_HEADER,
    "darwin": HOST_ORDER_WITHOUT_HEADER,
    "dragonfly": HOST_ORDER_WITHOUT_HEADER,
    "netbsd": HOST_ORDER_WITHOUT_HEADER,
}


def system_format(platform=sys.platform, release=None):
    """Name of the form that raw sockets of a system use, a key of `FORMATS`.

    Parameters
    ----------
    platform : str
        As ``sys.platform`` gives it.
    release : str, optional
        The kernel's release, which decides on FreeBSD; this system's when not given.
    """
    name = platform.rstrip("0123456789")
    if name == "ios":
        return "darwin"
    if name == "freebsd":
        major = int((release or os.uname().release).split(".")[0])
        return "freebsd9" if major < 10 else "freebsd10" if major == 10 else "freebsd"
    return name if name in FORMATS else "wire"


system_form = FORMATS[system_format()]


cdef int form_of(object name) except -1:
    if name is None:
        return system_form
    form = FORMATS.get(name) if isinstance(name, str) else None
    if form is None:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {shown(name)}")
    return form


cdef object flags_object(int32_t value):
    """A HeaderFlags; building one costs more than parsing a whole header, so each is kept."""
    cdef void *known = kept(&_flags)
    if known == NULL or not 0 <= value <= 7:
        from ..constants import HeaderFlags

        if not 0 <= value <= 7:
            return HeaderFlags(value)
        known = keep(&_flags, tuple([HeaderFlags(each) for each in range(8)]))
    return (<tuple>known)[value]


cdef list split_options(bytes options):
    """Type and data of each option; ValueError where one is cut."""
    cdef size_t at = 0, size = <size_t>len(options)
    cdef const unsigned char *data = <const unsigned char *>PyBytes_AS_STRING(options)
    found = []
    while at < size and data[at] != 0:
        if data[at] == 1:
            found.append((1, b""))
            at += 1
            continue
        if at + 1 >= size:
            raise ValueError(f"option {data[at]} at offset {at} has no length octet")
        if data[at + 1] < 2 or at + data[at + 1] > size:
            raise ValueError(
                f"option {data[at]} at offset {at} has length {data[at + 1]},"
                f" of {size - at} bytes left"
            )
        found.append((data[at], options[at + 2:at + data[at + 1]]))
        at += data[at + 1]
    return found
