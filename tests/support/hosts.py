"""Hosts made of network namespaces, and the links between them."""

import contextlib
import ipaddress
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from .linux import (
    CLONE_NEWNET,
    in_thread,
    inside_network,
    open_own_network,
    raise_loopback,
    setns,
    unshare,
)

RT_SCOPE_LINK, RT_SCOPE_HOST = 253, 254


class Loopback(NamedTuple):
    """The loopback interface of the session's own network."""

    index: int
    name: str
    address: str


class Host:
    """A machine of its own as far as networking goes: a namespace held by a descriptor.

    The namespace needs no name in the file system and no process to keep it: it is gone when the
    descriptor is closed and the last program and socket in it have ended.

    Attributes
    ----------
    name : str
        For messages only.
    path : str
        What setns(2), `nsenter --net=` and the `netns=` of the openers take.
    iface, address : str
        Name and IPv4 address of the first link's end here; the others are in `addresses`.
    addresses : dict
        From the name of an interface to its address, without the prefix length.
    grace : float
        Seconds that a program has between SIGTERM and SIGKILL when the host goes.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.addresses: dict[str, str] = {}
        self.grace = 2.0
        self._programs: list[subprocess.Popen[Any]] = []
        self._fd = in_thread(_new_network)

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.addresses}>"

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    @property
    def iface(self) -> str:
        return next(iter(self.addresses))

    @property
    def address(self) -> str:
        return self.addresses[self.iface]

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """`with host.inside():` moves the calling thread there; new sockets belong to the host."""
        return inside_network(self._fd)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `function` in a thread of its own that is inside the host.

        What it opens there (a socket, a conn) stays the host's and may be used from any thread.
        Beware of /proc/net and /proc/self/net: they show the network of the process's first
        thread; `proc` reads the right one. And do not fork in it (`run_with_fault`, ...): a lock
        that another thread holds just then stays locked in the child. `inside` is for that.
        """

        def enter() -> Any:
            setns(self._fd)
            return function(*args, **kwargs)

        return in_thread(enter)

    def run(
        self, argv: Sequence[str], *, check: bool = True, timeout: float = 60, **kwargs: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end on this host; its output is captured as text.

        Raises
        ------
        subprocess.CalledProcessError
            Its exit status is not 0 and `check` is set; stderr is in the message's notes.
        """
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        _keep_sanitizers(kwargs)
        with self.inside():
            done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, **kwargs)
        if check and done.returncode:
            error = subprocess.CalledProcessError(
                done.returncode, argv, output=done.stdout, stderr=done.stderr
            )
            error.add_note(f"on {self.name}: {done.stderr or done.stdout}")
            raise error
        assert "Exception ignored in" not in done.stderr, done.stderr
        return done

    def popen(self, argv: Sequence[str], **kwargs: Any) -> subprocess.Popen[Any]:
        """Start a program on this host; it is ended with the host if it has not ended before."""
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("start_new_session", True)
        _keep_sanitizers(kwargs)
        with self.inside():
            program = subprocess.Popen(argv, **kwargs)
        self._programs.append(program)
        return program

    def netlink(self, request: Callable[[IPRoute], Any]) -> Any:
        """Call `request` with a routing socket of this host, for what has no method below.

        Raises
        ------
        OSError
            The kernel's answer, with its errno. Link attributes are those of pyroute2.
        """

        def ask() -> Any:
            with IPRoute() as routing:
                try:
                    return request(routing)
                except NetlinkError as error:
                    raise OSError(error.code, os.strerror(error.code), self.name) from None

        return self.call(ask)

    def add_link(self, name: str, kind: str, **attributes: Any) -> None:
        """Make an interface; `attributes` are pyroute2's: ``add_link("br0", "bridge")``."""
        self.netlink(lambda ip: ip.link("add", ifname=name, kind=kind, **attributes))

    def set_link(
        self,
        name: str,
        *,
        up: bool | None = None,
        mtu: int | None = None,
        rename: str | None = None,
        master: str | None = None,
    ) -> None:
        """Change an interface; what is not given stays. A `rename` needs a link that is down."""
        changes: dict[str, Any] = {}
        if up is not None:
            changes["state"] = "up" if up else "down"
        if mtu is not None:
            changes["mtu"] = mtu
        if rename is not None:
            changes["ifname"] = rename
        if master is not None:
            changes["master"] = self.index(master)
        self.netlink(lambda ip: ip.link("set", index=socket.if_nametoindex(name), **changes))

    def await_link(self, name: str) -> None:
        """Wait until the kernel sends by a link: it takes note of a carrier a little later.

        What is sent before that is thrown away without a word.
        """
        index = self.index(name)
        self.netlink(lambda ip: eventually(lambda: _is_up(ip.get_links(index)[0])))

    def delete_link(self, name: str) -> None:
        """Take an interface away; the other end of a veth pair goes with it."""
        self.netlink(lambda ip: ip.link("del", index=socket.if_nametoindex(name)))

    def index(self, name: str) -> int:
        """The number of an interface here."""
        return self.call(socket.if_nametoindex, name)

    def add_address(self, address: str, iface: str, *, label: str | None = None) -> None:
        """Give an interface an address: ``add_address("10.9.0.1/24", "lo")``.

        The broadcast address is the last of the net; a label is that of an alias (``eth0:1``).
        """
        own = ipaddress.IPv4Interface(address)
        more: dict[str, Any] = {}
        if own.network.prefixlen < 31:
            more["broadcast"] = str(own.network.broadcast_address)
        if label is not None:
            more["label"] = label
        self._address("add", own, iface, more)

    def delete_address(self, address: str, iface: str) -> None:
        """Take an address, named with its prefix length, away again."""
        self._address("del", ipaddress.IPv4Interface(address), iface, {})

    def _address(
        self, verb: str, own: ipaddress.IPv4Interface, iface: str, more: dict[str, Any]
    ) -> None:
        self.netlink(
            lambda ip: ip.addr(
                verb,
                index=socket.if_nametoindex(iface),
                address=str(own.ip),
                prefixlen=own.network.prefixlen,
                **more,
            )
        )

    def add_route(
        self,
        destination: str,
        *,
        via: str | None = None,
        iface: str | None = None,
        kind: str = "unicast",
        metric: int | None = None,
        table: int | None = None,
        mtu: int | None = None,
    ) -> None:
        """Add a route: ``add_route("10.9.0.0/16", via="10.1.0.2")``.

        Parameters
        ----------
        destination : str
            A net or an address; 0.0.0.0/0 is the default route.
        via, iface : str, optional
            The gateway and the interface.
        kind : str
            As ip-route(8) has them: unicast, local, unreachable, prohibit, blackhole.
        metric, table, mtu : int, optional
        """

        def request(ip: IPRoute) -> None:
            more: dict[str, Any] = {"type": kind}
            if kind == "local":
                more["scope"] = RT_SCOPE_HOST
            elif kind == "unicast" and via is None:
                more["scope"] = RT_SCOPE_LINK
            if via is not None:
                more["gateway"] = via
            if iface is not None:
                more["oif"] = socket.if_nametoindex(iface)
            if metric is not None:
                more["priority"] = metric
            if table is not None:
                more["table"] = table
            if mtu is not None:
                more["metrics"] = {"mtu": mtu}
            ip.route("add", dst=str(ipaddress.IPv4Network(destination)), **more)

        self.netlink(request)

    def add_rule(self, **attributes: Any) -> None:
        """Add a routing rule: ``add_rule(fwmark=1, table=100)``."""
        self.netlink(lambda ip: ip.rule("add", **attributes))

    def add_neighbour(self, address: str, lladdr: str, iface: str) -> None:
        """Fix the link-layer address of a neighbour: no ARP is needed, and none can fail."""
        self.netlink(
            lambda ip: ip.neigh(
                "replace",
                dst=address,
                lladdr=lladdr,
                ifindex=socket.if_nametoindex(iface),
                state="permanent",
            )
        )

    def lladdr(self, iface: str) -> str:
        """The link-layer address of an interface, for a neighbour's table."""
        index = self.index(iface)
        return self.netlink(lambda ip: ip.get_links(index)[0].get("address"))

    def slow_down(self, iface: str, *, limit: int, rate: str = "64kbit", burst: int = 2048) -> None:
        """Let `rate` through an interface, with a queue of `limit` bytes before it (tc-tbf(8))."""
        self.netlink(
            lambda ip: ip.tc(
                "add",
                "tbf",
                socket.if_nametoindex(iface),
                1 << 16,
                rate=rate,
                burst=burst,
                limit=limit,
            )
        )

    def forbid_icmp(self) -> None:
        """Let the host's own ICMP messages find no way out (of sockets too, but with a mark)."""
        self.add_rule(priority=1, iifname="lo", ip_proto=1, fwmark=0, fwmask=1, action="blackhole")

    def sysctl(self, name: str, value: object = None) -> str:
        """Write (unless `value` is None) and read ``net.…`` of this host's namespace."""
        file = Path("/proc/sys", *name.split("."))
        if value is not None:
            self.call(file.write_text, f"{value}\n")
        return self.call(file.read_text).strip()

    def proc(self, name: str) -> str:
        """Read a file of the host's /proc/net: ``host.proc("igmp")``."""
        return self.call(Path("/proc/thread-self/net", name).read_text)

    def close(self) -> None:
        """End what runs on the host and let the namespace go.

        Raises
        ------
        AssertionError
            A program that was not started by `popen` (a daemon gone into the background) is
            still there. It is killed nevertheless.
        """
        if self._fd < 0:
            return
        for program in reversed(self._programs):
            _end(program, self.grace)
        identity = os.stat(self.path)
        strays = list(_processes_in(identity.st_ino))
        for pid, _ in strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.close(self._fd)
        self._fd = -1
        assert not strays, f"left running on {self.name}: {strays}"


class Hosts:
    """Makes hosts, links them, and takes all of them away again."""

    def __init__(self) -> None:
        self._hosts: list[Host] = []
        self._networks = itertools.count(1)

    def __call__(self, name: str = "") -> Host:
        host = Host(name or f"host{len(self._hosts) + 1}")
        self._hosts.append(host)
        return host

    def link(
        self,
        a: Host,
        b: Host,
        addr_a: str | None = None,
        addr_b: str | None = None,
        *,
        mtu: int = 1500,
        names: tuple[str, str] | None = None,
    ) -> tuple[str, str]:
        """Join two hosts by a veth pair that is up.

        Parameters
        ----------
        a, b : Host
        addr_a, addr_b : str, optional
            Addresses with prefix length; by default 10.N.0.1/24 and 10.N.0.2/24 of a fresh net.
        mtu : int
            In bytes, of both ends.
        names : pair of str, optional
            Of the two ends; by default eth0, eth1, ... on each host.

        Returns
        -------
        tuple of str
            The names of the two ends.
        """
        network = next(self._networks)
        addr_a = addr_a or f"10.{network}.0.1/24"
        addr_b = addr_b or f"10.{network}.0.2/24"
        end_a, end_b = names or (f"eth{len(a.addresses)}", f"eth{len(b.addresses)}")
        # The kernel calls a veth end without a peer that is up "no carrier": a's side comes last.
        peer = {"ifname": end_b, "mtu": mtu, "net_ns_fd": b._fd}
        a.add_link(end_a, "veth", mtu=mtu, peer=peer)
        for host, end, address in ((b, end_b, addr_b), (a, end_a, addr_a)):
            host.add_address(address, end)
            host.set_link(end, up=True)
            host.addresses[end] = address.partition("/")[0]
        for host, end in ((a, end_a), (b, end_b)):
            host.await_link(end)
        return end_a, end_b

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for host in self._hosts:
                stack.callback(host.close)


class Pair(NamedTuple):
    """Two hosts joined by a veth pair: `a` is 10.1.0.1, `b` is 10.1.0.2, both on eth0."""

    a: Host
    b: Host


class Chain(NamedTuple):
    """client - router - router - router - server; the routers forward and always say so by ICMP."""

    client: Host
    routers: tuple[Host, Host, Host]
    server: Host

    @property
    def hosts(self) -> tuple[Host, ...]:
        return (self.client, *self.routers, self.server)


def make_pair(hosts: Hosts) -> Pair:
    a, b = hosts("a"), hosts("b")
    hosts.link(a, b)
    return Pair(a, b)


def make_chain(hosts: Hosts) -> Chain:
    line = [hosts(name) for name in ("client", "router1", "router2", "router3", "server")]
    for number, (left, right) in enumerate(itertools.pairwise(line), start=1):
        hosts.link(left, right, f"10.0.{number}.1/24", f"10.0.{number}.2/24")
    for position, host in enumerate(line):
        # Net N lies between hosts N-1 and N of the line; each is reached through a neighbour.
        for number in range(1, len(line)):
            if number < position:
                host.add_route(f"10.0.{number}.0/24", via=f"10.0.{position}.1")
            elif number > position + 1:
                host.add_route(f"10.0.{number}.0/24", via=f"10.0.{position + 1}.2")
    for router in line[1:-1]:
        router.sysctl("net.ipv4.ip_forward", 1)
        router.sysctl("net.ipv4.icmp_ratelimit", 0)
    return Chain(line[0], (line[1], line[2], line[3]), line[4])


def eventually(
    condition: Callable[[], Any], *, timeout: float = 10, every: float = 0.05, what: str = ""
) -> Any:
    """Call `condition` until its answer is true and return that; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition} (last: {answer!r})")
        time.sleep(every)


def _is_up(link: Any) -> bool:
    return link.get("operstate") == "UP"


def _new_network() -> int:
    unshare(CLONE_NEWNET)
    raise_loopback()
    for scope in ("all", "default"):
        # No neighbour discovery and MLD among the packets that tests look at.
        with contextlib.suppress(FileNotFoundError):
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
        Path(f"/proc/sys/net/ipv4/conf/{scope}/rp_filter").write_text("0")
    return open_own_network()


def _keep_sanitizers(kwargs: dict[str, Any]) -> None:
    """Leave in an environment of the test's own making what loads a sanitized library."""
    if kwargs.get("env") is not None:
        for name in ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS", "PYTHONMALLOC"):
            if name in os.environ:
                kwargs["env"] = {name: os.environ[name], **kwargs["env"]}


def _end(program: subprocess.Popen[Any], grace: float) -> None:
    try:
        if program.poll() is None:
            program.terminate()
            try:
                program.wait(grace)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
    finally:
        for pipe in (program.stdin, program.stdout, program.stderr):
            if pipe is not None:
                pipe.close()


def _processes_in(inode: int) -> Iterator[tuple[int, str]]:
    own = os.getpid()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == own:
            continue
        # Processes of others are unreadable, and any may end meanwhile.
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{entry.name}/ns/net").st_ino == inode:
                state = Path(f"/proc/{entry.name}/stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z":
                    name = Path(f"/proc/{entry.name}/comm").read_text().strip()
                    yield int(entry.name), name
