"""The tools of the suite do what the other tests rely on; the sockets here are the stdlib's."""

import contextlib
import errno
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from support import (
    CAP_NET_RAW,
    CAP_SETFCAP,
    ChildDied,
    capture,
    eventually,
    in_child,
    in_thread,
    run_with_fault,
    unchanged,
    until_it_waits,
    without_privilege,
)
from support.linux import inside_network
from support.oracles import state
from support.programs import lacking, packages

TESTS = Path(__file__).resolve().parents[1]
GROUP = "239.1.2.3"


def udp(address="127.0.0.1"):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, 0))
    sock.settimeout(5)
    return sock


def raw_icmp():
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


def open_raw_socket():
    raw_icmp().close()


def interfaces():
    return [name for _, name in socket.if_nameindex()]


# --- hosts --------------------------------------------------------------------------------------


@pytest.mark.privileged
def test_session_has_no_interface_but_its_own_loopback(loopback):
    assert interfaces() == ["lo"]
    assert loopback == (1, "lo", "127.0.0.1")
    with udp() as receiver, udp() as sender:
        sender.sendto(b"hello", receiver.getsockname())
        assert receiver.recv(16) == b"hello"


def test_pair_hears_each_other_in_both_directions(pair):
    with pair.a.call(udp, pair.a.address) as at_a, pair.b.call(udp, pair.b.address) as at_b:
        at_a.sendto(b"from a", at_b.getsockname())
        assert at_b.recvfrom(16) == (b"from a", at_a.getsockname())
        at_b.sendto(b"from b", at_a.getsockname())
        assert at_a.recvfrom(16) == (b"from b", at_b.getsockname())
    assert (pair.a.iface, pair.a.address) == ("eth0", "10.1.0.1")
    assert (pair.b.iface, pair.b.address) == ("eth0", "10.1.0.2")


def test_chain_forwards_and_each_router_counts_the_ttl_down(chain):
    with (
        chain.client.call(udp, chain.client.address) as client,
        chain.server.call(udp, chain.server.address) as server,
    ):
        client.sendto(b"through", server.getsockname())
        server.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        client.sendto(b"through", server.getsockname())
        assert server.recv(16) == b"through"
        _, [(_, _, ttl)], _, source = server.recvmsg(16, 64)
        assert (struct.unpack("i", ttl), source) == ((64 - 3,), client.getsockname())

        client.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
        for hop, router in enumerate(chain.routers, start=1):
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hop)
            client.sendto(b"too far", server.getsockname())
            _, [(_, _, report)], _, _ = eventually(lambda: error_of(client))
            # struct sock_extended_err (16 bytes), then the sockaddr_in of who said so.
            offender = socket.inet_ntoa(report[20:24])
            assert report[4:7] == bytes([2, 11, 0])  # ICMP, time exceeded, in transit
            assert offender == router.address


def error_of(sock):
    with contextlib.suppress(BlockingIOError):
        return sock.recvmsg(64, 256, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)


def test_host_is_a_network_of_its_own(hosts):
    host = hosts("lonely")
    assert host.sysctl("net.ipv4.ip_default_ttl", 77) == "77"
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() == "64\n"
    with host.call(udp) as sock:
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 77
    assert host.run(["cat", "/proc/sys/net/ipv4/ip_default_ttl"]).stdout == "77\n"
    host.add_link("v0", "veth", peer={"ifname": "v1"})
    host.set_link("v0", up=True)
    assert sorted(host.call(interfaces)) == ["lo", "v0", "v1"]
    with host.inside():
        assert sorted(interfaces()) == ["lo", "v0", "v1"]
        assert "v0" in host.proc("dev")
    assert interfaces() == ["lo"]
    fd = os.open(host.path, os.O_RDONLY)
    try:
        with inside_network(fd):
            assert sorted(interfaces()) == ["lo", "v0", "v1"]
    finally:
        os.close(fd)


def test_link_has_the_mtu_and_the_names_asked_for(hosts):
    a, b = hosts(), hosts()
    assert hosts.link(a, b, "192.0.2.1/30", "192.0.2.2/30", mtu=1300) == ("eth0", "eth0")
    assert hosts.link(a, b, names=("to_b", "to_a")) == ("to_b", "to_a")
    assert a.addresses == {"eth0": "192.0.2.1", "to_b": "10.2.0.1"}
    with a.call(udp, a.address) as sock:
        sock.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER = DO
        assert sock.sendto(bytes(1300 - 28), (b.address, 9)) == 1300 - 28
        with pytest.raises(OSError) as refused:
            sock.sendto(bytes(1300 - 27), (b.address, 9))
        assert refused.value.errno == errno.EMSGSIZE


