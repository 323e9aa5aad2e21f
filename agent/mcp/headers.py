"""Headers that MCP servers get with every request; they are secrets, so no error holds a value."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping

from pydantic import SecretStr

__all__ = ["ServerHeaders", "read_headers"]

ServerHeaders = Mapping[str, Mapping[str, SecretStr]]
"""The headers by their names, by the URL of the server."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[!-~](?:[ -~\t]*[!-~])?")


def read_headers(value: object) -> ServerHeaders:
    """Headers from a table of tables, or from the JSON of one, as a variable holds it.

    In a value `${NAME}` stands for a variable of the environment. Raises `ValueError`.
    """
    if isinstance(value, str):
        value = json.loads(value)  # its error is a ValueError that quotes nothing
    if not isinstance(value, Mapping):
        raise ValueError("a table of headers for each URL is expected")
    return {url: _of_server(url, headers) for url, headers in value.items()}


def _of_server(url: str, headers: object) -> Mapping[str, SecretStr]:
    if not url.startswith(("http://", "https://")):
        raise ValueError("headers go to a server that is reached by its URL: http(s)://...")
    if not isinstance(headers, Mapping):
        raise ValueError("a table of headers for each URL is expected")
    return {name: _filled(name, text) for name, text in headers.items()}


def _filled(name: str, text: object) -> SecretStr:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a header")
    if isinstance(text, SecretStr):
        return text
    if not isinstance(text, str):
        raise ValueError(f"the value of the header {name!r} must be a text")
    filled = _VARIABLE.sub(_from_environment, text).strip()
    if not _VALUE.fullmatch(filled):
        raise ValueError(f"the value of the header {name!r} is empty or not all printable ASCII")
    return SecretStr(filled)


def _from_environment(found: re.Match[str]) -> str:
    name = found.group(1)
    if name not in os.environ:
        raise ValueError(f"the environment variable {name} is not set")
    return os.environ[name]
