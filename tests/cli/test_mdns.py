"""`ipv4 mdns` asked by a real client (dig), by an independent encoder, and by bad company."""

import json
import random
import signal
import socket
import struct
import time

import dns.flags
import dns.message
import dns.opcode
import dns.query
import dns.rdataclass
import dns.rdatatype
import pytest
from support import capture, eventually
from support.cli_program import Program

from ipv4 import PacketConn

GROUP = "224.0.0.251"
RECORDS = ("printer.local=192.0.2.7", "scanner=192.0.2.8", "twin.local=192.0.2.9",
           "twin.local=192.0.2.10")  # fmt: skip


@pytest.fixture
def responder(pair):
    """`ipv4 mdns` on host a; its client is host b, whose multicast goes to eth0."""
    pair.b.add_route("224.0.0.0/4", iface="eth0")
    with Program(pair.a, "mdns", "eth0", *RECORDS) as program:
        program.expect("answering for printer.local., scanner.local., twin.local. on eth0")
        yield program
        assert program.interrupt() == 0
    assert program.output.endswith(f"left {GROUP} on eth0\n")


@pytest.fixture
def client(pair):
    with pair.b.call(PacketConn.udp, ("10.1.0.2", 0)) as conn:
        yield conn


def query(name, kind="A", **options):
    return dns.message.make_query(name, kind, **options)


def ask(conn, wire, destination=(GROUP, 5353), wait=5.0):
    """The answer to a query as (message, sender), or None when none came in time."""
    conn.write_to(wire, destination)
    conn.set_read_deadline(time.monotonic() + wait)
    buffer = bytearray(9000)
    try:
        n, _, peer = conn.read_from(buffer)
    except TimeoutError:
        return None
    return dns.message.from_wire(bytes(buffer[:n])), peer


def assert_unanswered(conn, wire, destination=(GROUP, 5353)):
    """The next query is answered, this one, which the responder got before it, is not."""
    sound = query("printer.local", id=int.from_bytes(wire[:2], "big") ^ 1)
    conn.write_to(wire, destination)
    answer, _ = ask(conn, sound.to_wire())
    assert answer.id == sound.id


@pytest.fixture
def dig(pair):
    """dig on host b, made to hear what answers from a host's own address.

    Since BIND 9.18 dig connects its socket to the group that it asks, so that the kernel keeps
    every mDNS answer from it (avahi's as well). Here b says that they come from the group.
    """
    pair.b.run(["nft", "add table ip t; add chain ip t in { type filter hook input priority 0; };"
                " add rule ip t in udp sport 5353 ip saddr set 224.0.0.251"])  # fmt: skip

    def ask_with_dig(*args):
        options = ["+short", "+time=3", "+tries=1", "-p", "5353"]
        return pair.b.run(["dig", *options, *args], check=False)

    return ask_with_dig


@pytest.mark.needs("dig", "nft")
@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("printer.local", ["192.0.2.7"]),
        ("PRINTER.local", ["192.0.2.7"]),
        ("scanner.local", ["192.0.2.8"]),
        ("twin.local", ["192.0.2.10", "192.0.2.9"]),
    ],
)
def test_dig_gets_the_address(responder, dig, name, addresses):
    done = dig(f"@{GROUP}", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.split()) == addresses
    responder.expect(rf"^10\.1\.0\.2:\d+ asked for {name}\.$")


@pytest.mark.needs("dig")
def test_dig_that_asks_the_host_itself_is_not_served(pair, responder):
    options = ["+short", "+time=1", "+tries=1", "-p", "5353"]
    done = pair.b.run(["dig", *options, "@10.1.0.1", "printer.local"], check=False)
    assert done.returncode == 9  # no reply from server, as its manual says
    assert "192.0.2.7" not in done.stdout


def test_client_of_the_help_text_gets_the_address(pair, responder):
    answer = pair.b.call(dns.query.udp, query("printer.local"), GROUP, 5, 5353)
    assert [str(record) for record in answer.answer[0]] == ["192.0.2.7"]


@pytest.mark.needs("tshark")
def test_decoder_finds_nothing_wrong(pair, responder, client):
    with capture(pair.b, "eth0") as seen:
        ask(client, query("printer.local").to_wire())
    seen.assert_clean("mdns")
    fields = seen.fields(
        "ip.src", "ip.dst", "ip.ttl", "udp.srcport", "dns.flags", "dns.resp.ttl", "dns.a",
        display_filter="dns.flags.response == 1",
    )  # fmt: skip
    assert fields == [("10.1.0.1", "10.1.0.2", "255", "5353", "0x8400", "10", "192.0.2.7")]


