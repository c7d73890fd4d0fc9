"""The command that makes training speech: whole shards, the same every time, continued after an interruption."""

import csv
import gzip
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from retriever.domain import SAMPLE_RATE_HZ
from retriever.errors import CorruptAudio
from retriever.training.real_speech import list_recordings, read_recordings
from retriever.training.speech_corpus import CorpusForeign, Request, make_corpus
from retriever.training.speech_shards import CorpusDamaged, Phone, SpeechShard, Utterance, is_finished, open_shards, to_pcm, write_shard
from retriever.training.synthesis import SynthesiserMissing, check_voices

PARAGRAPHS = [
    f"House {number} has {number + 3} rooms. The rooms are small, but the garden is large, and an old apple tree stands in it."
    for number in range(200)
]
QUESTION_FILES = """
new_wiki nqg_train openstax_questions nq_open_questions qed qamr fairytale_qa openstax_glossary medquad clapnq covid_qa qmsum
"""


def installed() -> bool:
    try:
        check_voices("flite")
        check_voices("espeak")
    except SynthesiserMissing:
        return False
    return True


needs_engines = pytest.mark.skipif(not installed(), reason="flite or espeak-ng is not installed")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a small folder of texts, questions and recordings."""
    folder = tmp_path / "data"
    for kind in ("openstax", "books", "other", "spoken"):
        (folder / "text" / kind).mkdir(parents=True)
        (folder / "text" / kind / "houses.txt.gz").write_bytes(gzip.compress("\n".join(PARAGRAPHS).encode()))
    (folder / "qa").mkdir()
    for name in QUESTION_FILES.split():
        rows = [{"question": f"Who lives in house number {number}?", "split": "dev" if number % 2 else "train"} for number in range(20)]
        (folder / "qa" / f"{name}.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    write_recordings(folder / "speech")
    return folder


def write_recordings(folder: Path) -> None:
    """Write a table and a tar with tones of 1 to 3 s, one of them too long, one without a transcript."""
    folder.mkdir(parents=True)
    rows = [
        ("one.opus", 1.0, "ls19", "train", "MISTER FOX"),
        ("two.opus", 2.0, "so0001", "dev", "We paid $5."),
        ("three.opus", 21.0, "ls19", "train", "TOO LONG"),
        ("four.opus", 3.0, "kathleen", "train", "a formula: x² = y²"),
        ("five.opus", 1.5, "lv-ss01", "train", "In 1990"),
    ]
    with tarfile.open(folder / "tones.tar", "w") as tar, (folder / "tones.tsv").open("w", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, delimiter="\t", quoting=csv.QUOTE_NONE)
        writer.writerow(["file", "seconds", "speaker", "split", "text", "licence", "tar", "note"])
        for number, (name, seconds, speaker, split, text) in enumerate(rows, start=1):
            writer.writerow([name, seconds, speaker, split, text, "", "tones.tar", ""])
            sound = io.BytesIO()
            tone = np.sin(2 * np.pi * 100 * number * np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ) / 2
            soundfile.write(sound, tone, SAMPLE_RATE_HZ, format="OGG", subtype="OPUS")
            info = tarfile.TarInfo(name)
            info.size = len(sound.getvalue())
            tar.addfile(info, io.BytesIO(sound.getvalue()))
    table_of_silence = "\t".join(["file", "seconds", "speaker", "split", "text", "licence", "tar", "note"])
    (folder / "untranscribed.tsv").write_text(f"{table_of_silence}\none.opus\t1.0\tls5\ttrain\t\t\ttones.tar\t\n", encoding="utf-8")


def fingerprints(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder by its relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def command(data: Path, out: Path, *more: str) -> list[str]:
    options = ["--data", str(data), "--out", str(out), "--hours-flite", "0.004", "--hours-espeak", "0.002", "--shard-minutes", "0.06"]
    return [sys.executable, "-m", "retriever.training.speech_corpus", *options, "--sources", "flite", "espeak", *more]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    utterances = [
        Utterance(rng.integers(-32_768, 32_767, size, dtype=np.int16), "some words", "kathleen", "train", phones)
        for size, phones in ((4_000, (Phone("sil", 1_000), Phone("aa", 4_000))), (1, None), (7_777, ()))
    ]
    assert write_shard(tmp_path, 3, utterances) == 11_778
    (shard,) = open_shards(tmp_path)
    assert (shard.name, shard.num_samples, len(shard.clips)) == ("003", 11_778, 3)
    for clip, utterance in zip(shard.clips, utterances, strict=True):
        assert (clip.text, clip.voice, clip.split, clip.phones) == ("some words", "kathleen", "train", utterance.phones)
        assert np.array_equal(shard.pcm(clip), utterance.pcm)
        assert np.array_equal(to_pcm(shard.samples(clip)), utterance.pcm)


def test_a_shard_that_fails_midway_leaves_nothing_to_read(tmp_path: Path) -> None:
    def failing() -> Iterator[Utterance]:
        yield Utterance(np.zeros(100, np.int16), "words", "kathleen", "train", None)
        raise CorruptAudio("the second clip is damaged")

    with pytest.raises(CorruptAudio):
        write_shard(tmp_path, 0, failing())
    assert not is_finished(tmp_path, 0)
    assert list(open_shards(tmp_path)) == []


def test_a_shard_cut_short_is_not_read_as_silence(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [Utterance(np.zeros(100, np.int16), "words", "kathleen", "train", None)])
    (tmp_path / "000.pcm").write_bytes(bytes(150))
    with pytest.raises(CorpusDamaged, match="75 samples but its clips need 100"):
        SpeechShard(tmp_path / "000.jsonl")
    (tmp_path / "000.jsonl").write_text('{"offset": 0}\n')
    with pytest.raises(CorpusDamaged, match="no clip"):
        SpeechShard(tmp_path / "000.jsonl")


def test_recordings_keep_their_split_and_lose_what_is_too_long_or_unreadable(data: Path) -> None:
    recordings = list_recordings(data / "speech")
    assert [(row.text, row.voice, row.split) for row in recordings] == [
        ("mister fox", "libri-19", "train"),
        ("we paid five dollars", "speechocean-0001", "dev"),
        ("in nineteen ninety", "librivox-ss01", "train"),
        ("", "libri-5", "train"),
    ]
    first = next(iter(read_recordings(recordings)))
    assert len(first.pcm) == SAMPLE_RATE_HZ
    spectrum = np.abs(np.fft.rfft(first.pcm.astype(np.float64)))
    assert spectrum.argmax() == 100


def test_each_recorded_source_gets_its_own_folder(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_corpus(Request(data, out, {}, shard_minutes=1.0), ("real", "real-dev", "untranscribed"))
    texts = {
        name: [clip.text for shard in open_shards(out / name) for clip in shard.clips] for name in ("real", "real-dev", "untranscribed")
    }
    assert {name: sorted(found) for name, found in texts.items()} == {
        "real": ["in nineteen ninety", "mister fox"],
        "real-dev": ["we paid five dollars"],
        "untranscribed": [""],
    }


def test_a_damaged_recording_is_named(data: Path) -> None:
    with tarfile.open(data / "speech" / "tones.tar", "w") as tar:
        info = tarfile.TarInfo("one.opus")
        info.size = 100
        tar.addfile(info, io.BytesIO(bytes(100)))
    with pytest.raises(CorruptAudio, match=r"one\.opus"):
        list(read_recordings(list_recordings(data / "speech")))


@needs_engines
def test_a_killed_command_continues_to_what_an_undisturbed_one_makes(data: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(data, whole, "--num-workers", "2"), check=True, capture_output=True)
    process = subprocess.Popen(command(data, killed), stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(killed.rglob("*.jsonl")):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not is_finished(killed / "espeak", 1)
    early = {path: path.stat().st_mtime_ns for path in killed.rglob("*.jsonl")}
    subprocess.run(command(data, killed), check=True, capture_output=True)
    assert fingerprints(killed) == fingerprints(whole)
    assert {path: path.stat().st_mtime_ns for path in early} == early  # made once

    shards = [shard for name in ("flite", "espeak") for shard in open_shards(whole / name)]
    assert len(shards) == 4 + 2
    assert all(shard.num_samples >= 0.06 * 60 * SAMPLE_RATE_HZ for shard in shards)
    for shard, clip in [(one, clip) for one in shards for clip in one.clips]:
        assert SAMPLE_RATE_HZ <= clip.num_samples <= 18 * SAMPLE_RATE_HZ
        assert 4 <= len(clip.text.split()) <= 36
        assert np.abs(shard.samples(clip)).max() > 0.05
        assert (clip.phones is None) == clip.voice.startswith("espeak-")
        assert clip.phones is None or clip.phones[-1].end == clip.num_samples
    with pytest.raises(CorpusForeign, match="another folder"):
        make_corpus(Request(data, whole, {}, seed=1, shard_minutes=0.06), ())
