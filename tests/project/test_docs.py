"""Every program on every page runs, and prints what the page says it prints."""

import ast
import doctest
import errno
import importlib
import importlib.util
import inspect
import itertools
import json
import os
import pydoc
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from support import eventually, without_privilege

from ipv4 import Conn, ControlFlags, PacketConn, RawConn

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.rst"))]


class Block(NamedTuple):
    """A code block of a page; one of the class "continued" goes on with the one before it."""

    line: int
    language: str
    text: str
    options: dict[str, str]


def blocks(page):
    """Yield the code blocks of a page, continued ones joined to what they continue."""
    lines = page.read_text().splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        start = at
        if found := re.match(r"```(\w+)", line):
            while lines[at] != "```":
                at += 1
            yield Block(start, found[1], "\n".join(lines[start:at]), {})
        elif found := re.match(r"\.\. code-block:: (\w+)", line):
            options = {}
            while option := re.match(r"   :(\w+): (.*)", lines[at]):
                options[option[1]] = option[2]
                at += 1
            start = at
            while at < len(lines) and (not lines[at] or lines[at].startswith("   ")):
                at += 1
            text = "\n".join(each[3:] for each in lines[start:at]).strip()
            yield Block(start, found[1], text, options)


class Program(NamedTuple):
    """A program of a page, and the output that the block after it shows, if it shows one."""

    page: Path
    line: int
    name: str
    text: str
    shown: str | None

    @property
    def id(self):
        return f"{self.page.relative_to(ROOT)}:{self.name or self.line}"


def programs():
    for page in PAGES:
        found = list(blocks(page))
        while found:
            block = found.pop(0)
            if block.language != "python":
                continue
            parts = [block.text]
            while found and found[0].options.get("class") == "continued":
                parts.append(found.pop(0).text)
            shown = found[0].text if found and found[0].language == "text" else None
            # A line between two pieces ends the block before it, as it does when it is pasted.
            text = "\n\n".join(parts)
            yield Program(page, block.line, block.options.get("name", ""), text, shown)


def needs_its_modules(program):
    """Skip where a wheel's test has not the extra packages that some programs show."""
    for name in re.findall(r"^import (numpy|trio)$", program.text, re.MULTILINE):
        pytest.importorskip(name)


# Those with a name run on hosts of their own, below; the others on the loopback.
PROGRAMS = list(programs())
ALONE = [pytest.param(each, id=each.id) for each in PROGRAMS if not each.name]
NAMED = {each.name: each for each in PROGRAMS if each.name}


@pytest.mark.privileged
@pytest.mark.parametrize("program", ALONE)
def test_programs_of_the_pages(program, tmp_path):
    needs_its_modules(program)
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program.text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if program.shown is not None:
        assert done.stdout.strip() == program.shown.strip()


NO_PROMPTS = "import sys; sys.ps1 = sys.ps2 = ''"


@pytest.mark.privileged
@pytest.mark.parametrize("program", ALONE)
def test_programs_pasted_into_the_interpreter(program, tmp_path):
    """What a reader pastes comes line by line: a blank line ends a block."""
    needs_its_modules(program)
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-i",
            "-q",
            "-W",
            "error",
            "-c",
            "import sys; sys.ps1 = sys.ps2 = ''",
        ],
        input=program.text + "\n\n",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Error" not in done.stderr, done.stderr
    if program.shown is not None:
        said = iter(done.stdout.splitlines())  # between what the interpreter itself shows
        assert all(line in said for line in program.shown.splitlines()), done.stdout


def run_on(host, name, tmp_path):
    """Start a named program on a host."""
    file = tmp_path / f"{name}.py"
    file.write_text(NAMED[name].text + "\n")
    argv = [sys.executable, "-P", "-W", "error", str(file)]
    return host.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(program):
    """What a program printed; it has to end well."""
    said, errors = program.communicate(timeout=30)
    assert program.returncode == 0, errors
    assert errors == ""
    return said


def listens(host, port):
    return f":{port:04X} " in host.proc("udp")


def test_own_packets_of_a_raw_socket(pair, tmp_path):
    assert ended(run_on(pair.a, "own-packets", tmp_path)) == NAMED["own-packets"].shown + "\n"


