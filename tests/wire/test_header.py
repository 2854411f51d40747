"""The IPv4 header against vectors: the wire's form and those of other systems' raw sockets."""

import copy
import pickle
import struct
from ipaddress import IPv4Address

import pytest
from support import VECTORS

import ipv4
from ipv4 import Header, HeaderFlags

HEADERS = VECTORS["header"]
IDS = ["no options", "options"]

# What raw sockets of a system take and give: the names of the vectors to and from its kernel.
FORMATS = {
    "wire": ("linux", "linux"),
    "linux": ("linux", "linux"),
    "openbsd": ("linux", "linux"),
    "freebsd": ("linux", "linux"),
    "freebsd11": ("linux", "linux"),
    "freebsd10": ("freebsd10", "freebsd10"),
    "freebsd9": ("to_trad_bsd", "from_trad_bsd"),
    "darwin": ("to_trad_bsd", "from_trad_bsd"),
    "dragonfly": ("to_trad_bsd", "from_trad_bsd"),
    "netbsd": ("to_trad_bsd", "from_trad_bsd"),
}


def make(vector):
    fields = vector["fields"]
    return Header(
        version=fields["Version"],
        len=fields["Len"],
        tos=fields["TOS"],
        total_len=fields["TotalLen"],
        id=fields["ID"],
        flags=HeaderFlags(fields["Flags"]),
        frag_off=fields["FragOff"],
        ttl=fields["TTL"],
        protocol=fields["Protocol"],
        checksum=fields["Checksum"],
        src=fields["Src"],
        dst=fields["Dst"],
        options=bytes.fromhex(fields["Options"]),
    )


@pytest.mark.parametrize("vector", HEADERS, ids=IDS)
@pytest.mark.parity("Header.Marshal")
@pytest.mark.parity("header vectors both ways, and the order of errors")
def test_marshal_as_this_system_takes_it(vector):
    wire = bytes.fromhex(vector["linux"])
    assert make(vector).marshal() == bytes(make(vector)) == wire


@pytest.mark.parametrize("vector", HEADERS, ids=IDS)
@pytest.mark.parity("ParseHeader", "Header.Parse")
@pytest.mark.parity("header vectors both ways, and the order of errors")
def test_parse_as_this_system_gives_it(vector):
    wire = bytes.fromhex(vector["linux"])
    header = ipv4.parse_header(wire + b"payload")
    assert header == make(vector)
    assert isinstance(header.src, IPv4Address)
    assert type(header.flags) is HeaderFlags
    again = Header()
    for _ in range(2):
        assert again.parse(memoryview(wire)) is None
        assert again == header


@pytest.mark.parametrize("vector", HEADERS, ids=IDS)
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parity("platform: raw header forms", "Header on other systems")
@pytest.mark.parity("header vectors both ways, and the order of errors")
def test_each_form_both_ways(form, vector):
    to_kernel, from_kernel = (bytes.fromhex(vector[name]) for name in FORMATS[form])
    assert make(vector).marshal(format=form) == to_kernel
    header = Header()
    header.parse(from_kernel, format=form)
    assert header == make(vector)


def test_an_unknown_form_is_refused_and_named():
    with pytest.raises(ValueError, match=r"format must be one of .*not 'vax'"):
        Header(dst="10.0.0.1").marshal(format="vax")
    with pytest.raises(ValueError, match=r"format must be one of .*not 7"):
        Header().parse(bytes(20), format=7)


@pytest.mark.parametrize("vector", HEADERS, ids=IDS)
@pytest.mark.parity("Header.String")
@pytest.mark.parity("texts")
def test_string(vector):
    assert str(make(vector)) == vector["string"]
    assert "," not in str(make(vector))


@pytest.mark.parity("Header.String")
def test_an_absent_address_prints_nil():
    text = str(Header())
    assert text.endswith("cksum=0x0 src=<nil> dst=<nil>")
    assert text.startswith("ver=4 hdrlen=20 tos=0x0 totallen=0 id=0x0 flags=0x0 fragoff=0x0")


