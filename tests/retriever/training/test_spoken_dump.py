import doctest
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from retriever.clsr import CLSR_SMALL
from retriever.pronunciations import NUM_OUTPUTS
from retriever.training import spoken_dump
from retriever.training.speech_shards import Utterance, to_pcm, write_shard
from retriever.training.spoken_dump import choose_sentences, recorded
from retriever.training.tune_search import Dump

TEXT = """\
the harbour was quiet before the storm

give us the letter please now
<cut>
too short
the dna of a whale is long
she counted seven boats at dawn

the harbour was quiet before the storm
"""

needs_synthesisers = pytest.mark.skipif(
    shutil.which("flite") is None or shutil.which("espeak-ng") is None, reason="flite or espeak-ng is not installed"
)


def test_sentences_are_different_neither_short_nor_ambiguous_and_the_same_every_time(tmp_path: Path) -> None:
    path = tmp_path / "dev-made.txt"
    path.write_text(TEXT, encoding="utf-8")
    found = choose_sentences(path, 10, random.Random(1))
    assert sorted(" ".join(words) for words in found) == [
        "she counted seven boats at dawn",
        "the dna of a whale is long",
        "the harbour was quiet before the storm",
    ]
    assert choose_sentences(path, 2, random.Random(1)) == choose_sentences(path, 2, random.Random(1))


def test_the_examples_in_the_text_hold() -> None:
    assert doctest.testmod(spoken_dump).failed == 0


@needs_synthesisers
def test_one_command_makes_dumps_of_what_the_shipped_recogniser_says(tmp_path: Path) -> None:
    (tmp_path / "dev-made.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "abbreviations.txt").write_text("dna\nus\n", encoding="utf-8")
    command = ["--texts", tmp_path, "--names", "dev-made", "--recogniser", CLSR_SMALL, "--out", tmp_path / "out", "--sentences", 1]
    subprocess.run([sys.executable, "-m", "retriever.training.spoken_dump", *map(str, command)], check=True, capture_output=True)
    dumps = [Dump.read(tmp_path / "out" / f"dump-dev-made-{engine}.npz") for engine in ("flite", "espeak")]
    for dump in dumps:
        (log_probs,), (text,) = dump.log_probs, dump.texts
        assert " ".join(text) in TEXT
        assert log_probs.shape[1] == NUM_OUTPUTS
        assert 20 < len(log_probs) < 200  # frames of 30 ms
        assert np.exp(log_probs).sum(axis=1) == pytest.approx(np.ones(len(log_probs)), abs=0.02)
    assert dumps[0].texts != dumps[1].texts


def test_speech_that_is_there_is_taken_as_it_is_and_no_more_than_asked_for(tmp_path: Path) -> None:
    tone = np.sin(np.arange(8000) / 9).astype(np.float32) / 2
    spoken = (Utterance(to_pcm(tone[: 4000 + 1000 * number]), f"clip {number}", "made", "dev", None) for number in range(3))
    write_shard(tmp_path / "made-dev", 0, spoken)
    found = list(recorded(tmp_path / "made-dev", 2))
    assert [text for text, _ in found] == ["clip 0", "clip 1"]
    np.testing.assert_allclose(found[1][1], tone[:5000], atol=1e-4)
