"""`ipv4 ospf-hello` beside a real router (BIRD) and a real decoder (tshark)."""

import json
import random
import re
import signal
import socket
import subprocess
import time
from ipaddress import IPv4Address

import pytest
from support import Capture, capture, eventually, without_privilege
from support.cli_program import SCRIPT, Program

import ipv4
from ipv4 import ControlFlags, RawConn
from ipv4.cli import ospf

pytestmark = pytest.mark.privileged

FAST = ("--hello-interval", "1", "--dead-interval", "4")

BIRD = """
router id 10.1.0.2;
protocol device {}
protocol ospf v2 {
  ipv4 { import all; export none; };
  area %(area)s {
    interface "eth0" { hello %(hello)d; dead count 4; type broadcast; priority 1; };
  };
}
"""


class Bird:
    """A BIRD on host b of a pair, and what its client says."""

    def __init__(self, host, folder, *, area="0.0.0.0", hello=1):
        self.host = host
        self.socket = str(folder / "bird.ctl")
        config = folder / "bird.conf"
        config.write_text(BIRD % {"area": area, "hello": hello})
        pid_file = str(folder / "bird.pid")
        self.process = host.popen(
            ["bird", "-f", "-c", str(config), "-s", self.socket, "-P", pid_file]
        )

    def neighbors(self):
        """State of each neighbour by its router id, such as {"10.1.0.1": "ExStart/Other"}."""
        done = self.host.run(["birdc", "-s", self.socket, "show ospf neighbors"], check=False)
        row = re.compile(r"^(\d+\.\d+\.\d+\.\d+)\s+\d+\s+(\S+)", re.MULTILINE)
        return dict(row.findall(done.stdout))

    def stop(self):
        self.process.send_signal(signal.SIGKILL)  # without the Hello that says good-bye
        self.process.wait(5)


@pytest.fixture
def bird(pair, tmp_path):
    return Bird(pair.b, tmp_path)


@pytest.mark.needs("bird", "birdc")
def test_router_and_command_become_neighbors(pair, bird):
    with Program(pair.a, "ospf-hello", "eth0", "--router-id", "192.0.2.1", *FAST) as program:
        program.expect(r"neighbour 10\.1\.0\.2 at 10\.1\.0\.2: \S+ -> 2-Way")
        # With a neighbour that does nothing but greet, an adjacency never gets beyond its start.
        eventually(
            lambda: re.match("2-Way|ExStart", bird.neighbors().get("192.0.2.1", "")),
            what="birdc lists the command's router id as a two-way neighbour",
        )
        bird.stop()
        silence = time.monotonic()
        program.expect(r"neighbour 10\.1\.0\.2 at 10\.1\.0\.2: 2-Way -> Down \(silent for 4 s\)")
        assert 2.5 < time.monotonic() - silence < 5.5
        assert program.interrupt() == 0
    assert program.lines[-1] == "left 224.0.0.5 on eth0\n"


@pytest.mark.needs("bird")
def test_hellos_of_the_router_are_read_whole(pair, bird):
    with pair.a.call(RawConn.ip, ospf.PROTOCOL) as conn:
        interface = pair.a.call(socket.if_nametoindex, "eth0")
        flags = ControlFlags.TTL | ControlFlags.SRC | ControlFlags.DST | ControlFlags.INTERFACE
        conn.set_control_message(flags, True)
        conn.join_group(ospf.ALL_SPF_ROUTERS, interface)
        conn.set_read_deadline(time.monotonic() + 15)
        buffer = bytearray(1500)
        header, payload, cm = conn.read_from(buffer)
    assert (header.version, header.len, header.tos, header.total_len) == (4, 20, 0xC0, 64)
    assert (header.flags, header.frag_off, header.ttl, header.protocol) == (0, 0, 1, 89)
    assert header.src == IPv4Address("10.1.0.2")
    assert header.dst == IPv4Address("224.0.0.5")
    assert header.checksum == header.compute_checksum()
    assert header.options == b""
    assert (cm.ttl, cm.ifindex) == (1, interface)
    assert cm.src == IPv4Address("10.1.0.2")
    assert cm.dst == IPv4Address("224.0.0.5")
    assert cm.spec_dst == IPv4Address("10.1.0.1")
    hello = ospf.Hello.decode(payload)
    assert hello == ospf.Hello(
        router_id=IPv4Address("10.1.0.2"),
        area_id=IPv4Address(0),
        mask=IPv4Address("255.255.255.0"),
        hello_interval=1,
        dead_interval=4,
        priority=1,
        options=hello.options,
    )
    assert hello.options & ospf.EXTERNAL_ROUTING
    assert bytes(payload) == bytes(buffer[20:64])


