"""From a compressed file to 16 kHz blocks, beside the ffmpeg command."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from bench_ingest import make_lecture
from measure import Figure, run

from retriever.audio import open_audio
from retriever.config import AudioLimits

MINUTES = 60


def measure(folder: Path) -> Iterator[Figure]:
    """Yield the time to decode an hour of FLAC."""
    lecture = folder / "hour.flac"
    make_lecture(MINUTES, lecture)
    started = time.perf_counter()
    with open_audio(lecture, AudioLimits()) as stream:
        num_samples = sum(len(block) for block in stream)
    seconds = time.perf_counter() - started
    peer_value = None
    if ffmpeg := shutil.which("ffmpeg"):
        command = [ffmpeg, "-v", "error", "-i", str(lecture), "-ar", "16000", "-ac", "1", "-f", "f32le", "-y", "/dev/null"]
        peer_value = run(command).seconds
    yield Figure(f"decode {num_samples / 16_000 / 60:.0f} minutes of FLAC", seconds, "s", "ffmpeg command", peer_value)
