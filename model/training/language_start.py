"""Starting from a pre-trained language model: the words of it that are needed, and some layers.

What a few layers know of English, of copying and of order is worth more than any number of
trajectories from nothing. The words are cut down to those that the data and common English use,
because a word costs as many weights as it has numbers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...skills.errors import BadConfiguration
from ..carried import files_carried_by
from ..scratch import END, Architecture, as_tokenizer, special_tokens

if TYPE_CHECKING:
    from transformers import (
        LlamaForCausalLM,
        LlavaForConditionalGeneration,
        PreTrainedTokenizerFast,
    )

__all__ = ["LanguageStart", "load_language_start"]


@dataclass(frozen=True)
class LanguageStart:
    """A pre-trained Llama-like language model with its byte-level BPE."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    common: int = 6000
    """So many of its first merges are kept in any case: they are the commonest English."""

    def shortened_tokenizer(
        self, texts: Iterable[str], architecture: Architecture
    ) -> PreTrainedTokenizerFast:
        """The base's tokenizer with the words that `texts` need most, and our special tokens.

        Raises `BadConfiguration` when the vocabulary has no room for the commonest words.
        """
        from tokenizers import Tokenizer

        state: dict[str, Any] = json.loads(self.tokenizer.backend_tokenizer.to_str())
        vocabulary, merges = state["model"]["vocab"], state["model"]["merges"]
        specials = special_tokens()
        kept = self._kept(vocabulary, merges, texts, architecture.vocabulary - len(specials))
        words = [*specials, *sorted(kept, key=vocabulary.__getitem__)]
        state["model"]["vocab"] = {word: index for index, word in enumerate(words)}
        state["model"]["merges"] = [
            pair for pair in merges if kept.issuperset((*pair, "".join(pair)))
        ]
        state["added_tokens"], state["post_processor"] = [], None
        state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [_DIGITS, _BYTES]}
        tokenizer = Tokenizer.from_str(json.dumps(state))
        tokenizer.add_special_tokens(specials)
        return as_tokenizer(tokenizer, architecture)

    def _kept(
        self, vocabulary: dict[str, int], merges: list[list[str]], texts: Iterable[str], size: int
    ) -> set[str]:
        """The bytes, the commonest words, and those that occur most, with what they are made of."""
        made_of: dict[str, list[str]] = {}
        for pair in merges:
            made_of.setdefault("".join(pair), pair)
        control = {token.content for token in self.tokenizer.added_tokens_decoder.values()}
        kept = {word for word in vocabulary if word not in made_of and word not in control}
        kept.update("".join(pair) for pair in merges[: self.common])
        if len(kept) > size:
            raise BadConfiguration(
                f"a vocabulary of {size} words is too small: the bytes and the "
                f"{self.common} commonest words of the language model are {len(kept)}"
            )
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self.tokenizer.tokenize(text))
        for word, _ in counts.most_common():
            parts = _parts(word, made_of) - kept
            if word in vocabulary and word not in control and len(kept) + len(parts) <= size:
                kept |= parts
        return kept

    @torch.no_grad()
    def place_in(
        self,
        model: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        layers: Sequence[int] | None = None,
    ) -> None:
        """Copy the vectors of the words that both have, `layers` (the lowest) and the last norm.

        A special token starts with the vector of the word within it, or of the base's end token.
        Raises `BadConfiguration` when the sizes or the number of layers differ.
        """
        ours, base = model.model.language_model, self.model.model
        if (wanted := _sizes(ours.config)) != (has := _sizes(base.config)):
            raise BadConfiguration(f"the architecture has {wanted}, the language model {has}")
        if layers is None:
            layers = range(len(ours.layers))
        if len(layers) != len(ours.layers) or not set(layers) <= set(range(len(base.layers))):
            raise BadConfiguration(
                f"layers {list(layers)} of a language model of {len(base.layers)} cannot become "
                f"the {len(ours.layers)} of the architecture"
            )
        known = self.tokenizer.get_vocab()
        ends = self.tokenizer.eos_token_id
        table, source = ours.embed_tokens.weight, base.embed_tokens.weight
        for word, index in tokenizer.get_vocab().items():
            inner = "Ġ" + word.strip("<|>")
            row = ends if word == END else known.get(word, known.get(inner, ends))
            table[index] = source[row]
        for layer, number in zip(ours.layers, layers, strict=True):
            layer.load_state_dict(base.layers[number].state_dict())
        ours.norm.load_state_dict(base.norm.state_dict())


_DIGITS = {"type": "Digits", "individual_digits": True}
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _parts(word: str, made_of: dict[str, list[str]]) -> set[str]:
    """A word and all that it is merged from."""
    found, open_words = {word}, [word]
    while open_words:
        fresh = set(made_of.get(open_words.pop(), ())) - found
        found |= fresh
        open_words.extend(fresh)
    return found


def _sizes(config: Any) -> dict[str, Any]:
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    return {name: getattr(config, name) for name in (*names, "rope_parameters")}


def load_language_start(name: str) -> LanguageStart:
    """Load a model by folder, or the GGUF file that an installed package such as `name` carries.

    Raises `BadConfiguration` when there is none.
    """
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder, options = _place(name)
    try:
        model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(
            folder, dtype=torch.float32, **options
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ImportError, ValueError) as error:
        raise BadConfiguration(
            f"the language model {name!r} cannot be loaded (`make embedded` installs the one of "
            f"the recipe `embedded`): {error}"
        ) from error
    if tokenizer.eos_token_id is None:
        raise BadConfiguration(f"the tokenizer of the language model {name!r} has no end token")
    return LanguageStart(model, tokenizer)


def _place(name: str) -> tuple[str, dict[str, Any]]:
    for file in files_carried_by(name, "*.gguf"):
        return str(file.parent), {"gguf_file": file.name}
    return name, {}
