"""Any file to mono float32 sound at 16 kHz, streamed, under limits; the only module that knows formats.

FFmpeg runs in a process of its own (`decoding`), because it parses what strangers wrote: a crash, a hang or a leak there ends that process
and becomes an error here. The file is opened here and handed over as a descriptor.

Samples that are not numbers (NaN, infinite) become 0, louder ones than full scale are clipped; `AudioStream.warning` counts the former.
"""

import json
import logging
import os
import select
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self, cast

import numpy as np

from retriever import decoding, magic
from retriever.config import AudioLimits
from retriever.domain import SAMPLE_RATE_HZ, Audio, Samples, clock, to_samples, to_seconds
from retriever.errors import (
    AudioLimitExceeded,
    CorruptAudio,
    DecoderCrashed,
    EmptyFile,
    NoAudioTrack,
    UnreadableAudio,
    UnsupportedFormat,
)
from retriever.pipes import widen

logger = logging.getLogger(__name__)

_ERRORS: Final[dict[str, type[UnreadableAudio]]] = {
    error.__name__: error for error in (AudioLimitExceeded, CorruptAudio, NoAudioTrack, UnsupportedFormat)
}


@dataclass(frozen=True, slots=True)
class Probe:
    """What a file says of itself; a hint only, nothing is decided by it.

    Attributes:
        container, codec: FFmpeg's names of the formats.
        duration_s: as claimed; None if the file does not say.
        sample_rate_hz, num_channels: of the sound before it is converted.
    """

    container: str
    codec: str
    duration_s: float | None
    sample_rate_hz: int
    num_channels: int


