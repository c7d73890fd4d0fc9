"""From file to searchable: time and memory against length, beside pocketsphinx alone in one process.

The lecture is the demo lecture, over and over: 5, 20 and 80 minutes.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import soundfile
from measure import Figure, run

from app.demo import lecture_path

MINUTES = (5, 20, 80)
RATE_HZ = 16_000
PEER = """
import sys, soundfile
from pocketsphinx import Decoder, set_loglevel
set_loglevel("FATAL")
decoder = Decoder()
with soundfile.SoundFile(sys.argv[1]) as sound:
    for block in sound.blocks(30 * 16000, dtype="int16"):
        decoder.start_utt(); decoder.process_raw(block.tobytes(), full_utt=True); decoder.end_utt()
"""


def make_lecture(minutes: int, path: Path) -> None:
    """Write the demo lecture over and over, streamed."""
    samples, _ = soundfile.read(lecture_path(), dtype="int16")
    left = minutes * 60 * RATE_HZ
    with soundfile.SoundFile(path, "w", RATE_HZ, 1, subtype="PCM_16", format="FLAC") as sound:
        while left > 0:
            sound.write(samples[:left])
            left -= len(samples)


def measure(folder: Path) -> Iterator[Figure]:
    """Yield figures for each length, then how time and memory grow with it."""
    runs = {}
    for minutes in MINUTES:
        lecture = folder / f"{minutes}.flac"
        make_lecture(minutes, lecture)
        env = os.environ | {"ASKALOUD_HOME": str(folder / f"home-{minutes}"), "ASKALOUD_DEMO": "false"}
        runs[minutes] = run([sys.executable, "-m", "app", "ingest", str(lecture), "--json"], env)
        if minutes == MINUTES[0]:
            alone = run([sys.executable, "-c", PEER, str(lecture)])
            yield Figure(f"ingest {minutes} minutes", runs[minutes].seconds, "s", "pocketsphinx alone, one process", alone.seconds)
        else:
            yield Figure(f"ingest {minutes} minutes", runs[minutes].seconds, "s")
        yield Figure(f"peak memory, all processes, {minutes} minutes", runs[minutes].peak_bytes / 2**20, "MiB")
    short, long = runs[MINUTES[0]], runs[MINUTES[-1]]
    longer = MINUTES[-1] / MINUTES[0]
    yield Figure(f"time for {longer:.0f} times the length, as a ratio", long.seconds / short.seconds, "×", "linear", longer)
    yield Figure("memory for it, as a ratio", long.peak_bytes / short.peak_bytes, "×", "flat", 1.0)
