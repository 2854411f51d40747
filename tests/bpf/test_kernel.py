"""The kernel as the judge of `ipv4.bpf`: it runs the same programs on the same packets."""

import collections
import errno
import os
import random
import socket
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest
from support import Chain
from support.bpf_cases import (
    ECHO_ID,
    ICMP,
    ID,
    UDP,
    VERDICTS,
    A,
    X,
    icmp,
    ip_header,
    random_program,
)

import ipv4
from ipv4 import bpf
from ipv4.bpf import (
    TAX,
    VM,
    ALUOp,
    ALUOpConstant,
    ALUOpX,
    Extension,
    Instruction,
    Jump,
    JumpIf,
    JumpTest,
    LoadAbsolute,
    LoadConstant,
    LoadExtension,
    LoadIndirect,
    LoadScratch,
    RawInstruction,
    RetA,
    RetConstant,
    StoreScratch,
)

LOOPBACK = "127.0.0.1"
ANYTHING = b"anything"
SO_NO_CHECK = 11  # <asm-generic/socket.h>; `socket` does not name it

PROGRAMS = 5000
SEED = 20261123


class Judge:
    """A UDP socket on loopback that has the program, and others that send to it.

    Nothing is waited for in vain: everything is sent from one processor, so what came before the
    marker, which goes to a socket without a program, has been judged when the marker is there.
    """

    SENDERS = 4

    def __init__(self) -> None:
        self._affinity = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self._affinity)})
        self.conn = ipv4.PacketConn.udp((LOOPBACK, 0))
        self._marked = ipv4.PacketConn.udp((LOOPBACK, 0))
        self._senders = []
        for _ in range(self.SENDERS):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            # Loopback leaves checksums half made; with none at all the whole header is known.
            sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
            sender.bind((LOOPBACK, 0))
            self._senders.append(sender)
        self._buffer = bytearray(2000)

    def close(self) -> None:
        self.conn.close()
        self._marked.close()
        for sender in self._senders:
            sender.close()
        os.sched_setaffinity(0, self._affinity)

    def header(self, number: int, payload: bytes) -> bytes:
        """Return the UDP header of what sender `number` sends."""
        source = self._senders[number].getsockname()[1]
        return struct.pack("!HHHH", source, self.conn.local_addr[1], 8 + len(payload), 0)

    def send(self, payloads: list[bytes]) -> list[bytes | None]:
        """Send each payload from a sender of its own; return what arrived of each, if anything."""
        for sender, payload in zip(self._senders, payloads, strict=False):
            sender.sendto(payload, self.conn.local_addr)
        self._senders[0].sendto(b"marker", self._marked.local_addr)
        self._marked.set_read_deadline(time.monotonic() + 30)
        self._marked.read_from(self._buffer)
        arrived: dict[int, bytes] = {}
        for _ in range(len(payloads) + 1):
            try:
                n, _, (_, port) = self.conn.read_from(self._buffer, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            assert port not in arrived
            arrived[port] = bytes(self._buffer[:n])
        ports = [sender.getsockname()[1] for sender in self._senders]
        assert arrived.keys() <= set(ports)
        return [arrived.get(port) for port, _ in zip(ports, payloads, strict=False)]

    def expected(self, vm: VM, payloads: list[bytes]) -> list[bytes | None]:
        """Return what arrives if the kernel agrees with the virtual machine.

        A verdict cuts the datagram, but never its header (udp_queue_rcv_one_skb in net/ipv4/udp.c).
        """
        verdicts = [vm.run(self.header(i, p) + p) for i, p in enumerate(payloads)]
        return [
            payload[: max(verdict - 8, 0)] if verdict else None
            for verdict, payload in zip(verdicts, payloads, strict=True)
        ]


@pytest.fixture
def judge() -> Iterator[Judge]:
    judge = Judge()
    try:
        yield judge
    finally:
        judge.close()


def _payloads(dice: random.Random) -> list[bytes]:
    return [
        dice.randbytes(dice.randrange(9)),
        dice.randbytes(dice.randrange(60)),
        # As long as any verdict that a random program folds its result into.
        dice.randbytes(256),
        dice.randbytes(256),
    ]


@pytest.mark.parity("bpf.VM.Run")
def test_the_kernel_agrees_about_random_programs(judge: Judge) -> None:
    dice = random.Random(SEED)
    used: collections.Counter[int] = collections.Counter()
    fates: collections.Counter[str] = collections.Counter()
    for number in range(PROGRAMS):
        program = random_program(dice)
        payloads = _payloads(dice)
        raw = bpf.assemble(program)
        judge.conn.set_bpf(raw)
        expected = judge.expected(VM(program), payloads)
        assert judge.send(payloads) == expected, (
            f"program {number}:\n" + "\n".join(map(str, program)),
            [payload.hex() for payload in payloads],
        )
        assert judge.expected(VM(raw), payloads) == expected
        used.update(word.op for word in raw)
        for payload, arrived in zip(payloads, expected, strict=True):
            if arrived is None:
                fates["dropped"] += 1
            else:
                fates["whole" if arrived == payload else "cut"] += 1
    # The programs had everything in them, and every kind of end was met often.
    every = {made.op for made in bpf.assemble(_every_instruction())}
    assert used.keys() == every
    assert min(fates[fate] for fate in ("dropped", "cut", "whole")) > PROGRAMS // 4, fates


def _every_instruction() -> Iterator[Instruction]:
    yield from (bpf.NegateA(), Jump(0), RetA(), RetConstant(0), TAX(), bpf.TXA())
    yield from (LoadExtension(Extension.LEN), bpf.LoadMemShift(0))
    for register in bpf.Register:
        yield from (LoadConstant(register, 0), LoadScratch(register, 0), StoreScratch(register, 0))
    for size in (1, 2, 4):
        yield from (LoadAbsolute(0, size), LoadIndirect(0, size))
    for op in ALUOp:
        yield from (ALUOpConstant(op, 1), ALUOpX(op))
    for test in JumpTest:
        yield from (JumpIf(test, 0), bpf.JumpIfX(test))


@pytest.mark.parametrize("name", VERDICTS)
@pytest.mark.parity("BPF encodings, machine and texts")
def test_the_kernel_agrees_about_the_table(judge: Judge, name: str) -> None:
    program, payload, arrive = VERDICTS[name]
    judge.conn.set_bpf(program)
    arrived = judge.send([payload])
    assert arrived == judge.expected(VM(program), [payload])
    assert len(arrived[0] or b"") == arrive


# Shift by 32 or more: by a constant the kernel refuses it, by X it takes the low five bits.
@pytest.mark.parametrize("shift", [0, 1, 31, 32, 33, 63, 64, 255, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("op", [ALUOp.SHIFT_LEFT, ALUOp.SHIFT_RIGHT])
def test_the_kernel_agrees_about_shifts(judge: Judge, op: ALUOp, shift: int) -> None:
    for fold in (0, 8, 16, 24):
        program = [
            LoadConstant(A, 0x87654321),
            LoadConstant(X, shift),
            ALUOpX(op),
            ALUOpConstant(ALUOp.SHIFT_RIGHT, fold),
            ALUOpConstant(ALUOp.AND, 0xFF),
            ALUOpConstant(ALUOp.ADD, 8),
            RetA(),
        ]
        judge.conn.set_bpf(program)
        payloads = [bytes(256)]
        assert judge.send(payloads) == judge.expected(VM(program), payloads)


@pytest.mark.parametrize(
    "program",
    [
        [Jump(1), RetA()],
        [JumpIf(JumpTest.EQUAL, 0, skip_true=2), RetA()],
        [JumpIf(JumpTest.NOT_EQUAL, 0, skip_true=1), RetA()],
        [ALUOpConstant(ALUOp.DIV, 0), RetA()],
        [ALUOpConstant(ALUOp.MOD, 0), RetA()],
        [LoadExtension(100), RetA()],
        [LoadExtension(0xFF0), RetA()],
        [LoadConstant(A, 1)],
        [RawInstruction(0xFFFF, 0, 0, 0), RetA()],
        [RawInstruction(0x60, 0, 0, 16), RetA()],
        [LoadAbsolute(0xFFFFF001, 4), RetA()],
    ],
)
def test_what_the_vm_refuses_the_kernel_refuses(judge: Judge, program: list[Instruction]) -> None:
    with pytest.raises(ValueError):
        VM(program)
    with pytest.raises(OSError) as caught:
        judge.conn.set_bpf(program)
    assert caught.value.errno == errno.EINVAL


def test_the_kernel_and_the_vm_know_the_same_operation_codes(judge: Judge) -> None:
    written = [StoreScratch(A, n) for n in range(16)]
    known = []
    refusals = set()
    for op in [*range(0x200), 0x8006, 0xFF06, 0xFFFF]:
        program = [*written, RawInstruction(op, 0, 0, 1), *[RetConstant(9)] * 3]
        try:
            judge.conn.set_bpf(program)
        except OSError as error:
            refusals.add(error.errno)
            with pytest.raises(ValueError, match="unknown instruction"):
                VM(program)
        else:
            known.append(op)
            assert judge.send([ANYTHING]) == judge.expected(VM(program), [ANYTHING])
    assert refusals == {errno.EINVAL}
    # Those that have a class, and "ldx #len".
    assert known == sorted({made.op for made in bpf.assemble(_every_instruction())} | {0x81})


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ([], ValueError, "at least one instruction"),
        ([RetA()] * 4097, ValueError, "may have 4096 instructions"),
        ([(6, 0, 256, 0)], ValueError, "instruction 1: jf must be in"),
        ([LoadAbsolute(8, 3), RetA()], ValueError, "assembling instruction 1: invalid load byte"),
        ([None], TypeError, "instruction 1 must be"),
        (6, TypeError, "int"),
    ],
)
def test_a_refused_program_leaves_the_one_before(
    judge: Judge, wrong: object, error: type[Exception], message: str
) -> None:
    judge.conn.set_bpf([RetConstant(8 + 3)])
    with pytest.raises(error, match=message):
        judge.conn.set_bpf(wrong)
    assert judge.send([ANYTHING]) == [ANYTHING[:3]]


def test_the_longest_program_is_taken_and_none_detaches(judge: Judge) -> None:
    judge.conn.set_bpf([TAX()] * 4095 + [RetConstant(0)])
    assert judge.send([ANYTHING]) == [None]
    judge.conn.set_bpf([(6, 0, 0, 8 + 3)])
    assert judge.send([ANYTHING]) == [ANYTHING[:3]]
    judge.conn.set_bpf(None)
    assert judge.send([ANYTHING]) == [ANYTHING]
    judge.conn.set_bpf(None)
    assert judge.send([ANYTHING]) == [ANYTHING]


@pytest.mark.parametrize("extension", Extension)
@pytest.mark.parity("bpf.Extension")
def test_the_kernel_knows_every_extension(judge: Judge, extension: Extension) -> None:
    judge.conn.set_bpf([LoadExtension(extension), RetConstant(0xFFFFFFFF)])
    assert judge.send([ANYTHING]) == [ANYTHING]


@pytest.mark.parametrize(
    ("extension", "value"),
    [
        (Extension.LEN, 8 + len(ANYTHING)),
        (Extension.PROTO, 0x0800),
        (Extension.INTERFACE_INDEX, socket.if_nametoindex("lo")),
        (Extension.LINK_LAYER_TYPE, 772),  # ARPHRD_LOOPBACK
        (Extension.VLAN_TAG_PRESENT, 0),
    ],
)
def test_an_extension_is_what_its_name_says(judge: Judge, extension: Extension, value: int) -> None:
    judge.conn.set_bpf(
        [
            LoadExtension(extension),
            JumpIf(JumpTest.EQUAL, value, skip_true=1),
            RetConstant(0),
            RetConstant(0xFFFFFFFF),
        ]
    )
    assert judge.send([ANYTHING]) == [ANYTHING]


def test_even_bytes_only(judge: Judge) -> None:
    judge.conn.set_bpf(
        [
            LoadAbsolute(8, 1),
            ALUOpConstant(ALUOp.AND, 1),
            JumpIf(JumpTest.EQUAL, 0, skip_false=1),
            RetConstant(4096),
            RetConstant(0),
        ]
    )
    arrived = [judge.send([bytes([number])])[0] for number in range(10)]
    assert arrived == [bytes([number]) if number % 2 == 0 else None for number in range(10)]


# How each load reaches the IP header: from outside of the socket's packet, and by an index.
HEADER_LOADS = [
    *([LoadAbsolute(0xFFF00000 + at, 1)] for at in (0, 8, 9, 12, 19, 27, 28, 60, 0xFFFF)),
    *([LoadAbsolute(0xFFF00000 + at, size)] for at in (12, 26, 56, 59) for size in (2, 4)),
    *([LoadConstant(X, x), LoadIndirect(0xFFF00000 + 8 - x, 1)] for x in (0, 1, 8, 0x8000)),
    [bpf.LoadMemShift(0xFFF00000), bpf.TXA()],
    [LoadExtension(Extension.LEN)],
]  # fmt: skip


@pytest.mark.parametrize("loads", HEADER_LOADS, ids=lambda loads: "; ".join(map(str, loads)))
def test_the_kernel_agrees_about_loads_from_the_ip_header(
    judge: Judge, loads: list[Instruction]
) -> None:
    payload = bytes(range(64, 96))
    header = ipv4.Header(
        total_len=28 + len(payload), ttl=77, protocol=17, src=LOOPBACK, dst=LOOPBACK
    ).marshal(format="wire")
    judge.conn.ttl = 1  # ours, which is not what the sender's packets have
    for sender in judge._senders:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 77)
    for mask in (0x0F, 0xF0):
        # The four bits are told by where the datagram is cut.
        program = [
            *loads,
            ALUOpConstant(ALUOp.AND, mask),
            ALUOpConstant(ALUOp.SHIFT_RIGHT, 0 if mask == 0x0F else 4),
            ALUOpConstant(ALUOp.ADD, 9),
            RetA(),
        ]
        judge.conn.set_bpf(program)
        packet = header + judge.header(0, payload) + payload
        verdict = VM(program).run(packet, start=20)
        assert judge.send([payload]) == [payload[: verdict - 8] if verdict else None]


