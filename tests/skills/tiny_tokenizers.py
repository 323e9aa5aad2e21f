"""A tokenizer for the tiny models of tests."""

from __future__ import annotations

from transformers import CLIPTokenizerFast

__all__ = ["LETTERS", "clip_letters"]

LETTERS = [chr(code) for code in range(97, 123)]


def clip_letters(longest: int) -> CLIPTokenizerFast:
    """A tokenizer as CLIP's, whose words are letters, for texts of up to `longest` tokens."""
    words = ["!", *LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizerFast(
        vocab={word: index for index, word in enumerate(words)},
        merges=[],
        model_max_length=longest,
    )
