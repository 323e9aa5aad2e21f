"""Searching over HTTP, at any endpoint that answers a GET request with JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import field
from html import unescape
from itertools import islice
from typing import Annotated, Any, ClassVar
from urllib.parse import quote, urlsplit

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration, SkillFailed
from ..extras import Packages
from ..wording import shorten
from . import Licence, Snippet

__all__ = ["HttpSearch", "MediaWikiSearch"]

_MOST_BYTES = 2_000_000
_LONGEST_TITLE, _LONGEST_TEXT, _LONGEST_LINK = 150, 500, 2000
_BREAK = re.compile(r"</?(?:br|div|li|p|td|tr)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--[^<>]*-->")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


def _template(url: str) -> str:
    parts = urlsplit(url)
    known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    if url and not (known and "{query}" in url):
        raise ValueError(
            f"{url!r} is not an address to search at, such as "
            "http://localhost:8080/search?format=json&q={query}"
        )
    return url


@dataclass(config=ConfigDict(extra="forbid"))
class HttpSearch:
    """A `Searcher` at `url`, in which `{query}` and `{k}` stand for what is searched for.

    The answer is JSON with a list of passages at `results`; in each of them `title`, `text` and
    `link` say where these are. All four are paths with dots (`query.search`). As they are by
    default they fit SearXNG. Answers may take `timeout` seconds; redirects are not followed.
    """

    url: Annotated[str, AfterValidator(_template)] = ""
    results: str = "results"
    title: str = "title"
    text: str = "content"
    link: str = "url"
    timeout: float = Field(default=10, gt=0, le=120, allow_inf_nan=False)
    _client: Any = field(default=None, init=False, repr=False)

    licence: ClassVar[Licence] = Licence("BSD-3-Clause", "none needed")
    packages: ClassVar[Packages] = Packages("", ())

    def lacks(self) -> str:
        """The setting without which there is nowhere to search."""
        return "" if self.url else "no `url` to search at is set in [skills.knowledge]"

    def load(self, device: str) -> None:
        """Make the HTTP client; it asks nothing yet. Raises `BadConfiguration` without a `url`."""
        import httpx

        if lacking := self.lacks():
            raise BadConfiguration(lacking)
        self._client = httpx.Client(timeout=self.timeout, headers={"User-Agent": "llava-plus"})

    def search(self, query: str, k: int) -> Sequence[Snippet]:
        """Up to `k` passages. Raises `SkillFailed` when they cannot be had."""
        answer = self._answer(
            self.url.replace("{query}", quote(query, safe="")).replace("{k}", str(k))
        )
        found = _at(answer, self.results)
        if not isinstance(found, list):
            has = ", ".join(answer)[:100] if isinstance(answer, dict) else type(answer).__name__
            raise SkillFailed(
                f"{self._host} answers without a list at {self.results!r}; there is: {has}"
            )
        snippets = (self._snippet(item) for item in found)
        return list(islice((one for one in snippets if one.title or one.text), k))

    def _answer(self, url: str) -> Any:
        import httpx

        try:
            return json.loads(self._read(url))
        except httpx.TimeoutException as error:
            raise SkillFailed(f"{self._host} does not answer in {self.timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SkillFailed(f"{self._host} cannot be asked: {error}") from error
        except (ValueError, RecursionError) as error:
            raise SkillFailed(f"{self._host} does not answer with JSON") from error

    def _read(self, url: str) -> bytes:
        import httpx

        end, body = time.monotonic() + self.timeout, bytearray()
        with self._client.stream("GET", url) as response:
            if response.status_code != 200:
                raise SkillFailed(f"{self._host} answers with status {response.status_code}")
            for part in response.iter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise SkillFailed(f"{self._host} answers with more than {_MOST_BYTES:,} bytes")
                if time.monotonic() > end:  # the client's own limit is for each part
                    raise httpx.ReadTimeout("the whole answer takes too long")
        return bytes(body)

    def _snippet(self, item: Any) -> Snippet:
        link = _at(item, self.link)
        is_link = isinstance(link, str) and link.startswith(("http://", "https://"))
        return Snippet(
            title=shorten(_plain(_at(item, self.title)), _LONGEST_TITLE),
            text=shorten(_plain(_at(item, self.text)), _LONGEST_TEXT),
            link=_plain(link)[:_LONGEST_LINK] if is_link else "",
        )

    @property
    def _host(self) -> str:
        """The endpoint by its host alone: the rest of the address may hold a key."""
        return str(urlsplit(self.url).hostname)


@dataclass(config=ConfigDict(extra="forbid"))
class MediaWikiSearch(HttpSearch):
    """The search of a MediaWiki, such as Wikipedia.

    Its `url` ends like `/w/api.php?action=query&list=search&format=json&srsearch={query}`.
    """

    results: str = "query.search"
    text: str = "snippet"
    link: str = "pageid"

    def _snippet(self, item: Any) -> Snippet:
        snippet, page = super()._snippet(item), _at(item, self.link)
        if not isinstance(page, int):
            return snippet
        script = self.url.partition("api.php")[0]
        return snippet.model_copy(update={"link": f"{script}index.php?curid={page}"})


def _at(value: Any, path: str) -> Any:
    """What lies at a path with dots, or None."""
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _plain(markup: object) -> str:
    """The words of a text that may have HTML tags; what is no text is empty."""
    if not isinstance(markup, str):
        return ""
    words = unescape(_TAG.sub("", _BREAK.sub(" ", markup)))
    return _CONTROL.sub("", words).encode("utf-8", "replace").decode("utf-8")
