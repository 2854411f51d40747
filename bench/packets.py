"""Time per packet and per header, of every contender, interleaved.

Within a round the contenders run a case back to back, in an order that rotates.
"""

from cases import SIZE
from host import Failed, Peer
from report import Progress, ratios, row

PART = "time"
KEEP = 0.45
"""Share of the time that is left to the other parts."""

# row: case of each contender, how many a round, goals by contender
CASES = {
    "pair": (
        dict.fromkeys(("ours", "floor", "c", "go", "stdlib"), "pair")
        | {"go, AddrPort": "pair_addrport"},
        30000,
        {"c": 1.07, "go": 0.62, "go, AddrPort": 0.80},
    ),
    "pair, cm": (
        dict.fromkeys(("ours", "floor", "c", "go", "stdlib"), "pair_cm"),
        30000,
        {"c": 1.08, "go": 0.67},
    ),
    "receive": (dict.fromkeys(("ours", "floor", "c", "go", "stdlib"), "receive"), 25600, {}),
    "receive, cm": (
        dict.fromkeys(("ours", "floor", "c", "go", "stdlib"), "receive_cm"),
        25600,
        {"c": 1.15, "go": 0.40},
    ),
    "pair, methods called as conn.read_from": (
        {"ours": "pair_unbound", "floor": "pair_unbound"},
        30000,
        {},
    ),
    "pair, two destinations in turn": ({"ours": "pair_two", "floor": "pair"}, 30000, {}),
    "pair, connected": ({"ours": "pair_connected", "floor": "pair"}, 30000, {}),
    "pair, 1400 bytes": ({"ours": "pair_long", "floor": "pair_long"}, 30000, {}),
    "pair, far deadline": ({"ours": "pair_deadline", "floor": "pair"}, 30000, {}),
    "pair, cm, dst read again and again": ({"ours": "pair_dst", "floor": "pair_cm"}, 30000, {}),
    "batch 64, list": (
        {"ours": "batch_list_64", "c": "batch_64", "go": "batch_64", "stdlib": "batch_64"},
        25600,
        {"c": 1.03, "go": 0.89},
    ),
    "batch 64, MessageBatch": (
        {"ours": "batch_ring_64", "c": "batch_64", "go": "batch_64"},
        25600,
        {"c": 1.01, "go": 0.88},
    ),
    "receive half of 64, list": (
        {"ours": "half_list", "c": "half_64", "go": "half_64"},
        25600,
        {"c": 1.14, "go": 0.97},
    ),
    "receive half of 64, MessageBatch iterated": (
        {"ours": "half_ring", "c": "half_64", "go": "half_64"},
        25600,
        {"c": 1.06, "go": 0.90},
    ),
    "receive half of 64, columns untouched": (
        {"ours": "half_untouched", "c": "half_64_untouched", "go": "half_64"},
        25600,
        {"c": 1.01, "go": 0.85},
    ),
    "raw pair, header built and parsed": (
        dict.fromkeys(("ours", "c", "go"), "raw"),
        20000,
        {"c": 1.13, "go": 0.62},
    ),
    "1400-byte segments, both ways": (
        dict.fromkeys(("ours", "c", "go"), "segments"),
        46000,
        {"c": 1.05, "go": 0.05},
    ),
    "1400-byte messages coalesced, both ways": (
        {"ours": "coalesced", "c": "segments"},
        46000,
        {},
    ),
    "parse_header": (
        dict.fromkeys(("ours", "go", "stdlib", "dpkt"), "parse_header"),
        200000,
        {"go": 0.65, "stdlib": 0.25, "dpkt": 0.01},
    ),
    "Header.parse": (
        dict.fromkeys(("ours", "go", "stdlib", "dpkt"), "header_parse"),
        200000,
        {"go": 0.65, "stdlib": 0.25, "dpkt": 0.01},
    ),
    "Header.marshal": (
        dict.fromkeys(("ours", "go", "stdlib", "dpkt"), "header_marshal"),
        200000,
        {"go": 1.1},
    ),
    "ControlMessage.parse": (
        dict.fromkeys(("ours", "go"), "control_parse"),
        200000,
        {"go": 0.45},
    ),
    "ControlMessage.marshal": (
        dict.fromkeys(("ours", "go"), "control_marshal"),
        200000,
        {"go": 0.90},
    ),
    # 20 bytes are the call's own cost: the standard library's row is `len` of the same bytes.
    "checksum, 20 bytes": (
        dict.fromkeys(("ours", "c", "stdlib"), "checksum_20"),
        500000,
        {},
    ),
    "checksum, 1500 bytes": (
        dict.fromkeys(("ours", "c"), "checksum_1500"),
        200000,
        {"c": 1.1},
    ),
    "checksum, 65535 bytes": (
        dict.fromkeys(("ours", "c"), "checksum_65535"),
        10000,
        {"c": 1.1},
    ),
}
MOVING = ("pair", "receive", "batch", "raw", "1400")  # rows that move packets
BATCHES = (1, 8, 64, 256, 1024)
for size in BATCHES:
    CASES[f"batch of {size}, both ways"] = (
        {
            "ours": f"batch_list_{size}",
            "ours, MessageBatch": f"batch_ring_{size}",
            "ours, coalesced": f"batch_coalesced_{size}",
            "c": f"batch_{size}",
            "go": f"batch_{size}",
            "stdlib": f"batch_{size}",
        },
        20480,
        {},
    )
