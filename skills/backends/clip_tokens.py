"""Words as CLIP (Radford et al. 2021) takes them, for models that read words by other means.

The file of merges is the one that comes with CLIP's own code.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadConfiguration
from ..weight_files import WeightFile

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTokenizer

__all__ = ["MERGES", "merges_file", "read_tokenizer", "tokens"]

MERGES = "bpe_simple_vocab_16e6.txt.gz"
_SOURCE = "https://github.com/openai/CLIP/raw/main/clip"
_MD5 = "933b7abbbbde62c36f02f0e6ccde464f"
_MERGES = 48_894
"""Lines that are read after the first one: the file has more than CLIP has tokens."""
_LONGEST = 77


def merges_file(name: str) -> WeightFile:
    """CLIP's file of merges, or one of your own."""
    return WeightFile(name, _SOURCE, _MD5 if name == MERGES else "")


def read_tokenizer(path: Path) -> CLIPTokenizer:
    """The tokenizer with the merges of a file. Raises `BadConfiguration` when it cannot be read."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
        pairs = map(str.split, lines[1 : _MERGES + 1])
        merges: list[Any] = [(first, second) for first, second in pairs]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise BadConfiguration(f"{path} cannot be read as CLIP's merges: {error}") from error
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: at for at, word in enumerate(words)}, merges=merges)


def tokens(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> torch.Tensor:
    """The tokens of each text, (texts, 77), filled up with zeros; what is too long is cut."""
    import torch

    rows = tokenizer(list(texts), truncation=True, max_length=_LONGEST)["input_ids"]
    filled = torch.zeros(len(rows), _LONGEST, dtype=torch.long)
    for place, row in zip(filled, rows, strict=True):
        place[: len(row)] = torch.tensor(row)
    return filled
