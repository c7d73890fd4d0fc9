"""The processes that speak while training goes on: each says lines or plays recordings, distorts them, and puts them into a bounded queue.

Without torch, which need not be loaded in sixteen processes. Where the synthesisers come with a pack, `Voices.libraries` holds them: they
are loaded by their paths, after which `_flite` and `_espeak` find them by their names, whatever else is installed.
"""

import ctypes
import multiprocessing
import os
import queue
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from retriever.domain import SAMPLE_RATE_HZ
from retriever.errors import RetrieverError
from retriever.training.augmentation import Augmentation, AugmentationConfig, Sound, resampled
from retriever.training.real_speech import list_recordings, read_recordings
from retriever.training.speech_shards import FULL_SCALE, PcmSamples, Utterance, to_pcm
from retriever.training.synthesis import SynthesiserMissing, check_voices, choose_delivery, speak_each

ESPEAK_DATA: Final = "espeak-ng-data"  # a folder beside the libraries
SPEEDS: Final = (0.88, 1.14)  # clips whose phones' times are unknown are played at
_SHORTEST_S: Final = 1.0
_LONGEST_S: Final = 18.0
_LOOK_S: Final = 2.0  # between two looks whether training is still there


@dataclass(frozen=True, slots=True)
class Voices:
    """What is spoken, and how.

    Attributes:
        lines: a file of lines as a synthesiser reads them: words of a to z, commas, a full stop or question mark.
        recordings: a folder with a table and a tar file of clips; None: synthetic speech alone.
        noise: a folder of noises and room responses.
        shares: of "flite", "espeak" and "real" in the clips.
        libraries: a folder with the synthesisers; None: those that are installed.
    """

    lines: Path
    recordings: Path | None
    noise: Path
    shares: dict[str, float]
    seed: int = 0
    libraries: Path | None = None


class Speakers:
    """So many processes at work, as a context. The queue holds a few clips for each: who does not take them makes them wait."""

    def __init__(self, voices: Voices, num_processes: int, clips_each: int = 8) -> None:
        """Prepare; `start` begins.

        Raises:
            SynthesiserMissing: a share asks for an engine that is not there.
        """
        context = multiprocessing.get_context("spawn")
        self.queue: Queue[Utterance] = context.Queue(max(1, num_processes * clips_each))
        orders = ((voices, number, os.getpid(), self.queue) for number in range(num_processes))
        self._processes = [context.Process(target=_speak_for_ever, args=order, daemon=True) for order in orders]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
        self.queue.cancel_join_thread()
        self.queue.close()

    def next(self) -> Utterance:
        """Return the next clip made.

        Raises:
            SynthesiserMissing: all processes have ended.
        """
        while True:
            with suppress(queue.Empty):
                return self.queue.get(timeout=_LOOK_S)
            if not any(process.is_alive() for process in self._processes):
                codes = sorted({process.exitcode for process in self._processes}, key=str)
                raise SynthesiserMissing(f"all {len(codes)} kinds of speaking processes ended ({codes}); what they wrote above says why")


def speak(voices: Voices, number: int = 0) -> Iterator[Utterance]:
    """Yield clips without end, those of one process; what they are depends on the seed and the process's number.

    Raises:
        SynthesiserMissing: an engine is not there.
    """
    rng = random.Random(f"{voices.seed}/{number}")  # noqa: S311 - no secret
    generator = np.random.default_rng((voices.seed, number))
    if voices.libraries is not None:
        load_libraries(voices.libraries)
    augmentation = Augmentation.of_folder(AugmentationConfig(), voices.noise)
    sources = {"flite": _said("flite", voices, rng), "espeak": _said("espeak", voices, rng), "real": _played(voices, rng)}
    names = [name for name, share in voices.shares.items() if share > 0 and (name != "real" or voices.recordings is not None)]
    for name in {"flite", "espeak"} & set(names):
        check_voices("flite" if name == "flite" else "espeak")
    weights = [voices.shares[name] for name in names]
    while True:
        yield _distorted(next(sources[rng.choices(names, weights)[0]]), augmentation, generator)


def load_libraries(folder: Path) -> None:
    """Load every library of a folder by its path, each after those it needs, and let espeak-ng find its data beside them.

    Raises:
        SynthesiserMissing: one cannot be loaded.
    """
    if (folder / ESPEAK_DATA).is_dir():
        os.environ["ESPEAK_DATA_PATH"] = str(folder)
    waiting = sorted(folder.glob("*.so*"))
    while waiting:
        failed: dict[Path, OSError] = {}
        for path in waiting:
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            except OSError as error:
                failed[path] = error
        if len(failed) == len(waiting):
            path, why = next(iter(failed.items()))
            raise SynthesiserMissing(f"{path} cannot be loaded here ({why}); make the pack on a system that is not newer") from why
        waiting = list(failed)


def _speak_for_ever(voices: Voices, number: int, parent: int, messages: "Queue[Utterance]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    for utterance in speak(voices, number):
        while True:
            try:
                messages.put(utterance, timeout=_LOOK_S)
                break
            except queue.Full:
                if os.getppid() != parent:  # it was killed
                    messages.cancel_join_thread()
                    return


def _said(engine: str, voices: Voices, rng: random.Random) -> Iterator[Utterance]:
    lines = voices.lines.read_text(encoding="ascii").splitlines()
    while True:
        voice, manner = choose_delivery("flite" if engine == "flite" else "espeak", rng)
        line = rng.choice(lines)
        (speech,) = speak_each(voice, [line], manner)
        if speech is None or not _SHORTEST_S <= speech.audio.num_samples / SAMPLE_RATE_HZ <= _LONGEST_S:
            continue
        yield Utterance(to_pcm(speech.audio.samples), _words(line), voice.label, "train", speech.phones)


def _played(voices: Voices, rng: random.Random) -> Iterator[Utterance]:
    if voices.recordings is None:
        return
    recordings = [one for one in list_recordings(voices.recordings) if one.text]
    if not recordings:
        raise RetrieverError(f"{voices.recordings} lists no clip with words; make the pack again")
    while True:
        yield from read_recordings([rng.choice(recordings)])


def _distorted(said: Utterance, augmentation: Augmentation, generator: np.random.Generator) -> Utterance:
    """Return a clip as it might have been recorded; one whose phones' times are known keeps its speed."""
    sound: Sound = (said.pcm / FULL_SCALE).astype(np.float32)
    if said.phones is None:
        sound = resampled(sound, float(generator.uniform(*SPEEDS)))
    pcm: PcmSamples = to_pcm(augmentation(sound, generator))
    return Utterance(pcm, said.text, said.voice, said.split, said.phones)


def _words(line: str) -> str:
    return " ".join("".join(character for character in line if character not in ",.?").split())
