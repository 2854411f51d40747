"""Fixtures, marks and standing oracles of the suite; tests/support/__init__.py lists them.

The whole session runs in a network namespace of its own, so that no test can touch the machine's
network: root makes one, anybody else makes a user namespace first and is root inside it. Where
the system forbids both, tests that need a privilege are skipped and say why.
"""

import functools
import importlib.metadata
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("support")

from support import ChildDied, can_inject_faults, parity  # noqa: E402
from support.children import in_child  # noqa: E402
from support.hosts import (  # noqa: E402
    Chain,
    Hosts,
    Loopback,
    Pair,
    make_chain,
    make_pair,
)
from support.linux import become_private  # noqa: E402
from support.oracles import unchanged  # noqa: E402
from support.programs import lacking  # noqa: E402

if TYPE_CHECKING:
    from ipv4 import PacketConn, RawConn

ROOT = Path(__file__).resolve().parent.parent

MARKS = (
    "privileged: needs CAP_NET_RAW, CAP_NET_ADMIN or namespaces",
    "root: needs the real root, not that of a user namespace",
    "needs(*programs): needs these programs",
    "needs_faults: needs a kernel that takes seccomp filters",
    "unsanitized: measures what sanitizers change: time, memory, references",
)

# Fixtures that imply the mark privileged.
NEED_PRIVILEGE = {"hosts", "payloads", "icmp", "raw"}

# Why the session has no network of its own; empty when it has.
no_privilege = pytest.StashKey[str]()
real_root = pytest.StashKey[bool]()
# A test failed: its traceback holds what it opened, and lets it go at some later time.
tainted = pytest.StashKey[bool]()


def drop_source_tree() -> None:
    """Take the repository's root off sys.path: `python -m pytest` puts it there.

    The folder ipv4/ in it has no compiled modules and would hide the installed package. An
    editable install does not need the path: it is found by a finder of its own.
    """
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]


drop_source_tree()


def pytest_addoption(parser: pytest.Parser) -> None:
    parity.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    parity.configure(config)
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    # Where Debian keeps bird, nft and others, and an ordinary user's PATH does not look.
    os.environ["PATH"] += os.pathsep + os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))
    # A library's pool of threads, started by whichever test imports it first, is no leak.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    config.stash[tainted] = config.stash[real_root] = False
    # A machine shared with others may starve a test: CI has what failed run once more, and the
    # closing lines name it. Not in the environment any more, for tests run pytest themselves.
    if os.environ.pop("CI_RERUNS", "") and hasattr(config.option, "reruns"):
        config.option.reruns = 1
        config.option.reportchars += "R"
    try:
        # First for a trial in a child: half of it done here could not be undone.
        in_child(become_private, timeout=10)
        config.stash[real_root] = become_private()
    except (OSError, ChildDied) as error:
        config.stash[no_privilege] = f"no private network can be made here: {error}"
    else:
        config.stash[no_privilege] = ""


def pytest_report_header(config: pytest.Config) -> list[str]:
    try:
        import ipv4
    except ImportError as error:
        library = f"ipv4: cannot be imported: {error}"
    else:
        library = f"ipv4: {importlib.metadata.version('ipv4')} from {ipv4.__file__}"
    network = config.stash[no_privilege] or (
        "a namespace of its own, as root"
        if config.stash[real_root]
        else "a user namespace of its own"
    )
    return [library, f"network: {network}"]


@functools.cache
def no_faults() -> str:
    return can_inject_faults()


def reason_to_skip(item: pytest.Item) -> str:
    """Return what the test needs and this system lacks, or ""."""
    privileged = item.get_closest_marker("privileged") or item.get_closest_marker("root")
    if privileged or NEED_PRIVILEGE & set(getattr(item, "fixturenames", ())):
        forbidden = item.config.stash[no_privilege]
        if forbidden:
            return f"needs privileges: {forbidden}"
    if item.get_closest_marker("root") and not item.config.stash[real_root]:
        return "needs the real root, not that of a user namespace"
    programs = [name for mark in item.iter_markers("needs") for name in mark.args]
    if lacking(programs):
        return lacking(programs)
    if item.get_closest_marker("needs_faults") and no_faults():
        return no_faults()
    if item.get_closest_marker("unsanitized") and "libasan" in os.environ.get("LD_PRELOAD", ""):
        return "measures what sanitizers change"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        reason = reason_to_skip(item)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report = yield
    if report.failed:
        item.config.stash[tainted] = True
    return report


@pytest.fixture(autouse=True)
def standing_oracles(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves behind a descriptor, a thread, a child or a membership."""
    config = request.config
    with unchanged(
        own_network=not config.stash[no_privilege], closed_too=not config.stash[tainted]
    ):
        yield


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Make hosts (network namespaces) and links between them; all are gone after the test."""
    made = Hosts()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pair(hosts: Hosts) -> Pair:
    """Return two hosts joined by a veth pair: a is 10.1.0.1, b is 10.1.0.2, eth0 on both."""
    return make_pair(hosts)


@pytest.fixture
def chain(hosts: Hosts) -> Chain:
    """Return client - three routers - server, from 10.0.1.1 to 10.0.4.2, forwarding on."""
    return make_chain(hosts)


@pytest.fixture
def loopback() -> Loopback:
    """Return index, name and address of the loopback interface that the test itself has."""
    return Loopback(socket.if_nametoindex("lo"), "lo", "127.0.0.1")


# Conns on loopback whose calls fail, rather than hang, when nothing comes for half a minute. The
# library is imported when the first is wanted: where it cannot be, the report's head says why.


@pytest.fixture
def conn() -> Iterator["PacketConn"]:
    """Return a UDP conn on loopback."""
    from ipv4 import PacketConn

    with PacketConn.udp(("127.0.0.1", 0)) as conn:
        conn.set_deadline(time.monotonic() + 30)
        yield conn


@pytest.fixture
def payloads() -> Iterator["PacketConn"]:
    """Return a conn for payloads of protocol 253 (RFC 3692) on loopback."""
    from ipv4 import PacketConn

    with PacketConn.ip(253, "127.0.0.1") as conn:
        conn.set_deadline(time.monotonic() + 30)
        yield conn


@pytest.fixture
def icmp() -> Iterator["PacketConn"]:
    """Return a conn for ICMP on loopback."""
    from ipv4 import PacketConn

    with PacketConn.ip(1, "127.0.0.1") as conn:
        conn.set_deadline(time.monotonic() + 30)
        yield conn


@pytest.fixture
def raw() -> Iterator["RawConn"]:
    """Return a conn for whole packets of protocol 253 (RFC 3692) on loopback."""
    from ipv4 import RawConn

    with RawConn.ip(253, "127.0.0.1") as conn:
        conn.set_deadline(time.monotonic() + 30)
        yield conn