@pytest.mark.needs("tshark")
def test_decoder_finds_nothing_wrong(pair):
    with capture(pair.b, "eth0") as seen:
        with Program(
            pair.a, "ospf-hello", "eth0", "--area", "0.0.0.7", "--priority", "3", *FAST
        ) as program:
            seen.wait_for(4)  # the group's membership reports are among them
            eventually(lambda: len(hellos_in(seen)) >= 2)
            assert program.interrupt() == 0
    seen.assert_clean("ospf")
    fields = seen.fields(
        "ip.src", "ip.dst", "ip.ttl", "ip.dsfield", "ip.len", "ospf.srcrouter", "ospf.area_id",
        "ospf.hello.network_mask", "ospf.hello.hello_interval",
        "ospf.hello.router_dead_interval", "ospf.hello.router_priority",
        display_filter="ospf",
    )  # fmt: skip
    assert set(fields) == {
        ("10.1.0.1", "224.0.0.5", "1", "0xc0", "64", "10.1.0.1", "0.0.0.7", "255.255.255.0", "1",
         "4", "3")
    }  # fmt: skip


def hellos_in(seen: Capture) -> list[ospf.Hello]:
    return [ospf.Hello.decode(packet[20:]) for packet in seen.packets if packet[9] == ospf.PROTOCOL]


def test_two_of_the_command_see_each_other_and_list_whom_they_hear(pair):
    with capture(pair.b, "eth0") as seen:
        with Program(pair.a, "ospf-hello", "eth0", *FAST) as one:
            one.expect("router 10.1.0.1 in area 0.0.0.0 on eth0")
            with Program(pair.b, "ospf-hello", "eth0", *FAST) as two:
                # One is greeted by a router that has heard nobody, two by one that has heard it.
                one.expect(r"neighbour 10\.1\.0\.2 at 10\.1\.0\.2: Down -> Init")
                two.expect(r"neighbour 10\.1\.0\.1 at 10\.1\.0\.1: Down -> 2-Way")
                one.expect(r"neighbour 10\.1\.0\.2 at 10\.1\.0\.2: Init -> 2-Way")
                assert two.interrupt() == 0
            assert one.interrupt() == 0
    heard = {(hello.router_id, hello.neighbors) for hello in hellos_in(seen)}
    one_id, two_id = IPv4Address("10.1.0.1"), IPv4Address("10.1.0.2")
    assert {(one_id, ()), (one_id, (two_id,)), (two_id, (one_id,))} <= heard


def test_events_as_json(pair):
    with (
        Program(pair.b, "ospf-hello", "eth0", *FAST) as other,
        Program(pair.a, "ospf-hello", "eth0", *FAST, "--json") as program,
    ):
        program.expect('"2-Way"')
        assert program.interrupt() == 0
        assert other.interrupt() == 0
    events = [json.loads(line) for line in program.lines]
    assert events[0]["event"] == "speaking"
    assert (events[0]["router"], events[0]["hello_interval"]) == ("10.1.0.1", 1)
    found = [each for each in events if each["event"] == "neighbour"]
    assert (found[-1]["address"], found[-1]["state"]) == ("10.1.0.2", "2-Way")
    assert events[-1] == {"event": "left", "group": "224.0.0.5", "interface": "eth0"}


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--area", "0.0.0.1"], "its area id is 0.0.0.0, ours is 0.0.0.1"),
        (["--mask", "255.255.0.0"], "its mask is 255.255.255.0, ours is 255.255.0.0"),
        (["--hello-interval", "2"], "its hello interval is 1, ours is 2"),
        (["--dead-interval", "5"], "its dead interval is 4, ours is 5"),
        (["--router-id", "10.1.0.2"], "it has our router id"),
    ],
)
def test_disagreement_is_told_once_and_makes_no_neighbor(pair, args, complaint):
    with (
        Program(pair.b, "ospf-hello", "eth0", *FAST) as other,
        Program(pair.a, "ospf-hello", "eth0", *FAST, *args) as program,
    ):
        program.expect(re.escape(f"10.1.0.2 is no neighbour: {complaint}"))
        with capture(pair.a, "eth0") as seen:
            eventually(lambda: sum(packet[15] == 2 for packet in seen.packets) >= 2)
        assert program.interrupt() == 0
        assert other.interrupt() == 0
    assert program.output.count("is no neighbour") == 1
    assert "neighbour 10.1.0.2" not in program.output


