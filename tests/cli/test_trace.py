"""`ipv4 trace` through real routers, by ICMP and without any privilege."""

import contextlib
import io
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from support import capture, in_child, stamped_on_arrival, without_privilege
from support.cli_program import SCRIPT, Program, run

import ipv4
from ipv4 import ErrorReport, Header, ICMPType, PacketConn, RawConn
from ipv4.cli import main
from ipv4.cli.trace import EchoProber, UDPProber

ROUTE = ["10.0.1.2", "10.0.2.2", "10.0.3.2", "10.0.4.2"]

# "10.0.1.2  0.123 ms  *  ttl=64 src=10.0.1.2 dst=10.0.1.1 ifindex=2"
HOP = re.compile(
    r"^ *(?P<hop>\d+)(?:  (?P<who>[\d.]+)(?=  ))?(?P<times>(?:  (?:[\d.]+ ms|\*))+)"
    r"(?:  (?P<mark>!\S+))?(?:  (?P<control>ttl=.*))?$"
)


def trace(host, *args, check=True):
    return run("trace", "--numeric", *args, host=host, check=check, timeout=60)


def hops(done):
    """One match of HOP for each line after the first."""
    lines = done.stdout.splitlines()
    assert re.match(r"trace to \S+ \(10\.0\.4\.2\), at most \d+ hops", lines[0])
    found = [HOP.match(line) for line in lines[1:]]
    assert all(found), done.stdout
    return found


@pytest.mark.parametrize("kind", [[], ["--udp"]], ids=["icmp", "udp"])
class TestRoute:
    def test_three_routers_and_the_host_in_order(self, chain, kind):
        found = hops(trace(chain.client, *kind, "10.0.4.2"))
        assert [match["who"] for match in found] == ROUTE
        assert [match["hop"] for match in found] == ["1", "2", "3", "4"]
        for match in found:
            times = [float(time) for time in re.findall(r"([\d.]+) ms", match["times"])]
            assert len(times) == 3
            assert all(0 < time < 1000 for time in times)
            assert not match["mark"]

    def test_silent_router_is_a_star_for_each_probe(self, chain, kind):
        chain.routers[1].forbid_icmp()
        done = trace(chain.client, *kind, "--timeout", "0.5", "--probes", "2", "10.0.4.2")
        assert [match["who"] for match in hops(done)] == [ROUTE[0], None, *ROUTE[2:]]
        assert done.stdout.splitlines()[2] == "  2  *  *"

    @pytest.mark.needs("nft")
    def test_lost_probe_is_a_star_beside_the_others(self, chain, kind):
        chain.routers[0].run(
            ["nft", "add table ip t; add chain ip t out { type filter hook output priority 0; };"
             " add rule ip t out icmp type time-exceeded limit rate over 2/hour burst 2 packets"
             " drop"]
        )  # fmt: skip
        found = hops(trace(chain.client, *kind, "--timeout", "0.5", "10.0.4.2"))
        assert found[0]["who"] == ROUTE[0]
        assert re.fullmatch(r"(  [\d.]+ ms){2}  \*", found[0]["times"])

    def test_gives_up_after_the_last_hop(self, chain, kind):
        done = trace(chain.client, *kind, "--max-hops", "2", "10.0.4.2", check=False)
        assert (done.returncode, done.stderr) == (1, "")
        assert [match["who"] for match in hops(done)] == ROUTE[:2]

    @pytest.mark.parametrize(
        ("route", "mark"), [("unreachable", "!H"), ("prohibit", "!X"), ("blackhole", None)]
    )
    def test_router_that_knows_no_way_ends_the_trace(self, chain, kind, route, mark):
        chain.routers[1].add_route("10.0.4.2", kind=route)
        done = trace(
            chain.client, *kind, "--timeout", "0.5", "--max-hops", "4", "10.0.4.2", check=False
        )
        found = hops(done)
        if mark is None:
            assert done.returncode == 1
            assert [match["who"] for match in found] == [ROUTE[0], None, None, None]
        else:
            assert done.returncode == 0
            assert [(match["who"], match["mark"]) for match in found][-1] == (ROUTE[1], mark)

    def test_network_without_a_route_is_one_sentence(self, pair, kind):
        done = trace(pair.a, *kind, "198.51.100.1", check=False)
        assert done.returncode == 1
        assert re.fullmatch(r"ipv4 trace: Network is unreachable.*\n", done.stderr)

    def test_own_host_is_one_hop(self, pair, kind):
        done = trace(pair.a, *kind, "10.1.0.1")
        assert re.search(r"^  1  10\.1\.0\.1(  [\d.]+ ms){3}", done.stdout, re.MULTILINE)
        assert len(done.stdout.splitlines()) == 2

    def test_name_that_cannot_be_resolved_is_one_sentence(self, pair, kind):
        done = run("trace", *kind, "host.invalid", host=pair.a, check=False, timeout=60)
        assert done.returncode == 1
        assert re.fullmatch(r"ipv4 trace: host\.invalid: .+\n", done.stderr)


