"""The child process of `audio`: decodes one open file to mono float32 at 16 kHz and writes it to stdout as messages.

Started as a script, by its path, so that nothing but PyAV and the standard library is loaded (55 ms). The file comes as an inherited
descriptor: FFmpeg never sees a path, so no file can make it open another one. Stdin is a pipe that nobody writes to; its end means that the
parent is gone.

A message is its kind (1 byte), the length of its payload (4 bytes, little-endian) and the payload. In order: one HEADER, any number of
SAMPLES and PROGRESS, then END; or ERROR at any point. Without END or ERROR the process has crashed.
"""

import contextlib
import errno
import io
import json
import os
import resource
import struct
import sys
from collections.abc import Iterator
from threading import Thread
from typing import TYPE_CHECKING, Final, TypedDict

if TYPE_CHECKING or __name__ == "__main__":  # the parent imports this module for the messages alone
    import av
    from av.audio import AudioStream
    from av.audio.frame import AudioFrame
    from av.container import InputContainer
    from av.filter import Graph

HEADER: Final = b"H"  # JSON: container, codec, duration_s, sample_rate_hz, num_channels
SAMPLES: Final = b"S"  # float32, little-endian
PROGRESS: Final = b"P"  # empty: still reading, nothing to hear yet
ERROR: Final = b"E"  # JSON: [name of an error of `retriever.errors`, what is wrong]
UNOPENED: Final = "Unopened"  # instead of an error's name: FFmpeg makes nothing of the file
END: Final = b"F"  # JSON: `Findings`
PREFIX: Final = struct.Struct("<cI")
RATE_HZ: Final = 16_000
MAX_PAYLOAD_BYTES: Final = 4 * RATE_HZ  # one second of sound

_PROGRESS_BYTES: Final = 16 * 2**20
_BUFFER_BYTES: Final = 2**16
# Containers that hold their own sound. Playlists (hls, dash, concat …) are absent: they name other files.
_CONTAINERS: Final = "mov,mp3,wav,flac,ogg,matroska,aac,aiff,w64,caf,amr,au,mpegts,mpeg,avi,asf,flv,ac3,eac3,wv"
# Their duration is a guess, or was looked up at the file's end.
_ESTIMATING: Final = frozenset({"aac", "amr", "ac3", "eac3", "mpegts", "mpeg", "ogg"})
_WIDTHS: Final = ("s16", "s24", "s32", "u16", "u24", "u32", "f32", "f64")
_PCM: Final = ("alaw", "mulaw", "s8", "u8", "bluray", "dvd", *(width + order for width in _WIDTHS for order in ("le", "be")))
_CODECS: Final = (
    "aac,aac_latm,ac3,eac3,alac,flac,mp1,mp1float,mp2,mp2float,mp3,mp3float,opus,libopus,vorbis,speex,wavpack,amrnb,amrwb,"
    "libopencore_amrnb,libopencore_amrwb,gsm,gsm_ms,adpcm_ima_wav,adpcm_ima_qt,adpcm_ms,g722,g726,wmav1,wmav2,wmapro,wmalossless,wmavoice,"
) + ",".join(f"pcm_{name}" for name in _PCM)
_LOCKED: Final = ("drms", "enca", "aavd", "adrm")  # MP4's tags of protected sound
_LOCKED_TEXT: Final = "is protected (encrypted); export it without protection first"


class Order(TypedDict):
    """What the parent asks for: the limits and the descriptor of the file."""

    descriptor: int
    max_duration_s: float
    min_sample_rate_hz: int
    max_sample_rate_hz: int
    max_channels: int
    max_decoder_bytes: int


class Findings(TypedDict):
    """What was noticed while decoding; positions in samples at 16 kHz.

    Attributes:
        num_damaged: places that could not be decoded.
        first_damage: where the first of them lies.
        promised_s: the duration that a trustworthy header states.
        cut: the rest of the file cannot be read.
    """

    num_damaged: int
    first_damage: int
    promised_s: float | None
    cut: bool


