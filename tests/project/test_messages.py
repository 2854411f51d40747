"""Errors tell what was given and what was expected, to somebody who never saw the source."""

import io
import re
import socket
import tokenize
from pathlib import Path

import pytest

import ipv4
from ipv4 import ControlMessage, Header, Message, MessageBatch, PacketConn, RawConn

SOURCE = Path(__file__).resolve().parents[2] / "ipv4"
FILES = sorted(path for path in SOURCE.rglob("*.py*") if path.suffix in (".py", ".pyx"))
PLACEHOLDER = re.compile(r"\{[a-z_]\w*([.(\[!:][^{}]*)?\}")


def plain_strings(text):
    """Yield line and text of each string that is no f-string and no docstring."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.STRING or '"""' in token.string:
            continue
        if "f" not in token.string[: token.string.index(token.string[-1])].lower():
            yield token.start[0], token.string


def test_the_search_sees_a_lost_prefix():
    lost = 'raise ValueError(f"{name} is"\n    " not {value!r}" "{}" b"{2}")\n'
    found = [text for _, text in plain_strings(lost) if PLACEHOLDER.search(text)]
    assert found == ['" not {value!r}"']


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_string_lost_its_f_prefix(path):
    lost = [
        (line, text) for line, text in plain_strings(path.read_text()) if PLACEHOLDER.search(text)
    ]
    assert lost == []


class Broken:
    def __repr__(self):
        raise RuntimeError("no text")


def raised(call, *args, **kwargs):
    with pytest.raises(Exception) as caught:
        call(*args, **kwargs)
    return caught.value


@pytest.fixture
def conn():
    with PacketConn.udp(("127.0.0.1", 0)) as opened:
        yield opened


VALUES = [
    (lambda: Header(ttl=1.5), TypeError, "ttl", "float"),
    (lambda: Header(dst="example.com"), ValueError, "dst", "example.com", "not looked up"),
    (lambda: Header(dst="10.0.0.1", tos=256).marshal(), ValueError, "tos", "0..255", "256"),
    (lambda: Header(dst="10.0.0.1", len=19).marshal(), ValueError, "at least 20", "19"),
    (lambda: Header().marshal(), ValueError, "dst must be set"),
    (lambda: Header(dst="10.0.0.1", options=bytes(41)).marshal(), ValueError, "40 bytes", "41"),
    (lambda: Header(dst="10.0.0.1", options=b"123").marshal(), ValueError, "multiple of 4", "3"),
    (
        lambda: Header(options=b"\x07\x01\0\0").iter_options().__next__(),
        ValueError,
        "option 7",
        "1",
    ),
    (lambda: Header().parse(bytes(20), format="vax"), ValueError, "linux", "'vax'"),
    (lambda: ipv4.parse_header(bytes(19)), ValueError, "header too short"),
    (lambda: ipv4.parse_header("text"), TypeError, "bytes-like", "str"),
    (lambda: ControlMessage(send_ttl=256), ValueError, "send_ttl", "255", "256"),
    (lambda: ControlMessage(extra=[3]), TypeError, "(level, type, bytes)", "int"),
    (lambda: ControlMessage(send_options=bytes(41)), ValueError, "send_options", "40", "41"),
    (lambda: ControlMessage().parse(b"\x01" * 16), ValueError, "offset 0"),
    (lambda: Message(memoryview(bytes(8))[::2]), BufferError, "buffers[0]", "contiguous"),
    (lambda: Message(3), TypeError, "buffers[0]", "int"),
    (lambda: MessageBatch(0, 10), ValueError, "count", "0"),
    (lambda: MessageBatch(2, 10)[::2], ValueError, "steps of 1", "2"),
    (lambda: MessageBatch(2, 10)[2], IndexError, "2"),
    (lambda: setattr(MessageBatch(1, 1)[0], "buffers", []), TypeError, "fixed", "write into them"),
    (lambda: PacketConn("sock"), TypeError, "socket.socket", "str"),
    (lambda: PacketConn.udp(speed=3), TypeError, "PacketConn", "'speed'"),
    (lambda: RawConn.ip(256), ValueError, "protocol", "1..255", "256"),
    (lambda: PacketConn.udp("printer.local"), ValueError, "printer.local", "not looked up"),
]


