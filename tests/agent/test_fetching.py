"""Images of the web come from public addresses only, whatever a URL, a name or a redirect says."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from llava_plus.agent.fetching import Address, fetch_image, is_public, resolve
from llava_plus.skills.errors import BadInput

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LOOPBACK = ipaddress.ip_address("127.0.0.1")


def response(body: bytes = b"", status: str = "200 OK", **headers: object) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines, "", ""])
    return head.encode() + body


def redirect(to: str) -> bytes:
    return response(status="302 Found", Location=to)


class Web:
    """Two servers of this machine: one counts as public, the other as an inner service."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.hosts: list[str] = []
        self.port = self.inner_port = 0
        self.inner_asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        self.asked.append(path)
        self.hosts += [line[6:] for line in head.splitlines() if line.startswith("Host: ")]
        if path == "/slow":
            await asyncio.sleep(30)
        if path == "/drip":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(1000):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        if path == "/endless":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not writer.is_closing():
                writer.write(bytes(10_000))
                await writer.drain()
        writer.write(self.pages.get(path, response(b"", "404 Not Found")))
        await writer.drain()

    async def serve_inner(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.inner_asked += 1
        writer.write(response(b"secret"))


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    web = Web()
    serving = set()

    def closing(serve: Handler) -> Handler:
        async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving.add(asyncio.current_task())
            try:
                await serve(reader, writer)
            except (OSError, asyncio.CancelledError):
                pass  # who asked has gone, or the test is over
            finally:
                writer.close()

        return closed

    public = await asyncio.start_server(closing(web.serve), "127.0.0.1", 0)
    inner = await asyncio.start_server(closing(web.serve_inner), "127.0.0.2", 0)
    web.port = public.sockets[0].getsockname()[1]
    web.inner_port = inner.sockets[0].getsockname()[1]
    yield web
    for server in (public, inner):
        server.close()
    for task in filter(None, serving):
        task.cancel()
    await asyncio.gather(*filter(None, serving))


async def look_up(host: str, port: int) -> list[Address]:
    """What a name server says."""
    known = {"public.test": ["127.0.0.1"], "inner.test": ["127.0.0.2"]}
    known |= {"mixed.test": ["127.0.0.1", "10.0.0.1"], "none.test": []}
    return [ipaddress.ip_address(address) for address in known[host]]


async def fetch(url: str, **options: Any) -> bytes:
    """Fetch; 127.0.0.1 counts as public here, and nothing else of this machine does."""
    chosen: dict[str, Any] = {
        "allowed": "public",
        "max_bytes": 1000,
        "timeout": 5,
        "resolver": look_up,
        "accepts": lambda address: address == LOOPBACK or is_public(address),
        **options,
    }
    return await fetch_image(url, **chosen)


async def test_an_image_comes_as_it_is(web: Web) -> None:
    web.pages["/a?b=c"] = response(b"image")
    assert await fetch(f"http://public.test:{web.port}/a?b=c") == b"image"
    assert web.hosts == [f"public.test:{web.port}"], "the server is told the name, not the address"


async def test_nothing_is_fetched_unless_the_operator_allows_it(web: Web) -> None:
    url = f"http://public.test:{web.port}/"
    with pytest.raises(BadInput, match="send the image itself"):
        await fetch(url, allowed="refuse")
    with pytest.raises(BadInput, match=r"of these: other\.test"):
        await fetch(url, allowed=("other.test",))
    assert web.asked == []
    web.pages["/"] = response(b"image")
    assert await fetch(url, allowed=("Public.test",)) == b"image"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.8.9.1", "localhost", "localhost.", "0.0.0.0", "[::1]", "[::]"),
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "[fd00::1]", "[fec0::1]"),
        *("169.254.169.254", "[fe80::1]", "224.0.0.1", "255.255.255.255", "[ff02::1]"),
        *("[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]", "[::ffff:8.8.8.8]", "[::7f00:1]"),
        *("[64:ff9b::7f00:1]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001:0:1::1]"),
        *("2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "017700000001", "①②⑦.0.0.1"),
    ],
)
async def test_what_is_not_public_is_not_reached(host: str) -> None:
    with pytest.raises(BadInput, match=r"not on the public internet|no URL|no host|not the name"):
        await fetch_image(f"http://{host}:8600/", allowed="public", max_bytes=9, timeout=5)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *(("8.8.8.8", True), ("2606:4700::1111", True), ("192.0.0.8", False)),
        *(("192.88.99.1", False), ("240.0.0.1", False), ("2001:db8::1", False)),
        *(("3fff::1", False), ("5f00::1", False)),
    ],
)
def test_public_addresses_are_known(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


async def test_names_are_looked_up_by_the_machine() -> None:
    assert set(await resolve("localhost", 80)) <= {LOOPBACK, ipaddress.ip_address("::1")}
    with pytest.raises(BadInput, match="no host"):
        await resolve("no-such-host.invalid", 80)


@pytest.mark.parametrize("host", ["inner.test", "mixed.test", "none.test"])
async def test_a_name_with_any_address_that_is_not_public_is_refused(web: Web, host: str) -> None:
    with pytest.raises(BadInput, match="not on the public internet"):
        await fetch(f"http://{host}:{web.inner_port}/")
    assert web.inner_asked == 0


async def test_a_redirect_is_followed_only_to_what_is_public(web: Web) -> None:
    web.pages["/image"] = response(b"image")
    web.pages["/there"] = redirect("/image")
    assert await fetch(f"http://public.test:{web.port}/there") == b"image"
    for place in (f"127.0.0.2:{web.inner_port}", f"inner.test:{web.inner_port}"):
        web.pages["/in"] = redirect(f"http://{place}/")
        with pytest.raises(BadInput, match="not on the public internet"):
            await fetch(f"http://public.test:{web.port}/in")
    assert web.inner_asked == 0
    for place in ("file:///etc/passwd", "gopher://public.test/", "data:,x"):
        web.pages["/out"] = redirect(place)
        with pytest.raises(BadInput, match="not an http or https URL"):
            await fetch(f"http://public.test:{web.port}/out")
    web.pages["/other"] = redirect(f"http://mixed.test:{web.port}/")
    with pytest.raises(BadInput, match="are not fetched here"):
        await fetch(f"http://public.test:{web.port}/other", allowed=("public.test",))


async def test_redirects_come_to_an_end(web: Web) -> None:
    web.pages["/round"] = redirect("/round")
    with pytest.raises(BadInput, match="more than 3 times"):
        await fetch(f"http://public.test:{web.port}/round")
    assert len(web.asked) == 4


async def test_the_address_that_was_checked_is_the_one_that_is_asked(web: Web) -> None:
    """A name server that says a public address first and a private one after it (rebinding)."""
    answers = iter(["127.0.0.1", "127.0.0.2"])

    async def changing(host: str, port: int) -> list[Address]:
        return [ipaddress.ip_address(next(answers))]

    web.pages["/"] = response(b"image")
    url = f"http://rebound.test:{web.port}/"
    assert await fetch(url, resolver=changing) == b"image", "one look-up, one connection"
    with pytest.raises(BadInput, match="not on the public internet"):
        await fetch(url, resolver=changing)
    answers = iter(["127.0.0.1", "127.0.0.2"])
    web.pages["/again"] = redirect(f"http://rebound.test:{web.inner_port}/")
    with pytest.raises(BadInput, match="not on the public internet"):
        await fetch(f"http://rebound.test:{web.port}/again", resolver=changing)
    assert web.inner_asked == 0


async def test_no_more_is_read_than_may_come(web: Web) -> None:
    web.pages["/large"] = response(bytes(1001))
    web.pages["/full"] = response(bytes(1000))
    for path in ("large", "endless"):
        with pytest.raises(BadInput, match="more than the 1,000 bytes"):
            await fetch(f"http://public.test:{web.port}/{path}")
    assert len(await fetch(f"http://public.test:{web.port}/full")) == 1000


async def test_a_body_that_unpacks_is_not_unpacked(web: Web) -> None:
    web.pages["/bomb"] = response(gzip.compress(bytes(10_000_000))[:900], Content_Encoding="gzip")
    with pytest.raises(BadInput, match="compressed"):
        await fetch(f"http://public.test:{web.port}/bomb")


@pytest.mark.parametrize("path", ["slow", "drip"])
async def test_the_whole_time_is_bounded(web: Web, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(BadInput, match=r"within 0\.5 s"):
        await fetch(f"http://public.test:{web.port}/{path}", timeout=0.5)
    assert time.monotonic() - began < 3


async def test_a_slow_name_server_counts_too() -> None:
    async def never(host: str, port: int) -> list[Address]:
        await asyncio.sleep(30)
        return []

    with pytest.raises(BadInput, match=r"within 0\.2 s"):
        await fetch("http://public.test/", resolver=never, timeout=0.2)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/passwd",
            "FILE:///etc/passwd",
            "ftp://public.test/a",
            "gopher://public.test",
        ),
        *("data:image/png;base64,AAAA", "jar:http://public.test!/a", "//public.test/a", "/a", ""),
        *(
            "http://",
            "http:///a",
            "http://a b/",
            "http://public.test:99999/",
            "http://[::1",
            "\x00",
        ),
        *("http://user:pass9@public.test/", "http://public.test:22/", "http://public.test:25/"),
        *("http://public.test/\r\nX-Evil: 1", "http://public.test\\@127.0.0.1/", "h" * 5000),
    ],
)
async def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    asked = []

    async def noted(host: str, port: int) -> list[Address]:
        asked.append(host)
        return []

    with pytest.raises(BadInput) as refused:
        await fetch(url, resolver=noted)
    assert "pass9" not in str(refused.value), "a password is not repeated"
    assert not asked


