"""Comparing the states of networks."""

import torch
from torch import Tensor


def same(a: dict[str, Tensor], b: dict[str, Tensor], without: tuple[str, ...] = ()) -> bool:
    keys = [key for key in a if not key.startswith(without)] if without else list(a)
    return all(torch.equal(a[key], b[key]) for key in keys)
