"""`ipv4 mark-tcp`: what its segments carry, as a capture shows it."""

import json
import socket
import subprocess
import time

import pytest
from support import capture, without_privilege
from support.cli_program import SCRIPT, Program

GREETING = b"HELLO-R-U-THERE-ACK"
RST = 4


def read_greeting(host, port):
    """What a talkative client on the host gets from 10.1.0.1, which closes first."""
    with host.call(socket.create_connection, ("10.1.0.1", port), 10) as client:
        client.settimeout(10)
        received = b""
        client.sendall(b"hello yourself")
        while part := client.recv(100):
            received += part
        time.sleep(0.1)  # the server has closed, and may do its worst
    return received


def segments(seen, source):
    """The packets with TCP segments that the source sent."""
    return [
        packet
        for packet in seen.packets
        if packet[9] == socket.IPPROTO_TCP and packet[12:16] == socket.inet_aton(source)
    ]


def marks(packets):
    """TOS and TTL of each packet."""
    return {(packet[1], packet[8]) for packet in packets}


@pytest.mark.parametrize(
    ("args", "marked"),
    [([], (0x28, 128)), (["--tos", "0xb8", "--ttl", "7"], (0xB8, 7))],
    ids=["defaults", "chosen"],
)
def test_every_segment_is_marked(pair, args, marked):
    with Program(pair.a, "mark-tcp", "--listen", "0.0.0.0:0", *args) as program:
        port = int(program.expect(r"^listening on 0\.0\.0\.0:(\d+)$")[1])
        with capture(pair.b, "eth0") as seen:
            assert read_greeting(pair.b, port) == GREETING
            # SYN-ACK, the greeting, FIN, and at the latest the ACK of the client's FIN.
            program.expect(rf"^10\.1\.0\.2:\d+: tos={marked[0]:#x} ttl={marked[1]}$")
        assert program.interrupt() == 0
    server = segments(seen, "10.1.0.1")
    assert len(server) >= 3
    assert marks(server) == {marked}
    assert marks(segments(seen, "10.1.0.2")) == {(0, 64)}
    assert not any(packet[20 + 13] & RST for packet in server)


def test_events_as_json(pair):
    with Program(pair.a, "mark-tcp", "--listen", "0.0.0.0:0", "--json") as program:
        listening = json.loads(program.expect(r"^\{.*\}$")[0])
        assert read_greeting(pair.b, listening["port"]) == GREETING
        program.expect('"connection"')
        assert program.interrupt() == 0
    connection = json.loads(program.lines[1])
    assert connection.pop("port") > 0
    assert listening == {"event": "listening", "address": "0.0.0.0", "port": listening["port"]}
    assert connection == {"event": "connection", "address": "10.1.0.2", "tos": 0x28, "ttl": 128}


@pytest.mark.needs("tshark")
def test_decoder_finds_nothing_wrong(pair):
    with Program(pair.a, "mark-tcp", "--listen", "10.1.0.1:1024") as program:
        program.expect(r"^listening on 10\.1\.0\.1:1024$")
        with capture(pair.b, "eth0") as seen:
            assert read_greeting(pair.b, 1024) == GREETING
        assert program.interrupt() == 0
    seen.assert_clean("tcp")
    fields = seen.fields(
        "ip.dsfield.dscp", "ip.ttl", display_filter="tcp.srcport == 1024 && tcp.len > 0"
    )
    assert fields == [("10", "128")]  # DSCP 10 is AF11


def test_client_that_neither_reads_nor_closes_holds_up_nobody(pair):
    with Program(pair.a, "mark-tcp", "--listen", "0.0.0.0:0") as program:
        port = int(program.expect(r"listening on 0\.0\.0\.0:(\d+)")[1])
        with pair.b.call(socket.create_connection, ("10.1.0.1", port), 10):
            for _ in range(5):
                assert read_greeting(pair.b, port) == GREETING
        assert program.interrupt() == 0


def test_client_that_resets_is_no_error(pair):
    with Program(pair.a, "mark-tcp", "--listen", "0.0.0.0:0") as program:
        port = int(program.expect(r"listening on 0\.0\.0\.0:(\d+)")[1])
        for _ in range(3):
            client = pair.b.call(socket.create_connection, ("10.1.0.1", port), 10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        assert read_greeting(pair.b, port) == GREETING
        assert program.interrupt() == 0
    assert "Traceback" not in program.output


def test_host_is_given_by_name(hosts):
    with Program(hosts("a"), "mark-tcp", "--listen", "localhost:0") as program:
        program.expect(r"^listening on 127\.0\.0\.1:\d+$")
        assert program.interrupt() == 0


def test_low_port_without_the_capability_is_one_sentence(hosts):
    with hosts("a").inside():
        done = without_privilege(
            lambda: subprocess.run(
                [SCRIPT, "mark-tcp", "--listen", "127.0.0.1:1023"],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    for part in ("CAP_NET_BIND_SERVICE", "setcap cap_net_bind_service+ep", "port above 1023"):
        assert part in done.stderr
