"""Images of the web, fetched so that nobody reaches through us what is not public.

A URL in a request is written by a stranger. So the host's name is resolved here, all of its
addresses must be public, and the connection goes to the very address that was checked: there is
no second look-up that could tell another one (DNS rebinding). Every redirect is checked anew.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Literal

import httpcore
import httpx

from ..skills.errors import BadInput

if TYPE_CHECKING:
    from httpcore import SOCKET_OPTION

__all__ = ["Address", "ImageUrls", "fetch_image", "is_public", "resolve"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[list[Address]]]
ImageUrls = Literal["refuse", "public"] | tuple[str, ...]
"""Which URLs are fetched: none, all of the public web, or those of the named hosts there."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 3
_MAX_URL = 4096
_MAX_NAME = 253
_NAME = re.compile(r"(?:[a-z0-9_-]+\.)*(?!0x|\d+$)[a-z0-9_-]+")
"""A host's name. Its end is no number, as in 2130706433, 0x7f.1 and 0177.0.0.1, which the
libraries of C would take for addresses."""
_LOWEST_FREE_PORT = 1024

_UNICAST = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            # Relays to IPv4, which python does not call private: 6to4, its relays, Teredo.
            *("2002::/16", "192.88.99.0/24", "2001::/23"),
            # Documentation, benchmarks, protocol assignments; python knows only some of them.
            *("2001:db8::/32", "3fff::/20", "192.0.0.0/24"),
        ),
    )
)


async def fetch_image(
    url: str,
    *,
    allowed: ImageUrls,
    max_bytes: int,
    timeout: float,
    resolver: Resolver | None = None,
    accepts: Callable[[Address], bool] | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> bytes:
    """The bytes behind `url`, at most `max_bytes`, within `timeout` seconds, redirects included.

    Raises `BadInput` for a URL that is not `allowed`, leads to what is not public, or brings
    nothing in time; whether the bytes are an image is for the caller to check. `resolver` and
    `accepts` stand for `resolve` and `is_public`.
    """
    backend = _CheckedNetwork(resolver or resolve, accepts or is_public)
    pool = httpcore.AsyncConnectionPool(ssl_context=ssl_context, network_backend=backend)
    try:
        async with asyncio.timeout(timeout), pool:
            return await _follow(pool, url, allowed, max_bytes)
    except TimeoutError:
        raise BadInput(f"{_shown(url)} did not come within {timeout:g} s") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
        told = str(error) or type(error).__name__
        raise BadInput(f"{_shown(url)} cannot be fetched: {told}") from error


async def _follow(
    pool: httpcore.AsyncConnectionPool, url: str, allowed: ImageUrls, max_bytes: int
) -> bytes:
    place = _checked(url, allowed)
    for _ in range(_MAX_REDIRECTS + 1):
        found = await _get(pool, place, max_bytes)
        if isinstance(found, bytes):
            return found
        place = _checked(_joined(place, found), allowed)
    raise BadInput(f"{_shown(url)} is redirected more than {_MAX_REDIRECTS} times")


async def _get(pool: httpcore.AsyncConnectionPool, url: httpx.URL, max_bytes: int) -> bytes | str:
    """The body, or where a redirect leads."""
    headers: dict[bytes | str, bytes | str] = {
        "Host": url.netloc.decode("ascii"),
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "User-Agent": "llava-plus",
    }
    target = httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
    async with pool.stream("GET", target, headers=headers) as response:
        told = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in told:
            return told[b"location"]
        if response.status != httpx.codes.OK:
            raise BadInput(f"{_shown(url)} answered with HTTP status {response.status}")
        if told.get(b"content-encoding", "identity") != "identity":
            # We asked for none; what a few bytes unpack to would have no limit.
            raise BadInput(f"{_shown(url)} sends its image compressed once more")
        return await _read(response.aiter_stream(), told.get(b"content-length", ""), max_bytes, url)


async def _read(
    chunks: AsyncIterable[bytes], announced: str, max_bytes: int, url: httpx.URL
) -> bytes:
    body = bytearray()
    too_large = announced.isdecimal() and int(announced) > max_bytes
    if not too_large:
        async for chunk in chunks:
            body += chunk
            if len(body) > max_bytes:
                too_large = True
                break
    if too_large:
        raise BadInput(f"{_shown(url)} has more than the {max_bytes:,} bytes that are taken")
    return bytes(body)


def _checked(text: str, allowed: ImageUrls) -> httpx.URL:
    """The URL, when it may be asked for. Raises `BadInput`."""
    if allowed == "refuse":
        raise BadInput("images of the web are not fetched here; send the image itself, as data")
    if len(text) > _MAX_URL:
        raise BadInput(f"the URL has {len(text):,} characters; at most {_MAX_URL:,} are taken")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise BadInput(f"{_shown(text)} is no URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise BadInput(f"{_shown(url)} is not an http or https URL")
    if url.userinfo:
        raise BadInput("a URL with a name or a password in it is not fetched")
    if not (url.port in (None, 80, 443) or _LOWEST_FREE_PORT <= url.port <= 65535):
        raise BadInput(f"port {url.port} in {_shown(url)} is not one of the web")
    host = url.raw_host.decode("ascii").rstrip(".").lower()
    if allowed != "public" and host not in {name.lower() for name in allowed}:
        raise BadInput(f"images of {host} are not fetched here; of these: {', '.join(allowed)}")
    if not (_literal(host) or _NAME.fullmatch(host)) or len(host) > _MAX_NAME:
        raise BadInput(f"{_shown(host)} is not the name or the address of a host")
    return url


def _joined(place: httpx.URL, location: str) -> str:
    try:
        return str(place.join(location))
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise BadInput(f"{_shown(place)} redirects to what is no URL: {error}") from None


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _shown(url: str | httpx.URL) -> str:
    """A URL as errors name it: short, and without what a query may keep secret."""
    text = str(url).partition("?")[0].partition("#")[0]
    if "@" in text:
        text = text.partition("://")[0] + "://…"
    return repr(text[:100] + "…" if len(text) > 100 else text)


class _CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only; TLS still asks for the certificate of the name."""

    def __init__(self, resolver: Resolver, accepts: Callable[[Address], bool]) -> None:
        self._resolver = resolver
        self._accepts = accepts
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        literal = _literal(host)
        addresses = [literal] if literal else await self._resolver(host, port)
        if not addresses or not all(map(self._accepts, addresses)):
            raise BadInput(f"{host!r} is not on the public internet")
        failed: Exception | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError("there is no address")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


async def resolve(host: str, port: int) -> list[Address]:
    """Every address of a host. Raises `BadInput` when it has none."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise BadInput(f"there is no host {host!r}") from None
    return [ipaddress.ip_address(place[0]) for *_, place in found]


def is_public(address: Address) -> bool:
    """Whether an address is one host of the public internet, and no way to another network."""
    if isinstance(address, ipaddress.IPv6Address):
        # Leaves out, among others, IPv4 in IPv6 (::ffff:0:0/96) and NAT64 (64:ff9b::/96).
        if address not in _UNICAST or address.scope_id:
            return False
    elif address.is_multicast or address.is_reserved:
        return False
    inside = any(address in net for net in _NOT_PUBLIC if net.version == address.version)
    return address.is_global and not inside
