import numpy as np
import pytest

from generator.training.fitting import auroc, choose_threshold, fit_choice, fit_logistic, fit_rising


@pytest.fixture
def draws():
    return np.random.default_rng(7)


def test_a_logistic_regression_finds_the_weights_that_made_the_data(draws):
    features = draws.normal([1.0, -2.0, 0.0], [1.0, 3.0, 0.5], (20_000, 3))
    truth = np.array([1.5, -0.5, 0.0])
    labels = (draws.random(20_000) < 1 / (1 + np.exp(-(features @ truth - 0.7)))).astype(float)
    model = fit_logistic(features, labels, np.ones(20_000), ridge=0.01)
    assert model.weights == pytest.approx(truth, abs=0.12)
    assert model.bias == pytest.approx(-0.7, abs=0.12)


def test_its_gradient_is_zero_at_the_solution(draws):
    features, labels, importance = draws.normal(size=(200, 2)), draws.integers(0, 2, 200).astype(float), draws.random(200)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    model = fit_logistic(features, labels, importance, ridge=2.0)
    scaled = importance * 200 / importance.sum()
    gradient = features.T @ (scaled * (model.probability(features) - labels)) + 2.0 * model.weights
    assert np.abs(gradient).max() < 1e-5


def test_an_example_that_counts_twice_is_like_two_examples(draws):
    features, labels = draws.normal(size=(60, 2)), draws.integers(0, 2, 60).astype(float)
    importance = np.ones(60)
    importance[:20] = 2
    doubled = fit_logistic(np.concatenate([features, features[:20]]), np.concatenate([labels, labels[:20]]), np.ones(80), ridge=1e-6)
    weighted = fit_logistic(features, labels, importance, ridge=1e-6)
    assert weighted.weights == pytest.approx(doubled.weights, abs=1e-3)


def test_separable_data_do_not_make_weights_run_away():
    model = fit_logistic(np.array([[0.0], [0.1], [0.9], [1.0]]), np.array([0.0, 0.0, 1.0, 1.0]), np.ones(4))
    assert np.isfinite(model.weights).all()
    assert 0 < model.weights[0] < 50


def test_a_feature_that_may_only_rise_never_speaks_against(draws):
    features = draws.normal(size=(2000, 3))
    labels = (draws.random(2000) < 1 / (1 + np.exp(-(features @ np.array([1.0, -1.0, -1.0]))))).astype(float)
    model = fit_rising(features, labels, np.ones(2000), np.array([True, True, False]))
    assert model.weights[0] > 0.5
    assert model.weights[1] == 0
    assert model.weights[2] < -0.5


def test_a_choice_prefers_what_brings_gain(draws):
    features, gains = [], []
    for _ in range(100):
        choices = draws.normal(size=(6, 2))
        features.append(choices)
        gains.append((np.arange(6) == choices[:, 0].argmax()).astype(float))
    weights = fit_choice(features, gains)
    assert weights[0] > 3 * abs(weights[1])
    hits = [int((one @ weights).argmax() == gain.argmax()) for one, gain in zip(features, gains, strict=True)]
    assert np.mean(hits) > 0.95


@pytest.mark.parametrize(
    ("scores", "labels", "area"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], 1.0),
        ([4, 3, 2, 1], [0, 0, 1, 1], 0.0),
        ([1, 1, 1, 1], [0, 1, 0, 1], 0.5),
        ([1, 3, 2, 4], [0, 0, 1, 1], 0.75),
    ],
)
def test_the_area_is_the_chance_that_a_positive_scores_above_a_negative(scores, labels, area):
    assert auroc(np.array(scores, dtype=float), np.array(labels, dtype=float)) == pytest.approx(area)


def test_the_area_of_one_class_alone_is_unknown():
    assert np.isnan(auroc(np.array([1.0, 2.0]), np.array([1.0, 1.0])))


def test_a_threshold_keeps_false_answers_to_strangers_rare(draws):
    labels = np.repeat([1.0, 0.0], 500)
    probability = np.clip(draws.normal(np.where(labels == 1, 0.6, 0.4), 0.15), 0.01, 0.99)
    strangers = labels == 0
    free = choose_threshold(probability, labels, strangers, max_false=1.0)
    strict = choose_threshold(probability, labels, strangers, max_false=0.02)
    assert (probability[strangers] >= strict).mean() <= 0.02
    assert free == pytest.approx(0.5, abs=0.06)
    assert strict > free
