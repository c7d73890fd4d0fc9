"""Sound on disk: FLAC with 16 kHz, mono, 16 bits. Any stretch is cut exactly and fast, for FLAC is made of frames that can be sought.

A sample is kept as the nearest of 65,536 steps: exact for what came from 16-bit PCM, else within half a step (-96 dB). Full scale 1.0
becomes the highest step, 32767/32768.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from retriever.domain import SAMPLE_RATE_HZ, Audio, Samples, Span
from storage.errors import SoundMissing

Pcm: TypeAlias = npt.NDArray[np.int16]  # (N,)

BLOCK_SAMPLES: Final = 5 * SAMPLE_RATE_HZ
_STEPS: Final = 32768.0


def to_pcm(samples: Samples) -> Pcm:
    """Return samples in [-1, 1] as 16-bit steps."""
    steps: Pcm = np.clip(np.rint(samples * np.float32(_STEPS)), -32768, 32767).astype(np.int16)
    return steps


def to_samples(pcm: Pcm) -> Samples:
    """Return 16-bit steps as samples in [-1, 1)."""
    return pcm.astype(np.float32) / np.float32(_STEPS)


def hash_pcm(pcm: Pcm) -> str:
    """Return the SHA-256 of the steps."""
    return sha256(pcm.astype("<i2").tobytes()).hexdigest()


class FlacWriter:
    """Writes one file, as a context; at its end the file is complete and synced. Errors of the disk come out as OSError."""

    def __init__(self, path: Path) -> None:
        self.num_samples = 0
        self._file = _Guarded(path)
        self._sound = soundfile.SoundFile(self._file, "w", SAMPLE_RATE_HZ, 1, "PCM_16", format="FLAC")

    def __enter__(self) -> "FlacWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._file:
            with _disk_errors_of(self._file):
                self._sound.close()
            if kind is None:
                self._file.sync()

    def write(self, pcm: Pcm) -> None:
        """Append a block."""
        with _disk_errors_of(self._file):
            self._sound.write(pcm)
        self.num_samples += len(pcm)


class _Guarded:
    """A file for libsndfile, which cannot pass on an exception: the first error is remembered, and nothing is written after it."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("xb")
        self.error: OSError | None = None

    def __enter__(self) -> "_Guarded":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._file.close()
        except OSError as failed:  # what was buffered does not fit either
            self.error = self.error or failed
            if kind is None:
                raise

    def write(self, block: bytes) -> int:
        if self.error is None:
            try:
                return self._file.write(block)
            except OSError as error:
                self.error = error
        return 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:  # seeking writes what is buffered
            self.error = self.error or error
            return -1

    def tell(self) -> int:
        return self._file.tell()

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def _disk_errors_of(file: _Guarded) -> Iterator[None]:
    """Raise the error that the file remembers, rather than what libsndfile makes of it."""
    try:
        yield
    except (soundfile.SoundFileError, AssertionError) as error:
        raise file.error or OSError(f"the sound could not be written: {error}") from error
    if file.error is not None:
        raise file.error


def read_clip(path: Path, span: Span) -> Audio:
    """Return exactly this span, less where the sound ends. Raises SoundMissing."""
    with _opened(path) as sound:
        if span.start >= sound.frames:
            return Audio(np.zeros(0, np.float32))
        sound.seek(span.start)
        return Audio(sound.read(span.num_samples, dtype="float32"))


def read_all(path: Path) -> Audio:
    """Return a whole sound: a question's, which is short. Raises SoundMissing."""
    with _opened(path) as sound:
        return Audio(sound.read(dtype="float32"))


def read_blocks(path: Path) -> Iterator[Samples]:
    """Yield a sound in blocks of 5 s. Raises SoundMissing."""
    with _opened(path) as sound:
        while len(block := sound.read(BLOCK_SAMPLES, dtype="float32")):
            yield block


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        with soundfile.SoundFile(path) as sound:
            yield sound
    except (OSError, soundfile.SoundFileError) as error:
        raise SoundMissing(f"the sound {path} is gone or damaged ({error}); delete what it belongs to and add it again") from error