def test_call_gives_back_the_exception(hosts):
    with pytest.raises(ZeroDivisionError):
        hosts().call(lambda: 1 / 0)


def test_run_tells_what_a_failing_program_said(hosts):
    host = hosts("unlucky")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        host.run(["cat", "/nothing"])
    assert "unlucky" in failed.value.__notes__[0]
    assert "nothing" in failed.value.__notes__[0]
    assert host.run(["false"], check=False).returncode == 1


def test_what_the_kernel_refuses_a_host_is_told(hosts):
    with pytest.raises(OSError, match="unlucky") as failed:
        hosts("unlucky").add_route("10.9.0.0/24", via="10.8.0.1")
    assert failed.value.errno == errno.ENETUNREACH


def test_programs_end_with_their_host(hosts):
    host = hosts()
    host.grace = 0.1
    program = host.popen(["sleep", "1000"])
    stubborn = host.popen(
        [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); input()"],
        stdin=subprocess.PIPE,
    )
    eventually(lambda: ignores(stubborn.pid, 15))
    host.close()
    assert (program.returncode, stubborn.returncode) == (-15, -9)


def ignores(pid, number):
    fields = dict(
        line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return int(fields["SigIgn"], 16) >> (number - 1) & 1


def test_a_program_gone_into_the_background_is_ended_and_told(hosts):
    host = hosts("home")
    host.run(["sh", "-c", "sleep 1000 >/dev/null 2>&1 &"])
    with pytest.raises(AssertionError, match=r"left running on home: \[\(\d+, 'sleep'\)\]") as told:
        host.close()
    pid = int(str(told.value).partition("[(")[2].partition(",")[0])
    eventually(lambda: not alive(pid))


def alive(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# --- capture ------------------------------------------------------------------------------------


@pytest.mark.privileged
def test_capture_sees_each_loopback_packet_once():
    with udp() as receiver, udp() as sender, capture(None, "lo") as seen:
        for number in range(100):
            sender.sendto(b"%d" % number, receiver.getsockname())
        eventually(lambda: len(datagrams(seen)) >= 100)
    assert datagrams(seen) == [b"%d" % number for number in range(100)]


def datagrams(seen):
    """The payloads of UDP: a report of IGMP about an earlier test's group may come at any time."""
    return [packet[28:] for packet in seen.packets if packet[9] == socket.IPPROTO_UDP]


@pytest.mark.needs("tshark")
def test_capture_is_decoded_and_a_wrong_checksum_is_told(pair):
    # Echo requests: type, code, checksum, id, number. The second one's checksum is off by one.
    good, bad = struct.pack("!BBHHH", 8, 0, 0xF6FE, 1, 256), struct.pack("!BBHHH", 8, 0, 0, 1, 7)
    with capture(pair.b, "eth0") as seen, pair.a.call(raw_icmp) as sock:
        sock.sendto(good, (pair.b.address, 0))
        seen.wait_for(2)
    assert seen.fields("ip.src", "icmp.type", display_filter="icmp") == [
        ("10.1.0.1", "8"),
        ("10.1.0.2", "0"),
    ]
    seen.assert_clean("icmp")
    assert "Internet Control Message Protocol" in seen.text("icmp")
    assert [layers["icmp"]["icmp.type"] for layers in seen.json("icmp")] == ["8", "0"]

    with capture(pair.b, "eth0") as seen, pair.a.call(raw_icmp) as sock:
        sock.sendto(bad, (pair.b.address, 0))
        sock.sendto(good[:6], (pair.b.address, 0))
        seen.wait_for(2)
    assert any("incorrect" in line for line in seen.complaints("icmp"))
    assert any("Malformed" in line for line in seen.complaints("icmp"))
    with pytest.raises(AssertionError):
        seen.assert_clean("icmp")
    with pytest.raises(AssertionError, match="nothing captured"):
        seen.assert_clean("ospf")


# --- children: privileges and faults ------------------------------------------------------------


def test_child_gives_back_results_and_exceptions():
    lock = threading.Lock()
    assert in_child(lambda: (os.getppid(), [1, 2])) == (os.getpid(), [1, 2])
    with pytest.raises(FileNotFoundError) as missing:
        in_child(os.stat, "/nonexistent")
    assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, "/nonexistent")
    with pytest.raises(ChildDied, match="cannot be pickled"):
        in_child(lambda: lock)


def test_child_that_dies_or_hangs_is_told():
    with pytest.raises(ChildDied, match="SIGKILL"):
        in_child(lambda: os.kill(os.getpid(), 9))
    with pytest.raises(ChildDied, match="exit status 3"):
        in_child(os._exit, 3)
    start = time.monotonic()
    with pytest.raises(ChildDied, match=r"within 0\.2 s: SIGKILL"):
        in_child(time.sleep, 60, timeout=0.2)
    assert time.monotonic() - start < 5


def test_child_that_ignores_an_exception_fails():
    class Bad:
        def __del__(self):
            raise ValueError("nobody catches this")

    def drop():
        Bad()

    with pytest.raises(ChildDied, match="nobody catches this"):
        in_child(drop)


@pytest.mark.privileged
def test_without_privilege_takes_the_capabilities_from_functions_and_programs():
    open_raw_socket()
    with pytest.raises(PermissionError):
        without_privilege(open_raw_socket)
    without_privilege(open_raw_socket, keep=[CAP_NET_RAW])
    with pytest.raises(PermissionError):
        without_privilege(open_raw_socket, keep=[CAP_SETFCAP])
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"
    argv = [sys.executable, "-c", code]
    assert subprocess.run(argv).returncode == 0
    done = without_privilege(lambda: subprocess.run(argv, stderr=subprocess.PIPE, text=True))
    assert done.returncode == 1
    assert "PermissionError" in done.stderr
    open_raw_socket()


@pytest.mark.privileged
def test_without_privilege_on_a_host(hosts):
    hosts.link(hosts("a"), host := hosts("b"))
    with host.inside():
        assert without_privilege(interfaces) == ["lo", "eth0"]
        with pytest.raises(PermissionError):
            without_privilege(open_raw_socket)


@pytest.mark.needs_faults
def test_a_system_call_fails_as_told():
    with udp() as sock:
        assert sock.sendto(b"x", sock.getsockname()) == 1

        def send():
            return sock.sendto(b"x", sock.getsockname())

        for number in (errno.EIO, errno.ENOBUFS, errno.ENOSYS):
            with pytest.raises(OSError) as failed:
                run_with_fault({"sendto": number}, send)
            assert failed.value.errno == number
        assert run_with_fault({"sendmsg": errno.EIO, "recvmmsg": errno.ENOSYS}, send) == 1
        # Nothing of it reaches this process.
        assert send() == 1


@pytest.mark.needs_faults
def test_one_socket_option_fails_and_its_neighbours_do_not():
    ttl = ("setsockopt", socket.IPPROTO_IP, socket.IP_TTL)
    read_ttl = ("getsockopt", socket.IPPROTO_IP, socket.IP_TTL)

    def attempt():
        outcome = []
        with udp() as sock:
            for call in (
                lambda: sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 7),
                lambda: sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 8),
                # The same number as IP_TTL, of another level: SO_REUSEADDR is 2.
                lambda: sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
                lambda: sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL),
                lambda: sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS),
            ):
                try:
                    outcome.append(call())
                except OSError as error:
                    outcome.append(errno.errorcode[error.errno])
        return outcome

    assert socket.IP_TTL == socket.SO_REUSEADDR == 2
    assert run_with_fault({ttl: errno.ENOPROTOOPT}, attempt) == ["ENOPROTOOPT", None, None, 64, 8]
    assert run_with_fault({read_ttl: errno.EINVAL}, attempt) == [None, None, None, "EINVAL", 8]
    both = {ttl: errno.ENOPROTOOPT, read_ttl: errno.EPERM, "socketpair": errno.EIO}
    assert run_with_fault(both, attempt) == ["ENOPROTOOPT", None, None, "EPERM", 8]


