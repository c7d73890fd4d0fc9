"""Makes the speech that the recogniser learns from: `python -m retriever.training.speech_corpus --help`.

Each source is a folder of shards (see `speech_shards`): recorded people with and without transcripts, flite and espeak-ng saying sentences
and questions, held-out sentences in the same voices (`-dev`), and held-out sentences in Festival's voices, which nothing is trained on.
A finished shard is never made again, so the command continues where it was stopped; what a shard holds depends on the seed, the source and
the shard's number alone. One command at a time may write to a folder.
"""

import argparse
import json
import logging
import multiprocessing
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retriever.domain import SAMPLE_RATE_HZ, to_samples
from retriever.errors import RetrieverError
from retriever.training.real_speech import Recording, list_recordings, read_recordings
from retriever.training.speech_shards import (
    Clip,
    CorpusDamaged,
    Phone,
    SpeechShard,
    Utterance,
    is_finished,
    open_shards,
    remove_unfinished,
    to_pcm,
    write_shard,
)
from retriever.training.speech_text import Line, SpeechText, read_speech_text
from retriever.training.synthesis import Engine, Manner, Speech, Voice, check_voices, choose_delivery, speak_each

__all__ = ["Clip", "CorpusDamaged", "Phone", "SpeechShard", "make_corpus", "open_shards"]

SHARD_MINUTES: Final = 30.0
DEV_MINUTES: Final = 30.0
REPORT_MINUTES: Final = {"hts": 20.0, "kal": 10.0}  # Festival's voices
SETTINGS: Final = "corpus.json"

_SHORTEST_S: Final = 1.0
_LONGEST_S: Final = 18.0
_FESTIVAL_BATCH: Final = 20  # lines for one start of the program

log = logging.getLogger(__name__)


class CorpusForeign(RetrieverError):
    """The folder holds a corpus made with another seed or another length of shards."""


class ShardFailed(RetrieverError):
    """A process that made a shard died."""


@dataclass(frozen=True, slots=True)
class Request:
    """What corpus to make.

    Attributes:
        data: holds `speech`, `text` and `qa`.
        out: gets a folder for each source.
        hours: of the two synthetic training sources.
        seed: of every choice.
        shard_minutes: at least so much sound is in each shard of a training source.
    """

    data: Path
    out: Path
    hours: dict[Engine, float]
    seed: int = 0
    shard_minutes: float = SHARD_MINUTES


@dataclass(frozen=True, slots=True)
class Source:
    """A folder of synthetic speech: its engine, the split its text is of, and its length; Festival's sources have one voice."""

    name: str
    engine: Engine
    split: str
    minutes: float
    voice: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A shard to make: of recordings, or synthetic where `source` is given."""

    folder: str
    number: int
    minutes: float
    source: Source | None
    recordings: tuple[Recording, ...] = ()


def all_sources(hours: dict[Engine, float]) -> dict[str, Source]:
    """Return the synthetic sources by name."""
    training = [Source(engine, engine, "train", 60 * hours.get(engine, 0.0)) for engine in ("flite", "espeak")]
    dev = [Source(f"{engine}-dev", engine, "dev", DEV_MINUTES) for engine in ("flite", "espeak")]
    report = [Source(f"{voice}-dev", "festival", "dev", minutes, voice) for voice, minutes in REPORT_MINUTES.items()]
    return {source.name: source for source in (*training, *dev, *report)}


RECORDED: Final = ("real", "real-dev", "untranscribed")
SOURCES: Final = (*RECORDED, *all_sources({}))


def make_corpus(request: Request, sources: Sequence[str] = SOURCES, num_workers: int = 1) -> None:
    """Write the shards that are not there yet.

    Args:
        request: what to make.
        sources: of `SOURCES`.
        num_workers: processes; each makes one shard and ends.

    Raises:
        SynthesiserMissing: an engine or a voice that a source needs is not installed.
        TextMissing: the data lacks a part.
        CorruptAudio: a recording cannot be decoded.
        CorpusForeign: the folder was begun with other settings.
        ShardFailed: a worker was killed; what is finished stays.
    """
    synthetic = all_sources(request.hours)
    for source in (synthetic[name] for name in sources if name in synthetic and synthetic[name].minutes > 0):
        check_voices(source.engine, [source.voice] if source.voice else [])
    _keep_settings(request)
    jobs = [*_recorded_jobs(request, sources)]
    jobs += [job for name in sources if name in synthetic for job in _synthetic_jobs(synthetic[name], request.shard_minutes)]
    for name in sources:
        remove_unfinished(request.out / name)
    todo = [job for job in jobs if not is_finished(request.out / job.folder, job.number)]
    log.info("%d of %d shards are there", len(jobs) - len(todo), len(jobs))
    # A fresh process for each shard: flite's random state must not depend on which shards were made before.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, max_tasks_per_child=1) as pool:
        futures = {pool.submit(make_shard, request, job): job for job in todo}
        try:
            for future in as_completed(futures):
                job, num_samples = futures[future], future.result()
                log.info("%s/%03d: %.1f min", job.folder, job.number, num_samples / SAMPLE_RATE_HZ / 60)
        except BrokenProcessPool as error:
            raise ShardFailed("a process that made a shard was killed, perhaps for memory; the same command continues") from error
        finally:
            pool.shutdown(cancel_futures=True)


def make_shard(request: Request, job: Job) -> int:
    """Write a shard and return its number of samples; call it in a process of its own, or flite's sound depends on what came before."""
    if job.source is None:
        utterances = read_recordings(list(job.recordings))
    else:
        rng = random.Random(f"{request.seed}/{job.folder}/{job.number}")  # noqa: S311 - no secret
        utterances = _say(job.source, read_speech_text(request.data, job.source.split), job.minutes, rng)
    return write_shard(request.out / job.folder, job.number, utterances)