@pytest.mark.parametrize("case", VALUES, ids=lambda case: " ".join(case[2:]))
def test_messages_of_values(case):
    call, kind, *words = case
    error = raised(call)
    assert type(error) is kind
    for word in words:
        assert word in str(error)
    assert not PLACEHOLDER.search(str(error))


CALLS = [
    (lambda conn: conn.set_read_deadline("soon"), TypeError, "seconds", "str"),
    (lambda conn: conn.set_read_deadline(float("nan")), ValueError, "NaN"),
    (lambda conn: conn.join_group("224.0.0.5", "nowhere0"), OSError, "nowhere0"),
    (lambda conn: conn.join_group("10.0.0.1", "lo"), OSError, "join_group", "10.0.0.1", "lo"),
    (
        lambda conn: conn.join_group("224.0.0.5", (1, 2, 3)),
        ValueError,
        "(index, name)",
        "(1, 2, 3)",
    ),
    (
        lambda conn: conn.set_source_filter("232.1.1.1", "both", []),
        ValueError,
        '"include"',
        "'both'",
    ),
    (lambda conn: setattr(conn, "ttl", 0), ValueError, "ttl", "-1", "0"),
    (lambda conn: setattr(conn, "tos", "low"), TypeError, "tos", "str"),
    (lambda conn: setattr(conn, "broadcast", "yes"), TypeError, "broadcast", "str"),
    (lambda conn: setattr(conn, "ip_options", bytes(41)), ValueError, "40", "41"),
    (lambda conn: setattr(conn, "icmp_filter", 3), TypeError, "ICMPFilter", "int"),
    (lambda conn: setattr(conn, "release_gil", 3), TypeError, "None, True or False", "3"),
    (lambda conn: setattr(conn, "min_ttl", 300), ValueError, "0..255", "300"),
    (lambda conn: conn.setsockopt(0, 0, 1 << 40), ValueError, "32 bits", str(1 << 40)),
    (lambda conn: conn.getsockopt(0, 9999), OSError, "option 9999"),
    (lambda conn: conn.path_mtu, OSError, "IP_MTU"),
    (lambda conn: conn.write_to(b"x", ("10.0.0.1", 70000)), ValueError, "port", "70000"),
    (lambda conn: conn.write_to("x", conn.local_addr), TypeError, "bytes-like", "str"),
    (lambda conn: conn.read_from(b"constant"), TypeError, "writable", "bytes"),
    (lambda conn: conn.write_to(b"", conn.local_addr, 3), TypeError, "ControlMessage", "int"),
    (lambda conn: conn.read_batch([3]), TypeError, "ms[0]", "int"),
    (lambda conn: conn.set_bpf([]), ValueError, "instruction"),
    (lambda conn: ipv4.aio.AsyncRawConn(conn), TypeError, "RawConn", "PacketConn"),
]


@pytest.mark.parametrize("case", CALLS, ids=lambda case: " ".join(case[2:]))
def test_messages_of_conns(conn, case):
    call, kind, *words = case
    error = raised(call, conn)
    assert isinstance(error, kind)
    for word in words:
        assert word in str(error)
    assert not PLACEHOLDER.search(str(error))


def test_a_closed_conn_says_so():
    conn = PacketConn.udp()
    conn.close()
    assert "the conn is closed" in str(raised(conn.read_from, bytearray(1)))


def test_a_stream_is_refused_by_name():
    with socket.socket() as sock:
        assert "datagram or raw" in str(raised(PacketConn, sock))


def test_a_value_without_text_does_not_hide_the_error():
    error = raised(Header, dst=Broken())
    assert isinstance(error, ValueError | TypeError)
    assert "dst" in str(error)