def test_dhcp(pair, tmp_path):
    """The client's host has no address on the link, and another one elsewhere."""
    pair.a.delete_address("10.1.0.1/24", "eth0")
    pair.a.add_address("192.0.2.1/32", "lo")
    server = run_on(pair.b, "dhcp-server", tmp_path)
    eventually(lambda: listens(pair.b, 67), what="the server listens")
    client = run_on(pair.a, "dhcp-client", tmp_path)
    assert ended(client) == NAMED["dhcp-client"].shown + "\n"
    assert ended(server) == ""


KEEPALIVED = """
global_defs {
    vrrp_version 3
}
vrrp_instance shared {
    interface eth0
    virtual_router_id 51
    priority 100
    advert_int 1
    virtual_ipaddress {
        10.1.0.100/24
    }
}
"""


@pytest.mark.needs("keepalived")
@pytest.mark.root
def test_vrrp(pair, tmp_path):
    """keepalived gives the address up to who advertises more, and takes it when that resigns."""
    file = tmp_path / "keepalived.conf"
    file.write_text(KEEPALIVED)
    file.chmod(0o644)
    argv = ["keepalived", "--vrrp", "--dont-fork", "--log-console", "--use-file", str(file)]
    argv += [f"--{name}={tmp_path / name}" for name in ("pid", "vrrp_pid")]
    daemon = pair.b.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def has_address():
        return "10.1.0.100" in pair.b.proc("fib_trie")

    eventually(has_address, timeout=20, what="keepalived is master")
    ours = run_on(pair.a, "vrrp", tmp_path)
    eventually(lambda: not has_address(), timeout=20, what="keepalived gave up")
    assert ended(ours) == NAMED["vrrp"].shown + "\n"
    eventually(has_address, what="keepalived is master again")
    daemon.terminate()
    daemon.communicate(timeout=10)


def test_vrf(pair, tmp_path):
    try:
        pair.b.add_link("blue", "vrf", vrf_table=100)
    except OSError as error:
        # A kernel without VRF: the link in its place shows that the program runs.
        assert error.errno in (errno.EOPNOTSUPP, errno.ENODEV)
        pair.b.set_link("eth0", up=False)
        pair.b.set_link("eth0", rename="blue")
        pair.b.set_link("blue", up=True)
    else:
        pair.b.set_link("blue", up=True)
        pair.b.set_link("eth0", master="blue")
    server = run_on(pair.b, "vrf", tmp_path)
    eventually(lambda: listens(pair.b, 4000), what="the server listens")
    with pair.a.call(PacketConn.udp) as client:
        client.set_read_deadline(time.monotonic() + 20)
        client.write_to(b"?", (pair.b.address, 4000))
        buffer = bytearray(100)
        n, _, source = client.read_from(buffer)
    assert (buffer[:n], source[0]) == (b"from the blue side", pair.b.address)
    assert ended(server) == ""


def test_echo(pair, tmp_path):
    """Each is answered from the address that it asked."""
    pair.b.add_address("192.0.2.7/32", "lo")
    pair.a.add_route("192.0.2.7/32", via=pair.b.address)
    server = run_on(pair.b, "echo", tmp_path)
    eventually(lambda: listens(pair.b, 7007), what="the server listens")
    with pair.a.call(PacketConn.udp, timeout=20) as client:
        for text, address in (b"one", pair.b.address), (b"two", "192.0.2.7"):
            client.write_to(text, (address, 7007))
            data, _, source = client.receive()
            assert (data, source) == (text, (address, 7007))
    server.kill()
    server.communicate()


