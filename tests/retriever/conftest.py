"""Sound files made for tests, in any format that FFmpeg writes."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from retriever.domain import Samples

Encode = Callable[..., Path]


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Return `write_media`."""
    return write_media


def write_media(
    path: Path,
    codec: str | None,
    *sounds: Samples,
    rate_hz: int = 44_100,
    channels: int = 1,
    sample_format: str | None = None,
    video: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write sounds of shape (N,), one track each, the same in all channels, and optionally five frames of grey video."""
    with av.open(path, "w", options=options or {}) as container:
        picture = container.add_stream("mpeg4", rate=5) if video else None
        tracks = []
        for _ in sounds:
            track = container.add_stream(codec or "", rate=rate_hz)
            assert isinstance(track, AudioStream)
            track.layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels}c")
            if sample_format:
                track.format = sample_format
            tracks.append(track)
        if isinstance(picture, VideoStream):
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
            for packet in _pictures(picture):
                container.mux(packet)
        for track, sound in zip(tracks, sounds, strict=True):
            for packet in _packets(track, sound, rate_hz):
                container.mux(packet)
    return path


def _pictures(stream: VideoStream) -> Iterator[av.Packet]:
    for i in range(5):
        frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 128, np.uint8), format="rgb24")
        frame.pts, frame.time_base = i, Fraction(1, 5)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _packets(stream: AudioStream, sound: Samples, rate_hz: int) -> Iterator[av.Packet]:
    size = stream.codec_context.frame_size or 1024
    fifo, resampler = av.AudioFifo(), av.AudioResampler(stream.format, stream.layout, rate_hz)
    frame = av.AudioFrame.from_ndarray(np.tile(sound, (stream.layout.nb_channels, 1)), format="fltp", layout=stream.layout)
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        fifo.write(part)
    while (piece := fifo.read(size, partial=True)) is not None:
        yield from stream.encode(piece)
    yield from stream.encode(None)


@pytest.fixture
def decoders() -> Callable[[], list[psutil.Process]]:
    """Return a function that lists the decoding processes of this one."""
    return lambda: [child for child in psutil.Process().children() if "decoding.py" in " ".join(child.cmdline())]
