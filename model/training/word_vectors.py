"""Starting token embeddings from a sentence encoder, so that synonyms begin as neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ...skills.errors import BadConfiguration

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

__all__ = ["start_from_word_vectors"]


@torch.no_grad()
def start_from_word_vectors(
    model: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, encoder: str
) -> None:
    """Set the embedding of every token that is a word to its vector in `encoder`.

    Vectors are centred, reduced to the model's width by PCA, and given the spread that the
    random embeddings have. Tokens that are no word keep their random start. A small random
    part keeps ` word` and `word` apart. Raises `BadConfiguration` without the encoder.
    """
    words = {}
    for token, index in tokenizer.get_vocab().items():
        word = tokenizer.convert_tokens_to_string([token]).strip()
        if len(word) > 1 and word.isalpha():
            words[index] = word
    vectors = _encode(encoder, sorted(set(words.values())))
    table: torch.Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    stacked = torch.stack([vectors[word] for word in words.values()])
    stacked = stacked - stacked.mean(dim=0)
    width = table.shape[1]
    if stacked.shape[1] > width:
        _, _, axes = torch.linalg.svd(stacked, full_matrices=False)
        stacked = stacked @ axes[:width].T
    spread = table.std()
    placed = torch.zeros(len(words), width)
    placed[:, : stacked.shape[1]] = stacked / stacked.std() * spread
    indices = torch.tensor(list(words))
    table[indices] = placed.to(table.dtype) + 0.5 * table[indices]


def _encode(encoder: str, words: list[str]) -> dict[str, torch.Tensor]:
    """Mean-pooled vectors of a BERT-like encoder, given as a folder or a package that holds one."""
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(_folder(encoder))
        model = AutoModel.from_pretrained(_folder(encoder)).eval()
    except (OSError, ImportError) as error:
        raise BadConfiguration(
            f"the sentence encoder {encoder!r} cannot be loaded: {error}"
        ) from error
    vectors = {}
    for start in range(0, len(words), 512):
        batch = words[start : start + 512]
        inputs = tokenizer(batch, padding=True, return_tensors="pt")
        hidden = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        for word, vector in zip(batch, (hidden * mask).sum(1) / mask.sum(1), strict=True):
            vectors[word] = vector
    return vectors


def _folder(encoder: str) -> str:
    """The folder of an encoder that an installed package carries, or the name as it is."""
    from importlib.util import find_spec
    from pathlib import Path

    package = find_spec(encoder.replace("-", "_")) if "/" not in encoder else None
    for place in package.submodule_search_locations or [] if package else []:
        for config in sorted(Path(place).rglob("config.json")):
            if any(config.parent.glob("*.safetensors")) or any(config.parent.glob("*.bin")):
                return str(config.parent)
    return encoder
