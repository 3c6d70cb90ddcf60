#!/usr/bin/env python3
"""A foreign HTTP/3 client, on aioquic: it shares no code with the node, so a mistake they would
both make cannot hide. `tests/clients/setup` installs what it needs.

    h3.py --ca CA.pem [options] URL

Sends one request (or --repeat N, one after another on one connection) and prints one JSON line for
each: status, headers, body_len, body_sha256, body_text (first 4096 bytes, null if not UTF-8),
stream_reset and closed (the code the stream or the connection ended with, else null). Exit: 0 if any response came, 1 if
none did, 2 for a mistake in the call. What else there is to say goes to stderr.

It adds nothing to the request that was not asked for (no user-agent, no content-length), and sends
malformed ones as told: --raw-header, --authority, --no-authority.
"""

import argparse
import asyncio
import hashlib
import json
import os
import pathlib
import socket
import sys
import urllib.parse

TARGET = pathlib.Path(__file__).resolve().parents[2] / "target"
BODY_TEXT_BYTES = 4096


def use_installed_packages() -> None:
    """Goes on with the Python, or the packages, that `setup` made."""
    venv = TARGET / "venv"
    if (venv / "stamp").exists() and pathlib.Path(sys.prefix) != venv:
        os.execv(venv / "bin/python", [str(venv / "bin/python"), *sys.argv])
    if (TARGET / "pydeps/stamp").exists():
        sys.path.insert(0, str(TARGET / "pydeps"))


use_installed_packages()
try:
    from aioquic.asyncio.protocol import QuicConnectionProtocol
    from aioquic.h3.connection import H3_ALPN, H3Connection
    from aioquic.h3.events import DataReceived, HeadersReceived
    from aioquic.quic.configuration import QuicConfiguration
    from aioquic.quic.connection import QuicConnection
    from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamReset
except ImportError as missing:
    print(f"h3.py: {missing}; run tests/clients/setup", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    options = parse_arguments()
    exchanges = asyncio.run(run(options))
    for exchange in exchanges:
        print(json.dumps(exchange.report()))
    sys.exit(0 if any(exchange.status is not None for exchange in exchanges) else 1)


async def run(options: argparse.Namespace) -> list["Exchange"]:
    exchanges = [Exchange() for _ in range(options.repeat)]
    try:
        client = await connect(options)
    except OSError as error:
        print(f"h3.py: cannot reach the server: {error}", file=sys.stderr)
        return exchanges
    for exchange in exchanges:
        try:
            await asyncio.wait_for(client.request(options, exchange), options.timeout)
        except asyncio.TimeoutError:
            # Reported as far as it came. Its stream stays open and does not disturb the next.
            print(f"h3.py: no end of the response within {options.timeout} s", file=sys.stderr)
            if not client.ready.is_set():
                break  # nobody there, and nobody will be for the next request either
    client.close()
    # One turn of the loop, so that the close is sent; nobody waits for the peer to drain.
    await asyncio.sleep(0)
    return exchanges


async def connect(options: argparse.Namespace) -> "Client":
    """Sends the first handshake packet. Not aioquic's own `connect`: that one needs IPv6 on the machine."""
    host, port = options.connect
    family, _, _, _, address = (
        await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    )[0]
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=H3_ALPN,
        # Whatever address is connected to, the certificate has to be good for the URL's host.
        server_name=options.url.hostname,
        cafile=str(options.ca),
    )
    quic = QuicConnection(configuration=configuration)
    local = ("::", 0) if family == socket.AF_INET6 else ("0.0.0.0", 0)
    _, client = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Client(quic), local_addr=local, family=family
    )
    client.connect(address)
    return client