def _say(source: Source, text: SpeechText, minutes: float, rng: random.Random) -> Iterator[Utterance]:
    """Yield lines spoken until there is enough; what came out shorter than 1 s or longer than 18 s is left out."""
    left = to_samples(60 * minutes)
    lines = text.lines(rng)
    while True:
        for line, voice, speech in _deliver(source, lines, rng):
            if speech is None or not _SHORTEST_S <= speech.audio.num_samples / SAMPLE_RATE_HZ <= _LONGEST_S:
                continue
            yield Utterance(to_pcm(speech.audio.samples), line.text, voice.label, source.split, speech.phones)
            left -= speech.audio.num_samples
            if left <= 0:
                return


def _deliver(source: Source, lines: Iterator[Line], rng: random.Random) -> Iterator[tuple[Line, Voice, Speech | None]]:
    """Yield the next lines, spoken: one in a voice drawn for it, or several in Festival's."""
    if source.voice is None:
        line = next(lines)
        voice, manner = choose_delivery(source.engine, rng)
        yield line, voice, speak_each(voice, [line.punctuated], manner)[0]
        return
    voice, batch = Voice(source.engine, source.voice), [next(lines) for _ in range(_FESTIVAL_BATCH)]
    for line, speech in zip(batch, speak_each(voice, [line.punctuated for line in batch], Manner()), strict=True):
        yield line, voice, speech


def _synthetic_jobs(source: Source, shard_minutes: float) -> Iterator[Job]:
    """Yield a source's shards; the last one is no shorter, so that more hours later only add shards."""
    minutes = shard_minutes if source.split == "train" else source.minutes
    for number in range(-int(-source.minutes // minutes) if source.minutes > 0 else 0):
        yield Job(source.name, number, minutes, source)


def _recorded_jobs(request: Request, sources: Sequence[str]) -> Iterator[Job]:
    """Yield the shards of recordings, mixed, so that each shard has every kind."""
    wanted = [name for name in RECORDED if name in sources]
    recordings = list_recordings(request.data / "speech") if wanted else []
    for name in wanted:
        rows = [row for row in recordings if name == _source_of(row)]
        random.Random(f"{request.seed}/{name}").shuffle(rows)  # noqa: S311 - no secret
        number = 0
        while rows:
            taken: list[Recording] = []
            while rows and sum(row.seconds for row in taken) < 60 * request.shard_minutes:
                taken.append(rows.pop())
            yield Job(name, number, request.shard_minutes, None, tuple(sorted(taken, key=lambda row: row.tar)))
            number += 1


def _source_of(recording: Recording) -> str:
    if not recording.text:
        return "untranscribed"
    return "real" if recording.split == "train" else "real-dev"


def _keep_settings(request: Request) -> None:
    """Write the settings beside the shards, or compare them with those that are there.

    Raises:
        CorpusForeign: they differ.
    """
    settings = {"seed": request.seed, "shard_minutes": request.shard_minutes}
    path = request.out / SETTINGS
    if not path.exists():
        request.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
    elif (there := json.loads(path.read_text(encoding="utf-8"))) != settings:
        raise CorpusForeign(f"{request.out} was begun with {there}, asked are {settings}; take the same or another folder")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with speech, text and qa")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--hours-flite", type=float, default=20.0)
    parser.add_argument("--hours-espeak", type=float, default=12.0)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES)
    parser.add_argument("--shard-minutes", type=float, default=SHARD_MINUTES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-workers", type=int, default=1)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    hours: dict[Engine, float] = {"flite": arguments.hours_flite, "espeak": arguments.hours_espeak}
    request = Request(arguments.data, arguments.out, hours, arguments.seed, arguments.shard_minutes)
    make_corpus(request, arguments.sources, arguments.num_workers)


if __name__ == "__main__":
    main()
