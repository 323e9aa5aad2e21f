"""Searching at a real server on loopback, in both shapes, and with all that can go wrong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from llava_plus.skills.errors import BadConfiguration, BadSkillUse, SkillFailed
from llava_plus.skills.knowledge import FoundKnowledge, Knowledge
from llava_plus.skills.readiness import readiness

SEARXNG = {
    "query": "eiffel tower",
    "results": [
        {
            "title": "Eiffel Tower",
            "content": "It is 330 m   tall,\n a &lt; b &amp; 1 < 2.",
            "url": "https://en.example.org/wiki/Eiffel_Tower",
        },
        {"title": "No words", "content": None, "url": "javascript:alert(1)"},
        {"url": "https://empty.example.org/"},
        "not an object",
        {"title": "<|im_end|> \u001b[31m\ud800", "content": "<b>Bold</b>ly<br>gone" * 99},
    ],
}
MEDIAWIKI = {
    "query": {
        "search": [
            {
                "pageid": 9232,
                "title": "Eiffel Tower",
                "snippet": 'The <span class="searchmatch">Eiffel</span> Tower &quot;La Dame&quot;',
            }
        ]
    }
}


class Site(BaseHTTPRequestHandler):
    """Answers each path in its own way, and remembers what it was asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = urlsplit(self.path).path
        if path == "/slow":
            time.sleep(0.5)
        answers: dict[str, Any] = {"/search": SEARXNG, "/w/api.php": MEDIAWIKI, "/list": [1]}
        answers |= {"/none": {"results": []}, "/odd": {"error": {"code": "x"}}}
        answers |= {"/large": "x" * 3_000_000}
        status = {"/broken": 500, "/moved": 302, "/secret": 403}.get(path, 200)
        body = json.dumps(answers.get(path, {})).encode()
        body = {"/page": b"<html>", "/deep": b"[" * 100_000}.get(path, body)
        self.send_response(status)
        self.send_header("Location", "/search")
        self.end_headers()
        if path == "/drip":
            for _ in range(50):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.02)
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """Where the server is, and what it has been asked so far."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    asked: list[str] = []
    handler = type("Remembering", (Site,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.fixture
def search(
    site: tuple[str, list[str]], settings: Callable[..., None]
) -> Callable[..., FoundKnowledge]:
    """Search at a path of the server: `search("/search?q={query}", "eiffel")`."""

    def search(path: str, query: str, k: int | None = None, **options: object) -> FoundKnowledge:
        settings("knowledge", url=site[0] + path, **options)
        assert readiness("knowledge").lacks == ""
        skill = Knowledge()
        skill.setup("cpu")
        output = skill.call({"query": query, "k": k})
        assert isinstance(output, FoundKnowledge)
        return output

    return search


def test_searxng_is_read(search: Callable[..., FoundKnowledge]) -> None:
    output = search("/search?format=json&q={query}", "eiffel tower", 2)
    assert output.text().splitlines() == [
        "Found 2 passages on 'eiffel tower'.",
        "1. Eiffel Tower: It is 330 m tall, a < b & 1 < 2. (en.example.org)",
        "2. No words",
    ]
    links = [found.link for found in output.found]
    assert links == ["https://en.example.org/wiki/Eiffel_Tower", ""], "a script is no link"


def test_mediawiki_is_read(
    search: Callable[..., FoundKnowledge], site: tuple[str, list[str]]
) -> None:
    output = search("/w/api.php?srsearch={query}&srlimit={k}", "eiffel", backend="mediawiki")
    (found,) = output.found
    assert (found.title, found.text) == ("Eiffel Tower", 'The Eiffel Tower "La Dame"')
    assert found.link == f"{site[0]}/w/index.php?curid=9232"
    assert parse_qs(urlsplit(site[1][0]).query)["srlimit"] == ["3"]


def test_other_shapes_are_told_by_paths(search: Callable[..., FoundKnowledge]) -> None:
    paths = {"results": "query.search", "title": "snippet", "text": "no.such.place"}
    (found,) = search("/w/api.php?q={query}", "eiffel", **paths).found
    assert (found.title, found.text, found.link) == ('The Eiffel Tower "La Dame"', "", "")


def test_what_pages_say_is_data(search: Callable[..., FoundKnowledge]) -> None:
    *_, found = search("/search?q={query}", "eiffel", 10).found
    assert found.title == "<|im_end|> [31m?"
    assert found.text.startswith("Boldly goneBoldly gone")
    assert len(found.text) == 500
    found.model_dump_json().encode()


def test_a_query_stays_one_parameter(
    search: Callable[..., FoundKnowledge], site: tuple[str, list[str]]
) -> None:
    query = "a&format=html#x {k} /../ 東京"
    assert search("/none?q={query}&format=json", query).text() == f"Found no passage on '{query}'."
    (asked,) = site[1]
    assert parse_qs(urlsplit(asked).query) == {"q": [query], "format": ["json"]}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/broken", "answers with status 500"),
        ("/secret", "answers with status 403"),
        ("/moved", "answers with status 302"),
        ("/page", "does not answer with JSON"),
        ("/deep", "does not answer with JSON"),
        ("/slow", r"does not answer in 0\.3 s"),
        ("/drip", r"does not answer in 0\.3 s"),
        ("/large", "more than 2,000,000 bytes"),
        ("/odd", "without a list at 'results'; there is: error"),
        ("/list", "without a list at 'results'; there is: list"),
    ],
)
def test_an_endpoint_that_does_not_help_is_told(
    search: Callable[..., FoundKnowledge], path: str, told: str
) -> None:
    options = {"timeout": 0.3} if path in ("/slow", "/drip") else {}
    with pytest.raises(SkillFailed, match=f"^127.0.0.1 .*{told}") as error:
        search(f"{path}?key=hidden&q={{query}}", "eiffel", **options)
    assert "hidden" not in str(error.value)


def test_an_endpoint_that_is_not_there_is_told(settings: Callable[..., None]) -> None:
    settings("knowledge", url="http://127.0.0.1:9/?q={query}")
    skill = Knowledge()
    skill.setup("cpu")
    with pytest.raises(SkillFailed, match=r"127\.0\.0\.1 cannot be asked"):
        skill.call({"query": "eiffel"})


def test_without_the_setting_it_is_not_on_offer() -> None:
    assert "no `url`" in readiness("knowledge").lacks
    with pytest.raises(BadConfiguration, match="no `url`"):
        Knowledge().setup("cpu")


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://localhost/search?q="},
        {"url": "file:///etc/passwd?{query}"},
        {"url": "localhost/{query}"},
        {"url": "http://localhost:99999/{query}"},
        {"url": "http://localhost/{query}", "timeout": 0},
        {"url": "http://localhost/{query}", "field": "x"},
    ],
)
def test_a_setting_that_does_not_fit_is_told(
    settings: Callable[..., None], options: dict[str, object]
) -> None:
    settings("knowledge", **options)
    with pytest.raises(BadConfiguration):
        Knowledge().setup("cpu")


@pytest.mark.parametrize(
    "arguments", [{}, {"query": " "}, {"query": "x" * 301}, {"query": "x", "k": 0}, {"query": 3}]
)
def test_a_call_that_does_not_fit_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(BadSkillUse):
        Knowledge().call(arguments)
