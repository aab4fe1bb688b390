"""CLIP's published vocabulary: byte-pair encoding with 49,408 tokens.

    Sennrich, Haddow, Birch: Neural Machine Translation of Rare Words with Subword Units. ACL 2016, arXiv 1508.07909

Text is cleaned and put in lower case, cut into words, digits and marks, and each of these into the pieces that were
most often together in the training captions. Any text can be written so, byte by byte if need be. The vocabulary and
its tokenizer are open_clip's, which `pip install 'sightline[clip]'` brings.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from sightline.errors import SightlineError
from sightline.models.clip import CONTEXT_LENGTH


class Tokenizer(Protocol):
    """Sentences to tokens, of whichever vocabulary."""

    @property
    def context_length(self) -> int:
        """Tokens in a row, start and end included."""
        ...

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """int64 (N, context_length): start, tokens, end (the largest), zeros. What is too long is cut."""
        ...

    def truncated(self, text: str) -> bool:
        """Whether `text` is too long for the context."""
        ...

    def unknown(self, text: str) -> list[str]:
        """The words of `text` that the vocabulary cannot write."""
        ...


class BytePairs:
    """The published vocabulary. Raises SightlineError where open_clip is not installed."""

    def __init__(self, context_length: int = CONTEXT_LENGTH) -> None:
        self.context_length = context_length
        self.published = published_tokenizer()

    def encode(self, text: str) -> list[int]:
        """The tokens of `text` without start and end."""
        return list(self.published.encode(text))

    def __call__(self, texts: str | Sequence[str]) -> torch.Tensor:
        """int64 (N, context_length): start (49406), tokens, end (49407), zeros. What is too long is cut."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        tokens: torch.Tensor = self.published(texts, self.context_length)
        return tokens

    def truncated(self, text: str) -> bool:
        """Whether `text` is too long for the context."""
        return len(self.encode(text)) > self.context_length - 2

    def unknown(self, text: str) -> list[str]:  # noqa: ARG002
        """Nothing: any text can be written in bytes."""
        return []


@functools.cache
def published_tokenizer() -> Any:
    """open_clip's tokenizer, out of its own file: the package around it takes many seconds to import."""
    found = importlib.util.find_spec("open_clip")
    try:
        if found is None or not found.submodule_search_locations:
            raise ImportError
        file = Path(found.submodule_search_locations[0]) / "tokenizer.py"
        spec = importlib.util.spec_from_file_location("sightline_open_clip_tokenizer", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except (ImportError, OSError):
        sys.modules.pop("sightline_open_clip_tokenizer", None)
        raise SightlineError(
            "CLIP's published vocabulary comes with open_clip, which is not installed: pip install 'sightline[clip]'."
        ) from None
    return module.SimpleTokenizer()
