"""Every program on every page runs, and prints what the page says it prints."""

import doctest
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import without_privilege

import ipv4
from ipv4 import Conn, PacketConn, RawConn

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.rst"))]


def blocks(page):
    """Yield line number, language and text of each code block of a page."""
    lines = page.read_text().splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        start = at
        if found := re.match(r"```(\w+)", line):
            while lines[at] != "```":
                at += 1
            yield start, found[1], "\n".join(lines[start:at])
        elif found := re.match(r"\.\. code-block:: (\w+)", line):
            while at < len(lines) and (not lines[at] or lines[at].startswith("   ")):
                at += 1
            yield start, found[1], "\n".join(each[3:] for each in lines[start:at]).strip()


def programs():
    """Each program, with the output that the block after it shows, if it shows one."""
    for page in PAGES:
        found = list(blocks(page))
        for at, (line, language, text) in enumerate(found):
            if language != "python":
                continue
            shown = (
                found[at + 1][2] if found[at + 1 : at + 2] and found[at + 1][1] == "text" else None
            )
            yield pytest.param(text, shown, id=f"{page.relative_to(ROOT)}:{line}")


@pytest.mark.privileged
@pytest.mark.parametrize(("program", "shown"), list(programs()))
def test_programs_of_the_pages(program, shown, tmp_path):
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if shown is not None:
        assert done.stdout.strip() == shown.strip()


def test_the_first_program_is_short():
    _, language, text = next(blocks(ROOT / "README.md"))
    assert language == "python"
    assert len([line for line in text.splitlines() if line]) <= 10


def test_the_quick_start_is_two_commands():
    page = (ROOT / "README.md").read_text()
    section = page.partition("## Quick start")[2].partition("```sh\n")[2].partition("```")[0]
    assert section.splitlines() == ["pip install . && ipv4 demo", "pip install '.[test]' && pytest"]


def test_editors_find_a_docstring_at_every_public_name():
    """In the stubs as the build installs them: docstrings stand in the sources alone."""
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import stubdocs
    finally:
        sys.path.pop(0)
    bare = []
    everywhere = stubdocs.members([*(ROOT / "ipv4").glob("*.py"), *(ROOT / "ipv4").rglob("*.pyx")])
    for stub in sorted((ROOT / "ipv4").rglob("*.pyi")):
        source = next(filter(Path.exists, map(stub.with_suffix, (".pyx", ".py"))), None)
        if source is None or stub.name == "__init__.pyi":
            continue
        others = everywhere if stub.name == "aio.pyi" else {}
        text = stubdocs.documented(stub.read_text(), stubdocs.scan(source), "", others)
        for name, place in stubdocs.scan_python(text).items():
            if not place.doc and not any(part[0] == "_" for part in name.split(".")):
                bare.append(f"{stub.relative_to(ROOT)}: {name}")
        installed = Path(ipv4.__file__).parent / stub.relative_to(ROOT / "ipv4")
        if installed.exists() and installed != stub:
            assert '"""' in installed.read_text(), installed
    assert bare == []


@pytest.mark.parametrize("module", ["ipv4", "ipv4.bpf"])
def test_examples_in_docstrings(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0


# Properties that no socket option stands behind, and methods that set one.
NO_OPTIONS = {"closed", "local_addr", "control_flags", "release_gil"}
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


def test_no_other_option_takes_a_privilege():
    """Every other one can be set, to all that it was or may be, by a process without any."""
    harmless = {
        "tos": 255, "ttl": 255, "multicast_ttl": 255, "multicast_loopback": False,
        "multicast_all": False, "multicast_interface": "lo", "path_mtu_discovery": 3,
        "unicast_interface": "lo", "freebind": True, "broadcast": True, "receive_errors": True,
        "min_ttl": 255, "segmentation": False,
    }  # fmt: skip
    settable = {param.values[1] for param in options() if param.values[0] is PacketConn} - SETTERS
    named = {name for name, _ in PRIVILEGED} | {"path_mtu", "icmp_filter"}
    assert settable - named == set(harmless)

    def body():
        with PacketConn.udp(("127.0.0.1", 0), **harmless) as conn:
            return {name: getattr(conn, name) for name in harmless}

    assert without_privilege(body).keys() == harmless.keys()