class Exchange:
    """One request and what came back for it."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: list[list[str]] = []
        self.body = bytearray()
        self.stream_reset: int | None = None
        self.closed: int | None = None
        # Set when nothing more can come.
        self.ended = asyncio.Event()

    def report(self) -> dict:
        try:
            text = decode_start(self.body)
        except UnicodeDecodeError:
            text = None
        return {
            "status": self.status,
            "headers": self.headers,
            "body_len": len(self.body),
            "body_sha256": hashlib.sha256(self.body).hexdigest(),
            "body_text": text,
            "stream_reset": self.stream_reset,
            "closed": self.closed,
        }


class Http(H3Connection):
    """Does not hold an empty body against a response that says what a GET would have given."""

    bodiless: bool = False

    # aioquic 1.7 knows no exception here, and would close the connection on any HEAD.
    def _check_content_length(self, stream) -> None:
        if not (self.bodiless and stream.content_length == 0):
            super()._check_content_length(stream)


class Client(QuicConnectionProtocol):
    """One connection."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self.http = Http(quic)
        self.exchanges: dict[int, Exchange] = {}  # by stream
        self.terminated: ConnectionTerminated | None = None
        # Set when the handshake is over, well or not.
        self.ready = asyncio.Event()

    async def request(self, options: argparse.Namespace, exchange: Exchange) -> None:
        await self.ready.wait()
        if self.terminated:
            exchange.closed = self.terminated.error_code
            return
        stream = self._quic.get_next_available_stream_id()
        self.exchanges[stream] = exchange
        body = options.body
        self.http.bodiless = options.method == "HEAD"
        self.http.send_headers(stream, request_headers(options), end_stream=body is None)
        if body is not None:
            self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        await exchange.ended.wait()

    def quic_event_received(self, event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.terminate(event)
        elif isinstance(event, StreamReset) and event.stream_id in self.exchanges:
            exchange = self.exchanges[event.stream_id]
            exchange.stream_reset = event.error_code
            exchange.ended.set()
        elif isinstance(event, HandshakeCompleted):
            self.ready.set()
        for received in self.http.handle_event(event):
            self.http_event_received(received)

    def http_event_received(self, event) -> None:
        exchange = self.exchanges.get(getattr(event, "stream_id", None))
        if exchange is None:
            return
        if isinstance(event, HeadersReceived):
            fields = dict(event.headers)
            # Interim responses (1xx) are passed over; trailers come without a status.
            if b":status" in fields and int(fields[b":status"]) >= 200:
                exchange.status = int(fields[b":status"])
                exchange.headers = [
                    [name.decode("latin-1"), value.decode("latin-1")]
                    for name, value in event.headers
                    if not name.startswith(b":")
                ]
        elif isinstance(event, DataReceived):
            exchange.body += event.data
        else:
            return
        if event.stream_ended:
            exchange.ended.set()

    def terminate(self, event: ConnectionTerminated) -> None:
        if event.reason_phrase:
            print(f"h3.py: connection closed: {event.reason_phrase}", file=sys.stderr)
        self.terminated = event
        self.ready.set()
        for exchange in self.exchanges.values():
            if not exchange.ended.is_set():
                exchange.closed = event.error_code
                exchange.ended.set()


def request_headers(options: argparse.Namespace) -> list[tuple[bytes, bytes]]:
    url = options.url
    fields = [(":method", options.method), (":scheme", url.scheme)]
    if not options.no_authority:
        fields.append((":authority", options.authority if options.authority is not None else url.netloc))
    fields.append((":path", (url.path or "/") + (f"?{url.query}" if url.query else "")))
    # HTTP/3 knows lower-case names only; a raw header goes out as it was typed.
    fields += [(name.lower(), value) for name, value in options.header]
    fields += options.raw_header
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


def decode_start(body: bytearray) -> str:
    """The first bytes as text; a character the cut goes through is left out."""
    whole = len(body) <= BODY_TEXT_BYTES
    if whole:
        return body.decode()
    start = bytes(body[:BODY_TEXT_BYTES])
    for cut in range(4):  # a character has at most four bytes
        try:
            return start[: len(start) - cut].decode()
        except UnicodeDecodeError as error:
            last = error
    raise last


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Send one HTTP/3 request and print what came back as JSON.")
    parser.add_argument("url", metavar="URL", type=https_url)
    parser.add_argument("--ca", required=True, type=pathlib.Path, help="PEM file the server is verified against")
    parser.add_argument("--connect", metavar="HOST:PORT", type=host_and_port, help="where to connect to (from URL)")
    parser.add_argument("-X", "--method", help="GET, or POST with --data-file")
    parser.add_argument("-H", "--header", metavar="'K: V'", type=field, action="append", default=[])
    parser.add_argument("--raw-header", metavar="'K: V'", type=field, action="append", default=[],
                        help="sent last and as typed: upper case, a second :path, whatever")
    parser.add_argument("--authority", help="another :authority than the URL's")
    parser.add_argument("--no-authority", action="store_true")
    parser.add_argument("--data-file", type=pathlib.Path, help="request body")
    parser.add_argument("--repeat", metavar="N", type=int, default=1)
    parser.add_argument("--timeout", metavar="S", type=float, default=10.0, help="for each request (10)")
    options = parser.parse_args()

    try:
        options.body = options.data_file.read_bytes() if options.data_file else None
        options.ca.read_bytes()
    except OSError as error:
        parser.error(str(error))
    options.method = options.method or ("GET" if options.body is None else "POST")
    options.connect = options.connect or (options.url.hostname, options.url.port or 443)
    return options


def https_url(text: str) -> urllib.parse.SplitResult:
    url = urllib.parse.urlsplit(text)
    if url.scheme != "https" or not url.hostname:
        raise argparse.ArgumentTypeError(f"not an https URL: {text}")
    return url


def host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"not HOST:PORT: {text}")
    return host.strip("[]"), int(port)


def field(text: str) -> tuple[str, str]:
    # From the second character on, because a pseudo-header begins with a colon.
    colon = text.find(":", 1)
    if colon < 0:
        raise argparse.ArgumentTypeError(f"not 'name: value': {text}")
    return text[:colon], text[colon + 1 :].strip(" ")


if __name__ == "__main__":
    main()