class _Refused(Exception):
    """The file cannot be decoded; args are the name of an error of `retriever.errors` and what is wrong."""


class _Outbox:
    """Writes messages to the parent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Write one message whole."""
        rest = memoryview(PREFIX.pack(kind, len(payload)) + payload)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


class _Source:
    """The file as PyAV reads it; tells the parent of every 16 MiB read anew, so that a long search is not taken for a stall.

    A file ends, and only new ground counts: this cannot go on for ever.
    """

    name = "sound"  # a real name would let its ending sway the recognition of the format

    def __init__(self, descriptor: int, outbox: _Outbox) -> None:
        self._file = io.FileIO(descriptor, "rb", closefd=False)
        self._outbox = outbox
        self._furthest = 0

    def read(self, num_bytes: int) -> bytes:
        data = self._file.read(num_bytes) or b""
        position = self._file.tell()
        if position >= self._furthest + _PROGRESS_BYTES:
            self._furthest = position
            self._outbox.send(PROGRESS)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class _Sound:
    """Collects decoded samples into messages of one second and counts them."""

    def __init__(self, outbox: _Outbox, max_duration_s: float) -> None:
        self._outbox = outbox
        self._max_duration_s = max_duration_s
        self._pending = bytearray()
        self.num_samples = 0
        self.findings = Findings(num_damaged=0, first_damage=0, promised_s=None, cut=False)

    def add(self, data: memoryview | bytes) -> None:
        """Take float32 samples; refuse when the limit is passed."""
        self._pending += data
        self.num_samples += len(data) // 4
        if self.num_samples > self._max_duration_s * RATE_HZ:
            raise _Refused(
                "AudioLimitExceeded", f"lasts more than {self._max_duration_s:g} s, which is the limit; split it into shorter files"
            )
        while len(self._pending) >= MAX_PAYLOAD_BYTES:
            self._outbox.send(SAMPLES, bytes(self._pending[:MAX_PAYLOAD_BYTES]))
            del self._pending[:MAX_PAYLOAD_BYTES]

    def note_damage(self) -> None:
        """Count a place that does not decode, here."""
        if not self.findings["num_damaged"]:
            self.findings["first_damage"] = self.num_samples
        self.findings["num_damaged"] += 1

    def finish(self) -> None:
        """Send what is pending and the findings."""
        if self._pending:
            self._outbox.send(SAMPLES, bytes(self._pending))
        self._outbox.send(END, json.dumps(self.findings).encode())