# --- oracles ------------------------------------------------------------------------------------


def left_behind(body, *, patience=0.05, **kwargs):
    """Return what the oracle says of a body; the text is empty when it is content."""
    try:
        with unchanged(patience=patience, **kwargs):
            body()
    except pytest.fail.Exception as failure:
        return str(failure)
    return ""


def test_oracle_sees_a_descriptor():
    opened = []
    told = left_behind(lambda: opened.append(udp()))
    assert f"descriptors: new: {opened[0].fileno()} -> socket:" in told
    opened[0].close()


def test_oracle_sees_a_descriptor_that_somebody_else_closed_or_replaced():
    victim, other = os.open("/dev/null", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)
    told = left_behind(lambda: os.dup2(other, victim))
    assert f"descriptors: closed or replaced: {victim} -> /dev/null" in told
    told = left_behind(lambda: os.close(victim))
    assert f"descriptors: closed or replaced: {victim} -> /dev/zero" in told
    assert not left_behind(lambda: os.close(other), closed_too=False)


def test_oracle_collects_garbage_before_it_complains():
    class Knot:
        pass

    def tie():
        knot = Knot()
        knot.itself, knot.file = knot, open("/dev/null")  # noqa: SIM115

    with warnings.catch_warnings():
        # The leak is deliberate.
        warnings.simplefilter("ignore", ResourceWarning)
        assert not left_behind(tie)