# Ready programs


@pytest.mark.parametrize("n", [1, 64, 255])
def test_a_minimum_ttl_on_a_udp_socket(n: int) -> None:
    with (
        ipv4.PacketConn.udp((LOOPBACK, 0)) as receiver,
        ipv4.PacketConn.udp((LOOPBACK, 0)) as sender,
    ):
        receiver.set_bpf(bpf.minimum_ttl(n))
        _check_minimum_ttl(receiver, sender, receiver.local_addr, n)


@pytest.mark.privileged
@pytest.mark.parametrize("n", [1, 64, 255])
def test_a_minimum_ttl_on_a_raw_socket(n: int) -> None:
    # Protocol 253 is kept for experiments (RFC 3692).
    with ipv4.PacketConn.ip(253, LOOPBACK) as receiver, ipv4.PacketConn.ip(253) as sender:
        receiver.set_bpf(bpf.minimum_ttl(n))
        _check_minimum_ttl(receiver, sender, (LOOPBACK, 0), n)


def _check_minimum_ttl(
    receiver: ipv4.PacketConn, sender: ipv4.PacketConn, to: tuple[str, int], n: int
) -> None:
    ttls = [1, 2, 63, 64, 65, 254, 255]
    for ttl in ttls:
        sender.ttl = ttl
        sender.write_to(bytes([ttl]), to)
    wanted = [ttl for ttl in ttls if ttl >= n]
    vm = VM(bpf.minimum_ttl(n))
    for start in (0, 20):
        packets = {ttl: ip_header(UDP, ttl=ttl) for ttl in ttls}
        assert [ttl for ttl, p in packets.items() if vm.run(p + b"x", start=start)] == wanted
    receiver.set_read_deadline(time.monotonic() + 30)
    arrived: list[int] = []
    buffer = bytearray(100)
    # The last one is always wanted: when it is there, nothing else can come.
    while arrived[-1:] != [255]:
        count, _, _ = receiver.read_from(buffer)
        assert count == 1
        arrived.append(buffer[0])
    assert arrived == wanted


