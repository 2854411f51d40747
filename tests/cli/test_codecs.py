"""The packets of the commands as bytes: OSPF Hellos, ICMP echoes and what quotes them."""

import contextlib
import struct
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from scapy.contrib.ospf import OSPF_Hdr, OSPF_Hello
from scapy.layers.inet import ICMP, IP, UDP, ICMPerror, IPerror
from scapy.packet import Raw
from support.properties import given, st

import ipv4
from ipv4.cli import icmp, ospf

HELLO = ospf.Hello(
    router_id=IPv4Address("192.0.2.1"),
    area_id=IPv4Address("0.0.0.7"),
    mask=IPv4Address("255.255.255.0"),
    hello_interval=10,
    dead_interval=40,
    priority=3,
    designated_router=IPv4Address("192.0.2.9"),
    backup_router=IPv4Address("192.0.2.8"),
    neighbors=(IPv4Address("192.0.2.2"), IPv4Address("192.0.2.3")),
)

addresses = st.integers(0, 0xFFFFFFFF).map(IPv4Address)
hellos = st.builds(
    ospf.Hello,
    router_id=addresses,
    area_id=addresses,
    mask=addresses,
    hello_interval=st.integers(0, 0xFFFF),
    dead_interval=st.integers(0, 0xFFFFFFFF),
    priority=st.integers(0, 255),
    options=st.integers(0, 255),
    designated_router=addresses,
    backup_router=addresses,
    neighbors=st.lists(addresses, max_size=50).map(tuple),
)


def resummed(packet: bytes) -> bytes:
    """The packet with its checksum made right again, over all but the authentication data."""
    packet = bytearray(packet)
    packet[12:14] = b"\0\0"
    without = packet[:16] + packet[24:]
    packet[12:14] = struct.pack("!H", ipv4.checksum(without))
    return bytes(packet)


class TestHello:
    def test_independent_decoder_reads_every_field(self):
        packet = OSPF_Hdr(HELLO.encode())
        hello = packet[OSPF_Hello]
        assert (packet.version, packet.type, packet.len) == (2, 1, 52)
        assert (packet.src, packet.area, packet.authtype) == ("192.0.2.1", "0.0.0.7", 0)
        assert (hello.mask, hello.hellointerval, hello.deadinterval) == ("255.255.255.0", 10, 40)
        assert (int(hello.options), hello.prio) == (0x02, 3)
        assert (hello.router, hello.backup) == ("192.0.2.9", "192.0.2.8")
        assert hello.neighbors == ["192.0.2.2", "192.0.2.3"]

    def test_independent_encoder_agrees_to_the_byte(self):
        packet = OSPF_Hdr(src="192.0.2.1", area="0.0.0.7") / OSPF_Hello(
            mask="255.255.255.0",
            hellointerval=10,
            options=0x02,
            prio=3,
            deadinterval=40,
            router="192.0.2.9",
            backup="192.0.2.8",
            neighbors=["192.0.2.2", "192.0.2.3"],
        )
        assert HELLO.encode() == bytes(packet)

    @given(hellos)
    def test_decoding_undoes_encoding(self, hello):
        assert ospf.Hello.decode(memoryview(hello.encode())) == hello

    def test_bytes_after_the_packet_are_not_part_of_it(self):
        assert ospf.Hello.decode(HELLO.encode() + b"LLS block...") == HELLO

    @pytest.mark.parametrize("length", range(44))
    def test_short(self, length):
        with pytest.raises(ValueError, match=f"{length} bytes are too few"):
            ospf.Hello.decode(HELLO.encode()[:length])

    @pytest.mark.parametrize("length", [0, 24, 43, 45, 46, 47, 49, 56, 0xFFFF])
    def test_length_field_that_cannot_be(self, length):
        packet = bytearray(HELLO.encode())
        struct.pack_into("!H", packet, 2, length)
        with pytest.raises(ValueError, match=f"packet length {length} is wrong for 52 bytes"):
            ospf.Hello.decode(resummed(packet))

    @pytest.mark.parametrize(
        ("offset", "value", "message"),
        [
            (0, 3, "OSPF version 3"),
            (1, 4, "type 4, not a Hello"),
            (15, 1, "authentication of type 1"),
        ],
    )
    def test_another_kind_of_packet(self, offset, value, message):
        packet = bytearray(HELLO.encode())
        packet[offset] = value
        with pytest.raises(ValueError, match=message):
            ospf.Hello.decode(resummed(packet))

    @pytest.mark.parametrize("offset", [*range(4, 14), *range(24, 52)])
    def test_any_flipped_bit_breaks_the_checksum(self, offset):
        packet = bytearray(HELLO.encode())
        packet[offset] ^= 0x10
        with pytest.raises(ValueError, match="wrong checksum"):
            ospf.Hello.decode(packet)

    def test_authentication_data_is_outside_the_checksum(self):
        packet = bytearray(HELLO.encode())
        packet[16:24] = b"whatever"
        assert ospf.Hello.decode(packet) == HELLO

    @given(st.binary(max_size=100))
    def test_garbage_is_a_value_error_or_a_hello(self, data):
        with contextlib.suppress(ValueError):
            assert isinstance(ospf.Hello.decode(data), ospf.Hello)

    def test_without_neighbors_it_is_the_shortest(self):
        assert len(replace(HELLO, neighbors=()).encode()) == 44

    def test_ip_header(self):
        header = ospf.ip_header(HELLO.encode())
        assert header.marshal(format="wire") == bytes.fromhex(
            "45c00048 00000000 01590000 00000000 e0000005"
        )