def test_oracle_sees_a_thread_and_waits_for_one_that_ends():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="stray")
    told = left_behind(thread.start)
    assert "threads: new: " in told
    assert "(stray)" in told
    stop.set()
    thread.join()
    assert not left_behind(lambda: threading.Timer(0.2, int).start(), patience=10)


def test_oracle_sees_a_child():
    children = []
    told = left_behind(lambda: children.append(subprocess.Popen(["sleep", "1000"])))
    assert f"children: new: process {children[0].pid} (" in told
    children[0].kill()
    children[0].wait()


@pytest.mark.privileged
def test_oracle_sees_memberships_and_source_filters():
    with udp() as sock, contextlib.closing(udp()) as second:
        group, local = socket.inet_aton(GROUP), socket.inet_aton("127.0.0.1")

        def join():
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + local)

        def join_source():
            # struct ip_mreq_source: group, interface, source; 39 is IP_ADD_SOURCE_MEMBERSHIP.
            source = socket.inet_aton("127.0.0.9")
            second.setsockopt(socket.IPPROTO_IP, 39, group + local + source)

        told = left_behind(join)
        assert "memberships: new: group 030201EF on lo, 1 users" in told
        told = left_behind(join_source)
        assert "memberships: new: source filter 1 lo 0xef010203 0x7f000009 1 0" in told
        told = left_behind(sock.close, closed_too=False)
        assert "memberships: gone: group 030201EF on lo, 2 users" in told


def test_oracle_is_cheap():
    def cost():
        start = time.perf_counter()
        state(own_network=True)
        return time.perf_counter() - start

    assert 2 * min(cost() for _ in range(20)) < 0.002


# --- the suite's own run ------------------------------------------------------------------------


def run_pytest(folder, code, *args, through=lambda function: function()):
    """Run pytest with the suite's conftest over `code`; `through` may change the circumstances."""
    (folder / "test_it.py").write_text(code)
    shutil.copy(TESTS / "conftest.py", folder)
    argv = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "-ra"]
    argv += ["--import-mode=importlib", "-W", "error", "-o", f"pythonpath={TESTS}", *args, "."]
    return through(
        lambda: subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60)
    )


def test_a_leaking_test_fails(tmp_path):
    done = run_pytest(
        tmp_path,
        "import socket\n"
        "kept = []\n"
        "def test_leak():\n    kept.append(socket.socket())\n"
        "def test_clean():\n    socket.socket().close()\n",
    )
    assert "ERROR test_it.py::test_leak" in done.stdout
    assert "descriptors: new: " in done.stdout
    assert "2 passed, 1 error" in done.stdout, done.stdout
    assert done.returncode == 1


def test_what_nobody_could_catch_fails_the_test(tmp_path):
    done = run_pytest(
        tmp_path,
        "import socket, threading\n"
        "class Bad:\n    def __del__(self): raise ValueError('from __del__')\n"
        "def test_unclosed():\n    socket.socket()\n"
        "def test_clean():\n    pass\n"
        "def test_ignored():\n    Bad()\n"
        "def test_thread():\n"
        "    thread = threading.Thread(target=lambda: 1 / 0)\n"
        "    thread.start()\n"
        "    thread.join()\n",
    )
    assert "3 failed, 1 passed" in done.stdout, done.stdout
    for line in ("test_unclosed - ", "test_ignored - ", "test_thread - "):
        assert f"FAILED test_it.py::{line}" in done.stdout