class _Converter:
    """Resamples frames to mono float32 at 16 kHz; starts anew where a stream changes its format midway."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._key: tuple[int, str, str] | None = None

    def convert(self, frame: "AudioFrame") -> Iterator[memoryview]:
        """Yield float32 samples for a frame."""
        key = (frame.sample_rate, frame.format.name, frame.layout.name)
        if key != self._key:
            yield from self.flush()
            self._graph, self._key = _conversion(frame), key
        frame.pts = None  # timestamps of damaged files jump; the samples alone are the time here
        yield from self._push(frame)

    def flush(self) -> Iterator[memoryview]:
        """Yield what the resampler still holds."""
        if self._graph is not None:
            yield from self._push(None)
        self._graph = self._key = None

    def _push(self, frame: "AudioFrame | None") -> Iterator[memoryview]:
        if self._graph is None:
            return
        self._graph.push(frame)
        while True:
            try:
                done = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            if isinstance(done, AudioFrame):
                yield memoryview(done.planes[0])[: done.samples * 4]


def _conversion(frame: "AudioFrame") -> "Graph":
    graph = Graph()
    nodes = [graph.add_abuffer(sample_rate=frame.sample_rate, format=frame.format, layout=frame.layout)]
    num_channels = frame.layout.nb_channels
    if frame.layout.name.endswith("channels"):  # nobody says where the speakers stand: take the mean
        nodes.append(graph.add("pan", "mono|c0=" + "+".join(f"{1 / num_channels:.9f}*c{i}" for i in range(num_channels))))
    # Without a maximum of 1, swresample mixes stereo louder than full scale when it works in float.
    nodes.append(graph.add("aresample", rematrix_maxval="1.0"))
    nodes.append(graph.add("aformat", sample_rates=str(RATE_HZ), sample_fmts="flt", channel_layouts="mono"))
    nodes.append(graph.add("abuffersink"))
    graph.link_nodes(*nodes).configure()
    return graph


def _open(source: _Source) -> "InputContainer":
    def refuse(url: str, *_: object) -> None:
        raise PermissionError(f"the file points at {url}")

    options = {"format_whitelist": _CONTAINERS, "codec_whitelist": _CODECS, "protocol_whitelist": "none"}
    try:
        return av.open(source, "r", container_options=options, buffer_size=_BUFFER_BYTES, io_open=refuse, metadata_errors="replace")
    except (av.FFmpegError, PermissionError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOMEM:
            raise MemoryError from error
        raise _Refused(UNOPENED, getattr(error, "strerror", None) or str(error)) from error


def _choose_stream(container: "InputContainer") -> "AudioStream":
    streams = container.streams.audio
    for stream in streams:
        if _is_locked(stream):
            raise _Refused("UnsupportedFormat", _LOCKED_TEXT)
        if stream.codec_context is not None and stream.codec_context.codec.name in _CODECS.split(","):
            return stream
    if streams:
        known = [stream.codec_context.codec.name for stream in streams if stream.codec_context is not None]
        raise _Refused(
            "UnsupportedFormat", f"its sound is coded as {known[0] if known else 'something unknown'}, which cannot be decoded here"
        )
    if not len(container.streams):
        raise _Refused("CorruptAudio", "has no streams in it; it may be cut off at the beginning")
    raise _Refused("NoAudioTrack", "holds no sound track")


def _is_locked(stream: "AudioStream") -> bool:
    try:
        return stream.codec_context is not None and stream.codec_context.codec_tag in _LOCKED
    except UnicodeDecodeError:  # a tag that is no text
        return False


def _header(container: "InputContainer", stream: "AudioStream") -> dict[str, object]:
    duration_s: float | None = None
    if stream.duration is not None and stream.time_base is not None:
        duration_s = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration_s = container.duration / 1e6
    return {
        "container": container.format.name,
        "codec": stream.codec_context.codec.canonical_name,
        "duration_s": duration_s if duration_s is not None and duration_s > 0 else None,
        "sample_rate_hz": stream.codec_context.sample_rate or 0,
        "num_channels": stream.codec_context.layout.nb_channels,
    }


def _check_limits(order: Order, sample_rate_hz: int, num_channels: int) -> None:
    low, high = order["min_sample_rate_hz"], order["max_sample_rate_hz"]
    if not low <= sample_rate_hz <= high:
        raise _Refused(
            "AudioLimitExceeded", f"has a sample rate of {sample_rate_hz} Hz; {low} to {high} Hz are allowed, so convert it first"
        )
    if not 1 <= num_channels <= order["max_channels"]:
        raise _Refused("AudioLimitExceeded", f"has {num_channels} channels; 1 to {order['max_channels']} are allowed, so mix it down first")


def _packets(container: "InputContainer", stream: "AudioStream", sound: _Sound) -> "Iterator[av.Packet[AudioStream]]":
    """Yield the packets of the stream, an empty one last; an unreadable rest is noted as cut off."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError) as error:
            _raise_if_out_of_memory(error)
            sound.note_damage()
            sound.findings["cut"] = True
            return
        if packet is None:
            return
        if packet.has_sidedata("encryption_info"):
            raise _Refused("UnsupportedFormat", _LOCKED_TEXT)
        yield packet


def _frames(container: "InputContainer", stream: "AudioStream", sound: _Sound, descriptor: int) -> Iterator["AudioFrame"]:
    """Decode what can be decoded; damage is noted, never fatal."""
    for number, packet in enumerate(_packets(container, stream, sound)):
        if number == 0:
            sound.findings["promised_s"] = _promised_s(container, stream, descriptor, packet.pos)
        if packet.is_corrupt:
            sound.note_damage()
        try:
            yield from stream.codec_context.decode(packet if packet.size else None)
        except av.error.EOFError:
            return
        except av.FFmpegError as error:
            _raise_if_out_of_memory(error)
            sound.note_damage()