# Programs of the pages that run on the loopback, put between two hosts: which program, what is
# written into it, and what it then prints, where that differs.
A, B = 'netns="{a}"', 'netns="{b}"'
LOOPBACK = '("127.0.0.1", 0), '
BETWEEN_HOSTS = {
    "the address that was asked": (
        "howto/reply.rst", "127.0.0.2",
        [("(timeout=5, control=asked)", f"(timeout=5, control=asked, {A})"),
         ("(timeout=5) as client", f"(timeout=5, {B}) as client"), ("127.0.0.2", "10.1.0.9")],
        "10.1.0.9",
    ),
    "TOS and ECN": (
        "howto/reply.rst", "DSCP",
        [(LOOPBACK, f'("10.1.0.1", 0), {A}, '),
         ("(timeout=5, control=C", f"({B}, timeout=5, control=C")],
        None,
    ),
    "one peer": (
        "howto/connect.rst", "client",
        [(LOOPBACK, f'("10.1.0.1", 0), {A}, '), ("udp(peer=", f"udp({B}, peer=")],
        None,
    ),
    "path MTU": (
        "howto/mtu.rst", "PathMTUDiscovery",
        [("receive_errors=True", f"receive_errors=True, {A}"), ("127.0.0.1", "10.1.0.2")],
        "1272",
    ),
    "GTSM": (
        "howto/ttl.rst", "min_ttl",
        [(LOOPBACK, f'("10.1.0.1", 0), {A}, '), ("udp() as peer", f"udp({B}) as peer")],
        None,
    ),
    "joined reads": (
        "howto/segmentation.rst", "batch.datagrams",
        [(f"({LOOPBACK}timeout=5) as a", f'(("10.1.0.1", 0), {A}, timeout=5) as a'),
         (f"({LOOPBACK}timeout=5, control", f'(("10.1.0.2", 0), {B}, timeout=5, control')],
        None,
    ),
    "joined reads, answered": (
        "howto/segmentation.rst", "batch.split",
        [(f"({LOOPBACK}timeout=5) as a", f'(("10.1.0.1", 0), {A}, timeout=5) as a'),
         (f"({LOOPBACK}timeout=5, control", f'(("10.1.0.2", 0), {B}, timeout=5, control')],
        None,
    ),
    "a port that is steered": (
        "recipes/share-a-port.rst", "workers +=",
        [(LOOPBACK, f'("10.1.0.1", 0), {A}, '), ("udp(address, ", f"udp(address, {A}, "),
         ("udp() as client", f"udp({B}) as client")],
        None,
    ),
    "a port of processes": (
        "recipes/share-a-port.rst", "os.fork",
        [(LOOPBACK, f'("10.1.0.1", 0), {A}, '),
         ("udp(first.local_addr, ", f"udp(first.local_addr, {A}, "),
         ("udp(timeout=20) as client", f"udp({B}, timeout=20) as client")],
        None,
    ),
    "larger than the link": (
        "recipes/raw-or-packet.rst", "60_000",
        [('ip(253, "127.0.0.1", timeout=5) as daemon', f"ip(253, {A}, timeout=5) as daemon"),
         ("ip(253) as peer", f"ip(253, {B}) as peer"), ("127.0.0.1", "10.1.0.1")],
        None,
    ),
    "a host without a route": (
        "howto/groups.rst", "on lo, by the option",
        [('multicast_interface="lo"', f'multicast_interface="eth0", {A}')],
        "b'hello' eth0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BETWEEN_HOSTS)
def test_recipes_between_hosts(name, pair, tmp_path):
    page, telling, changes, shown = BETWEEN_HOSTS[name]
    programs = [each for each in PROGRAMS if each.page == ROOT / "docs" / page]
    program = next(each for each in programs if telling in each.text)
    text = program.text
    for old, new in changes:
        assert old in text
        text = text.replace(old, new.format(a=pair.a.path, b=pair.b.path))
    pair.a.add_address("10.1.0.9/24", "eth0")
    if name == "path MTU":
        pair.a.set_link("eth0", mtu=1300)
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", text],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == (shown or program.shown).strip()


def test_one_raw_socket_a_link(pair, tmp_path):
    page = ROOT / "docs" / "recipes" / "routing-daemon.rst"
    text = next(each.text for each in PROGRAMS if each.page == page)
    flags = ControlFlags.TTL | ControlFlags.TOS | ControlFlags.DST
    with pair.b.call(PacketConn.ip, 89, control=flags, timeout=20) as neighbour:
        neighbour.join_group("224.0.0.5", "eth0")
        file = tmp_path / "daemon.py"
        file.write_text(text.replace('open_link("lo")', 'open_link("eth0")') + "\n")
        argv = [sys.executable, "-P", "-W", "error", str(file)]
        daemon = pair.a.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        data, cm, src = neighbour.receive()
    assert (data, src[0], str(cm.dst)) == (b"hello", pair.a.address, "224.0.0.5")
    assert (cm.ttl, cm.tos) == (1, 0xC0)
    assert ended(daemon) == "True False\n"


def test_every_named_program_is_run():
    text = Path(__file__).read_text()
    assert [name for name in NAMED if text.count(f'"{name}"') == 0] == []


# pyright comes as basedpyright, which brings what it takes and downloads nothing.
CHECKERS = {
    "mypy": ["--strict", "--no-error-summary", "--follow-imports=silent"],
    "basedpyright": ["--pythonpath", sys.executable, "--level", "error"],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_programs_pass_the_type_checkers(checker, tmp_path):
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"needs the extra lint ({checker})")
    files = {}
    for program in PROGRAMS:
        file = tmp_path / f"p_{re.sub(r'[^a-z0-9]', '_', program.id.lower())}.py"
        file.write_text(program.text + "\n")
        files[file.name] = program.id
    (tmp_path / "ipv4").symlink_to(ROOT / "ipv4")
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    done = subprocess.run(
        [sys.executable, "-P", "-m", checker, *CHECKERS[checker], *sorted(files)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"MYPYPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("program", [pytest.param(each, id=each.id) for each in PROGRAMS])
def test_programs_fit_a_page(program):
    """As wide as a page of the manual shows without scrolling."""
    assert [line for line in program.text.splitlines() if len(line) > 88] == []


def test_the_first_program_is_short():
    first = next(blocks(ROOT / "README.md"))
    assert first.language == "python"
    assert len([line for line in first.text.splitlines() if line]) <= 10


def test_the_readme_reads_whole_on_a_package_index():
    """Every link is absolute, below the project's address, and leads to a file that is there."""
    if not (ROOT / "LICENSE").exists():
        pytest.skip("not a clone")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    source = project["urls"]["Source"]
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert len(links) > 5
    for link in [*links, *project["urls"].values()]:
        assert link.startswith(source), link
        found = re.fullmatch(r"/(?:blob|raw)/main/(.+)|/issues|", link.removeprefix(source))
        assert found, link
        assert not found[1] or (ROOT / found[1]).exists(), link


def test_the_figures_are_those_of_the_last_run_that_is_kept():
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "tools" / "figures.py", "--check"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_quick_start_is_two_commands():
    page = (ROOT / "README.md").read_text()
    section = page.partition("## Quick start")[2].partition("```sh\n")[2].partition("```")[0]
    assert section.splitlines() == ["pip install . && ipv4 demo", "pip install '.[test]' && pytest"]


def test_editors_find_a_docstring_at_every_public_name(tmp_path):
    """By pyright, in the package as it is installed: docstrings stand in the sources alone."""
    if importlib.util.find_spec("basedpyright") is None:
        pytest.skip("needs the extra lint (basedpyright)")
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import stubdocs
    finally:
        sys.path.pop(0)
    for file in [*(ROOT / "ipv4").rglob("*.py"), *(ROOT / "ipv4").rglob("*.pyi")]:
        text = file.read_text()
        if file.suffix == ".pyi":
            text = stubdocs.documented(text, stubdocs.scan(file.with_suffix(".pyx")))
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
    (tmp_path / "ipv4" / "py.typed").touch()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "basedpyright", "--verifytypes", "ipv4", "--outputjson"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    assert len(symbols) > 500
    bare = [
        symbol["name"]
        for symbol in symbols
        if symbol["isExported"]
        and any("ocstring" in each["message"] for each in symbol["diagnostics"])
        # One that stands in for a base class's is told of there.
        and not inspect.getdoc(pydoc.locate(symbol["name"]))
    ]
    assert bare == []


def test_every_member_of_every_enumeration_has_its_meaning():
    bare = []
    for file in "constants.py", "bpf/opcodes.py":
        for cls in ast.parse((ROOT / "ipv4" / file).read_text()).body:
            if not isinstance(cls, ast.ClassDef):
                continue
            for first, second in itertools.pairwise([*cls.body, None]):
                text = isinstance(second, ast.Expr) and getattr(second.value, "value", None)
                if isinstance(first, ast.Assign) and not isinstance(text, str):
                    bare.append(f"{cls.name}.{first.targets[0].id}")
    assert bare == []


@pytest.mark.parametrize("module", ["ipv4", "ipv4.bpf"])
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0


# Properties that no socket option stands behind, and methods that set one.
NO_OPTIONS = {
    "closed",
    "local_addr",
    "remote_addr",
    "control_flags",
    "release_gil",
    "timeout",
    "socket",
    "coalescing",
}
SETTERS = {
    "join_group", "leave_group", "join_source_specific_group", "leave_source_specific_group",
    "exclude_source_specific_group", "include_source_specific_group", "join_all", "source_filter",
    "set_source_filter", "set_bpf", "lock_bpf", "set_reuseport_bpf", "set_control_message",
    "set_timestamping", "read_error",
}  # fmt: skip


def options():
    """Each option of each class, found by being a property; and the methods that are setters."""
    for cls in (Conn, PacketConn, RawConn):
        for name in dir(cls):
            is_property = hasattr(type(inspect.getattr_static(cls, name)), "__set__")
            if name in SETTERS or (is_property and name[0] != "_" and name not in NO_OPTIONS):
                yield pytest.param(cls, name, id=f"{cls.__name__}.{name}")


def test_every_setter_is_there():
    found = {param.values[1] for param in options()}
    assert found >= SETTERS | {"tos", "ttl", "path_mtu", "icmp_filter", "multicast_interface"}


@pytest.mark.parametrize(("cls", "name"), list(options()))
@pytest.mark.parity("options")
def test_docstring_of_an_option_says_since_when_and_where_to_read_on(cls, name):
    text = " ".join(inspect.getattr_static(cls, name).__doc__.split())
    assert re.search(r"Linux [1-9]\.\d", text), "since which kernel?"
    assert re.search(r"\b(ip|udp|socket|raw|packet)\(7\)|\bRFC \d{3,4}", text), "which page?"


# What the kernel refuses to processes without a capability, and what set before makes it so.
PRIVILEGED = [
    ("mark", [1]),
    ("priority", [7]),
    ("transparent", [True]),
    ("bound_interface", [1, None]),
    ("ip_options", [bytes.fromhex("9f040000")]),
    ("receive_buffer", [1 << 29]),
    ("send_buffer", [1 << 29]),
    ("busy_poll", [1000]),
]
KERNEL_NAMES = {
    "mark": "SO_MARK", "priority": "SO_PRIORITY", "transparent": "IP_TRANSPARENT",
    "bound_interface": "SO_BINDTOIFINDEX", "ip_options": "IP_OPTIONS",
}  # fmt: skip


@pytest.mark.parametrize(("name", "values"), PRIVILEGED, ids=[name for name, _ in PRIVILEGED])
@pytest.mark.parity("options")
def test_docstring_of_an_option_names_the_capability_that_it_takes(name, values):
    def body():
        with PacketConn.udp() as conn:
            for value in values:
                setattr(conn, name, value)
            return getattr(conn, name)

    assert "CAP_NET_" in getattr(PacketConn, name).__doc__
    # The newest kernels want none for busy_poll; a buffer falls back to the plain, limited size.
    if name.endswith("_buffer"):
        assert without_privilege(body) < values[0]
    elif name != "busy_poll":
        with pytest.raises(OSError, match=KERNEL_NAMES[name]):
            without_privilege(body)


# What can be read only, and what only raw sockets have.
READ_ONLY = {"path_mtu", "memory_info", "pending", "unsent"}


def test_no_other_option_takes_a_privilege():
    """Every other one can be set, to all that it was or may be, by a process without any."""
    harmless = {
        "tos": 255, "ttl": 255, "multicast_ttl": 255, "multicast_loopback": False,
        "multicast_all": False, "multicast_interface": "lo", "path_mtu_discovery": 3,
        "unicast_interface": "lo", "freebind": True, "broadcast": True, "receive_errors": True,
        "min_ttl": 255, "segmentation": False, "coalesce": True, "local_port_range": (0, 60000),
        "bind_address_no_port": True, "incoming_cpu": 0, "max_pacing_rate": 1 << 20,
    }  # fmt: skip
    settable = {param.values[1] for param in options() if param.values[0] is PacketConn} - SETTERS
    named = {name for name, _ in PRIVILEGED} | READ_ONLY | {"icmp_filter", "no_defragment"}
    assert settable - named == set(harmless)

    def body():
        with PacketConn.udp(("127.0.0.1", 0), **harmless) as conn:
            return {name: getattr(conn, name) for name in harmless}

    assert without_privilege(body).keys() == harmless.keys()
