"""Records a lecture from this machine's microphone to a WAV file that is whole at every second.

The callback of PortAudio puts blocks into a queue; the thread that called `record` writes them. Once a second the header is made true and
all is forced to the disk, so a killed process or a power cut loses no more than that second and what the queue holds.
"""

import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Event
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from app.errors import MicrophoneUnavailable, RecordingFailed

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

RATE_HZ: Final = 16_000  # asked for first: what retrieval hears
FLOOR_DBFS: Final = -96.0  # a level of digital silence, all that 16 bits can tell
_BLOCKS_PER_S: Final = 10
_QUEUE_BLOCKS: Final = 600  # a minute for a disk to recover in
_SYNC_S: Final = 1.0
_LEVEL_S: Final = 0.1
_SILENT_DEVICE_S: Final = 5.0
_HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")
_MAX_BYTES: Final = 2**32 - 2**16  # sizes in WAV have 32 bits

Block: TypeAlias = npt.NDArray[np.int16]  # (N,) mono


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A microphone or line input as the system offers it.

    Attributes:
        index: number to choose it by.
        is_default: taken when none is chosen.
    """

    index: int
    name: str
    num_channels: int
    default_rate_hz: int
    is_default: bool


@dataclass(frozen=True, slots=True)
class Recording:
    """What was recorded.

    Attributes:
        num_samples: at `sample_rate_hz`, which is not 16 kHz where the device cannot deliver that.
        lost_blocks: of 0.1 s, that the device or a slow disk dropped.
    """

    path: Path
    num_samples: int
    sample_rate_hz: int
    lost_blocks: int


@dataclass(frozen=True, slots=True)
class _Source:
    device: int | None
    num_channels: int
    rate_hz: int


def devices() -> list[InputDevice]:
    """Return the inputs of this machine; none is an empty list.

    Raises:
        MicrophoneUnavailable: PortAudio is missing.
    """
    sounddevice = _load_sounddevice()
    found = list(enumerate(sounddevice.query_devices()))
    default = sounddevice.default.device[0]
    return [
        InputDevice(i, str(info["name"]), int(info["max_input_channels"]), round(info["default_samplerate"]), i == default)
        for i, info in found
        if info["max_input_channels"] > 0
    ]


def record(path: Path, device: str | int | None, on_level: Callable[[float, float], None], stop: Event) -> Recording:
    """Record until `stop` is set; blocks.

    Args:
        path: a new file, WAV, mono, 16 bits, at 16 kHz or else the device's own rate.
        device: number or part of the name, as in `devices`; None takes the default.
        on_level: called about ten times a second with the seconds written and the peak in dBFS since the last call.
        stop: ends the recording cleanly.

    Raises:
        MicrophoneUnavailable: recording could not begin; no file is left.
        RecordingFailed: it ended early, as with a full disk or an unplugged device, or the file exists; what was written is kept.
    """
    sounddevice = _load_sounddevice()
    source = _choose_source(sounddevice, device)
    capture = _Capture(sounddevice, source)
    with GrowingWav(path, source.rate_hz) as file:
        try:
            capture.start()
        except sounddevice.PortAudioError as error:
            file.discard()
            raise _unavailable(error) from error
        meter = _Meter(on_level)
        try:
            while not stop.is_set():
                block = capture.next_block()
                if block is not None:
                    file.append(block)
                    meter.measure(block, file.duration_s)
        finally:
            capture.stop()
            for block in capture.rest():
                file.append(block)
    return Recording(path, file.num_samples, source.rate_hz, capture.lost_blocks)


class GrowingWav:
    """A mono 16-bit WAV file that is valid whenever a second has passed since the last append.

    Raises:
        RecordingFailed: the file exists or cannot be written; what was written before is kept and valid.
    """

    def __init__(self, path: Path, rate_hz: int) -> None:
        self._path = path
        self._rate_hz = rate_hz
        self._num_bytes = 0
        self._synced_at = time.monotonic()
        try:
            self._file = path.open("xb", buffering=0)
        except FileExistsError as error:
            raise RecordingFailed(f"{path} exists already; choose another name") from error
        except OSError as error:
            raise RecordingFailed(f"{path} cannot be written: {error.strerror}; choose another place") from error
        self._sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None") -> None:
        if self._file.closed:
            return
        try:
            self._sync()
        finally:
            self._file.close()

    @property
    def num_samples(self) -> int:
        """How many have been written."""
        return self._num_bytes // 2

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return self.num_samples / self._rate_hz

    def append(self, block: Block) -> None:
        """Write samples; once a second make the header true and force all to the disk."""
        data = memoryview(block.astype("<i2", copy=False).tobytes())
        if self._num_bytes + len(data) > _MAX_BYTES:
            raise RecordingFailed(
                f"{self._path} is as long as a WAV file can be, {self.duration_s / 3600:.1f} hours; go on in another file"
            )
        try:
            self._file.seek(_HEADER.size + self._num_bytes)
            while data:
                written = self._file.write(data)
                self._num_bytes += written
                data = data[written:]
        except OSError as error:
            self._num_bytes -= self._num_bytes % 2
            raise self._failed(error) from error
        if time.monotonic() - self._synced_at >= _SYNC_S:
            self._sync()

    def discard(self) -> None:
        """Remove the file."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _sync(self) -> None:
        riff, data = self._num_bytes + _HEADER.size - 8, self._num_bytes
        header = _HEADER.pack(b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, 1, self._rate_hz, 2 * self._rate_hz, 2, 16, b"data", data)
        try:
            os.fsync(self._file.fileno())  # the samples first: the header never promises what is not there
            self._file.seek(0)
            self._file.write(header)
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failed(error) from error
        self._synced_at = time.monotonic()

    def _failed(self, error: OSError) -> RecordingFailed:
        kept = f"{self.duration_s:.0f} s are kept"
        return RecordingFailed(
            f"{self._path} cannot be written any further: {error.strerror}; {kept}, so make room and record the rest anew"
        )


