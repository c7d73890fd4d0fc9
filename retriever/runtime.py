"""Runs shipped networks with ONNX Runtime; the only module that imports it.

A shipped model is a folder with `config.json`, whose `files` give the SHA-256 of each other file that counts.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from retriever.errors import ModelFilesMissing

WEIGHTS: Final = Path(__file__).parent / "weights"
WAY_OUT: Final = "bring the files back with `git checkout -- <the folder>` in a clone, or install askaloud again"

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """A folder of weights that ships with the package.

    Attributes:
        folder: where it is.
        settings: what `config.json` says besides `files`.
        files: file name -> SHA-256 in hexadecimal.
    """

    folder: Path
    settings: Mapping[str, int | float | str]
    files: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> "ShippedModel":
        """Read `config.json`; the other files are checked when they are opened.

        Raises:
            ModelFilesMissing: there is no such folder, or its `config.json` cannot be understood.
        """
        path = folder / "config.json"
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
            files = settings.pop("files")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFilesMissing(f"{path} is absent or altered ({error!r}); {WAY_OUT}") from error
        return cls(folder, settings, files)

    def integer(self, name: str) -> int:
        """Return a whole number of the settings."""
        value = self.settings.get(name)
        if not isinstance(value, int):
            raise ModelFilesMissing(f"{self.folder / 'config.json'} should give {name} as a whole number, it says {value!r}; {WAY_OUT}")
        return value

    def text(self, name: str) -> str:
        """Return words of the settings."""
        value = self.settings.get(name)
        if not isinstance(value, str):
            raise ModelFilesMissing(f"{self.folder / 'config.json'} should give {name} as text, it says {value!r}; {WAY_OUT}")
        return value

    def verified(self, name: str) -> Path:
        """Return the path of a file whose content is what was shipped.

        Raises:
            ModelFilesMissing: the file is absent, is not listed, or has another SHA-256.
        """
        path = self.folder / name
        expected = self.files.get(name)
        if expected is None:
            raise ModelFilesMissing(f"{self.folder / 'config.json'} does not list {name}; {WAY_OUT}")
        if not path.is_file():
            raise ModelFilesMissing(f"{path} is absent; {WAY_OUT}")
        found = sha256(path)
        if found != expected:
            raise ModelFilesMissing(f"{path} was altered: its SHA-256 is {found[:12]}…, shipped was {expected[:12]}…; {WAY_OUT}")
        return path


class Session:
    """A network ready to run; may be shared by threads."""

    def __init__(self, model: ShippedModel, name: str = "model.onnx") -> None:
        """Open a file of a shipped model on the CPU.

        Args:
            model: the folder.
            name: the file in it.

        Raises:
            ModelFilesMissing: the file is absent or altered.
        """
        self._session = _open(model.verified(name))

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """Return the named outputs; what none of them needs is not computed."""
        results: list[npt.NDArray[np.float32]] = self._session.run(list(outputs), dict(inputs))
        return results

    @classmethod
    def of_file(cls, path: Path) -> "Session":
        """Open a network that nobody vouches for: one just exported."""
        session = cls.__new__(cls)
        session._session = _open(path)
        return session


def _open(path: Path) -> Any:
    onnxruntime = _load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # who has several sounds or texts gives each a thread
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _load_onnxruntime() -> Any:
    """Import ONNX Runtime (40 MB, only for who runs a network) without its usage statistics.

    From 1.31 on it keeps a device number and a file of events in the user's cache folder and sends them to its maker. Only the environment,
    read at import, stops all of it; `disable_telemetry_events` comes after the first event.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # noqa: PLC0415

    return onnxruntime


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
