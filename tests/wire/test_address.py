"""IPv4 addresses in every form, wherever one is taken."""

from ipaddress import IPv4Address, IPv6Address

import pytest

from ipv4 import ControlMessage, Header, Message


@pytest.mark.parametrize(
    "given", ["192.0.2.7", IPv4Address("192.0.2.7"), b"\xc0\0\2\7", ("192.0.2.7", 5)]
)
def test_forms_of_an_address(given):
    assert Header(src=given).src == IPv4Address("192.0.2.7")
    assert ControlMessage(src=given).src == IPv4Address("192.0.2.7")
    port = given[1] if isinstance(given, tuple) else 0
    assert Message(addr=given).addr == ("192.0.2.7", port)


BAD_ADDRESSES = [
    "", "localhost", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.4 ", " 1.2.3.4", "1.2.3.256",
    "1.2.3.4\0", "::1", "1.2.3.-4", "١.2.3.4", b"", b"123", b"12345", 5, 1.5, object(), [1, 2],
    IPv6Address("::1"), ("1.2.3.4",), ("1.2.3.4", 1, 2), ("example.org", 1), (None, 1),
    (("1.2.3.4", 1), 2),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_ADDRESSES, ids=repr)
def test_what_is_no_address(bad):
    for make in (
        lambda: Header(dst=bad),
        lambda: ControlMessage(src=bad),
        lambda: Message(addr=bad),
    ):
        with pytest.raises(ValueError, match="dst|src|addr"):
            make()


@pytest.mark.parametrize("port", [-1, 65536, 2**70])
def test_what_is_no_port(port):
    with pytest.raises(ValueError, match="port"):
        Message(addr=("1.2.3.4", port))