class TestAnswer:
    def test_carries_id_and_question_and_a_short_ttl(self, responder, client):
        question = query("printer.local", id=0xBEEF)
        answer, peer = ask(client, question.to_wire())
        assert peer == ("10.1.0.1", 5353)
        assert answer.id == 0xBEEF
        assert answer.question == question.question
        assert answer.flags == dns.flags.QR | dns.flags.AA
        (rrset,) = answer.answer
        assert rrset.ttl == 10
        assert rrset.rdclass == dns.rdataclass.IN  # without the cache-flush bit
        assert [str(record) for record in rrset] == ["192.0.2.7"]

    def test_any_type_and_any_class(self, responder, client):
        answer, _ = ask(client, query("printer.local", "ANY", rdclass="ANY").to_wire())
        assert [str(record) for record in answer.answer[0]] == ["192.0.2.7"]

    def test_unicast_response_bit(self, responder, client):
        answer, _ = ask(client, query("printer.local", rdclass=0x8001).to_wire())
        assert [str(record) for record in answer.answer[0]] == ["192.0.2.7"]

    def test_several_questions(self, responder, client):
        question = query("printer.local")
        question.question += query("nobody.local").question + query("scanner.local").question
        answer, _ = ask(client, question.to_wire())
        assert answer.question == question.question
        assert [str(rrset.name) for rrset in answer.answer] == ["printer.local.", "scanner.local."]

    def test_leaves_by_the_interface_that_the_query_came_by(self, hosts):
        """Both links are the same network, and the route to it is the other one."""
        server, one, two = hosts("server"), hosts("one"), hosts("two")
        hosts.link(server, one, "10.1.0.1/24", "10.1.0.2/24")
        hosts.link(server, two, "10.1.0.3/24", "10.1.0.4/24")
        with (
            Program(server, "mdns", "eth1", "printer=192.0.2.7") as program,
            two.call(PacketConn.udp, ("10.1.0.4", 0)) as conn,
        ):
            program.expect("answering")
            answer, _ = ask(conn, query("printer.local").to_wire())
            assert [str(record) for record in answer.answer[0]] == ["192.0.2.7"]

    def test_comes_from_its_own_link_alone(self, hosts):
        server, one, two = hosts("server"), hosts("one"), hosts("two")
        hosts.link(server, one)
        hosts.link(server, two)
        with Program(server, "mdns", "eth1", "printer=192.0.2.7") as program:
            program.expect("answering")
            with two.call(PacketConn.udp, ("10.2.0.2", 0)) as conn:
                _, peer = ask(conn, query("printer.local").to_wire())
                assert peer == ("10.2.0.1", 5353)
            # The other link is none of this responder's business, though the socket hears it.
            with (
                server.call(PacketConn.udp) as member,
                one.call(PacketConn.udp, ("10.1.0.2", 0)) as conn,
            ):
                member.join_group(GROUP, server.call(socket.if_nametoindex, "eth0"))
                assert ask(conn, query("printer.local").to_wire(), wait=1) is None
            assert program.interrupt() == 0


class TestSilence:
    @pytest.mark.parametrize(
        "wire",
        [
            b"",
            b"\0" * 11,
            b"\xff" * 40,
            query("nobody.local").to_wire(),
            query("printer.local", "AAAA").to_wire(),
            query("printer.local", "PTR").to_wire(),
            query("printer.local", rdclass="CH").to_wire(),
            dns.message.make_response(query("printer.local")).to_wire(),
            dns.message.make_query("printer.local", "SOA").to_wire(),
            query("printer.local").to_wire()[:-1],
            query("printer.local").to_wire() + b"more",
        ],
        ids=["empty", "short", "garbage", "unknown name", "AAAA", "PTR", "other class", "response",
             "SOA", "cut", "trailing bytes"],
    )  # fmt: skip
    def test_to_what_cannot_be_answered(self, responder, client, wire):
        assert_unanswered(client, wire)

    @pytest.mark.parametrize("opcode", ["NOTIFY", "STATUS", "UPDATE"])
    def test_to_what_is_no_query(self, responder, client, opcode):
        message = query("printer.local")
        message.set_opcode(dns.opcode.from_text(opcode))
        assert_unanswered(client, message.to_wire())

    def test_to_the_hosts_own_address(self, responder, client):
        assert_unanswered(client, query("printer.local").to_wire(), ("10.1.0.1", 5353))

    def test_to_a_broadcast(self, pair, responder):
        with pair.b.call(PacketConn.udp, ("10.1.0.2", 0), broadcast=True) as conn:
            assert_unanswered(conn, query("printer.local").to_wire(), ("10.1.0.255", 5353))

    def test_to_another_group(self, pair, responder, client):
        with pair.a.call(PacketConn.udp) as member:
            member.join_group("224.0.0.250", pair.a.call(socket.if_nametoindex, "eth0"))
            assert_unanswered(client, query("printer.local").to_wire(), ("224.0.0.250", 5353))

    def test_to_full_queriers_which_ask_from_port_5353(self, pair, responder):
        with pair.b.call(PacketConn.udp, ("10.1.0.2", 5353)) as conn:
            assert ask(conn, query("printer.local").to_wire(), wait=1) is None