NEEDY = """
import os, pytest, socket
def test_root(loopback):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
@pytest.mark.privileged
def test_privileged():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()
def test_pair(pair):
    assert pair.a.call(socket.if_nameindex)[1][1] == "eth0"
@pytest.mark.root
def test_really_root():
    assert os.getuid() == 0
@pytest.mark.needs("sh", "no-such-program")
def test_needs():
    raise AssertionError("never runs")
"""


@pytest.mark.privileged
def test_without_the_capabilities_the_session_moves_into_a_user_namespace(tmp_path):
    done = run_pytest(
        tmp_path, NEEDY, through=lambda run: without_privilege(run, keep=[CAP_SETFCAP])
    )
    assert "network: a user namespace of its own" in done.stdout, done.stdout
    assert "3 passed, 2 skipped" in done.stdout, done.stdout
    assert "needs the real root, not that of a user namespace" in done.stdout
    assert "needs no-such-program: not installed" in done.stdout
    assert done.returncode == 0


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert lacking(["dig", "tc", "bridge"]) == (
        "needs dig, tc, bridge: apt-get install bind9-dnsutils iproute2"
    )


def test_the_readme_names_the_packages_of_all_programs():
    """The line after which nothing is skipped; what a Debian system has anyway is left out."""
    marks = re.compile(r"mark\.needs\(([^)]*)\)")
    needed = {
        program
        for file in TESTS.rglob("test_*.py")
        for names in marks.findall(file.read_text())
        for program in re.findall(r'"([\w-]+)"', names)
        if program in packages()
    }
    readme = (TESTS.parent / "README.md").read_text()
    (line,) = re.findall(r"^(?:sudo )?apt-get install .*(?:\\\n.*)*", readme, re.MULTILINE)[1:]
    named = set(line.replace("\\", " ").split()[2:])
    assert named == {packages()[program] for program in needed} - {"util-linux", "gcc", "git"}


def test_under_sanitizers_what_they_change_is_not_measured(tmp_path, monkeypatch):
    # Any file will do: the loader warns of one that is missing and goes on.
    monkeypatch.setenv("LD_PRELOAD", f"{os.environ.get('LD_PRELOAD', '')} libasan-not-there.so")
    code = "import pytest\n@pytest.mark.unsanitized\ndef test_it():\n    pass\n"
    done = run_pytest(tmp_path, code)
    assert "1 skipped" in done.stdout, done.stdout
    assert "measures what sanitizers change" in done.stdout


@pytest.mark.needs_faults
def test_where_the_system_forbids_namespaces_privileged_tests_are_skipped_with_the_reason(tmp_path):
    done = run_pytest(
        tmp_path, NEEDY, through=lambda run: run_with_fault({"unshare": errno.EPERM}, run)
    )
    assert "1 passed, 4 skipped" in done.stdout, done.stdout
    forbidden = "needs privileges: no private network can be made here: "
    assert done.stdout.count(f"{forbidden}[Errno 1] Operation not permitted: unshare") == 3
    assert done.returncode == 0


@pytest.mark.parametrize("start", [["-m", "pytest"], ["-P", "-m", "pytest"]], ids=" ".join)
def test_the_source_folder_does_not_hide_the_installed_package(start):
    done = subprocess.run(
        [sys.executable, *start, "-p", "no:cacheprovider", "--collect-only", "-q", "-v", __file__],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("ipv4: "))
    import ipv4

    assert line.endswith(f" from {ipv4.__file__}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_in_thread_runs_elsewhere_and_raises_here():
    assert in_thread(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        in_thread(lambda: 1 / 0)


def test_a_thread_that_computes_does_not_wait_yet():
    ready = threading.Event()
    reader, writer = socket.socketpair()

    def body():
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            pass
        ready.set()
        reader.recv(1)

    with reader, writer:
        thread = threading.Thread(target=body)
        thread.start()
        until_it_waits(thread)
        assert ready.is_set()
        writer.send(b"x")
        thread.join(10)


def test_importing_the_tools_needs_no_library():
    code = "import sys; sys.path.insert(0, sys.argv[1]); sys.modules['ipv4'] = None; import support"
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(TESTS)], check=True)
