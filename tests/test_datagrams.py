"""Datagram endpoints: what asyncio's own, uvloop's own and ours do alike, and what ours adds."""

import asyncio
import errno
import gc
import socket
import warnings

import pytest
from support.loops import warm_uvloop

from ipv4 import ControlFlags, ControlMessage, PacketConn
from ipv4.aio import AsyncPacketConn, create_datagram_endpoint
from ipv4.datagrams import DatagramTransport

__all__ = ["warm_uvloop"]  # a fixture

KINDS = ["asyncio", "uvloop", "ours on asyncio", "ours on uvloop"]


def run(kind, main):
    async def bounded():
        await asyncio.wait_for(main(), 30)

    if kind.endswith("uvloop"):
        pytest.importorskip("uvloop").run(bounded())
    else:
        asyncio.run(bounded())


def each_kind(test, kinds=KINDS):
    """Run an async test, which is given the way to open an endpoint, on each kind."""

    @pytest.mark.parametrize("kind", kinds)
    def on_each(kind):
        async def main():
            loop = asyncio.get_running_loop()
            open_endpoint = loop.create_datagram_endpoint
            if kind.startswith("ours"):
                open_endpoint = create_datagram_endpoint
            loop.reported = []
            loop.set_exception_handler(lambda _, context: loop.reported.append(context))
            await test(open_endpoint)

        run(kind, main)

    on_each.__name__ = test.__name__
    return on_each


def each_kind_but_uvloops(test):
    """What uvloop's own endpoints do not do as asyncio's: open_endpoint never returns."""
    return each_kind(test, [kind for kind in KINDS if kind != "uvloop"])


def only_ours(test):
    @pytest.mark.parametrize("kind", KINDS[2:])
    def on_each(kind):
        run(kind, test)

    on_each.__name__ = test.__name__
    return on_each


class Notes(asyncio.DatagramProtocol):
    """Notes what it is told."""

    def __init__(self, received=None):
        self.told = []
        self.got = []
        self.errors = []
        self.received = received
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.told.append("made")

    def datagram_received(self, data, addr):
        self.got.append(data)
        self.addr = addr
        if self.received is not None:
            self.received(self, data)

    def error_received(self, error):
        self.errors.append(error)

    def pause_writing(self):
        self.told.append("pause")

    def resume_writing(self):
        self.told.append("resume")

    def connection_lost(self, error):
        self.told.append("lost")
        self.lost.set_result(error)


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


HERE = ("127.0.0.1", 0)


@each_kind
async def test_datagrams_come_whole_and_in_order(open_endpoint):
    transport, notes = await open_endpoint(Notes, HERE)
    assert notes.told == ["made"]
    assert notes.transport is transport
    here = transport.get_extra_info("sockname")
    sent = [str(number).encode() for number in range(500)] + [b"x" * 60000]
    for start in range(0, len(sent), 50):
        for data in sent[start : start + 50]:
            transport.sendto(data, here)
        await until(lambda up_to=start + 50: len(notes.got) >= min(up_to, len(sent)))
    assert notes.got == sent
    assert all(type(data) is bytes for data in notes.got)
    assert notes.addr == here
    assert transport.get_write_buffer_size() == 0
    transport.close()
    assert transport.is_closing()
    assert await notes.lost is None
    assert notes.told == ["made", "lost"]


@each_kind
async def test_connected(open_endpoint):
    server, heard = await open_endpoint(Notes, HERE)
    there = server.get_extra_info("sockname")
    client, notes = await open_endpoint(Notes, remote_addr=there)
    assert client.get_extra_info("peername") == there
    assert server.get_extra_info("peername") is None
    assert server.get_extra_info("nothing", 5) == 5
    assert client.get_extra_info("socket").getsockname() == client.get_extra_info("sockname")
    client.sendto(b"one")
    client.sendto(b"two", there)
    with pytest.raises(ValueError):
        client.sendto(b"three", ("127.0.0.1", 9))
    await until(lambda: len(heard.got) == 2)
    assert heard.got == [b"one", b"two"]
    server.close()
    await heard.lost
    await asyncio.sleep(0.01)
    client.sendto(b"nobody")
    await until(lambda: notes.errors)
    assert notes.errors[0].errno == errno.ECONNREFUSED
    assert not client.is_closing()
    client.abort()
    await notes.lost


