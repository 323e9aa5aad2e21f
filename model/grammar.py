"""The grammar of a reply: words, or calls that fit the specs on offer, and nothing else.

Built with llguidance from the JSON schemas in the prompt, so that a call that does not parse,
names no skill on offer or refers to an image that is not there cannot be emitted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..skills.calls import SkillSpec
from ..skills.errors import BadConfiguration
from ..skills.skill import HANDLE_PATTERNS, tidy_schema
from .call_format import CallFormat
from .conversation import Conversation
from .lark import LarkTexts

if TYPE_CHECKING:
    import torch
    from llguidance import LLMatcher, LLTokenizer
    from transformers import PreTrainedTokenizerFast

__all__ = ["ReplyGrammar", "allowed_tokens"]

_GUIDANCE = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
_KEPT = frozenset(
    "type minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minItems maxItems".split()
)


class ReplyGrammar:
    """Makes matchers for the replies of one model; grammars of known specs are kept."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, format: CallFormat, size: int) -> None:
        from llguidance.hf import from_tokenizer

        self._format = format
        added = tokenizer.added_tokens_decoder
        self._texts = LarkTexts({t.content: i for i, t in added.items() if t.special})
        self._tokenizer: LLTokenizer = from_tokenizer(tokenizer, n_vocab=size)
        self._matchers: dict[str, LLMatcher] = {}

    def matcher(self, conversation: Conversation, *, calls_allowed: bool) -> LLMatcher:
        """A fresh matcher for the next reply. Raises `BadConfiguration` naming a bad spec."""
        from llguidance import LLMatcher

        grammar = self._lark(conversation if calls_allowed else Conversation())
        if grammar not in self._matchers:
            matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
            if matcher.is_error():
                self._blame(conversation)
                raise BadConfiguration(f"no grammar for the skills: {matcher.get_error()}")
            if len(self._matchers) > 64:
                self._matchers.clear()
            self._matchers[grammar] = matcher
        return self._matchers[grammar].deep_copy()

    def _blame(self, conversation: Conversation) -> None:
        """Raise `BadConfiguration` that names the one spec that has no grammar."""
        from llguidance import LLMatcher

        for spec in conversation.skills:
            alone = conversation.model_copy(update={"skills": (spec,)})
            matcher = LLMatcher(self._tokenizer, self._lark(alone), log_level=0)
            if matcher.is_error():
                raise BadConfiguration(
                    f"the argument schema of skill {spec.name!r} has no grammar: "
                    f"{matcher.get_error()}"
                )

    def _lark(self, conversation: Conversation) -> str:
        handles = _handles(conversation)
        options = [
            schema for spec in conversation.skills for schema in self._call_schemas(spec, handles)
        ]
        rules = self._format.rules(self._texts, calls=bool(options))
        if not options:
            return rules
        call = json.dumps({"x-guidance": _GUIDANCE, "anyOf": options}, ensure_ascii=False)
        return f"{rules}call: %json {call}\n"

    def _call_schemas(
        self, spec: SkillSpec, handles: Mapping[str, Sequence[str]]
    ) -> Iterator[dict[str, Any]]:
        """The schemas of its calls as the model writes them; none when it cannot be called now."""
        form = self._format
        for name, parameters in form.signatures(spec):
            arguments = _Narrowed(handles, form.lead).object(tidy_schema(parameters))
            if arguments is not None:
                called = {"const": form.lead + name}
                yield _closed({form.name_key: called, form.arguments_key: arguments})


def allowed_tokens(matcher: LLMatcher, size: int) -> torch.Tensor:
    """Which of `size` tokens may come next: booleans [size]."""
    import numpy as np
    import torch

    bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    return torch.from_numpy(np.unpackbits(bits, bitorder="little")[:size] == 1)


def _closed(properties: dict[str, Any], required: Sequence[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
        "additionalProperties": False,
    }


def _handles(conversation: Conversation) -> dict[str, list[str]]:
    named = [
        handle
        for message in conversation.messages
        if message.role != "assistant"
        for handle in message.images
    ]
    images = list(dict.fromkeys([*conversation.images, *named]))
    return {
        HANDLE_PATTERNS["image"]: images,
        HANDLE_PATTERNS["mask"]: list(conversation.masks),
    }


class _Narrowed:
    """Schemas as the model writes them: known handles only, and `lead` before every string."""

    def __init__(self, handles: Mapping[str, Sequence[str]], lead: str) -> None:
        self._handles = handles
        self._lead = lead

    def object(self, schema: Mapping[str, Any]) -> dict[str, Any] | None:
        """An object's schema, or None when a required part of it has no possible value."""
        required = list(schema.get("required", ()))
        properties = {}
        for name, part in schema.get("properties", {}).items():
            narrowed = self.value(part)
            if narrowed is not None:
                properties[name] = narrowed
            elif name in required:
                return None
        return _closed(properties, [name for name in required if name in properties])

    def value(self, schema: Any) -> dict[str, Any] | None:
        """Any schema, or None when nothing fits it now."""
        if not isinstance(schema, Mapping):
            return {}
        if "const" in schema or "enum" in schema:
            values = schema.get("enum", [schema.get("const")])
            return {"enum": [self._led(value) for value in values]} if values else None
        for key in ("anyOf", "oneOf"):
            if key in schema:
                options = [part for part in map(self.value, schema[key]) if part is not None]
                return {"anyOf": options} if options else None
        kind = schema.get("type")
        kinds: dict[str, Callable[[Mapping[str, Any]], dict[str, Any] | None]] = {
            "string": self._string,
            "array": self._array,
            "object": self.object,
        }
        if isinstance(kind, list):
            return self.value({"anyOf": [{**schema, "type": one} for one in kind]})
        if kind in kinds and (kind != "object" or "properties" in schema):
            return kinds[kind](schema)
        return {key: value for key, value in schema.items() if key in _KEPT}

    def _led(self, value: Any) -> Any:
        return self._lead + value if isinstance(value, str) else value

    def _string(self, schema: Mapping[str, Any]) -> dict[str, Any] | None:
        pattern = str(schema["pattern"]) if "pattern" in schema else None
        if pattern is not None and pattern in self._handles:
            known = self._handles[pattern]
            return {"enum": [self._led(handle) for handle in known]} if known else None
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if pattern is not None:
            # Where the pattern begins is where the lead stands; an open beginning may hold it.
            anchored = pattern.startswith("^")
            return {
                "type": "string",
                "pattern": f"^{self._lead}{pattern[1:]}" if anchored else pattern,
            }
        if not (self._lead or least or most is not None):
            return {"type": "string"}
        bounds = f"{{{least},{'' if most is None else most}}}"
        return {"type": "string", "pattern": f"^{self._lead}(?s:.){bounds}$"}

    def _array(self, schema: Mapping[str, Any]) -> dict[str, Any] | None:
        kept = {key: value for key, value in schema.items() if key in _KEPT}
        if "prefixItems" in schema:
            parts = [self.value(part) for part in schema["prefixItems"]]
            return None if None in parts else {**kept, "prefixItems": parts, "items": False}
        items = self.value(schema.get("items", {}))
        if items is None:
            return None if schema.get("minItems") else {**kept, "maxItems": 0}
        return {**kept, "items": items}
