"""A checkpoint and a search become a folder that hears, and half a folder does not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_language import random_lexicon, random_model

from retriever import ngram_model, pronunciations
from retriever.domain import Audio
from retriever.errors import ModelFilesMissing
from retriever.hearing import Ear, search_settings
from retriever.nets.recogniser import Recogniser
from retriever.pronunciations import Pronunciations
from retriever.runtime import ShippedModel
from retriever.training.assemble_clsr import assemble
from retriever.training.recogniser import Schedule, Trainer, recogniser_config


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    Trainer(Recogniser(recogniser_config(4, 0.0)), Schedule(1, 1), tmp_path / "recogniser", torch.device("cpu")).save()
    rng = np.random.default_rng(0)
    model = random_model(12, rng)
    (tmp_path / "search").mkdir()
    model.save(tmp_path / "search" / ngram_model.FILE_NAME)
    Pronunciations.of(random_lexicon(model, rng), model.words).save(tmp_path / "search" / pronunciations.FILE_NAME)
    return tmp_path


def test_what_was_assembled_hears_with_the_settings_that_were_given(parts: Path) -> None:
    assemble(parts / "recogniser", parts / "search", parts / "out", "minilm-l6-en", {"word_score": 0.25})
    model = ShippedModel.read(parts / "out")
    assert search_settings(model).word_score == 0.25
    samples = (np.random.default_rng(1).standard_normal(32_000) * 0.1).astype(np.float32)
    (hypotheses,) = Ear(model).hear([Audio(samples)])
    assert hypotheses
    assert all(word.start < word.end for word in hypotheses[0].words)


def test_a_search_without_its_files_leaves_nothing_that_loads(parts: Path) -> None:
    (parts / "search" / ngram_model.FILE_NAME).unlink()
    with pytest.raises(FileNotFoundError, match=ngram_model.FILE_NAME):
        assemble(parts / "recogniser", parts / "search", parts / "out", "minilm-l6-en", {})
    with pytest.raises(ModelFilesMissing):
        ShippedModel.read(parts / "out")
