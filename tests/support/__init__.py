"""Tools for the tests: ``from support import capture, run_with_fault, ...``.

Fixtures (of conftest.py)
-------------------------
hosts
    Makes hosts, network namespaces that are gone after the test. ``a = hosts("a")``,
    ``hosts.link(a, b, "10.1.0.1/24", "10.1.0.2/24", mtu=1300)`` -> names of the two ends.
pair
    ``pair.a`` (10.1.0.1) and ``pair.b`` (10.1.0.2), joined by a veth pair, eth0 on both.
chain
    ``chain.client`` (10.0.1.1) - ``chain.routers[0..2]`` - ``chain.server`` (10.0.4.2).
loopback
    ``(index, name, address)`` of `lo`: the test itself runs in the session's own network.
conn, payloads, icmp, raw
    Conns on loopback: UDP, payloads and whole packets of protocol 253, ICMP payloads.

A `Host` has ``path`` (for ``netns=``), ``iface``, ``address``, ``addresses``, and
``run(argv)``, ``popen(argv)``, ``sysctl(name, value)``, ``proc("igmp")``,
``add_link(name, kind)``, ``set_link(name, up=, mtu=, rename=, master=)``, ``delete_link``,
``add_address("10.9.0.1/24", iface)``, ``add_route("10.9.0.0/16", via=, iface=, kind=)``,
``add_rule``, ``add_neighbour``, ``slow_down(iface, limit=)``, ``netlink(request)`` for the rest,
``call(function, *args)`` (in a thread that is inside the host: sockets opened there belong to it)
and ``with host.inside():`` (the same for the calling thread; what forks, as `run_with_fault` and
`without_privilege` do, goes here and not into `call`).

Marks
-----
privileged
    Needs CAP_NET_RAW, CAP_NET_ADMIN or namespaces: root has them, anybody else in a user namespace.
    The fixtures `hosts`, `pair`, `chain`, `payloads`, `icmp` and `raw` imply it.
root
    Needs the real root (SO_RCVBUFFORCE, /dev/net/tun, a mount seen by others).
needs("bird", "birdc")
    Needs these programs; what brings them on Debian stands in programs.txt. What can be had without
    one (links, addresses, routes) is asked of the kernel.
needs_faults
    Needs a kernel that takes seccomp filters (`run_with_fault`).
unsanitized
    Measures what sanitizers change (time, memory, references): left out when run under them. A
    program started by other means than a host's needs ``env=os.environ | {...}``, so that it can
    load a sanitized library.

What is missing is the reason of the skip.

Data
----
VECTORS
    vectors.json: bytes of headers, control messages and packets with what they mean.

Functions
---------
capture(host, iface)
    ``with capture(pair.b, "eth0") as seen: ...``; then ``seen.assert_clean("ospf")``,
    ``seen.fields("ip.ttl", ...)``, ``seen.json()``, ``seen.text()``, ``seen.packets``.
    Decoding needs tshark: mark with ``needs("tshark")``.
in_child(function, *args)
    Calls it in a forked child process; result or exception come back.
without_privilege(function, *args, keep=())
    The same, in a child without any capability.
run_with_fault({"recvmmsg": errno.ENOSYS, ("setsockopt", level, name): errno.EINVAL}, function)
    The same, in a child where these system calls fail.
eventually(condition, timeout=10)
    Waits for a condition.
until_it_waits(thread, ...)
    Returns when these threads (or programs) wait in the kernel.
when_it_waits(call, *args)
    Makes a call, in another thread, as soon as this one waits.
stamped_on_arrival()
    Within it the kernel stamps packets when they come, not when they are read.
unchanged()
    The standing oracle as a context manager; it is around every test anyway: a test that leaves a
    descriptor, thread, child process or multicast membership behind fails.
"""

import json
from pathlib import Path

from .capturing import Capture, capture
from .children import (
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    CAP_SETFCAP,
    ChildDied,
    can_inject_faults,
    in_child,
    run_with_fault,
    without_privilege,
)
from .hosts import Chain, Host, Hosts, Loopback, Pair, eventually
from .linux import in_thread
from .oracles import unchanged
from .waiting import stamped_on_arrival, until_it_waits, when_it_waits

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors.json").read_text())

__all__ = [
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "VECTORS",
    "Capture",
    "Chain",
    "ChildDied",
    "Host",
    "Hosts",
    "Loopback",
    "Pair",
    "can_inject_faults",
    "capture",
    "eventually",
    "in_child",
    "in_thread",
    "run_with_fault",
    "stamped_on_arrival",
    "unchanged",
    "until_it_waits",
    "when_it_waits",
    "without_privilege",
]