@pytest.mark.parity("Header")
def test_fields_defaults_equality_and_repr():
    header = Header()
    assert [getattr(header, name) for name in FIELDS] == list(FIELDS.values())
    assert header == Header() != Header(ttl=1)
    for name, value in CHANGED.items():
        other = Header()
        setattr(other, name, value)
        assert getattr(other, name) == value
        assert other == Header(**{name: value})
        assert other != header, name
        assert name in repr(other)
    assert "total_len=48883" in repr(make(HEADERS[1]))


FIELDS = {
    "version": 4,
    "len": 20,
    "tos": 0,
    "total_len": 0,
    "id": 0,
    "flags": HeaderFlags(0),
    "frag_off": 0,
    "ttl": 0,
    "protocol": 0,
    "checksum": 0,
    "src": None,
    "dst": None,
    "options": b"",
}
CHANGED = {
    "version": 5,
    "len": 24,
    "tos": 192,
    "total_len": 1500,
    "id": 77,
    "flags": HeaderFlags.DONT_FRAGMENT,
    "frag_off": 8191,
    "ttl": 255,
    "protocol": 89,
    "checksum": 0xFFFF,
    "src": IPv4Address("10.0.0.1"),
    "dst": IPv4Address("224.0.0.5"),
    "options": b"\x94\x04\0\0",
}


@pytest.mark.parametrize("bits", range(8))
@pytest.mark.parity("HeaderFlags")
def test_every_flag_survives_the_round_trip_the_reserved_one_too(bits):
    header = Header(dst="10.0.0.1", flags=HeaderFlags(bits), frag_off=0x1FFF)
    parsed = ipv4.parse_header(header.marshal())
    assert (parsed.flags, parsed.frag_off) == (bits, 0x1FFF)


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (bytes.fromhex(case["b"]), f"^{case['err']}")
        for case in VECTORS["header_parse_errors"]
        if case["b"] is not None
    ]
    + [
        (b"\x44" + bytes(39), "^header too short"),
        (b"\x4f" + bytes(58), "^extension header too short"),
        (b"\x65" + bytes(19), "version .*not 6"),
        (b"\x05" + bytes(19), "version .*not 0"),
    ],
    ids=lambda value: value.hex()[:4] + f"/{len(value)}" if isinstance(value, bytes) else "",
)
@pytest.mark.parity("ParseHeader", "Header.Parse", "Header errors")
@pytest.mark.parity(
    "header vectors both ways, and the order of errors", "hostile headers and control data"
)
def test_malformed_bytes_are_refused_and_leave_the_object(wire, message):
    with pytest.raises(ValueError, match=message):
        ipv4.parse_header(wire)
    header = make(HEADERS[1])
    with pytest.raises(ValueError, match=message):
        header.parse(wire)
    assert header == make(HEADERS[1])


@pytest.mark.parity("ParseHeader", "Header.Parse")
def test_what_is_no_buffer_is_refused_and_named():
    for wrong in (None, "4500", 20, [4, 5]):
        with pytest.raises(TypeError, match=r"^buf must be a bytes-like object"):
            ipv4.parse_header(wrong)
        with pytest.raises(TypeError, match=r"^buf must be a bytes-like object"):
            Header().parse(wrong)


UNFIT = [
    ({"len": 19}, "len"),
    ({"len": 0}, "len"),
    ({"dst": None}, "dst"),
    ({"tos": 256}, "tos"),
    ({"tos": -1}, "tos"),
    ({"total_len": 65536}, "total_len"),
    ({"total_len": -1}, "total_len"),
    ({"id": 65536}, "id"),
    ({"flags": 8}, "flags"),
    ({"flags": -1}, "flags"),
    ({"frag_off": 8192}, "frag_off"),
    ({"ttl": 256}, "ttl"),
    ({"protocol": 256}, "protocol"),
    ({"checksum": 65536}, "checksum"),
    ({"options": b"\x01"}, "options"),
    ({"options": bytes(41)}, "options"),
    ({"options": bytes(44)}, "options"),
]