def test_areas_are_taken_in_decimal(pair):
    with (
        Program(pair.a, "ospf-hello", "eth0", "--area", "258", *FAST) as one,
        Program(pair.b, "ospf-hello", "eth0", "--area", "0.0.1.2", *FAST) as two,
    ):
        one.expect("router 10.1.0.1 in area 0.0.1.2 on eth0")
        one.expect(r"neighbour 10\.1\.0\.2 at 10\.1\.0\.2: .* -> 2-Way")
        assert one.interrupt() == two.interrupt() == 0


def test_whatever_bytes_come_it_greets_on(pair):
    dice = random.Random(20261128)
    sound = ospf.Hello(
        router_id=IPv4Address("10.1.0.2"),
        area_id=IPv4Address(0),
        mask=IPv4Address("255.255.255.0"),
        hello_interval=1,
        dead_interval=4,
    ).encode()
    with Program(pair.a, "ospf-hello", "eth0", *FAST) as program:
        program.expect("router 10.1.0.1")
        with pair.b.call(RawConn.ip, ospf.PROTOCOL) as conn:
            way_out = ipv4.ControlMessage(ifindex=pair.b.call(socket.if_nametoindex, "eth0"))
            for number in range(200):
                packet = dice.randbytes(dice.randrange(200))
                if number % 2:  # a Hello with one wrong byte, or cut short
                    packet = bytearray(sound)
                    packet[dice.randrange(len(packet))] ^= dice.randrange(1, 256)
                    packet = bytes(packet[: dice.randrange(len(packet) + 1)])
                conn.write_to(ospf.ip_header(packet), packet, way_out)
            conn.write_to(ospf.ip_header(sound), sound, way_out)
        program.expect("neighbour 10.1.0.2 at 10.1.0.2: Down -> Init")
        assert program.interrupt() == 0
    assert "Traceback" not in program.output


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_the_group(pair, sign):
    group = "050000E0"  # 224.0.0.5 as /proc/net/igmp writes it
    assert group not in pair.a.proc("igmp")
    with Program(pair.a, "ospf-hello", "eth0") as program:
        program.expect("router 10.1.0.1")
        eventually(lambda: group in pair.a.proc("igmp"))
        assert program.interrupt(sign) == 0
    assert group not in pair.a.proc("igmp")
    assert program.output.endswith("left 224.0.0.5 on eth0\n")


def test_count_ends_the_command_after_that_many_hellos(pair):
    with capture(pair.b, "eth0") as seen:
        started = time.monotonic()
        with Program(pair.a, "ospf-hello", "eth0", "--count", "2", *FAST) as program:
            assert program.process.wait(10) == 0
        elapsed = time.monotonic() - started
    assert len(hellos_in(seen)) == 2
    assert 2.0 <= elapsed < 4


def test_packets_of_other_interfaces_are_not_heard(hosts):
    a, b, c = hosts("a"), hosts("b"), hosts("c")
    hosts.link(a, b)
    hosts.link(a, c)
    with (
        Program(a, "ospf-hello", "eth0", "--router-id", "192.0.2.1", *FAST) as program,
        Program(a, "ospf-hello", "eth1", "--router-id", "192.0.2.1", *FAST) as other,
        Program(c, "ospf-hello", "eth0", *FAST),
    ):
        other.expect("neighbour 10.2.0.2 at 10.2.0.2: .* -> 2-Way")
        assert program.interrupt() == 0
    assert "neighbour" not in program.output


