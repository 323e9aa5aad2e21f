"""Starting token embeddings from a sentence encoder, so that synonyms begin as neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..sentences import SentenceEncoder

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
    distinct = sorted(set(words.values()))
    vectors = dict(zip(distinct, SentenceEncoder(encoder).encode(distinct), strict=True))
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
