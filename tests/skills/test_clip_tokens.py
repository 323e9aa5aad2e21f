"""CLIP's tokens from a file of merges, against numbers worked out by hand."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from llava_plus.skills.backends.clip_tokens import MERGES, merges_file, read_tokenizer, tokens
from llava_plus.skills.errors import BadConfiguration


@pytest.fixture
def merges(tmp_path: Path) -> Path:
    """256 letters, as many that end a word, two merges: the marks are 514 and 515."""
    path = tmp_path / "merges.gz"
    path.write_bytes(gzip.compress(b"#version\nd o\ndo g</w>\n"))
    return path


def test_words_are_merged_between_marks_and_filled_up(merges: Path) -> None:
    tokenizer = read_tokenizer(merges)
    dog, a, red = tokens(tokenizer, ["Dog", "a dog", "x" * 200]).tolist()
    assert dog == [514, 513, 515] + [0] * 74
    # Letters are numbered from "!", those that end a word from 256.
    assert a[:4] == [514, 256 + ord("a") - ord("!"), 513, 515]
    assert (len(red), red[0], red[-1]) == (77, 514, 515)
    assert set(red[1:-1]) == {ord("x") - ord("!")}


def test_only_clips_own_file_is_checked_by_its_hash(merges: Path) -> None:
    assert merges_file(MERGES).md5
    assert merges_file(str(merges)).path == merges
    assert not merges_file(str(merges)).md5


@pytest.mark.parametrize("data", [b"no archive", gzip.compress(b"#version\na b c\n")])
def test_another_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "merges.gz").write_bytes(data)
    with pytest.raises(BadConfiguration, match="cannot be read as CLIP's merges"):
        read_tokenizer(tmp_path / "merges.gz")