async def test_what_goes_wrong_is_told_without_the_query(web: Web) -> None:
    for path, told in (("/none?token=abc", "HTTP status 404"), ("/nothing", "cannot be fetched")):
        web.pages["/nothing"] = b"no HTTP\r\n\r\n"
        with pytest.raises(BadInput, match=told) as refused:
            await fetch(f"http://public.test:{web.port}{path}")
        assert "abc" not in str(refused.value)
    with pytest.raises(BadInput, match="cannot be fetched"):
        await fetch("http://public.test:1026/")


async def test_the_certificate_must_be_of_the_name(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *"openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256".split(),
            *("-keyout", key, "-out", certificate, "-subj", "/CN=public.test"),
            *("-addext", "subjectAltName=DNS:public.test"),
        ],
        check=True,
        capture_output=True,
    )
    speaking = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    speaking.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=str(certificate))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b"image"))
        writer.close()
        await writer.wait_closed()

    async def here(host: str, port: int) -> list[Address]:
        return [LOOPBACK]

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=speaking)
    port = server.sockets[0].getsockname()[1]
    options = {"resolver": here, "ssl_context": trusting}
    assert await fetch(f"https://public.test:{port}/", **options) == b"image"
    with pytest.raises(BadInput, match="certificate"):
        await fetch(f"https://other.test:{port}/", **options)
    server.close()