@pytest.mark.parametrize(("fields", "name"), UNFIT, ids=lambda value: str(value)[:24])
@pytest.mark.parity("Header.Marshal")
@pytest.mark.parity("header vectors both ways, and the order of errors")
def test_a_field_that_does_not_fit_is_refused_by_name(fields, name):
    header = Header(**{"dst": "10.0.0.1"} | fields)
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        header.marshal()
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        bytes(header)


@pytest.mark.parametrize("name", [name for name in FIELDS if name not in ("src", "dst", "options")])
def test_a_field_of_the_wrong_type_or_beyond_any_integer_is_refused_by_name(name):
    for wrong in ("1", 1.5, None, b"1"):
        with pytest.raises(TypeError, match=rf"^{name} must be"):
            Header(**{name: wrong})
    with pytest.raises(ValueError, match=rf"^{name} must be"):
        setattr(Header(), name, 1 << 64)


@pytest.mark.parametrize("name", ["src", "dst"])
@pytest.mark.parametrize("wrong", ["localhost", "::1", "1.2.3", "1.2.3.4.5", "", b"123", "0x7f.1"])
def test_what_is_no_address_is_refused_by_name_and_never_resolved(name, wrong):
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        Header(**{name: wrong})


def test_every_form_of_an_address_is_taken():
    wanted = IPv4Address("10.1.2.3")
    for form in ("10.1.2.3", wanted, b"\x0a\x01\x02\x03", ("10.1.2.3", 99)):
        assert Header(dst=form).dst == wanted


@pytest.mark.parity("Header.Parse")
def test_options_of_an_earlier_parse_do_not_linger():
    header = make(HEADERS[1])
    header.parse(bytes.fromhex(HEADERS[0]["linux"]))
    assert header.options == b""
    assert header == make(HEADERS[0])


@pytest.mark.parity("Header.Marshal")
def test_version_is_always_4_and_ihl_follows_the_options():
    for words in range(11):
        options = bytes(4 * words)
        wire = Header(version=6, len=60, dst="10.0.0.1", options=options).marshal()
        assert wire[0] == 0x40 | 5 + words
        assert len(wire) == 20 + 4 * words


@pytest.mark.parity("Header.Parse")
def test_options_are_copied_out_of_the_buffer():
    wire = bytearray.fromhex(HEADERS[1]["linux"])
    header = ipv4.parse_header(wire)
    wire[:] = bytes(len(wire))
    wire.extend(b"!")  # nothing pins it
    assert header == make(HEADERS[1])


@pytest.mark.parametrize("vector", HEADERS, ids=IDS)
def test_a_header_survives_repr_copy_and_pickle(vector):
    header = make(vector)
    assert eval(repr(header)) == header
    assert pickle.loads(pickle.dumps(header)) == header == copy.copy(header)


def test_the_form_follows_the_system():
    from ipv4.wire.header_parts import system_format

    wanted = {
        ("linux", None): "linux", ("darwin", "23"): "darwin", ("ios", "17"): "darwin",
        ("netbsd9", "9"): "netbsd", ("dragonfly6", "6"): "dragonfly", ("openbsd7", "7"): "openbsd",
        ("freebsd9", "9.3-RELEASE"): "freebsd9", ("freebsd10", "10.4"): "freebsd10",
        ("freebsd14", "14.0-RELEASE"): "freebsd", ("sunos5", "5"): "wire", ("aix", "7"): "wire",
    }  # fmt: skip
    assert {k: system_format(*k) for k in wanted} == wanted


BITS = {"tos": 8, "total_len": 16, "id": 16, "flags": 3, "frag_off": 13, "ttl": 8, "protocol": 8,
        "checksum": 16}  # fmt: skip