def _raise_if_out_of_memory(error: Exception) -> None:
    if getattr(error, "errno", None) == errno.ENOMEM:
        raise MemoryError from error


def _promised_s(container: "InputContainer", stream: "AudioStream", descriptor: int, first_packet: int | None) -> float | None:
    """Return the duration that the header states; None where it is absent or FFmpeg's guess."""
    name = container.format.name
    if name in _ESTIMATING:
        return None
    if name == "mp3":  # the Xing frame lies right before the first packet; without it the duration is a guess from the bit rate
        start = max(0, (first_packet or 0) - 4096)
        before = os.pread(descriptor, 4096, start)
        if not any(tag in before for tag in (b"Xing", b"Info", b"VBRI")):
            return None
    duration_s = _header(container, stream)["duration_s"]
    if not isinstance(duration_s, float):
        return None
    # The container's duration is that of its longest stream, which may outlast the sound.
    is_exact = stream.duration is not None or len(container.streams) == 1
    slack_s = max(0.25, 0.005 * duration_s) if is_exact else max(5.0, 0.02 * duration_s)
    return duration_s - slack_s


def _decode(order: Order, outbox: _Outbox) -> None:
    container = _open(_Source(order["descriptor"], outbox))
    stream = _choose_stream(container)
    header = _header(container, stream)
    _check_limits(order, stream.codec_context.sample_rate or 0, stream.codec_context.layout.nb_channels)
    stream.codec_context.thread_count = 1
    outbox.send(HEADER, json.dumps(header).encode())
    sound, converter = _Sound(outbox, order["max_duration_s"]), _Converter()
    for frame in _frames(container, stream, sound, order["descriptor"]):
        try:
            _check_limits(order, frame.sample_rate, frame.layout.nb_channels)
        except _Refused:  # a damaged frame header
            sound.note_damage()
            continue
        for data in converter.convert(frame):
            sound.add(data)
    for data in converter.flush():
        sound.add(data)
    sound.finish()


def _confine(max_bytes: int) -> None:
    """Take from this process what a decoder does not need."""
    for limit, value in ((resource.RLIMIT_AS, max_bytes), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        _, ceiling = resource.getrlimit(limit)
        lower = value if ceiling == resource.RLIM_INFINITY else min(value, ceiling)
        with contextlib.suppress(ValueError, OSError):  # macOS knows RLIMIT_AS but does not enforce or accept it
            resource.setrlimit(limit, (lower, lower))


def _exit_with_parent() -> None:
    """End this process when stdin ends, whatever the decoder is doing."""
    while os.read(0, 1):
        pass
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Decode as ordered by the JSON in the first argument."""
    order: Order = json.loads(arguments[1])
    _confine(order["max_decoder_bytes"])
    outbox = _Outbox(os.dup(1))
    os.dup2(2, 1)  # whatever a library prints must not land among the messages
    Thread(target=_exit_with_parent, daemon=True).start()
    try:
        _decode(order, outbox)
    except _Refused as error:
        outbox.send(ERROR, json.dumps(error.args).encode())
    except MemoryError:
        text = f"needs more than {order['max_decoder_bytes']} bytes of memory to decode, which is the limit; convert it first"
        outbox.send(ERROR, json.dumps(["AudioLimitExceeded", text]).encode())
    except BrokenPipeError:  # the parent has heard enough
        pass
    except Exception as error:  # PyAV meets damaged headers in more ways than it documents
        text = f"is damaged in a way that its decoder does not understand ({type(error).__name__}); convert it to another format first"
        outbox.send(ERROR, json.dumps(["CorruptAudio", text]).encode())


if __name__ == "__main__":
    main(sys.argv)
    os._exit(0)  # at once: tearing down a decoder that met a damaged file is where it may still hang
