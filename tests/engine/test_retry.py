"""What a failed system call means, and when it is made again: faults injected for real."""

import errno
import time

import pytest
from support import run_with_fault

from ipv4 import Message, PacketConn


def move_one_by_one():
    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_deadline(time.monotonic() + 30)
        out = [Message(b"%d" % i, addr=conn.local_addr) for i in range(3)]
        portable = conn._sends_singly()
        sent = [conn.write_batch(out[i:]) for i in range(3)]
        room = [Message(bytearray(8)) for _ in range(3)]
        got = [conn.read_batch(room[i:]) for i in range(3)]
        assert [bytes(each.buffers[0][: each.n]) for each in room] == [b"0", b"1", b"2"]
        assert conn.read_batch([]) == conn.write_batch([]) == 0
        return portable, sent, got


@pytest.mark.needs_faults
@pytest.mark.parity("platform: Unix without batches")
def test_without_the_batch_calls_messages_move_one_call_each():
    absent = {"recvmmsg": errno.ENOSYS, "sendmmsg": errno.ENOSYS}
    portable, sent, got = run_with_fault(absent, move_one_by_one)
    # Built without the calls, the library moves one message; where only the kernel lacks them,
    # it makes a call for each.
    assert sent == got == ([1, 1, 1] if portable else [3, 2, 1])
