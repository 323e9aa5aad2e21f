"""Text that is shown in Markdown without being able to say anything in it."""

from __future__ import annotations

import re

from ..report import plain

__all__ = ["answer", "fenced", "literal"]

_SPEAKING = re.compile(
    r"([\\`*~\[\]<]"  # code, emphasis, links and tags, wherever they stand
    r"|(?<!\w)_|_(?!\w)"  # emphasis, but not within a name
    r"|&(?=#?\w+;)"  # an entity
    r"|:(?=//)|(?<=www)\.|@"  # an address, which becomes a link by itself
    r"|(?m:^)[#>+=:|-]|(?m:(?<=^\d)|(?<=^\d\d)|(?<=^\d\d\d))[.)])"  # headings, quotes, lists
)
"""What means something in Markdown. No more is escaped, for what is copied has the escapes."""

_INDENT = re.compile(r"(?m)^[ \t]+")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_IMAGE = re.compile(r"!(?=\[)")
_DIAGRAM = re.compile(r"(?im)^([ \t>]*(?:`{3,}|~{3,})[ \t]*)mermaid")

_JOINER = "\u2060"
"""Takes no room; after `<` it keeps a browser from seeing a tag, in code and outside of it."""

_MOST_SHOWN = 6000
"""Letters of a result on the page; the record has all of it."""


def literal(text: str) -> str:
    """Markdown that shows `text` letter by letter, with its line ends."""
    flush = _INDENT.sub(lambda indent: "\u00a0" * len(indent[0].expandtabs(4)), plain(text))
    return _SPEAKING.sub(r"\\\1", flush)


def fenced(text: str, language: str = "text") -> str:
    """A block of code that `text` cannot end, cut to what fits on a page."""
    shown = plain(text)
    if len(shown) > _MOST_SHOWN:
        shown = f"{shown[:_MOST_SHOWN]}\n… and {len(shown) - _MOST_SHOWN:,} more letters"
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def answer(text: str) -> str:
    """What an LMM said, its Markdown kept except for what loads or runs something.

    HTML shows as it is written, images as links, diagrams as their source.
    """
    inert = _IMAGE.sub(f"!{_JOINER}", _TAG.sub(f"<{_JOINER}", plain(text)))
    return _DIAGRAM.sub(r"\1text", inert)
