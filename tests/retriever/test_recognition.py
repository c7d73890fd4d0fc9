import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import numpy as np
import psutil
import pytest

from retriever import recognising, recognition
from retriever.audio import read_audio
from retriever.config import AudioLimits
from retriever.domain import Audio, Segment, SegmentAudio, Word, join_words
from retriever.errors import RecognitionFailed
from retriever.recognising import Recogniser, spelling
from retriever.recognition import RecogniserProcess, listen_to_all

SENTENCES = ("my mother bought a new house", "the water is cold", "we went to the market in the morning")
LECTURE = UUID(int=1)


@pytest.fixture(scope="module")
def sounds(speak: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[Audio]:
    folder = tmp_path_factory.mktemp("sounds")
    return [read_audio(speak(text, folder / f"{i}.wav", words_per_minute=140), AudioLimits(), 30) for i, text in enumerate(SENTENCES)]


@pytest.fixture
def segments(sounds: list[Audio]) -> list[SegmentAudio]:
    """The sentences one after another, twice, each at a time of its own."""
    return [SegmentAudio(Segment(LECTURE, i * 80_000, i * 80_000 + s.num_samples, LECTURE), s) for i, s in enumerate(sounds * 2)]


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "recognising" in " ".join(child.cmdline())]


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert children() == []


def pcm(audio: Audio) -> np.ndarray:
    return (audio.samples * 32_767).astype(np.int16)


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser()


def test_clear_speech_is_understood(recogniser: Recogniser, sounds: list[Audio]) -> None:
    assert [word for word, *_ in recogniser.hear(pcm(sounds[0]))] == SENTENCES[0].split()


def test_what_was_heard_before_changes_nothing(recogniser: Recogniser, sounds: list[Audio]) -> None:
    first = [recogniser.hear(pcm(sound)) for sound in sounds]
    assert [recogniser.hear(pcm(sound)) for sound in reversed(sounds)] == first[::-1]


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(0),
        np.zeros(1),
        np.zeros(300),
        np.zeros(48_000),
        np.full(48_000, 2_000),
        np.random.default_rng(0).normal(0, 1_000, 48_000),
        np.eye(1, 48_000, 20_000)[0] * 32_767,
    ],
    ids=["nothing", "one sample", "ten milliseconds", "silence", "an offset", "noise", "a click"],
)
def test_no_words_are_heard_where_nobody_speaks(recogniser: Recogniser, sound: np.ndarray) -> None:
    assert recogniser.hear(sound.astype(np.int16)) == []


def test_speech_between_stretches_of_exact_silence_is_heard_alone(recogniser: Recogniser, sounds: list[Audio]) -> None:
    silence = np.zeros(32_000, np.int16)
    heard = recogniser.hear(np.concatenate([silence, pcm(sounds[0]), silence]))
    assert all(len(silence) - 100 <= start < end <= len(silence) + sounds[0].num_samples + 100 for _, start, end, _ in heard)
    assert " ".join(word for word, *_ in heard) == SENTENCES[0]


@pytest.mark.parametrize(
    ("entry", "word"),
    [("read(2)", "read"), ("it's", "it's"), ("<s>", ""), ("<sil>", ""), ("[NOISE]", ""), ("++UH++", ""), ("a(12)", "a")],
)
def test_marks_of_the_dictionary_are_no_words(entry: str, word: str) -> None:
    assert spelling(entry) == word


def check_words(words: tuple[Word, ...], start: int, end: int) -> None:
    times = [(word.start, word.end) for word in words]
    assert times == sorted(times)
    for word in words:
        assert start <= word.start < word.end <= end
        assert 0.0 <= word.confidence <= 1.0


def test_segments_come_in_order_with_words_placed_in_their_lecture(segments: list[SegmentAudio]) -> None:
    listened = list(listen_to_all(iter(segments), num_workers=2))
    assert [one.segment for one, _ in listened] == [one.segment for one in segments]
    for one, words in listened:
        check_words(words, one.segment.start, one.segment.end)
    texts = [join_words(words) for _, words in listened]
    assert texts[0] == SENTENCES[0]
    assert texts[:3] == texts[3:]


def test_nothing_to_listen_to_starts_nothing() -> None:
    assert list(listen_to_all([], num_workers=2)) == []


