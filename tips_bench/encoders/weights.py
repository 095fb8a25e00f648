"""Which weights an encoder gets, and that they fit: from a card, a file or a seed."""

from __future__ import annotations

import importlib
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from tips_bench.cards import ModelCard, WeightsCard
from tips_bench.catalog import KINDS, shipped
from tips_bench.encoders.hub import SHARD_INDEX, SINGLE_FILE, fetch_weights, shard_names
from tips_bench.errors import UserError
from tips_bench.fetch import file_sha256
from tips_bench.files import digest

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_RANDOM = re.compile(r"random(?::(\d+))?")
_FIX = "Give weights of the same architecture as the model."


@dataclass(frozen=True)
class Weights:
    """Either a file or a seed. identity: hex SHA-256 of the file, or "random:SEED"."""

    path: Path | None
    seed: int | None
    identity: str


def choose_weights(card: ModelCard, asked: str | Path | None) -> Weights:
    """The weights that were asked for, else the card's, fetched if need be. Errors: a file that is not there, a card that names none."""
    if asked is not None:
        return parse_weights(asked)
    if card.weights is None:
        raise UserError("the card names no weights", where=card.name, fix="Give --weights FILE or --weights random.")
    if card.weights.seed is not None:
        return random_weights(card.weights.seed)
    return file_weights(weights_path(card.weights, card.name))


def parse_weights(asked: str | Path) -> Weights:
    """What --weights says: "random", "random:SEED" or a file."""
    if match := _RANDOM.fullmatch(str(asked)):
        return random_weights(int(match[1] or 0))
    path = Path(asked).expanduser()
    if not path.exists():
        raise UserError(f"there is no weight file {str(path)!r}", where="weights", fix="Check the path, or give random or random:SEED.")
    return file_weights(path)


def random_weights(seed: int) -> Weights:
    return Weights(None, seed, f"random:{seed}")


def file_weights(path: Path) -> Weights:
    """A file, or a folder in Hugging Face layout. Shards are identified by the hash of their hashes."""
    file = path if path.is_file() else _in_folder(path)
    if file.name.endswith(".index.json"):
        return Weights(path, None, digest(*(file_sha256(file.parent / shard) for shard in shard_names(file))))
    return Weights(path, None, file_sha256(file))


def _in_folder(folder: Path) -> Path:
    for name in (SINGLE_FILE, SHARD_INDEX):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"the folder holds no {SINGLE_FILE}", where=folder, fix="Give the weight file itself.")


def weights_path(card: WeightsCard, title: str) -> Path:
    """The local file of a card's weights, fetched at first use."""
    if card.path is not None and card.url is None and card.hub is None:
        path = Path(card.path).expanduser()
        beside = shipped(KINDS["model"]) / path
        if not path.exists() and not beside.exists():
            raise UserError(f"weights.path = {card.path!r}: there is no such file", where=title)
        return path if path.exists() else beside
    return fetch_weights(card, title)


def resolve_dtype(dtype: str | None) -> torch.dtype:
    """Errors: anything but fp32 and bf16."""
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"{dtype!r} is not a precision", where="dtype", fix=f"Use {' or '.join(DTYPES)}.")
    return DTYPES[dtype or "fp32"]


def require_package(module: str) -> ModuleType:
    """A package of the `encoders` extra. Errors: it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        fix = "pip install timm transformers open_clip_torch protobuf"
        raise UserError(f"the package {module} is not installed", fix=fix) from error


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random initialisation on the CPU from a seed, the global random state left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns the errors of PyTorch and safetensors about a broken or hostile file into a UserError of one sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except pickle.UnpicklingError as error:
        raise UserError("the file holds Python objects, which could run code and are never loaded", where=path, fix=_FIX) from error
    except (SafetensorError, EOFError, ValueError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the weights cannot be loaded: {reason}", where=path, fix="Give a complete file, of the same architecture as the model."
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a .safetensors file, of a folder in Hugging Face layout, or of the shards beside an index."""
    from safetensors.torch import load_file

    file = path if path.is_file() else _in_folder(path)
    is_index = file.name.endswith(".index.json")
    state: dict[str, Tensor] = {}
    for part in [file.parent / name for name in shard_names(file)] if is_index else [file]:
        with reading(part):
            state |= load_file(part)
    return state


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """All tensors of a file that PyTorch wrote, or of what `read_tensors` reads. Errors: anything but named tensors."""
    if path.is_dir() or path.name.endswith((".safetensors", ".index.json")):
        return read_tensors(path)
    with reading(path):
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError("the file holds other things than named tensors", where=path, fix=_FIX)
    return state


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], path: Path, dropped: Iterable[str] = ()) -> None:
    """Fill a module with a state that must fit it key by key.

    dropped: beginnings of names that the file may hold beyond the module: classifiers that are not used.
    Errors: a missing or extra key, another shape, a value that is not finite; each names the key.
    """
    own = module.state_dict()
    if missing := sorted(set(own) - set(state)):
        fix = prefix_fix(own, state) or _FIX
        raise UserError(f"{len(missing)} of {len(own)} tensors are missing, the first is {missing[0]!r}", where=path, fix=fix)
    extra = sorted(key for key in set(state) - set(own) if not key.startswith(tuple(dropped)))
    if extra:
        raise UserError(f"{len(extra)} tensors are not part of the model, the first is {extra[0]!r}", where=path, fix=_FIX)
    for key, tensor in own.items():
        if tensor.shape != state[key].shape:
            raise UserError(f"{key} has shape {list(state[key].shape)}, expected {list(tensor.shape)}", where=path, fix=_FIX)
    module.load_state_dict({key: state[key] for key in own})
    check_finite(module, path)


def prefix_fix(wanted: Iterable[str], found: Iterable[str]) -> str | None:
    """What to do about names that are right but for a prefix, as training code writes them ("teacher.backbone."); None = it is not that."""
    names, found = sorted(wanted), set(found)
    ends = sorted((name for name in found if name.endswith(f".{names[0]}")), key=len) if names else []
    for prefix in (name.removesuffix(names[0]) for name in ends):
        if all(prefix + name in found for name in names):
            return f"The names in the file begin with {prefix!r}: save these tensors to a file of their own, without that prefix."
    return None


def check_finite(module: nn.Module, where: object) -> None:
    """Errors: the first parameter or buffer with a value that is NaN or infinite."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"{name} holds values that are NaN or infinite", where=where, fix="Use another checkpoint: this one is broken.")


def freeze(module: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Evaluation mode, no gradients, on a device, in a precision."""
    return module.to(device=device, dtype=dtype).eval().requires_grad_(False)
