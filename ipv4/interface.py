"""Network interfaces as programs name them."""

from collections import namedtuple

__all__ = ["Interface"]


class Interface(namedtuple("Interface", ("index", "name"))):
    """A network interface, as ``socket.if_nameindex()`` yields it.

    Attributes
    ----------
    index : int
        The kernel's number of the interface, from 1.
    name : str
        Its name, such as ``"eth0"``; empty when it no longer has one.
    """

    __slots__ = ()
