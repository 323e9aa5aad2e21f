"""Keeping secrets and pictures out of what is written down."""

from __future__ import annotations

import re

__all__ = ["masked"]

_SECRETS = [
    # Keys of this gateway, of LMM servers and of the hub, wherever they stand.
    (re.compile(r"(?<![A-Za-z0-9])(lp_|sk-|hf_)[\w-]{8,}"), r"\1***"),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.IGNORECASE), r"\1 ***"),
    # Passwords in addresses of databases and servers.
    (re.compile(r"(://[^\s/:@]*:)[^\s/@]+@"), r"\1***@"),
    (re.compile(r"\b(data:[\w.+-]+/[\w.+-]+)[;,][^\s\"'<>)\\]*", re.IGNORECASE), r"\1,***"),
]


def masked(text: str) -> str:
    """The text without API keys, credentials of a header or an address, and data URIs."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text
