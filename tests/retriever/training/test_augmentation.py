"""Distortion for training keeps length and finiteness, and can be made again."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from retriever.training.augmentation import Augmentation, AugmentationConfig, resampled

EVERYTHING = AugmentationConfig(room=1.0, noise=1.0, equalise=1.0, telephone=1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(1)
    for name in ("noise/hiss", "rir/hall"):
        path = tmp_path / f"{name}.flac"
        path.parent.mkdir()
        soundfile.write(path, generator.standard_normal(4_000) * 0.1, 16_000)
    return tmp_path


def voice(num_samples: int) -> np.ndarray:
    return (np.sin(np.arange(num_samples) * 0.05) * 0.3).astype(np.float32)


@pytest.mark.parametrize("num_samples", [401, 16_000, 30_011])
def test_a_distorted_sound_keeps_its_length_and_stays_in_range(folder: Path, num_samples: int) -> None:
    augmentation = Augmentation.of_folder(EVERYTHING, folder)
    for seed in range(8):
        found = augmentation(voice(num_samples), np.random.default_rng(seed))
        assert found.shape == (num_samples,)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert np.abs(found).max() <= 1.0 + 1e-6


def test_the_same_seed_distorts_in_the_same_way(folder: Path) -> None:
    augmentation = Augmentation.of_folder(EVERYTHING, folder)
    first, again, other = (augmentation(voice(9_000), np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_silence_stays_finite(folder: Path) -> None:
    augmentation = Augmentation.of_folder(EVERYTHING, folder)
    assert np.isfinite(augmentation(np.zeros(5_000, np.float32), np.random.default_rng(0))).all()


def test_a_room_does_not_move_the_onset(folder: Path) -> None:
    click = np.zeros(8_000, np.float32)
    click[3_000] = 1.0
    config = AugmentationConfig(room=1.0, noise=0.0, equalise=0.0, telephone=0.0)
    augmentation = Augmentation(config, (click,), ())
    for seed in range(10):
        assert int(np.abs(augmentation(click, np.random.default_rng(seed))).argmax()) == 3_000


def test_noise_lies_within_the_stated_ratio() -> None:
    noise = np.random.default_rng(2).standard_normal(16_000).astype(np.float32)
    config = AugmentationConfig(room=0.0, noise=1.0, equalise=0.0, telephone=0.0, min_snr_db=10.0, max_snr_db=10.0, min_level_db=0.0)
    clean = voice(16_000)
    for seed in range(6):
        found = Augmentation(config, (noise,), ())(clean, np.random.default_rng(seed))
        scale = float(found @ clean / (clean @ clean))  # the level was changed afterwards
        left = found - scale * clean
        snr_db = 10 * np.log10(np.square(scale * clean).mean() / np.square(left).mean())
        assert snr_db == pytest.approx(10.0, abs=0.5)


def test_a_folder_without_noise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="noise"):
        Augmentation.of_folder(EVERYTHING, tmp_path)


def test_twice_the_speed_halves_the_length() -> None:
    assert len(resampled(voice(16_000), 2.0)) == pytest.approx(8_000, abs=1)
    np.testing.assert_array_equal(resampled(voice(1_000), 1.0), voice(1_000)[:-1])