def test_link_that_goes_down_and_comes_back(pair):
    with (
        Program(pair.a, "ospf-hello", "eth0", *FAST) as program,
        Program(pair.b, "ospf-hello", "eth0", *FAST),
    ):
        program.expect("neighbour 10.1.0.2 .* -> 2-Way")
        pair.a.set_link("eth0", up=False)
        program.expect("Hello not sent: ")
        program.expect("neighbour 10.1.0.2 .* -> Down")
        pair.a.set_link("eth0", up=True)
        program.expect("-> Down[^$]*neighbour 10.1.0.2 .* -> 2-Way")
        assert program.interrupt() == 0


def test_invented_neighbors_do_not_make_the_hellos_outgrow_the_link(pair):
    with Program(pair.a, "ospf-hello", "eth0", *FAST) as program:
        program.expect("router 10.1.0.1")
        with pair.b.call(RawConn.ip, ospf.PROTOCOL) as conn:
            way_out = ipv4.ControlMessage(ifindex=pair.b.call(socket.if_nametoindex, "eth0"))
            for number in range(700):
                packet = ospf.Hello(
                    router_id=IPv4Address("192.0.2.0") + number,
                    area_id=IPv4Address(0),
                    mask=IPv4Address("255.255.255.0"),
                    hello_interval=1,
                    # Every other one is refused, and remembered for that.
                    dead_interval=4 + number % 2,
                ).encode()
                header = ospf.ip_header(packet)
                header.src = IPv4Address("10.1.1.0") + number
                conn.write_to(header, packet, way_out)
                if number % 50 == 49:  # a refused one; more than the socket holds would be lost
                    program.expect(f"{header.src} is no neighbour")
        with capture(pair.a, "eth0") as seen:
            eventually(lambda: hellos_in(seen))
        assert program.interrupt() == 0
    assert {len(hello.neighbors) for hello in hellos_in(seen)} == {256}
    assert all(len(packet) <= 1500 for packet in seen.packets)


def test_interface_without_an_address_is_one_sentence(hosts):
    host = hosts("bare")
    host.add_link("eth0", "veth", peer={"ifname": "eth1"})
    host.set_link("eth0", up=True)
    done = host.run([SCRIPT, "ospf-hello", "eth0"], check=False)
    assert done.returncode == 1
    assert done.stderr == "ipv4 ospf-hello: eth0 has no IPv4 address\n"


def test_without_the_capability_one_sentence_says_which_and_how_to_get_it():
    done = without_privilege(
        lambda: subprocess.run(
            [SCRIPT, "ospf-hello", "lo"], capture_output=True, text=True, timeout=30, check=False
        )
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    for part in ("CAP_NET_RAW", "sudo", "setcap cap_net_raw+ep"):
        assert part in done.stderr


def test_hello_is_heard_by_a_plain_raw_conn_with_the_interface_chosen_by_control_message(hosts):
    a, b, c = hosts("a"), hosts("b"), hosts("c")
    hosts.link(a, b)
    hosts.link(a, c)
    packet = ospf.Hello(
        router_id=IPv4Address("192.0.2.1"),
        area_id=IPv4Address(0),
        mask=IPv4Address("255.255.255.0"),
        hello_interval=10,
        dead_interval=40,
    ).encode()
    with capture(b, "eth0") as on_b, capture(c, "eth0") as on_c:
        with a.call(RawConn.ip, ospf.PROTOCOL) as conn:
            index = a.call(socket.if_nametoindex, "eth1")
            way_out = ipv4.ControlMessage(ifindex=index)
            assert conn.write_to(ospf.ip_header(packet), packet, way_out) == 64
        on_c.wait_for(1)
    assert on_b.packets == []
    (sent,) = on_c.packets
    header = ipv4.parse_header(sent)
    assert (str(header.src), str(header.dst), header.ttl) == ("10.2.0.1", "224.0.0.5", 1)
    assert sent[20:] == packet