def test_json_is_an_object_a_hop(chain):
    done = trace(chain.client, "--json", "--probes", "2", "10.0.3.2")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [hop["hop"] for hop in found] == [1, 2, 3]
    for hop, router in zip(found, ROUTE, strict=False):
        assert hop["lost"] == 0
        assert [answer["address"] for answer in hop["answers"]] == [router] * 2
        assert all(0 < answer["ms"] < 1000 for answer in hop["answers"])
        assert all(answer["control"].startswith("ttl=") for answer in hop["answers"])


def test_control_message_of_each_answer(chain):
    found = hops(trace(chain.client, "10.0.4.2"))
    index = chain.client.call(socket.if_nametoindex, "eth0")
    assert [match["control"] for match in found] == [
        f"ttl={64 - n} src={router} dst=10.0.1.1 ifindex={index}" for n, router in enumerate(ROUTE)
    ]


@pytest.mark.needs("tshark")
def test_decoder_finds_nothing_wrong_with_the_probes(chain):
    with capture(chain.client, "eth0") as seen:
        trace(chain.client, "10.0.4.2")
        trace(chain.client, "--udp", "10.0.4.2")
    seen.assert_clean("icmp || udp")
    probes = seen.fields("ip.ttl", "icmp.seq", display_filter="icmp.type == 8 && !icmp.type == 11")
    assert probes == [(str(1 + n // 3), str(n)) for n in range(12)]
    probes = seen.fields("ip.ttl", "udp.dstport", display_filter="udp && !icmp")
    assert probes == [(str(1 + n // 3), str(33434 + n)) for n in range(12)]


class Liar:
    """A host that answers the trace's probes with packets of its own making."""

    def __init__(self, host, forge, protocol=socket.IPPROTO_ICMP):
        self.conn = host.call(RawConn.ip, protocol, mark=1)  # see forbid_icmp
        self.probe = ICMPType.ECHO if protocol == socket.IPPROTO_ICMP else None
        self.forge = forge
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.lie, name="liar")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.conn.close()

    def lie(self):
        buffer = bytearray(2000)
        while not self.stop.is_set():
            self.conn.set_read_deadline(time.monotonic() + 0.1)
            try:
                header, payload, _ = self.conn.read_from(buffer)
            except TimeoutError:
                continue
            if self.probe in (None, payload[0]):
                for source, message in self.forge(header, bytes(payload)):
                    answer = Header(
                        ttl=64, protocol=1, src=source, dst=header.src,
                        total_len=20 + len(message),
                    )  # fmt: skip
                    self.conn.write_to(answer, message)


def summed(message):
    message = bytearray(message)
    message[2:4] = b"\0\0"
    struct.pack_into("!H", message, 2, ipv4.checksum(message))
    return bytes(message)


def changed(message, offset, difference=1):
    message = bytearray(message)
    message[offset] ^= difference
    return bytes(message)


def reply(request):
    return summed(b"\0" + request[1:])


def exceeded(header, request):
    quoted = Header(
        total_len=20 + len(request),
        ttl=1,
        protocol=header.protocol,
        src=header.src,
        dst=header.dst,
    ).marshal(format="wire")
    return summed(bytes([11, 0, 0, 0, 0, 0, 0, 0]) + quoted + request)


# Offsets into an echo message: identifier at 4, sequence at 6, data from 8; in an error, whose
# quoted header starts at 8, the quoted destination at 24 and the quoted message at 28.
FORGERIES = {
    "reply of another identifier": lambda h, p: [(h.dst, summed(changed(reply(p), 4)))],
    "reply of a sequence never sent": lambda h, p: [(h.dst, summed(changed(reply(p), 6, 0x80)))],
    "reply with other data": lambda h, p: [(h.dst, summed(changed(reply(p), 8)))],
    "reply from somebody else": lambda h, p: [("10.1.0.9", reply(p))],
    "reply with a wrong checksum": lambda h, p: [(h.dst, changed(reply(p), 2))],
    "error about another identifier": lambda h, p: [
        ("10.1.0.2", summed(changed(exceeded(h, p), 32)))
    ],
    "error about another destination": lambda h, p: [
        ("10.1.0.2", summed(changed(exceeded(h, p), 27)))
    ],
    "error about another protocol": lambda h, p: [
        ("10.1.0.2", summed(changed(exceeded(h, p), 17, 16)))
    ],
    "error about a reply": lambda h, p: [("10.1.0.2", summed(changed(exceeded(h, p), 28, 8)))],
    "error that quotes nothing": lambda h, p: [("10.1.0.2", summed(exceeded(h, p)[:8]))],
    "error that quotes half a header": lambda h, p: [("10.1.0.2", summed(exceeded(h, p)[:20]))],
    "error with a wrong checksum": lambda h, p: [("10.1.0.2", changed(exceeded(h, p), 3))],
}


class TestForeignAnswers:
    def ask(self, pair, forge, *args, protocol=socket.IPPROTO_ICMP):
        # The host itself stays silent; 198.51.100.1 lies behind it.
        pair.a.add_route("198.51.100.1", via="10.1.0.2")
        pair.b.add_address("198.51.100.1/32", "lo")
        pair.b.sysctl("net.ipv4.icmp_echo_ignore_all", 1)
        pair.b.forbid_icmp()
        args += ("--timeout", "0.6", "--max-hops", "1", "--probes", "2", "198.51.100.1")
        with Liar(pair.b, forge, protocol):
            return trace(pair.a, *args, check=False).stdout.splitlines()[1]

    @pytest.mark.parametrize("forgery", FORGERIES)
    def test_are_ignored(self, pair, forgery):
        assert self.ask(pair, FORGERIES[forgery]) == "  1  *  *"

    def test_true_ones_from_the_same_hand_are_not(self, pair):
        """What the forgeries change is what matters: unchanged, the answers count."""
        line = self.ask(pair, lambda h, p: [(h.dst, reply(p))])
        assert re.match(r"  1  198\.51\.100\.1(  [\d.]+ ms){2}  ttl=64 ", line)

    def test_true_errors_from_the_same_hand_are_not(self, pair):
        line = self.ask(pair, lambda h, p: [("10.1.0.2", exceeded(h, p))])
        assert re.match(r"  1  10\.1\.0\.2(  [\d.]+ ms){2}  ttl=64 ", line)

    @pytest.mark.parametrize(
        ("offset", "line"),
        [
            (None, r"  1  10\.1\.0\.2(  [\d.]+ ms){2}"),
            (27, r"  1  \*  \*"),  # about another destination
            (29, r"  1  \*  \*"),  # about another socket
            (31, r"  1  \*  \*"),  # about another port than any probe went to
        ],
    )
    def test_errors_about_udp_count_if_they_are_about_our_probes(self, pair, offset, line):
        def forge(header, payload):
            error = exceeded(header, payload)
            if offset is not None:
                error = summed(changed(error, offset, 0x40))
            return [("10.1.0.2", error)]

        answer = self.ask(pair, forge, "--udp", protocol=socket.IPPROTO_UDP)
        assert re.fullmatch(line, answer)

    def test_second_answers_do_not_count_twice(self, pair):
        line = self.ask(pair, lambda h, p: 3 * [(h.dst, reply(p))])
        assert len(re.findall(" ms", line)) == 2

    def test_two_traces_at_once_do_not_mix(self, chain):
        with Program(chain.client, "trace", "--numeric", "10.0.4.2") as one:
            with Program(chain.client, "trace", "--numeric", "10.0.3.2") as two:
                assert one.process.wait(20) == two.process.wait(20) == 0
        assert [line.split()[1] for line in one.lines[1:]] == ROUTE
        assert [line.split()[1] for line in two.lines[1:]] == ROUTE[:3]


class TestNames:
    def test_are_looked_up(self, pair):
        done = run("trace", "127.0.0.1", host=pair.a)
        name = socket.getnameinfo(("127.0.0.1", 0), 0)[0]
        assert f"  1  127.0.0.1 ({name})  " in done.stdout

    def test_numeric_looks_up_nothing(self, pair):
        assert "  1  127.0.0.1  " in run("trace", "--numeric", "127.0.0.1", host=pair.a).stdout

    @pytest.mark.parametrize("kind", [[], ["--udp"]], ids=["icmp", "udp"])
    def test_resolver_that_hangs_delays_nothing(self, tmp_path, chain, kind):
        """getnameinfo() of a resolver that never answers, which lets no other thread run either."""
        (tmp_path / "sitecustomize.py").write_text(
            "import ctypes, socket\n"
            "hold = ctypes.PyDLL(None).sleep  # PyDLL keeps the GIL\n"
            "socket.getnameinfo = lambda *_: hold(3600)\n"
        )
        started = time.monotonic()
        done = run(
            "trace", *kind, "10.0.2.2",
            host=chain.client, env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        )  # fmt: skip
        # A second for the name of each hop, and nothing is left behind.
        assert 2.0 <= time.monotonic() - started < 5.0
        assert [match["who"] for match in map(HOP.match, done.stdout.splitlines()[1:])] == ROUTE[:2]
        times = [float(time) for time in re.findall(r"([\d.]+) ms", done.stdout)]
        assert len(times) == 6
        assert max(times) < 500

    def test_name_that_would_command_the_terminal_is_shown_harmless(self, tmp_path, pair):
        (tmp_path / "sitecustomize.py").write_text(
            "import socket\nsocket.getnameinfo = lambda *_: ('\\x1b[2Jrouter\\n', '0')\n"
        )
        done = run("trace", "127.0.0.1", host=pair.a, env={"PYTHONPATH": str(tmp_path), "PATH": ""})
        assert "  1  127.0.0.1 (?[2Jrouter?)  " in done.stdout


@pytest.mark.parametrize(
    "prober",
    [
        EchoProber,
        pytest.param(
            UDPProber,
            marks=pytest.mark.skipif(
                not hasattr(ErrorReport, "control"), reason="reports have no stamp yet"
            ),
        ),
    ],
)
def test_round_trips_are_the_kernels_whenever_they_are_read(pair, prober):
    with (
        stamped_on_arrival(),
        contextlib.closing(pair.a.call(prober, IPv4Address("10.1.0.2"))) as probing,
    ):
        with capture(pair.a, "eth0") as seen:
            probing.send(1, 0)
            seen.wait_for(2)  # the probe and its answer
        time.sleep(0.6)  # what a busy machine may do to this process
        answer = next(probing.answers(time.monotonic() + 5))
    assert (answer.sequence, answer.address, answer.last) == (0, "10.1.0.2", True)
    assert 0 < answer.elapsed < 0.3


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("::1", "::1 is an IPv6 address: this command traces IPv4 alone"),
        ("[fe80::1%eth0]", "fe80::1%eth0 is an IPv6 address: this command traces IPv4 alone"),
        ("", "HOST is empty: give the name or the address of a host"),
        (" ", "HOST is empty: give the name or the address of a host"),
        ("1.2.3", "'1.2.3' is not an IPv4 address such as 192.0.2.1"),
        ("010.1.0.2", "'010.1.0.2' is not an IPv4 address such as 192.0.2.1"),
        ("0x0a010002", "'0x0a010002' is not an IPv4 address such as 192.0.2.1"),
        ("255.255.255.255", "255.255.255.255 is the broadcast address: a route leads to one host"),
        ("224.0.0.1", "224.0.0.1 is a multicast group: a route leads to one host"),
        ("239.255.255.255", "239.255.255.255 is a multicast group: a route leads to one host"),
        ("0.0.0.0", "0.0.0.0 stands for no host: a route leads to one host"),
        ("0.1.2.3", "0.1.2.3 stands for no host: a route leads to one host"),
        ("10.1.0.255", "10.1.0.255 is a broadcast address of a link: a route leads to one host"),
    ],
)
@pytest.mark.parametrize("kind", [[], ["--udp"]], ids=["icmp", "udp"])
def test_what_no_route_leads_to_is_one_sentence_at_once(pair, kind, host, sentence):
    started = time.monotonic()
    done = trace(pair.a, *kind, host, check=False)
    assert time.monotonic() - started < 5
    assert (done.returncode, done.stderr) == (1, f"ipv4 trace: {sentence}\n")


def run_and_tell_capabilities(argv):
    """Run a program; the first line of its output tells what capabilities it had."""
    script = 'grep CapEff: /proc/self/status; exec "$@"'
    return subprocess.run(
        ["sh", "-c", script, "sh", *argv], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parity("the error queue")
class TestPrivilege:
    def test_icmp_without_it_is_one_sentence_that_names_it_and_the_way_round(self):
        done = without_privilege(run_and_tell_capabilities, [SCRIPT, "trace", "127.0.0.1"])
        assert done.returncode == 1
        assert done.stdout.split() == ["CapEff:", "0" * 16]
        assert len(done.stderr.splitlines()) == 1
        for part in ("CAP_NET_RAW", "sudo", "setcap cap_net_raw+ep", "--udp"):
            assert part in done.stderr

    def test_udp_takes_none_whatever(self, chain):
        argv = [SCRIPT, "trace", "--udp", "--numeric", "10.0.4.2"]
        with chain.client.inside():
            done = without_privilege(run_and_tell_capabilities, argv)
        assert (done.returncode, done.stderr) == (0, "")
        capabilities, *_ = done.stdout.splitlines()
        assert capabilities.split() == ["CapEff:", "0" * 16]
        done.stdout = done.stdout.partition("\n")[2]
        assert [match["who"] for match in hops(done)] == ROUTE

    @pytest.mark.root
    def test_udp_as_an_ordinary_user(self, chain):
        nobody = 65534

        def body():
            # First as root and to this host: what is loaded late may lie where nobody may read.
            printed_by_main("trace", "--udp", "--numeric", "127.0.0.1")
            os.setgroups([])
            os.setresgid(nobody, nobody, nobody)
            os.setresuid(nobody, nobody, nobody)
            with pytest.raises(PermissionError):
                RawConn.ip(1)
            status = Path("/proc/self/status").read_text()
            return status, printed_by_main("trace", "--udp", "--numeric", "10.0.4.2")

        with chain.client.inside():
            status, output = in_child(body)
        assert re.findall(r"^(?:CapEff|CapPrm|CapAmb):\s(\w+)$", status, re.M) == ["0" * 16] * 3
        assert re.search(r"^Uid:(\s65534){4}$", status, re.MULTILINE)
        assert [line.split()[1] for line in output.splitlines()[1:]] == ROUTE


def printed_by_main(*argv):
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())) as stdout:
        assert main(argv) == 0
        stdout.flush()
        return stdout.buffer.getvalue().decode()


def test_host_that_answers_on_the_port_was_reached(chain):
    """A program may listen where traces go: its datagram is an answer like a port unreachable."""
    with chain.server.call(PacketConn.udp, ("0.0.0.0", 33434 + 9)) as conn:
        with Program(
            chain.client, "trace", "--udp", "--numeric", "--probes", "3", "10.0.4.2"
        ) as program:
            conn.set_read_deadline(time.monotonic() + 10)
            _, _, peer = conn.read_from(bytearray(100))
            conn.write_to(b"hello", peer)
            assert program.process.wait(20) == 0
    assert re.search(r"^  4  10\.0\.4\.2(  [\d.]+ ms){3}$", program.output, re.MULTILINE)