class _Capture:
    """The running input stream and the queue between its thread and ours."""

    def __init__(self, sounddevice: "ModuleType", source: _Source) -> None:
        self.lost_blocks = 0
        self._sounddevice = sounddevice
        self._source = source
        self._queue: Queue[Block] = Queue(_QUEUE_BLOCKS)
        self._heard_at = time.monotonic()
        self._stream: Any = None

    def start(self) -> None:
        source = self._source
        self._stream = self._sounddevice.InputStream(
            samplerate=source.rate_hz,
            blocksize=source.rate_hz // _BLOCKS_PER_S,
            device=source.device,
            channels=source.num_channels,
            dtype="int16",
            callback=self._receive,
        )
        self._stream.start()
        self._heard_at = time.monotonic()

    def stop(self) -> None:
        self._stream.close(ignore_errors=True)

    def next_block(self) -> Block | None:
        """Wait a moment for a block.

        Raises:
            RecordingFailed: the device delivers nothing any more.
        """
        try:
            block = self._queue.get(timeout=0.1)
        except Empty:
            silent_s = time.monotonic() - self._heard_at
            if silent_s > _SILENT_DEVICE_S or not self._stream.active:
                raise RecordingFailed(
                    "the microphone delivers nothing any more; what came before is kept, check its cable and record anew"
                ) from None
            return None
        self._heard_at = time.monotonic()
        return block

    def rest(self) -> list[Block]:
        """Return what the queue still holds."""
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]

    def _receive(self, data: npt.NDArray[np.int16], _frames: int, _time: object, status: Any) -> None:
        """Take a block of shape (N, channels), in PortAudio's thread: never waits."""
        if status.input_overflow:
            self.lost_blocks += 1
        mono = data[:, 0].copy() if data.shape[1] == 1 else data.mean(axis=1).astype(np.int16)  # (N,)
        try:
            self._queue.put_nowait(mono)
        except Full:
            self.lost_blocks += 1


class _Meter:
    """Tells the level about ten times a second."""

    def __init__(self, on_level: Callable[[float, float], None]) -> None:
        self._on_level = on_level
        self._peak = 0
        self._told_at = 0.0

    def measure(self, block: Block, duration_s: float) -> None:
        self._peak = max(self._peak, int(np.abs(block.astype(np.int32)).max(initial=0)))
        now = time.monotonic()
        if now - self._told_at < _LEVEL_S:
            return
        self._on_level(duration_s, 20 * float(np.log10(self._peak / 32768)) if self._peak else FLOOR_DBFS)
        self._peak, self._told_at = 0, now


def _load_sounddevice() -> "ModuleType":
    try:
        import sounddevice  # noqa: PLC0415 - loading it needs PortAudio, which few users have
    except OSError as error:
        raise MicrophoneUnavailable(
            "recording needs the PortAudio library, which is not installed; "
            "on Debian or Ubuntu: apt install libportaudio2, on macOS: brew install portaudio"
        ) from error
    module: ModuleType = sounddevice
    return module


def _choose_source(sounddevice: "ModuleType", device: str | int | None) -> _Source:
    """Return a device with a rate and a number of channels that it accepts, 16 kHz mono if it can."""
    wanted = int(device) if isinstance(device, str) and device.isdecimal() else device
    try:
        info = sounddevice.query_devices(wanted, "input")
    except (sounddevice.PortAudioError, ValueError) as error:
        raise _unavailable(error) from error
    own_rate_hz = round(info["default_samplerate"])
    refusal: Exception | None = None
    for rate_hz in dict.fromkeys((RATE_HZ, own_rate_hz)):
        for num_channels in dict.fromkeys((1, min(2, info["max_input_channels"]))):
            try:
                sounddevice.check_input_settings(device=info["index"], channels=num_channels, dtype="int16", samplerate=rate_hz)
            except sounddevice.PortAudioError as error:
                refusal = error
            else:
                return _Source(info["index"], num_channels, rate_hz)
    raise _unavailable(refusal) from refusal


def _unavailable(error: Exception | None) -> MicrophoneUnavailable:
    reason = str(error.args[0]) if error is not None and error.args else "no input accepts 16-bit sound"
    names = ", ".join(f"{device.index}: {device.name}" for device in devices()) or "none"
    advice = "plug one in, choose it by its number, and allow this program to use it"
    return MicrophoneUnavailable(f"the microphone cannot be used: {reason}; inputs found: {names}; {advice}")