class TestEcho:
    @pytest.mark.parametrize("data", [b"", b"x", b"HELLO-R-U-THERE"])
    def test_independent_decoder_reads_the_request(self, data):
        message = icmp.echo_request(0x1234, 1, data)
        decoded = ICMP(message)
        assert (decoded.type, decoded.code, decoded.id, decoded.seq) == (8, 0, 0x1234, 1)
        assert bytes(decoded.payload) == data
        sent = decoded.chksum
        del decoded.chksum
        assert ICMP(bytes(decoded)).chksum == sent

    def test_vector(self):
        wire = "08007c161234000148454c4c4f2d522d552d5448455245"
        assert icmp.echo_request(0x1234, 1, b"HELLO-R-U-THERE") == bytes.fromhex(wire)

    def test_reply(self):
        reply = bytes(ICMP(type=0, id=7, seq=9) / Raw(b"data"))
        answer = icmp.parse_answer(reply)
        assert answer == icmp.Answer(ipv4.ICMPType.ECHO_REPLY, 0, 7, 9, data=b"data")

    @pytest.mark.parametrize(("kind", "code"), [(11, 0), (3, 1), (3, 13)])
    @pytest.mark.parametrize("options", [[], [b"\x94\x04\x00\x00"]], ids=["plain", "options"])
    @pytest.mark.parametrize("quoted", [8, 20])
    def test_error_about_a_request(self, kind, code, options, quoted):
        request = icmp.echo_request(0xABCD, 513, b"twelve bytes")
        original = bytes(
            IP(src="192.0.2.1", dst="198.51.100.2", ttl=1, proto=1, options=options) / Raw(request)
        )
        header = 4 * (original[0] & 15)
        message = bytes(ICMP(type=kind, code=code) / Raw(original[: header + quoted]))
        answer = icmp.parse_answer(message)
        assert (answer.type, answer.code) == (kind, code)
        assert (answer.identifier, answer.sequence) == (0xABCD, 513)
        assert answer.destination == IPv4Address("198.51.100.2")

    @pytest.mark.parametrize(
        "packet",
        [
            ICMP(type=8, id=1, seq=2),
            ICMP(type=5, gw="192.0.2.1") / IPerror(dst="192.0.2.2") / ICMPerror(type=8),
            ICMP(type=11) / IPerror(dst="192.0.2.2", proto=17) / UDP(sport=1, dport=2),
            ICMP(type=11) / IPerror(dst="192.0.2.2", proto=1, frag=5) / ICMPerror(type=8),
            ICMP(type=11) / IPerror(dst="192.0.2.2", proto=1) / ICMPerror(type=0),
            ICMP(type=11) / IPerror(dst="192.0.2.2", proto=1) / ICMPerror(type=8, code=1),
        ],
        ids=["request", "redirect", "about UDP", "later fragment", "about a reply", "odd code"],
    )
    def test_sound_message_that_answers_no_request(self, packet):
        assert icmp.parse_answer(bytes(packet)) is None

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"", "header too short"),
            (b"\x45" + bytes(18), "header too short"),
            (b"\x4f" + bytes(40), "extension header too short"),
            (b"\x65" + bytes(40), "version must be 4"),
            (b"\x45" + bytes(8) + b"\x01" + bytes(10), "0 quoted bytes"),
            (b"\x45" + bytes(8) + b"\x01" + bytes(17), "7 quoted bytes"),
        ],
    )
    def test_quotation_that_is_no_packet(self, body, message):
        error = bytearray(b"\x0b\x00\x00\x00\x00\x00\x00\x00" + body)
        struct.pack_into("!H", error, 2, ipv4.checksum(error))
        with pytest.raises(ValueError, match=message):
            icmp.parse_answer(error)

    @pytest.mark.parametrize("length", range(8))
    def test_short(self, length):
        with pytest.raises(ValueError, match="too few"):
            icmp.parse_answer(icmp.echo_request(1, 2, b"")[:length])

    def test_wrong_checksum(self):
        message = bytearray(bytes(ICMP(type=0, id=7, seq=9) / Raw(b"data")))
        message[-1] ^= 1
        with pytest.raises(ValueError, match="wrong checksum"):
            icmp.parse_answer(message)

    @given(st.binary(max_size=100))
    def test_garbage_raises_nothing_but_value_error(self, data):
        data = bytearray(data)
        if len(data) >= 4:
            data[2:4] = b"\0\0"
            struct.pack_into("!H", data, 2, ipv4.checksum(data))
        with contextlib.suppress(ValueError):
            icmp.parse_answer(data)

    @pytest.mark.parametrize(
        ("code", "mark"), [(0, "!N"), (1, "!H"), (3, ""), (4, "!F"), (13, "!X"), (99, "!99")]
    )
    def test_marks(self, code, mark):
        assert icmp.unreachable_mark(code) == mark
