"""What the library does where the platform lacks something, simulated on this one."""

import errno
import subprocess
import sys
import time

import pytest
from support import run_with_fault

import ipv4
from ipv4 import Message, PacketConn

WITHOUT_SOCKETS = """
import sys
sys.modules["_socket"] = None
sys.platform = "emscripten"
import ipv4
"""


@pytest.mark.parity("platform: no sockets")
def test_a_platform_without_sockets_is_told_in_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SOCKETS], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "ImportError: ipv4 does not support emscripten: it has no sockets"
    assert done.stderr.count("Traceback") == 1


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


@pytest.mark.parity("platform: what a platform lacks")
@pytest.mark.parametrize("flag", ["IP_TOS", "SO_ATTACH_FILTER", "ICMP_FILTER", "SO_LOCK_FILTER"])
def test_a_feature_that_is_absent_is_named_with_the_platform(monkeypatch, flag):
    from ipv4.engine.kernel import KERNEL

    if flag == "IP_TOS":
        monkeypatch.setattr(PacketConn.tos, "option", -1)
    monkeypatch.setitem(KERNEL, flag, -1)
    calls = {
        "IP_TOS": lambda conn: conn.tos,
        "SO_ATTACH_FILTER": lambda conn: conn.set_bpf([ipv4.bpf.RetConstant(1)]),
        "ICMP_FILTER": lambda conn: conn.icmp_filter,
        "SO_LOCK_FILTER": lambda conn: conn.lock_bpf(),
    }
    with PacketConn.udp() as conn:
        with pytest.raises(NotImplementedError, match=rf"{flag}.* not available on {sys.platform}"):
            calls[flag](conn)