class AudioStream:
    """The sound of one file, as blocks of at most one second, read once.

    Use it in a `with` statement: leaving it ends the decoding process.

    Attributes:
        probe: what the file says of itself.
        num_samples: how many have been yielded.
        warning: after the last block, what is missing or was mended; None if the file is whole.
    """

    def __init__(self, path: Path, limits: AudioLimits) -> None:
        self.num_samples = 0
        self.warning: str | None = None
        self._name = _printable(path)
        self._limits = limits
        self._num_invalid = 0
        descriptor = _open_regular(path, self._name, limits)
        try:
            self._head = os.pread(descriptor, magic.NUM_BYTES, 0)
            foreign = magic.name_foreign(self._head)
            if foreign is not None:
                raise UnsupportedFormat(f"{self._name} is not a sound file but {foreign}")
            self._process = _start_decoder(descriptor, limits)
            self._pipe = cast(IO[bytes], self._process.stdout)
            widen(self._pipe)  # it decodes on while this process is kept from its turn
            try:
                self.probe = self._start()
                self._is_cut = magic.is_cut(self.probe.container, descriptor)
            except BaseException:
                self.close()
                raise
        finally:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[Samples]:
        """Yield float32 blocks of shape (N,), N at most 16,000, finite and in [-1, 1].

        Raises:
            CorruptAudio: nothing could be decoded.
            AudioLimitExceeded: more sound than the limits allow.
            DecoderCrashed: the decoding process died or stopped answering.
        """
        while True:
            kind, payload = self._receive()
            if kind == decoding.SAMPLES:
                yield self._accept(payload)
            elif kind == decoding.END:
                self.close()
                self.warning = self._describe(json.loads(payload))
                return
            elif kind != decoding.PROGRESS:
                raise self._crash("sent an unknown message")

    def close(self) -> None:
        """End the decoding process; harmless when it has ended."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pipe.close()
        cast(IO[bytes], self._process.stdin).close()

    def _start(self) -> Probe:
        """Wait for the header."""
        kind, payload = decoding.PROGRESS, b""
        while kind == decoding.PROGRESS:
            kind, payload = self._receive()
        if kind != decoding.HEADER:
            raise self._crash("sent an unknown message")
        return Probe(**json.loads(payload))

    def _accept(self, payload: bytes) -> Samples:
        block = np.frombuffer(payload, dtype="<f4").astype(np.float32)
        valid = np.isfinite(block)
        self._num_invalid += len(block) - int(np.count_nonzero(valid))
        self.num_samples += len(block)
        if self.num_samples > to_samples(self._limits.max_duration_s):
            raise AudioLimitExceeded(f"{self._name} lasts more than {self._limits.max_duration_s:g} s, which is the limit")
        return np.clip(np.where(valid, block, np.float32(0)), -1, 1)

    def _describe(self, findings: decoding.Findings) -> str | None:
        if not self.num_samples:
            raise CorruptAudio(f"{self._name} holds no sound that can be decoded; is the copy complete?")
        faults = []
        end, promised_s = to_seconds(self.num_samples), findings["promised_s"]
        is_end_damaged = findings["num_damaged"] > 0 and findings["first_damage"] > self.num_samples - SAMPLE_RATE_HZ // 10
        if findings["num_damaged"] and not is_end_damaged:
            faults.append(
                f"is damaged after {clock(to_seconds(findings['first_damage']))} "
                f"(places that could not be decoded: {findings['num_damaged']}); what is missing there was left out"
            )
        if promised_s is not None and end < promised_s:
            faults.append(
                f"ends at {clock(end)}, but its header promises {clock(self.probe.duration_s or promised_s)}; what came before was kept"
            )
        elif self._is_cut or findings["cut"] or is_end_damaged:
            faults.append(f"is cut off at {clock(end)}; what came before was kept")
        if self._num_invalid:
            faults.append(f"has {self._num_invalid} samples that are not numbers; they were silenced")
        return f"{self._name} {', and '.join(faults)}" if faults else None

    def _receive(self) -> tuple[bytes, bytes]:
        """Return the next message; an error message is raised."""
        kind, length = decoding.PREFIX.unpack(self._read(decoding.PREFIX.size))
        if length > decoding.MAX_PAYLOAD_BYTES:
            raise self._crash("sent a message that is too long")
        payload = self._read(length)
        if kind == decoding.ERROR:
            name, text = json.loads(payload)
            raise self._translate(name, text)
        return kind, payload

    def _read(self, num_bytes: int) -> bytes:
        if self._pipe.closed:
            raise self._crash("has been stopped; a sound is read only once")
        data = bytearray()
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        while len(data) < num_bytes:
            if not poll.poll(self._limits.stall_timeout_s * 1000):
                raise self._crash(f"gave nothing for {self._limits.stall_timeout_s:g} s")
            piece = os.read(self._pipe.fileno(), num_bytes - len(data))
            if not piece:
                raise self._crash(_describe_exit(self._process.wait()))
            data += piece
        return bytes(data)

    def _crash(self, what: str) -> DecoderCrashed:
        self.close()
        return DecoderCrashed(f"{self._name} cannot be read: its decoder {what}; try again, or convert the file to another format first")

    def _translate(self, name: str, text: str) -> UnreadableAudio:
        if name != decoding.UNOPENED:
            return _ERRORS.get(name, DecoderCrashed)(f"{self._name} {text}")
        seeming = magic.name_sounding(self._head)
        if seeming is None:
            return UnsupportedFormat(f"{self._name} is not a sound file of a known format ({text}); convert it to MP3, M4A, WAV or FLAC")
        return CorruptAudio(f"{self._name} seems to be {seeming}, but it is damaged or cut off ({text}); is the copy complete?")


def open_audio(path: Path, limits: AudioLimits) -> AudioStream:
    """Open a file and start decoding it.

    Raises:
        UnreadableAudio: there is no such regular file, or it may not be read.
        EmptyFile: it has no bytes.
        UnsupportedFormat: it is no sound file, or protected.
        NoAudioTrack: it is a video without sound.
        CorruptAudio: it is too damaged to start.
        AudioLimitExceeded: its size, sample rate or number of channels is beyond the limits.
        DecoderCrashed: the decoding process died or stopped answering.
    """
    return AudioStream(path, limits)


def read_audio(path: Path, limits: AudioLimits, max_duration_s: float) -> Audio:
    """Return the sound of a short file whole; what is wrong with a part of it is logged.

    Raises:
        AudioLimitExceeded: it lasts longer than `max_duration_s`.
        UnreadableAudio: as `open_audio` and the stream's iteration.
    """
    limits = replace(limits, max_duration_s=min(limits.max_duration_s, max_duration_s))
    with open_audio(path, limits) as stream:
        samples = np.concatenate(list(stream))
    if stream.warning:
        logger.warning(stream.warning)
    return Audio(samples)


def _printable(path: Path) -> str:
    return repr(path.name)  # names may hold line breaks and bytes that are no text


def _open_regular(path: Path, name: str, limits: AudioLimits) -> int:
    """Return a descriptor of a regular file within the size limit; never waits for a pipe or touches a device."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableAudio(f"{name} is not a regular file; give a sound file")
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise UnreadableAudio(
            f"{name} cannot be opened: {getattr(error, 'strerror', None) or error}; check the name and the permissions"
        ) from error
    status = os.fstat(descriptor)
    fault: UnreadableAudio | None = None
    if not stat.S_ISREG(status.st_mode):  # exchanged since
        fault = UnreadableAudio(f"{name} is not a regular file; give a sound file")
    elif not status.st_size:
        fault = EmptyFile(f"{name} is empty (0 bytes); is the copy complete?")
    elif status.st_size > limits.max_file_bytes:
        fault = AudioLimitExceeded(f"{name} has {status.st_size} bytes; {limits.max_file_bytes} are allowed, so split or compress it first")
    if fault is not None:
        os.close(descriptor)
        raise fault
    return descriptor


def _start_decoder(descriptor: int, limits: AudioLimits) -> "subprocess.Popen[bytes]":
    order: dict[str, Any] = asdict(limits) | {"descriptor": descriptor}
    return subprocess.Popen(
        [sys.executable, "-P", decoding.__file__, json.dumps(order)],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        process_group=0,
    )


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"ended early with exit code {code}"
    return f"died of signal {-code} ({signal.Signals(-code).name})"