@pytest.mark.privileged
def test_an_echo_id_lets_answers_through() -> None:
    end = b"the end"
    with (
        ipv4.PacketConn.ip(ICMP, LOOPBACK) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender,
    ):
        receiver.set_bpf(bpf.icmp_echo_id(ID))
        wanted = []
        for packet, answers in ECHO_ID.values():
            sender.sendto(packet, (LOOPBACK, 0))
            if answers:
                wanted.append(_message(packet))
        sender.sendto(ip_header(ICMP) + icmp(0, ID, end), (LOOPBACK, 0))
        arrived = _read_until(receiver, lambda message: message.endswith(end))
    assert arrived == wanted


def _message(packet: bytes) -> bytes:
    return packet[4 * (packet[0] & 0x0F) :]


def _read_until(conn: ipv4.PacketConn, last) -> list[bytes]:  # type: ignore[no-untyped-def]
    """Return the messages before the one for which `last` is true."""
    conn.set_read_deadline(time.monotonic() + 30)
    buffer = bytearray(2000)
    messages: list[bytes] = []
    while True:
        n, _, _ = conn.read_from(buffer)
        message = bytes(buffer[:n])
        if last(message):
            return messages
        messages.append(message)


def _echo(id: int, sequence: int) -> bytes:
    message = struct.pack("!BBHHH", 8, 0, 0, id, sequence)
    return message[:2] + ipv4.checksum(message).to_bytes(2, "big") + message[4:]