class TestSurvives:
    @pytest.mark.parametrize("questions", [2, 1300, 1488])
    def test_one_name_asked_for_again_and_again(self, responder, client, questions):
        """A question that is answered as often as it is asked would outgrow any datagram."""
        name = b"\x04twin\x05local\x00"
        wire = struct.pack("!6H", 7, 0, questions, 0, 0, 0) + name + struct.pack("!HH", 1, 1)
        wire += (b"\xc0\x0c" + struct.pack("!HH", 1, 1)) * (questions - 1)
        found = ask(client, wire)
        if questions < 1488:
            (rrset,) = found[0].answer
            assert len(rrset) == 2
        else:  # the question alone fills what a response may have
            responder.expect("not answered: its answer would outgrow a datagram")

    def test_whatever_bytes_come(self, responder, client):
        dice = random.Random(20261128)
        sound = query("printer.local").to_wire()
        for number in range(300):
            wire = bytearray(sound)
            if number % 3 == 0:
                wire = dice.randbytes(dice.randrange(600))
            elif number % 3 == 1:  # counts that promise more than there is, pointers to nowhere
                wire[dice.randrange(2, len(wire))] = dice.randrange(256)
            else:
                kinds = (1, 6, 24, 41, 46, 249, 250, 255)  # OPT, SIG, TKEY, TSIG and so on
                wire[4:12] = struct.pack("!4H", *(dice.randrange(3) for _ in range(4)))
                record = struct.pack("!BHHIH", 0, dice.choice(kinds), 255, 0, 5) + bytes(5)
                wire += record * dice.randrange(1, 4)
            client.write_to(bytes(wire), (GROUP, 5353))
            if number % 50 == 49:  # no more than the responder's queue holds
                responder_answers(client)


def responder_answers(conn):
    """The responder has read all that came before, and lives."""
    id = 0xA5A5
    conn.write_to(query("scanner.local", id=id).to_wire(), (GROUP, 5353))
    conn.set_read_deadline(time.monotonic() + 10)
    buffer = bytearray(9000)
    while True:
        n, _, _ = conn.read_from(buffer)
        if n > 2 and buffer[:2] == id.to_bytes(2, "big"):
            return


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_the_group(pair, sign):
    group = "FB0000E0"  # 224.0.0.251 as /proc/net/igmp writes it
    with Program(pair.a, "mdns", "eth0", "printer=192.0.2.7") as program:
        program.expect("answering")
        eventually(lambda: group in pair.a.proc("igmp"))
        assert program.interrupt(sign) == 0
    assert group not in pair.a.proc("igmp")


def test_events_as_json(pair, client):
    pair.b.add_route("224.0.0.0/4", iface="eth0")
    with Program(pair.a, "mdns", "eth0", "printer=192.0.2.7", "--json") as program:
        program.expect('"answering"')
        assert ask(client, query("printer.local").to_wire())
        program.expect('"asked"')
        assert program.interrupt() == 0
    first, asked, last = map(json.loads, program.lines)
    assert first == {"event": "answering", "names": ["printer.local."], "interface": "eth0"}
    assert (asked["name"], asked["address"]) == ("printer.local.", "10.1.0.2")
    assert last == {"event": "left", "group": GROUP, "interface": "eth0"}


def test_stands_beside_another_responder(pair):
    with (
        Program(pair.a, "mdns", "eth0", "printer=192.0.2.7") as one,
        Program(pair.a, "mdns", "eth0", "scanner=192.0.2.8") as two,
        pair.b.call(PacketConn.udp, ("10.1.0.2", 0)) as conn,
    ):
        one.expect("answering")
        two.expect("answering")
        for name in ("printer.local", "scanner.local"):
            answer, _ = ask(conn, query(name).to_wire())
            assert str(answer.answer[0].name) == f"{name}."
