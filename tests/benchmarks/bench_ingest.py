"""From an mp3 file to searchable: time and memory against length, beside the cascade with all its workers and pocketsphinx alone.

The lecture is the demo lecture, over and over: 5 and 20 minutes and 3 hours. Against the cascade: medians of three runs each, in turn, on
the same 20 minutes, which both cut into the same segments.
"""

import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import soundfile
from measure import Figure, Run, run

from app.demo import lecture_path

MINUTES = (5, 20, 180)
NUM_TURNS = 3
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
    with soundfile.SoundFile(path, "w", RATE_HZ, 1, format="MP3") as sound:
        while left > 0:
            sound.write(samples[:left])
            left -= len(samples)


def ingest(lecture: Path, home: Path, retriever: str) -> Run:
    """Make a lecture searchable in a library of its own, by a process that does nothing else."""
    env = os.environ | {"ASKALOUD_HOME": str(home), "ASKALOUD_DEMO": "false", "ASKALOUD_RETRIEVER__KIND": retriever}
    return run([sys.executable, "-m", "app", "ingest", str(lecture), "--json"], env)


def measure(folder: Path) -> Iterator[Figure]:
    """Yield figures for each length, how time and memory grow with it, and both retrievers in turn."""
    runs = {}
    for minutes in MINUTES:
        lecture = folder / f"{minutes}.mp3"
        make_lecture(minutes, lecture)
        runs[minutes] = ingest(lecture, folder / f"home-{minutes}", "clsr")
        if minutes == MINUTES[0]:
            alone = run([sys.executable, "-c", PEER, str(lecture)])
            yield Figure(f"ingest {minutes} minutes", runs[minutes].seconds, "s", "pocketsphinx alone, one process", alone.seconds)
        else:
            yield Figure(f"ingest {minutes} minutes", runs[minutes].seconds, "s")
        yield Figure(f"times real time, {minutes} minutes", minutes * 60 / runs[minutes].seconds, "×")
        yield Figure(f"peak memory, all processes, {minutes} minutes", runs[minutes].peak_bytes / 2**20, "MiB")
    short, long = runs[MINUTES[0]], runs[MINUTES[-1]]
    longer = MINUTES[-1] / MINUTES[0]
    yield Figure(f"time for {longer:.0f} times the length, as a ratio", long.seconds / short.seconds, "×", "linear", longer)
    yield Figure("memory for it, as a ratio", long.peak_bytes / short.peak_bytes, "×", "flat", 1.0)
    seconds: dict[str, list[float]] = {"clsr": [], "cascade": []}
    for turn in range(NUM_TURNS):
        for retriever, taken in seconds.items():
            taken.append(ingest(folder / "20.mp3", folder / f"home-{retriever}-{turn}", retriever).seconds)
    clsr, cascade = (statistics.median(taken) for taken in seconds.values())
    yield Figure("ingest 20 minutes, median of three", clsr, "s", "cascade, all workers, in turn", cascade)