def test_only_a_few_segments_are_read_ahead(segments: list[SegmentAudio]) -> None:
    num_read = 0

    def counted() -> Iterator[SegmentAudio]:
        nonlocal num_read
        for one in segments * 10:
            num_read += 1
            yield one

    with contextlib.closing(listen_to_all(counted(), num_workers=1)) as listened:
        for num_yielded in range(1, 4):
            next(listened)
            assert num_read <= num_yielded + 2


def test_closing_early_ends_the_processes_at_once(segments: list[SegmentAudio]) -> None:
    listened = listen_to_all(iter(segments * 10), num_workers=2)
    next(listened)
    assert len(children()) == 2
    listened.close()
    assert children() == []


def test_an_error_of_the_source_ends_the_processes(segments: list[SegmentAudio]) -> None:
    def broken() -> Iterator[SegmentAudio]:
        yield from segments[:4]
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        list(listen_to_all(broken(), num_workers=1))


def test_a_killed_process_is_begun_again_and_nothing_is_lost(recogniser: Recogniser, segments: list[SegmentAudio]) -> None:
    texts = []
    for _, words in listen_to_all(segments[:4], num_workers=1):
        texts.append(join_words(words))
        if len(texts) == 1:
            children()[0].kill()
    assert texts == [" ".join(word for word, *_ in recogniser.hear(pcm(one.audio))) for one in segments[:4]]


def test_a_process_that_always_dies_is_an_error_that_names_the_segment(
    segments: list[SegmentAudio], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying.py").write_text("import sys; sys.stdin.buffer.read(4); sys.exit(3)")
    monkeypatch.setattr(recognising, "__file__", str(tmp_path / "dying.py"))
    with pytest.raises(RecognitionFailed, match=r"died on 5\.0 to .* s of lecture .* 2 times .*exit status 3.*doctor"):
        list(listen_to_all(segments[1:], num_workers=1))


def test_a_closed_process_hears_nothing_more(sounds: list[Audio]) -> None:
    process = RecogniserProcess()
    assert join_words(process.words(sounds[0])) == SENTENCES[0]
    process.close()
    process.close()
    with pytest.raises(RecognitionFailed, match="stopped"):
        process.words(sounds[0])


@pytest.mark.skipif(os.name != "posix", reason="sessions are POSIX's")
def test_ctrl_c_does_not_reach_the_processes(segments: list[SegmentAudio]) -> None:
    with contextlib.closing(listen_to_all(segments, num_workers=1)) as listened:
        next(listened)
        (child,) = children()
        assert os.getsid(child.pid) != os.getsid(0)


ORPHANS = """
import sys
from uuid import UUID
import numpy as np
from retriever.domain import Audio, Segment, SegmentAudio
from retriever.recognition import listen_to_all
sound = Audio(np.random.default_rng(0).normal(0, 0.05, 64_000).clip(-1, 1).astype(np.float32))
ids = UUID(int=1)
segments = (SegmentAudio(Segment(ids, i * 64_000, i * 64_000 + 64_000, ids), sound) for i in range(10_000))
for _ in listen_to_all(segments, num_workers=2):
    print("heard", flush=True)
"""


@pytest.mark.crash
def test_processes_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"heard\n"
        orphans = psutil.Process(parent.pid).children(recursive=True)
        assert len(orphans) == 2
        parent.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    _, alive = psutil.wait_procs(orphans, timeout=20)
    assert alive == []


def test_listening_does_not_hold_up_other_threads(sounds: list[Audio]) -> None:
    process = RecogniserProcess()
    with contextlib.closing(process):
        process.words(sounds[0])
        import threading  # noqa: PLC0415

        long = Audio(np.tile(sounds[0].samples, 4))
        listening = threading.Thread(target=process.words, args=(long,))
        listening.start()
        longest, last = 0.0, time.monotonic()
        while listening.is_alive():
            time.sleep(0.001)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert longest < 0.5  # in this process it would be all of the second it takes


def test_a_process_that_hangs_is_ended_and_begun_again(sounds: list[Audio], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "PATIENCE_S", 6.0)
    monkeypatch.setattr(recognition, "PATIENCE_FACTOR", 0.0)
    with contextlib.closing(RecogniserProcess()) as process:
        heard = process.words(sounds[0])
        (child,) = children()
        child.suspend()
        assert process.words(sounds[0]) == heard
        assert not child.is_running()