@each_kind
async def test_data_that_is_no_bytes_is_refused(open_endpoint):
    transport, notes = await open_endpoint(Notes, HERE)
    with pytest.raises(TypeError):
        transport.sendto("text", transport.get_extra_info("sockname"))
    transport.close()
    await notes.lost


@each_kind
async def test_closing_inside_a_callback(open_endpoint):
    transport, notes = await open_endpoint(
        lambda: Notes(lambda protocol, _: protocol.transport.close()), HERE
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for _ in range(20):
            other.sendto(b"x", transport.get_extra_info("sockname"))
        await notes.lost
        await asyncio.sleep(0.01)
    assert notes.got == [b"x"]
    assert notes.told == ["made", "lost"]


@each_kind
async def test_exceptions_of_the_protocol_are_the_loops_matter(open_endpoint):
    def fail(protocol, data):
        if data == b"1":
            raise RuntimeError("protocol's own")

    transport, notes = await open_endpoint(lambda: Notes(fail), HERE)
    here = transport.get_extra_info("sockname")
    for data in (b"0", b"1", b"2"):
        transport.sendto(data, here)
    await until(lambda: len(notes.got) == 3)
    loop = asyncio.get_running_loop()
    await until(lambda: loop.reported)
    assert [str(each["exception"]) for each in loop.reported] == ["protocol's own"]
    assert not transport.is_closing()
    transport.close()
    await notes.lost


@each_kind
async def test_sending_after_the_end_does_nothing(open_endpoint):
    transport, notes = await open_endpoint(Notes, HERE)
    here = transport.get_extra_info("sockname")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(HERE)
        other.setblocking(False)
        transport.abort()
        transport.close()
        if open_endpoint is create_datagram_endpoint:  # the loops' own differ
            transport.sendto(b"late", other.getsockname())
        await notes.lost
        if open_endpoint is create_datagram_endpoint:
            transport.sendto(b"later", other.getsockname())
        with pytest.raises(BlockingIOError):
            other.recv(9)
    assert notes.told == ["made", "lost"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(here)


@each_kind
async def test_an_endpoint_over_a_socket(open_endpoint):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(HERE)
    transport, notes = await open_endpoint(Notes, sock=sock)
    transport.sendto(b"x", sock.getsockname())
    await until(lambda: notes.got)
    transport.close()
    await notes.lost
    await asyncio.sleep(0)
    assert sock.fileno() == -1


@only_ours
async def test_a_protocol_that_cannot_be_made():
    def fail():
        raise LookupError

    with pytest.raises(LookupError):
        await create_datagram_endpoint(fail, HERE)


@each_kind
async def test_limits_of_the_queue(open_endpoint):
    transport, notes = await open_endpoint(Notes, HERE)
    for limits in ((100, 10), (0, 0)):
        transport.set_write_buffer_limits(high=limits[0], low=limits[1])
    with pytest.raises(ValueError):
        transport.set_write_buffer_limits(high=1, low=2)
    transport.close()
    await notes.lost


def test_a_full_queue_pauses_the_protocol(monkeypatch):
    """The kernel takes nothing for a while: nothing is lost, in order, and the protocol is told."""

    class Full(PacketConn):
        room = 0

        def write_to(self, data, dst=None, cm=None, flags=0):
            if not self.room:
                raise BlockingIOError(errno.EAGAIN, "full")
            self.room -= 1
            return super().write_to(data, dst, cm, flags)

        def write_batch(self, ms, flags=0):
            if not self.room:
                raise BlockingIOError(errno.EAGAIN, "full")
            moved = super().write_batch(ms[: self.room], flags)
            self.room -= moved  # one at a time, in a portable build
            return moved

    async def main():
        conn = Full.udp(HERE)
        transport, notes = await create_datagram_endpoint(Notes, conn=conn)
        assert transport.get_extra_info("conn") is conn
        transport.set_write_buffer_limits(high=10, low=4)
        here = conn.local_addr
        for number in range(6):
            transport.sendto(b"%d__" % number, here)
        assert notes.told == ["made", "pause"]
        assert transport.get_write_buffer_size() == 18
        conn.room = 5
        transport._write()
        assert notes.told == ["made", "pause", "resume"]
        transport.close()  # what is queued goes first
        conn.room = 5
        transport._write()
        assert await notes.lost is None
        assert conn.closed

    run("asyncio", main)


@pytest.mark.privileged
@pytest.mark.parametrize("kind", KINDS)
def test_back_pressure_of_a_slow_interface(pair, kind):
    """The kernel's queue fills: the protocol pauses and resumes, all comes once and in order."""
    pair.a.slow_down("eth0", limit=1 << 20, rate="8mbit")
    there = pair.b.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    sock = pair.a.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sock.setblocking(False)

    class Writes(Notes):
        """Raises in what it is told of the queue: the loop's matter."""

        def pause_writing(self):
            super().pause_writing()
            raise RuntimeError("pause")

        def resume_writing(self):
            super().resume_writing()
            raise RuntimeError("resume")

    async def test(open_endpoint):
        transport, notes = await open_endpoint(Writes, sock=sock)
        transport.set_write_buffer_limits(high=8000, low=2000)
        buffer = bytearray(1000)
        for number in range(60):
            buffer[:2] = number.to_bytes(2, "big")
            # What waits is a copy, but in uvloop's own.
            data = bytes(buffer) if kind == "uvloop" else buffer
            transport.sendto(data, there.getsockname())
        assert "pause" in notes.told
        assert transport.get_write_buffer_size() > 2000
        await until(lambda: "resume" in notes.told)
        transport.sendto(b"last", there.getsockname())
        transport.close()  # what waits goes first
        assert await notes.lost is None
        assert notes.told == ["made", "pause", "resume", "lost"]
        loop = asyncio.get_running_loop()
        assert [str(each["exception"]) for each in loop.reported] == ["pause", "resume"]

    with there, sock:
        there.bind(("10.1.0.2", 0))
        there.settimeout(20)
        each_kind(test)(kind)
        got = [there.recv(2000) for _ in range(61)]
        assert [int.from_bytes(each[:2], "big") for each in got[:-1]] == list(range(60))
        assert got[-1] == b"last"
        there.settimeout(0)
        with pytest.raises(BlockingIOError):
            there.recv(2000)


@each_kind
async def test_abort_drops_what_waits_and_tells_once(open_endpoint):
    transport, notes = await open_endpoint(Notes, HERE)
    transport.abort()
    transport.abort()
    transport.close()
    assert await notes.lost is None
    await asyncio.sleep(0.01)
    assert notes.told == ["made", "lost"]


@each_kind
async def test_sending_before_the_endpoint_is_returned(open_endpoint):
    """From connection_made on."""

    class Eager(Notes):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.sendto(b"early", transport.get_extra_info("sockname"))

    transport, notes = await open_endpoint(Eager, HERE)
    await until(lambda: notes.got)
    assert notes.got == [b"early"]
    transport.close()
    await notes.lost


@each_kind_but_uvloops
async def test_exceptions_of_all_other_callbacks(open_endpoint):
    class Fails(Notes):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise RuntimeError("made")

        def error_received(self, error):
            super().error_received(error)
            raise RuntimeError("error")

        def connection_lost(self, error):
            super().connection_lost(error)
            raise RuntimeError("lost")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(HERE)
        there = deaf.getsockname()
    transport, notes = await open_endpoint(Fails, remote_addr=there)
    transport.sendto(b"refused")
    await until(lambda: notes.errors)
    assert not transport.is_closing()
    transport.close()
    await notes.lost
    loop = asyncio.get_running_loop()
    await until(lambda: len(loop.reported) == 3)
    assert [str(each["exception"]) for each in loop.reported] == ["made", "error", "lost"]


@each_kind
async def test_a_datagram_too_long_is_an_error_and_no_end(open_endpoint):
    transport, notes = await open_endpoint(Notes, HERE)
    here = transport.get_extra_info("sockname")
    transport.sendto(bytes(66000), here)
    await until(lambda: notes.errors)
    assert notes.errors[0].errno == errno.EMSGSIZE
    transport.sendto(b"short", here)
    await until(lambda: notes.got)
    transport.close()
    await notes.lost


@each_kind_but_uvloops
async def test_closing_inside_an_error_and_inside_connection_made(open_endpoint):
    class Closes(Notes):
        def connection_made(self, transport):
            super().connection_made(transport)
            if transport.get_extra_info("peername") is None:
                transport.close()

        def error_received(self, error):
            super().error_received(error)
            self.transport.abort()

    transport, notes = await open_endpoint(Closes, HERE)
    assert await notes.lost is None
    assert transport.is_closing()
    transport, notes = await open_endpoint(
        Closes, remote_addr=transport.get_extra_info("sockname"), local_addr=HERE
    )
    transport.sendto(b"refused")
    assert await notes.lost is None
    assert len(notes.errors) == 1
    assert notes.told == ["made", "lost"]


@each_kind
async def test_protocols_change(open_endpoint):
    transport, first = await open_endpoint(Notes, HERE)
    second = Notes()
    assert transport.get_protocol() is first
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    await until(lambda: second.got)
    assert not first.got
    transport.close()
    await second.lost
    assert "lost" not in first.told


@each_kind_but_uvloops
async def test_two_endpoints_share_a_port(open_endpoint):
    one, first = await open_endpoint(Notes, HERE, reuse_port=True)
    here = one.get_extra_info("sockname")
    two, second = await open_endpoint(Notes, here, reuse_port=True)
    with pytest.raises(OSError) as caught:
        await open_endpoint(Notes, here)
    assert caught.value.errno == errno.EADDRINUSE
    for transport, notes in ((one, first), (two, second)):
        transport.close()
        await notes.lost


@each_kind
async def test_an_endpoint_over_a_connected_socket(open_endpoint):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind(HERE)
        there.settimeout(5)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(there.getsockname())
        transport, notes = await open_endpoint(Notes, sock=sock)
        assert transport.get_extra_info("peername") == there.getsockname()
        assert transport.get_extra_info("sockname") == sock.getsockname()
        transport.sendto(memoryview(b"to the peer"))
        assert there.recv(99) == b"to the peer"
        there.sendto(b"back", sock.getsockname())
        await until(lambda: notes.got)
        transport.close()
        await notes.lost


@each_kind
async def test_datagrams_that_came_before_the_endpoint(open_endpoint):
    """More than a batch of them."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(HERE)
    sent = [b"%d" % number for number in range(150)]
    for data in sent:
        sock.sendto(data, sock.getsockname())
    transport, notes = await open_endpoint(Notes, sock=sock)
    await until(lambda: len(notes.got) == len(sent))
    assert notes.got == sent
    transport.close()
    await notes.lost


@pytest.mark.parametrize("kind", KINDS[2:])
def test_an_error_queue_that_nobody_reads_is_told_once(kind, monkeypatch):
    """The loop sleeps beside it, and data still comes; so does what a passed deadline leaves."""
    reads = []
    take = DatagramTransport._read

    def counted(self):
        reads.append(1)
        take(self)

    monkeypatch.setattr(DatagramTransport, "_read", counted)

    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
            deaf.bind(HERE)
            there = deaf.getsockname()
        transport, notes = await create_datagram_endpoint(Notes, HERE, receive_errors=True)
        here = transport.get_extra_info("sockname")
        transport.sendto(b"refused", there)
        await asyncio.sleep(0.2)
        assert len(reads) < 5
        for number in range(3):
            transport.sendto(b"%d" % number, here)
            await until(lambda so_far=number: len(notes.got) > so_far)
        assert notes.got == [b"0", b"1", b"2"]
        assert transport.conn.read_error().errno == errno.ECONNREFUSED
        del reads[:]
        transport.conn.set_read_deadline(0)
        transport.sendto(b"3", here)
        await asyncio.sleep(0.1)
        assert len(reads) < 10
        assert all(isinstance(error, TimeoutError) for error in notes.errors)
        transport.conn.set_read_deadline(None)
        await until(lambda: notes.got[-1] == b"3")
        transport.close()
        await notes.lost

    run(kind, main)


@only_ours
async def test_what_the_kernel_joined_comes_as_the_datagrams_that_were_sent():
    transport, notes = await create_datagram_endpoint(
        Notes, HERE, control=ControlFlags.SEGMENT_SIZE
    )
    here = transport.get_extra_info("sockname")
    transport.sendto(bytes(range(250)), here, ControlMessage(segment_size=100))
    transport.sendto(b"", here)
    await until(lambda: len(notes.got) == 4)
    assert list(map(len, notes.got)) == [100, 100, 50, 0]
    assert b"".join(notes.got) == bytes(range(250))
    transport.close()
    await notes.lost


@only_ours
async def test_control_messages():
    class Told(Notes):
        def datagram_received_with_control(self, data, addr, cm):
            self.got.append((data, addr, cm))

    transport, notes = await create_datagram_endpoint(Told, HERE, ttl=9)
    conn = transport.conn
    here = transport.get_extra_info("sockname")
    assert conn.ttl == 9
    transport.sendto(b"plain", here)
    await until(lambda: len(notes.got) == 1)
    assert notes.got[0] == (b"plain", here, None)
    conn.set_control_message(ControlFlags.TTL | ControlFlags.TOS, True)
    transport.sendto(b"marked", here, ControlMessage(send_ttl=77, send_tos=2))
    await until(lambda: len(notes.got) == 2)
    data, addr, cm = notes.got[1]
    assert (data, addr, cm.ttl, cm.tos) == (b"marked", here, 77, 2)
    transport.close()
    await notes.lost


@only_ours
async def test_a_conn_that_is_closed_ends_its_transport():
    conn = AsyncPacketConn(PacketConn.udp(HERE))
    transport, notes = await create_datagram_endpoint(Notes, conn=conn)
    conn.close()
    assert (await notes.lost).errno == errno.EBADF
    assert transport.is_closing()


@only_ours
async def test_a_conn_that_another_thread_closes_ends_its_transport():
    transport, notes = await create_datagram_endpoint(Notes, HERE)
    here = transport.get_extra_info("sockname")
    await asyncio.to_thread(transport.conn.close)
    assert (await notes.lost).errno == errno.EBADF
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(here)
    await asyncio.get_running_loop().shutdown_default_executor()


@only_ours
async def test_arguments():
    for wrong in (
        {"family": socket.AF_INET6}, {"proto": 6}, {"batch": 0}, {"batch": 1025},
        {"conn": PacketConn.udp(HERE), "local_addr": HERE},
        {"remote_addr": ("localhost", 5)}, {"remote_addr": ("127.0.0.1", 70000)},
        {"local_addr": ("localhost", 5)}, {"remote_addr": 5}, {"remote_addr": "127.0.0.1"},
        {"remote_addr": ("127.0.0.1", 0)}, {"flags": -1},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            await create_datagram_endpoint(Notes, **wrong)
        if "conn" in wrong:
            wrong["conn"].close()
    for wrong in (
        {"batch": 1.5}, {"conn": 5}, {"colour": 1}, {"reuse_port": "no"},
        {"allow_broadcast": "yes"}, {"flags": "x"},
    ):  # fmt: skip
        with pytest.raises(TypeError, match=next(iter(wrong))):
            await create_datagram_endpoint(Notes, **wrong)
    transport, notes = await create_datagram_endpoint(Notes, HERE, allow_broadcast=True)
    assert transport.conn.broadcast
    transport.close()
    await notes.lost


def test_a_transport_that_is_forgotten_is_named():
    async def main():
        await create_datagram_endpoint(Notes, HERE)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run("asyncio", main)
        gc.collect()
    assert any("unclosed transport" in str(each.message) for each in caught)
