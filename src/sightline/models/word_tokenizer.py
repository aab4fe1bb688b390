"""A vocabulary of whole words, for a text tower that is trained from scratch on few captions.

The published byte-pair encoding knows 49,408 pieces, most of which a thousand captions never show. Here the words of
the training captions are the vocabulary; what occurs in a single caption is left out of it, so that the unknown token
is trained as well and stands for new words later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

PAD, START, UNKNOWN, FIRST = 0, 1, 2, 3
WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
# A word has to be in so many captions. A context has room for half as much again as the longest caption, for what will
# be asked later; at most LONGEST tokens.
CAPTIONS, LONGEST = 2, 77


def words_of(text: str) -> list[str]:
    """The words and marks of `text`, in lower case."""
    return WORD.findall(text.lower())


@dataclass(frozen=True)
class WordTokenizer:
    """`words`, by falling frequency, have the numbers from 3 on; the end token is the largest, as CLIP wants it.

    context_length: tokens in a row, start and end included.
    """

    words: tuple[str, ...]
    context_length: int

    @classmethod
    def fit(cls, captions: Iterable[str], context_length: int | None = None) -> WordTokenizer:
        """The words that are in two of `captions` or more, and room for the longest and half of it (77 at most)."""
        counts: Counter[str] = Counter()
        longest = 1
        for caption in captions:
            words = words_of(caption)
            longest = max(longest, len(words))
            counts.update(set(words))
        kept = sorted((w for w, n in counts.items() if n >= CAPTIONS), key=lambda w: (-counts[w], w))
        return cls(tuple(kept), context_length or min(longest + longest // 2 + 2, LONGEST))

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The token of each word."""
        return {word: number for number, word in enumerate(self.words, FIRST)}

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return len(self.words) + FIRST + 1

    def encode(self, text: str) -> list[int]:
        """The tokens of `text` without start and end."""
        return [self.numbers.get(word, UNKNOWN) for word in words_of(text)]

    def __call__(self, texts: str | Sequence[str]) -> torch.Tensor:
        """int64 (N, context_length): start, tokens, end, zeros. What is too long is cut, see `truncated`."""
        texts = [texts] if isinstance(texts, str) else texts
        rows = torch.full((len(texts), self.context_length), PAD)
        for row, text in zip(rows, texts, strict=True):
            tokens = [START, *self.encode(text)[: self.context_length - 2], self.vocab_size - 1]
            row[: len(tokens)] = torch.tensor(tokens)
        return rows

    def truncated(self, text: str) -> bool:
        """Whether `text` is too long for the context."""
        return len(words_of(text)) > self.context_length - 2

    def unknown(self, text: str) -> list[str]:
        """The words of `text` that are not in the vocabulary."""
        return [word for word in words_of(text) if word not in self.numbers]

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `from_dict` takes back."""
        return {"kind": "words", "context_length": self.context_length, "words": list(self.words)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> WordTokenizer:
        """The inverse of `to_dict`."""
        return cls(tuple(map(str, data["words"])), int(data["context_length"]))
