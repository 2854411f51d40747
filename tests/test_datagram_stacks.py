"""Protocol stacks of other packages over our datagram endpoint, instead of the loop's own."""

import asyncio
import datetime
import socket
import ssl

import pytest
from support.loops import warm_uvloop

from ipv4 import ControlFlags, ControlMessage
from ipv4.aio import create_datagram_endpoint

__all__ = ["warm_uvloop"]  # a fixture

LOOPS = ["asyncio", "uvloop"]
HERE = ("127.0.0.1", 0)


@pytest.fixture(params=LOOPS)
def run(request):
    """Run a coroutine on each loop, within a time."""

    def bounded(main):
        runner = asyncio.run
        if request.param == "uvloop":
            runner = pytest.importorskip("uvloop").run
        runner(asyncio.wait_for(main, 30))

    return bounded


class Ours:
    """The running loop, but for who opens its datagram endpoints."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.opened = []

    def __getattr__(self, name):
        return getattr(self.loop, name)

    async def create_datagram_endpoint(self, *args, **kwargs):
        transport, protocol = await create_datagram_endpoint(*args, **kwargs)
        self.opened.append(transport)
        return transport, protocol


# QUIC


def certificate():
    """A certificate of localhost and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made, key


def marking(protocol):
    """A protocol of aioquic's that notes the ECN mark of each datagram."""

    class Marking(protocol):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.marks = []

        def datagram_received_with_control(self, data, addr, cm):
            self.marks.append(cm.ecn)
            self.datagram_received(data, addr)

    return Marking


def test_quic_with_ecn_marks(run):
    """aioquic's client and server move 300 kB each way; both see the marks of the other."""
    pytest.importorskip("aioquic")
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.asyncio.server import QuicServer
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection

    content = bytes(range(256)) * 1200

    def echo(reader, writer):
        async def answer():
            writer.write(await reader.read())
            writer.write_eof()

        tasks.append(asyncio.ensure_future(answer()))

    tasks = []
    made, key = certificate()

    async def main():
        configuration = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
        configuration.certificate, configuration.private_key = made, key
        # ECT(0) on all that leaves, which is what `tos` is for.
        told = {"control": ControlFlags.TOS, "tos": 2}
        server, served = await create_datagram_endpoint(
            lambda: marking(QuicServer)(configuration=configuration, stream_handler=echo),
            HERE,
            **told,
        )
        configuration = QuicConfiguration(
            is_client=True,
            alpn_protocols=["echo"],
            server_name="localhost",
            verify_mode=ssl.CERT_NONE,
        )
        client, asking = await create_datagram_endpoint(
            lambda: marking(QuicConnectionProtocol)(QuicConnection(configuration=configuration)),
            HERE,
            **told,
        )
        asking.connect(server.get_extra_info("sockname"))
        await asking.wait_connected()
        reader, writer = await asking.create_stream()
        writer.write(content)
        writer.write_eof()
        assert await reader.read() == content
        asking.close()
        await asking.wait_closed()
        client.close()
        served.close()
        for protocol in (asking, served):
            assert len(protocol.marks) > 10
            assert set(protocol.marks) == {2}
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)

    run(main())


# DNS


def test_dns_questions(run, monkeypatch):
    """dnspython asks over it; the answers come from where they were asked."""
    pytest.importorskip("dns.asyncquery", reason="pip install dnspython")
    import dns.asyncquery
    import dns.message
    import dns.rrset

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received_with_control(self, data, addr, cm):
            question = dns.message.from_wire(data)
            answer = dns.message.make_response(question)
            text = str(cm.dst)
            answer.answer.append(dns.rrset.from_text(question.question[0].name, 9, "IN", "A", text))
            self.transport.sendto(answer.to_wire(), addr, cm.reply())

    async def main():
        ours = Ours()
        monkeypatch.setattr("dns._asyncio_backend._get_running_loop", lambda: ours)
        server, _ = await create_datagram_endpoint(
            Server, ("0.0.0.0", 0), control=ControlFlags.DST | ControlFlags.INTERFACE
        )
        port = server.get_extra_info("sockname")[1]
        for asked in ("127.0.0.1", "127.0.0.2"):
            for number in range(20):
                question = dns.message.make_query(f"host{number}.example.", "A")
                answer = await dns.asyncquery.udp(question, asked, port=port, timeout=5)
                assert [each.address for each in answer.answer[0]] == [asked]
        assert len(ours.opened) == 40
        server.close()
        await asyncio.sleep(0.01)

    run(main())


# CoAP


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_coap_requests(run):
    """aiocoap's client and server; a resource of several blocks, and one that is observed."""
    pytest.importorskip("aiocoap")
    from aiocoap import GET, Context, Message, resource

    class Large(resource.Resource):
        async def render_get(self, request):
            return Message(payload=bytes(5000))

    class Counter(resource.ObservableResource):
        count = 0

        async def render_get(self, request):
            return Message(payload=b"%d" % self.count)

    async def main():
        ours = Ours()
        site, counter = resource.Site(), Counter()
        site.add_resource(["large"], Large())
        site.add_resource(["counter"], counter)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spare:
            spare.bind(HERE)
            port = spare.getsockname()[1]
        server = await Context.create_server_context(
            site, bind=("127.0.0.1", port), transports=["simplesocketserver"], loop=ours
        )
        client = await Context.create_client_context(transports=["simple6"], loop=ours)
        there = f"coap://127.0.0.1:{port}"
        for _ in range(5):
            answer = await client.request(Message(code=GET, uri=f"{there}/large")).response
            assert answer.payload == bytes(5000)
        asked = client.request(Message(code=GET, uri=f"{there}/counter", observe=0))
        assert (await asked.response).payload == b"0"
        told = aiter(asked.observation)
        for number in range(1, 4):
            counter.count = number
            counter.updated_state()
            assert (await anext(told)).payload == b"%d" % number
        asked.observation.cancel()
        await client.shutdown()
        await server.shutdown()
        assert len(ours.opened) == 2
        await asyncio.sleep(0.01)

    run(main())


def test_a_control_message_beside_a_peer(run):
    """One datagram of a connected endpoint is told more than the others."""

    class Told(asyncio.DatagramProtocol):
        def __init__(self):
            self.ttls = []

        def datagram_received_with_control(self, data, addr, cm):
            self.ttls.append(cm.ttl)

    async def main():
        server, told = await create_datagram_endpoint(Told, HERE, control=ControlFlags.TTL)
        client, _ = await create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=server.get_extra_info("sockname"), ttl=33
        )
        client.sendto(b"plain")
        client.sendto(b"marked", None, ControlMessage(send_ttl=9))
        client.sendto(b"plain")
        while len(told.ttls) < 3:
            await asyncio.sleep(0)
        assert told.ttls == [33, 9, 33]
        client.close()
        server.close()
        await asyncio.sleep(0)

    run(main())
