"""Batches for the recogniser: what is drawn, how phones lie on frames, what is left out."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from retriever.training.augmentation import Augmentation, AugmentationConfig
from retriever.training.utterances import NO_TARGET, BatchConfig, Batches, PhoneTargets, read_source

QUIET = AugmentationConfig(room=0.0, noise=0.0, equalise=0.0, telephone=0.0)
NOISE = (np.ones(100, np.float32),)


@pytest.fixture
def pronunciations(tmp_path: Path) -> PhoneTargets:
    (tmp_path / "lexicon.tsv").write_text("cat\tk ae t\ncat\tk eh t\nsat\ts ae t\n")
    (tmp_path / "phones.txt").write_text("ae\neh\nk\ns\nt\n")
    return PhoneTargets.read(tmp_path / "lexicon.tsv", tmp_path / "phones.txt")


def write_shard(folder: Path, name: str, clips: Sequence[dict[str, object]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines, offset = [], 0
    for clip in clips:
        lines.append(json.dumps({"offset": offset, "voice": "v", "split": "train", "phones": None, **clip}))
        offset += int(str(clip["samples"]))
    (np.random.default_rng(0).standard_normal(offset) * 3_000).astype("<i2").tofile(folder / f"{name}.pcm")
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def batches(folder: Path, pronunciations: PhoneTargets, **changes: object) -> Batches:
    config = BatchConfig(**{"shares": {"a": 1.0, "b": 1.0}, "batch_s": 6.0, "pool_s": 30.0, **changes})  # type: ignore[arg-type]
    return Batches(folder, pronunciations, Augmentation(QUIET, NOISE, ()), config)


def test_the_first_pronunciation_of_a_word_counts_and_unknown_words_have_none(pronunciations: PhoneTargets) -> None:
    assert pronunciations.of_text("cat sat") == (3, 1, 5, 4, 1, 5)
    assert pronunciations.of_text("cat spat") is None


def test_a_clip_is_the_stretch_of_its_shard(tmp_path: Path, pronunciations: PhoneTargets) -> None:
    write_shard(tmp_path / "a", "000", [{"text": "cat", "samples": 9_000}, {"text": "sat", "samples": 16_000}])
    second = read_source(tmp_path / "a", pronunciations, {})[1]
    expected = np.fromfile(tmp_path / "a/000.pcm", "<i2")[9_000:25_000] / 32_768
    np.testing.assert_allclose(second.sound(), expected, atol=1e-6)


def test_clips_that_cannot_be_learned_from_are_left_out(tmp_path: Path, pronunciations: PhoneTargets) -> None:
    clips = [{"text": "dog", "samples": 16_000}, {"text": "cat", "samples": 7_000}, {"text": "cat " * 30, "samples": 16_000}]
    write_shard(tmp_path / "a", "000", [*clips, {"text": "", "samples": 16_000}, {"text": "sat", "samples": 16_000}])
    assert [one.text for one in read_source(tmp_path / "a", pronunciations, {})] == ["sat"]


def test_an_alignment_gives_the_phone_in_the_middle_of_each_output(tmp_path: Path, pronunciations: PhoneTargets) -> None:
    alignment = [["sil", 960], ["k", 1_920], ["ae", 9_000], ["t", 9_600]]
    write_shard(tmp_path / "a", "000", [{"text": "cat", "samples": 9_600, "phones": alignment}])
    (batch,) = batches(tmp_path, pronunciations, pool_s=0.5).round(0, 0)
    assert batch.phones.tolist() == [3, 1, 5]
    assert batch.aligned[0].tolist() == [0, 0, 3, 3, *[1] * 15, 5]
    assert batch.features.shape[1] == 60


def test_a_clip_without_alignment_has_no_frame_targets(tmp_path: Path, pronunciations: PhoneTargets) -> None:
    write_shard(tmp_path / "a", "000", [{"text": "cat", "samples": 16_000}])
    for batch in batches(tmp_path, pronunciations).round(0, 0):
        assert bool((batch.aligned == NO_TARGET).all())


def test_batches_keep_to_their_size_and_to_their_real_frames(tmp_path: Path, pronunciations: PhoneTargets) -> None:
    write_shard(tmp_path / "a", "000", [{"text": "cat", "samples": 10_000 + 3_000 * n} for n in range(12)])
    write_shard(tmp_path / "b", "000", [{"text": "sat", "samples": 32_000}])
    for batch in batches(tmp_path, pronunciations, speeds=(1.0, 1.0)).round(0, 0):
        assert batch.features.shape[0] * batch.features.shape[1] <= 600 + batch.features.shape[0]
        assert int(batch.num_phones.sum()) == len(batch.phones)
        assert batch.mask[:, 0].all()
        assert bool(torch.isfinite(batch.features).all())


def test_a_round_can_be_drawn_again_and_the_next_differs(tmp_path: Path, pronunciations: PhoneTargets) -> None:
    write_shard(tmp_path / "a", "000", [{"text": "cat", "samples": 10_000 + 3_000 * n} for n in range(12)])
    one, again, other = ([batch.features for batch in batches(tmp_path, pronunciations).round(number, 7)] for number in (1, 1, 2))
    assert all(torch.equal(left, right) for left, right in zip(one, again, strict=True))
    assert not all(left.shape == right.shape and torch.equal(left, right) for left, right in zip(one, other, strict=False))


def test_a_shard_that_appears_later_is_taken_in(tmp_path: Path, pronunciations: PhoneTargets) -> None:
    write_shard(tmp_path / "a", "000", [{"text": "cat", "samples": 16_000}])
    drawing = batches(tmp_path, pronunciations)
    assert all(set(batch.num_phones.tolist()) == {3} for batch in drawing.round(0, 0))
    write_shard(tmp_path / "b", "000", [{"text": "cat sat", "samples": 32_000}])
    assert any(6 in batch.num_phones.tolist() for batch in drawing.round(1, 0))


def test_a_folder_without_speech_is_refused(tmp_path: Path, pronunciations: PhoneTargets) -> None:
    with pytest.raises(FileNotFoundError, match="speech corpus"):
        next(batches(tmp_path, pronunciations).round(0, 0))


def test_each_source_is_heard_for_its_share_of_the_time(tmp_path: Path, pronunciations: PhoneTargets) -> None:
    write_shard(tmp_path / "a", "000", [{"text": "cat", "samples": 16_000}] * 3)
    write_shard(tmp_path / "b", "000", [{"text": "cat sat", "samples": 64_000}])
    config = {"shares": {"a": 0.25, "b": 0.75}, "batch_s": 20.0, "pool_s": 400.0, "speeds": (1.0, 1.0)}
    seconds = {3: 0.0, 6: 0.0}
    for batch in batches(tmp_path, pronunciations, **config).round(0, 0):
        for num_phones in batch.num_phones.tolist():
            seconds[num_phones] += {3: 1.0, 6: 4.0}[num_phones]
    assert seconds[3] / sum(seconds.values()) == pytest.approx(0.25, abs=0.02)
