"""An index on disk: data files named by generation, and a manifest that is replaced last.

Whoever opens the folder sees one whole generation or the one before, whenever the writer was killed. One writer at a time.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from retriever.errors import IndexDamaged, IndexForeign, IndexMissing

FORMAT: Final = 2  # 1 had no letters
MANIFEST: Final = "manifest.json"
REBUILT: Final = "it is made again from the library by the worker, or by `askaloud rebuild`"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder holds.

    Attributes:
        fingerprint: of the model that made the vectors.
        count: of segments.
        generation: of the library when this was saved.
        files: the part's name -> name of its file.
        sha256: the part's name -> SHA-256 of its file in hexadecimal.
    """

    fingerprint: str
    dimension: int
    count: int
    generation: int
    files: dict[str, str] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def read_manifest(folder: Path) -> Manifest:
    """Return the folder's manifest.

    Raises:
        IndexMissing: there is none.
        IndexDamaged: it cannot be understood.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest(**json.loads(path.read_text(encoding="utf-8")))
        _check(manifest)
    except FileNotFoundError as error:
        raise IndexMissing(f"{folder} holds no index yet; {REBUILT}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:  # whatever stands there instead of a record
        raise IndexDamaged(f"{path} cannot be understood ({error}); {REBUILT}") from error
    return manifest


def read_parts(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Return the data files of a manifest, by part.

    Raises:
        IndexDamaged: one is absent, cut short or altered.
    """
    return {part: _read(folder / name, manifest.sha256[part]) for part, name in manifest.files.items()}


def stamp(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Return names, sizes and times of what lies in the folder: the same only while nobody has touched it. Empty if there is none."""
    try:
        found = [(path.name, path.stat()) for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):  # the folder, or a file between our two looks
        return frozenset()
    return frozenset((name, facts.st_size, facts.st_mtime_ns) for name, facts in found)


def check_maker(manifest: Manifest, fingerprint: str, dimension: int) -> None:
    """Raise IndexForeign unless the index was made by this model."""
    if (manifest.fingerprint, manifest.dimension) != (fingerprint, dimension):
        raise IndexForeign(
            f"this index was made by {manifest.fingerprint} with {manifest.dimension} dimensions, "
            f"wanted is {fingerprint} with {dimension}; {REBUILT}"
        )


def write(folder: Path, manifest: Manifest, parts: Mapping[str, bytes]) -> None:
    """Replace what the folder holds by a new generation; files of older ones are removed at the end.

    Args:
        folder: made if need be.
        manifest: without files.
        parts: the data by part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part, data in parts.items():
        digest = hashlib.sha256(data).hexdigest()
        name = f"{part}-{manifest.generation}-{digest[:8]}.bin"
        manifest.files[part], manifest.sha256[part] = name, digest
        _replace(folder / name, data)
    _replace(folder / MANIFEST, json.dumps(asdict(manifest)).encode())
    current = {MANIFEST, *manifest.files.values()}
    for path in folder.iterdir():
        if path.name not in current and path.is_file():
            path.unlink(missing_ok=True)


def _check(manifest: Manifest) -> None:
    if manifest.format != FORMAT:
        raise ValueError(f"format {manifest.format}, this version of askaloud reads {FORMAT}")
    if manifest.files.keys() != manifest.sha256.keys():
        raise ValueError("files and checksums do not match")
    if any(Path(name).name != name for name in manifest.files.values()):
        raise ValueError("a file lies elsewhere")


def _read(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise IndexDamaged(f"{path} cannot be read ({error}); {REBUILT}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise IndexDamaged(f"{path} was cut short or altered: its SHA-256 is not the recorded one; {REBUILT}")
    return data


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that it is either the old one or the new one, also after a power cut."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