NAMES = {
    "floor": "the floor",
    "c": "C",
    "go": "Go x/net",
    "go, AddrPort": "Go, AddrPort",
    "stdlib": "socket, struct",
}
# What the picture shows: ns per packet by batch size
LINES = {
    "c": "C, sendmmsg and recvmmsg",
    "ours, MessageBatch": "ipv4, MessageBatch",
    "ours, coalesced": "ipv4, MessageBatch, coalesced",
    "ours": "ipv4, list of Message",
    "go": "Go x/net/ipv4",
    "stdlib": "socket, one by one",
}


def measure(peers, rounds, scale, only, results, clock):
    """Nanoseconds per packet into `results.times`: {case: {contender: [one a round]}}."""
    names = [name for name in CASES if not only or name in only]
    running = {}
    times = results.times
    times |= {name: {} for name in names}
    progress = Progress(PART, (rounds + 1) * len(names))
    gone = set()

    def one(who, name, turn):
        cases, count, _ = CASES[name]
        count = max(count // scale, 2048)
        contender = who.partition(",")[0]
        try:
            if contender not in running:
                running[contender] = Peer(peers[contender])
            outcome = running[contender].run(cases[who], count)
            if outcome is None:
                return
            if name.startswith(MOVING) and outcome[1] < count * SIZE:
                raise Failed(f"{who} lost packets in {name}: {outcome[1]} bytes arrived")
        except Failed as failure:
            # The contender begins anew, without this case.
            results.failures.append(str(failure))
            gone.add((who, name))
            times[name].pop(who, None)
            if contender in running:
                running.pop(contender).close()
            return
        if turn >= 0:
            times[name].setdefault(who, []).append(outcome[0] / count)

    try:
        for turn in range(-1, rounds):  # the first round warms up
            if clock.left(KEEP) < 0:
                results.missing[f"rounds of packets from the {turn + 1}. on"] = "no time was left"
                break
            for name in names:
                order = [who for who in CASES[name][0] if who.partition(",")[0] in peers]
                order = order[turn % len(order) :] + order[: turn % len(order)] if order else []
                if clock.left(KEEP / 2) < 0:
                    break
                for who in order:
                    if (who, name) not in gone:
                        one(who, name, turn)
                progress.step()
    finally:
        for peer in running.values():
            peer.close()


def rows(times):
    for name, (cases, _, goals) in CASES.items():
        found = times.get(name, {})
        for who in cases:
            if not who.startswith("ours") and {who, "ours"} <= found.keys():
                against = NAMES.get(who, who)
                if (name, who) == ("checksum, 20 bytes", "stdlib"):
                    against = "calling len"
                shared = min(len(found["ours"]), len(found[who]))  # the last round may be cut
                values = ratios(found["ours"][:shared], found[who][:shared])
                yield row(PART, name, against, values, goals.get(who))


def growth(times):
    """Time per packet of each batch size against that of 64."""
    base = times.get("batch of 64, both ways", {}).get("ours, MessageBatch")
    for size in BATCHES:
        found = times.get(f"batch of {size}, both ways", {}).get("ours, MessageBatch")
        if base and found and size > 64:
            goal = 1.1  # not to grow: room for the noise
            shared = min(len(found), len(base))
            values = ratios(found[:shared], base[:shared])
            yield row(PART, f"MessageBatch of {size} / of 64", "itself", values, goal)


def joined(times):
    """Time per 1400-byte datagram that leaves and comes in joined, against one by one."""
    singly = times.get("pair, 1400 bytes", {}).get("ours")
    for name in ("1400-byte segments, both ways", "1400-byte messages coalesced, both ways"):
        found = times.get(name, {}).get("ours")
        if singly and found:
            shared = min(len(found), len(singly))
            yield row(PART, name, "one by one", ratios(found[:shared], singly[:shared]))


def lines(times):
    """Points of the picture: {label: [(batch size, median ns per packet)]}."""
    from statistics import median

    return {
        label: [
            (size, median(times[f"batch of {size}, both ways"][who]))
            for size in BATCHES
            if who in times.get(f"batch of {size}, both ways", {})
        ]
        for who, label in LINES.items()
    }