@pytest.mark.parity("Header.Marshal refuses what does not fit")
@pytest.mark.parametrize("field", BITS)
def test_field_limits(field):
    high = (1 << BITS[field]) - 1
    for value in (0, high):
        header = Header(dst="10.0.0.1", **{field: value})
        again = ipv4.parse_header(header.marshal())
        assert getattr(again, field) == value
    for value in (-1, high + 1, 2**31 - 1):
        header = Header(dst="10.0.0.1", **{field: value})
        with pytest.raises(ValueError, match=rf"{field} .*{value}"):
            header.marshal()
    for value in (2**31, 2**64, -(2**70)):
        with pytest.raises(ValueError, match=field):
            setattr(header, field, value)
    for value in (1.0, "1", None, b"1"):
        with pytest.raises(TypeError, match=field):
            setattr(header, field, value)
        with pytest.raises(TypeError, match=field):
            Header(**{field: value})


def test_what_marshal_refuses_is_told_with_its_value():
    for header, message in (
        (Header(len=19, dst="1.2.3.4"), "header too short.*19"),
        (Header(), "missing address.*dst"),
        (Header(dst="1.2.3.4", options=bytes(3)), "options.*multiple of 4.*3"),
        (Header(dst="1.2.3.4", options=bytes(44)), "options.*40.*44"),
    ):
        with pytest.raises(ValueError, match=message):
            header.marshal()
    assert Header(version=6, dst="1.2.3.4").marshal()[0] == 0x45
    assert len(Header(dst="1.2.3.4", options=bytes(40)).marshal()) == 60


def test_iter_options():
    header = Header(options=bytes.fromhex("9404000001070b04000000000000000000")[:16])
    assert list(header.iter_options()) == [
        (148, b"\0\0"),
        (1, b""),
        (7, bytes.fromhex("040000000000000000")),
    ]
    for bad in ("07", "0700", "0701", "07ff", "01010101ff"):
        with pytest.raises(ValueError, match="option"):
            Header(options=bytes.fromhex(bad)).iter_options()
    assert list(Header(options=ipv4.ROUTER_ALERT).iter_options()) == [(148, b"\0\0")]


def test_header_checksum_by_a_plain_sum():
    header = Header(tos=1, total_len=84, id=99, ttl=64, protocol=1, src="10.0.0.1", dst="10.0.0.2",
                    options=ipv4.ROUTER_ALERT, checksum=0x1234)  # fmt: skip
    total = sum(struct.unpack("!12H", header.marshal())) - 0x1234
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert header.compute_checksum() == total ^ 0xFFFF
    assert header.checksum == 0x1234


LOCAL = IPv4Address("127.0.0.1")


def test_a_received_checksum_can_be_verified():
    wire = bytearray(Header(ttl=9, protocol=253, src=LOCAL, dst=LOCAL).marshal())
    wire[10:12] = struct.pack("!H", ipv4.checksum(wire))
    assert ipv4.parse_header(wire).compute_checksum() == ipv4.parse_header(wire).checksum
    wire[8] ^= 1
    assert ipv4.parse_header(wire).compute_checksum() != ipv4.parse_header(wire).checksum


@pytest.mark.parametrize("name", ["total_len", "ttl", "protocol"])
def test_a_number_that_python_reads_directly_is_the_headers_own(name):
    class Five(int):
        pass

    header = Header(**{name: Five(5)})
    assert type(getattr(header, name)) is int
    setattr(header, name, Five(200))
    assert (getattr(header, name), type(getattr(header, name))) == (200, int)
    header.dst = "10.0.0.1"
    assert getattr(ipv4.parse_header(header.marshal()), name) == 200
    with pytest.raises(ValueError, match=name):
        setattr(header, name, 1 << 40)
    with pytest.raises(ValueError, match=name):
        Header(**{name: 1 << 40})
    assert getattr(header, name) == 200
    header.__init__()
    assert getattr(header, name) == 0
