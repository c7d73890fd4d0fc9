"""Weights on a journey: half precision, in a few pieces of bounded size, without the optimiser.

A folder of pieces `weights.0`, `weights.1` … and `weights.json`, which has what `state.json` of a checkpoint says, and the pieces' SHA-256.
The pieces together are one safetensors file of the weights and of their average. Vectors stay in single precision: they are small, and
the normalisation of the input is among them.
"""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from retriever.errors import RetrieverError
from retriever.training.frame import AVERAGE, NET, STATE, replace_file

PIECE_BYTES: Final = 16 * 2**20
MAX_PIECES: Final = 4
LISTING: Final = "weights.json"
_FILES: Final = {"net": NET, "average": AVERAGE}


class WeightsTooLarge(RetrieverError):
    """Weights that do not fit into what may travel."""


class WeightsDamaged(RetrieverError):
    """Pieces that are not what was sent, or a checkpoint that is none."""


def split_checkpoint(checkpoint: Path, out: Path, parts: tuple[str, ...] = ("net", "average")) -> list[Path]:
    """Write a checkpoint's weights in pieces and return their paths, the listing last.

    Args:
        checkpoint: a folder of `retriever.training.frame`.
        out: gets the pieces; older ones there are removed.
        parts: "net", "average" or both; who joins one has it for both.

    Raises:
        WeightsTooLarge: more than four pieces of 16 MiB.
        WeightsDamaged: the folder is no checkpoint, or a weight is too large for half precision.
    """
    try:
        weights = {f"{part}/{name}": value for part in parts for name, value in load_file(checkpoint / _FILES[part]).items()}
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsDamaged(f"{checkpoint} holds no checkpoint ({error}); name a folder that training wrote") from error
    data = save({name: _halved(name, value) for name, value in weights.items()})
    pieces = [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]
    if len(pieces) > MAX_PIECES:
        limit = MAX_PIECES * PIECE_BYTES // 2**20
        raise WeightsTooLarge(f"{len(data) / 2**20:.0f} MiB of weights in half precision; {limit} MiB may travel: bring the average alone")
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("weights.*"):
        old.unlink()
    paths = [out / f"weights.{number}" for number in range(len(pieces))]
    for path, piece in zip(paths, pieces, strict=True):
        path.write_bytes(piece)
    listing = {"state": state, "sha256": {path.name: hashlib.sha256(piece).hexdigest() for path, piece in zip(paths, pieces, strict=True)}}
    replace_file(out / LISTING, lambda path: path.write_text(json.dumps(listing, indent=1), encoding="utf-8"))
    return [*paths, out / LISTING]


def join_checkpoint(pieces: Path, checkpoint: Path) -> int:
    """Make a checkpoint, without an optimiser, of pieces; return its step.

    Raises:
        WeightsDamaged: a piece is absent or altered.
    """
    try:
        listing: dict[str, Any] = json.loads((pieces / LISTING).read_text(encoding="utf-8"))
        found = {name: (pieces / name).read_bytes() for name in listing["sha256"]}
    except (OSError, ValueError, KeyError) as error:
        raise WeightsDamaged(f"{pieces} lacks a piece of the weights ({error}); fetch all of them again") from error
    for name, piece in found.items():
        if hashlib.sha256(piece).hexdigest() != listing["sha256"][name]:
            raise WeightsDamaged(f"{pieces / name} is not what was sent; fetch it again")
    weights = load(b"".join(found.values()))
    checkpoint.mkdir(parents=True, exist_ok=True)
    whole = {name.partition("/")[2]: value for name, value in weights.items()}
    for part, file in _FILES.items():
        own = {name.partition("/")[2]: value for name, value in weights.items() if name.startswith(f"{part}/")}
        replace_file(checkpoint / file, partial(save_file, _single(own or whole)))
    state: dict[str, Any] = listing["state"]
    replace_file(checkpoint / STATE, lambda path: path.write_text(json.dumps(state, indent=1), encoding="utf-8"))
    return int(state["step"])


def _halved(name: str, value: Tensor) -> Tensor:
    if value.ndim < 2 or not value.is_floating_point():
        return value.contiguous()
    half = value.to(torch.float16).contiguous()
    if not bool(torch.isfinite(half).all()):
        raise WeightsDamaged(f"{name} holds weights of {float(value.abs().max()):g}, too large for half precision; training has diverged")
    return half


def _single(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
