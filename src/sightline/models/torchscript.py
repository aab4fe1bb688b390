"""The tensors of a TorchScript archive, read without running anything in it.

Such an archive is a zip: `data.pkl`, a pickle of the module's tree whose tensors point to files `data/0`, `data/1`,
...; and `code/`, the source of the classes in the tree. `torch.jit.load` would compile and be ready to run that code.
Here the pickle is read by an unpickler that knows tensors and nothing else: each class of the archive's becomes an
inert record of its attributes. The source is read as text, for the lists of each class's parameters and buffers.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

LARGEST_SOURCE = 64 * 2**20  # bytes; OpenAI's have less than one megabyte


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive; False for anything that is not one for certain."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(name.endswith("/constants.pkl") for name in names) and any("/code/" in n for n in names)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of the module in the archive, by their names in its tree.

    Raises pickle.UnpicklingError where its pickle asks for more than tensors, ValueError where it is no such archive.
    """
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix(
            "data.pkl"
        )
        packed = [entry for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
        if any(entry.file_size > LARGEST_SOURCE for entry in packed):
            raise ValueError("what it has compressed, sources only, is too large")
        tree = Unpickler(archive, root).load()
        state: dict[str, Tensor] = {}
        collect(tree, "", archive, root, state)
    return state


class Record:
    """An object of a class in the archive: its attributes, and none of its code."""

    kind = ""

    def __setstate__(self, attributes: Any) -> None:
        self.attributes = attributes


class Unpickler(pickle.Unpickler):
    """Reads a module's tree. Of what a pickle may call there are tensors, ordered dicts and typed lists alone."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self.archive, self.root = archive, root
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return type("Record", (Record,), {"kind": f"{module}.{name}"})
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module == "torch.jit._pickle":  # lists of one type, and the notes of which it was
            return lambda value, *_: value
        raise pickle.UnpicklingError(f"the global {module}.{name} is not read from a TorchScript archive")

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers of the storage ("storage", dtype, file's name, device, how many)."""
        _, dtype, key, _, count = pid
        if key not in self.storages:
            data = bytearray(self.archive.read(f"{self.root}data/{key}")) if count else bytearray()
            numbers = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            if len(numbers) != count:
                raise ValueError(f"storage {key} has {len(numbers)} numbers, not {count}")
            self.storages[key] = numbers
        return self.storages[key]


def rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    """A tensor out of its storage; as_strided refuses what lies outside of it."""
    return torch.as_strided(storage, size, stride, offset)


def collect(record: Any, prefix: str, archive: zipfile.ZipFile, root: str, state: dict[str, Tensor]) -> None:
    """Put the parameters and buffers of `record` and of the modules below it into `state`."""
    own = tensors_of(record.kind, archive, root)
    for name, value in record.attributes.items():
        if isinstance(value, Record):
            collect(value, f"{prefix}{name}.", archive, root, state)
        elif isinstance(value, Tensor) and name in own:
            state[f"{prefix}{name}"] = value


def tensors_of(kind: str, archive: zipfile.ZipFile, root: str) -> set[str]:
    """The names of the parameters and buffers that the source of the class `kind` lists."""
    module, _, name = kind.rpartition(".")
    source = archive.read(f"{root}code/{module.replace('.', '/')}.py").decode()
    _, found, body = source.partition(f"class {name}(Module):\n")
    body = re.split(r"^(?=\S)", body, maxsplit=1, flags=re.MULTILINE)[0]  # up to the next class
    if not found:
        raise ValueError(f"it has no source of {kind}")
    lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*)\]$", body, flags=re.MULTILINE)
    return {quoted for names in lists for quoted in re.findall(r'"([^"]*)"', names)}