def test_an_echo_id_in_a_real_network(chain: Chain) -> None:
    """Two programs trace the same route; a third meets a closed port."""
    server = chain.server.address
    ours, other = chain.client.call(lambda: (ipv4.PacketConn.ip(ICMP), ipv4.PacketConn.ip(ICMP)))
    udp = chain.client.call(ipv4.PacketConn.udp)
    with ours, other, udp:
        ours.set_bpf(bpf.icmp_echo_id(ID))
        other.set_bpf(bpf.icmp_echo_id(ID + 1))
        udp.write_to(b"to a closed port", (server, 9))
        udp.ttl = 1
        udp.write_to(b"too far", (server, 9))
        # At each hop, then at the server itself.
        for ttl in (1, 2, 3, 64):
            for conn, id in ((other, ID + 1), (ours, ID)):
                conn.ttl = ttl
                conn.write_to(_echo(id, ttl), (server, 0))
        for conn, id in ((ours, ID), (other, ID + 1)):
            answers = _read_until(conn, lambda message: message[0] == 0)
            assert [answer[0] for answer in answers] == [11, 11, 11]
            # The quoted request comes after the error's 8 bytes and its own IP header.
            quoted = [struct.unpack_from("!HH", answer, 8 + 20 + 4) for answer in answers]
            assert quoted == [(id, 1), (id, 2), (id, 3)]


@pytest.mark.privileged
@pytest.mark.needs("tcpdump")
def test_a_raw_socket_takes_what_tcpdump_compiled() -> None:
    with ipv4.PacketConn.udp((LOOPBACK, 0)) as one, ipv4.PacketConn.udp((LOOPBACK, 0)) as two:
        port = one.local_addr[1]
        printed = subprocess.run(
            ["tcpdump", "-y", "RAW", "-ddd", f"udp dst port {port}"],
            stdout=subprocess.PIPE,
            check=True,
            timeout=30,
        )
        with ipv4.PacketConn.ip(UDP, LOOPBACK) as raw:
            raw.set_bpf(bpf.loads(printed.stdout))
            for payload, to in ((b"no", two), (b"yes", one), (b"no", two), (b"end", one)):
                two.write_to(payload, to.local_addr)
            datagrams = _read_until(raw, lambda datagram: datagram.endswith(b"end"))
    assert [datagram[8:] for datagram in datagrams] == [b"yes"]
