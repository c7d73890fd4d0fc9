import json
import shutil
from dataclasses import replace
from typing import get_args

import pytest

from generator.build import build_generator
from generator.calibration import FEATURES as GENERATORS
from generator.calibration import SUPPORT_FEATURES, WEIGHTS_FOLDER, SupportFeatures, SupportModel, load_calibration
from generator.config import Extractive
from generator.errors import CalibrationMissing
from generator.reading import shipped_reader
from retriever.build import build_retriever
from retriever.config import RetrieverConfig
from retriever.errors import ModelFilesMissing

CONFIGS = [config() for config in get_args(RetrieverConfig) or (RetrieverConfig,)]
PAIRS = [(config, generator) for config in CONFIGS for generator in GENERATORS]
NAMES = [f"{config.kind}-{generator}" for config, generator in PAIRS]
FEATURES = SupportFeatures(*(0.5 for _ in SUPPORT_FEATURES))


@pytest.fixture
def folder(tmp_path):
    shutil.copy(WEIGHTS_FOLDER / "support-cascade-extractive.json", tmp_path)
    return tmp_path


def change(folder, edit):
    path = folder / "support-cascade-extractive.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    edit(record)
    path.write_text(json.dumps(record), encoding="utf-8")


@pytest.fixture
def shipped(config):
    try:
        return build_retriever(config)
    except ModelFilesMissing as error:
        pytest.skip(f"this retriever's weights do not ship yet: {error}")


@pytest.mark.parametrize(("config", "generator"), PAIRS, ids=NAMES)
def test_every_retriever_has_measured_thresholds_with_every_generator(config, generator, shipped):
    calibration = load_calibration(config.kind, generator, "en")
    assert len(calibration.span_weights) == len(GENERATORS[generator][0])
    for mode in ("typed", "spoken"):
        assert 0 < calibration.model(mode).threshold < 1


def test_a_retriever_without_thresholds_is_refused_at_the_start():
    with pytest.raises(CalibrationMissing, match="'psychic'"):
        build_generator(Extractive(), "psychic")


def test_a_language_without_thresholds_is_refused():
    with pytest.raises(CalibrationMissing, match="'tlh'"):
        load_calibration("cascade", "extractive", "tlh")


def test_a_damaged_file_is_refused(folder):
    (folder / "support-cascade-extractive.json").write_text("{", encoding="utf-8")
    with pytest.raises(CalibrationMissing, match="damaged"):
        load_calibration("cascade", "extractive", "en", folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda record: record.update(format=99),
        lambda record: record.update(retriever_kind="other"),
        lambda record: record.update(generator_kind="reader"),
        lambda record: record.pop("languages"),
        lambda record: record["languages"]["en"].pop("spoken"),
        lambda record: record["languages"]["en"]["typed"].update(threshold=1.5),
        lambda record: record["languages"]["en"]["typed"].update(bias=float("nan")),
        lambda record: record["languages"]["en"]["typed"]["weights"].pop("cosine"),
        lambda record: record["languages"]["en"]["typed"]["weights"].update(charm=1.0),
        lambda record: record["languages"]["en"]["span"]["weights"].update(cosine="high"),
    ],
)
def test_a_file_for_other_features_is_refused(folder, edit):
    load_calibration("cascade", "extractive", "en", folder)
    change(folder, edit)
    with pytest.raises(CalibrationMissing, match=r"support-cascade-extractive\.json"):
        load_calibration("cascade", "extractive", "en", folder)


def test_probability_follows_the_weights():
    weights = tuple(2.0 if name == "span_cosine" else 0.0 for name in SUPPORT_FEATURES)
    model = SupportModel(weights, bias=-1.0, threshold=0.5)
    assert model.probability(FEATURES) == pytest.approx(0.5)
    assert model.probability(replace(FEATURES, span_cosine=0.9)) > 0.6
    assert model.probability(replace(FEATURES, cosine=0.9)) == pytest.approx(0.5)


@pytest.mark.parametrize("bias", [-1e6, 1e6])
def test_probability_stays_within_zero_and_one(bias):
    assert 0 < SupportModel((0.0,) * len(SUPPORT_FEATURES), bias, 0.5).probability(FEATURES) < 1


def test_a_question_the_lectures_cover_better_is_never_less_supported():
    for mode in ("typed", "spoken"):
        model = load_calibration("cascade", "extractive", "en").model(mode)
        nothing = SupportFeatures(0.05, 0.0, margin=0.05, lexical=0.0, span_cosine=0.05, span_coverage=0.0, rarest=0.0, num_words=4)
        everything = SupportFeatures(0.7, 1.0, margin=0.5, lexical=4.0, span_cosine=0.75, span_coverage=1.0, rarest=1.0, num_words=4)
        assert model.probability(nothing) < model.threshold < model.probability(everything)


@pytest.mark.parametrize(("config", "generator"), PAIRS, ids=NAMES)
def test_thresholds_were_measured_with_the_networks_that_ship(config, generator, shipped):
    record = json.loads((WEIGHTS_FOLDER / f"support-{config.kind}-{generator}.json").read_text(encoding="utf-8"))
    assert record["fingerprint"] == shipped.fingerprint, "the retriever has changed: calibrate anew"
    assert record.get("generator_weights", "") == (shipped_reader().name if generator == "reader" else ""), "the reader has changed"
