"""Fits the small models of answering with numpy, and measures them. N examples, F features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

_NUM_NEWTON: Final = 100
_NUM_STEPS: Final = 3000


@dataclass(frozen=True, slots=True, eq=False)
class Logistic:
    """Weights (F,) on raw features, and a bias."""

    weights: Array
    bias: float

    def probability(self, features: Array) -> Array:
        """Return (N,) probabilities of (N, F) features."""
        return np.asarray(1 / (1 + np.exp(-np.clip(features @ self.weights + self.bias, -30, 30))))


def fit_logistic(features: Array, labels: Array, importance: Array, ridge: float = 1.0) -> Logistic:
    """Return the ridge-penalised logistic regression by Newton's method; features are standardised inside, so the penalty is fair.

    Args:
        features: (N, F).
        labels: (N,), 0 or 1.
        importance: (N,), how much each example counts; scaled to N in all.
        ridge: penalty on the squared standardised weights, in units of examples.
    """
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-9)
    design = np.column_stack([(features - mean) / scale, np.ones(len(features))])  # (N, F + 1)
    penalty = np.diag([ridge] * features.shape[1] + [1e-9])
    importance = importance * len(features) / importance.sum()
    solution = np.zeros(design.shape[1])
    for _ in range(_NUM_NEWTON):
        probability = 1 / (1 + np.exp(-np.clip(design @ solution, -30, 30)))
        gradient = design.T @ (importance * (probability - labels)) + penalty @ solution
        curvature = importance * np.maximum(probability * (1 - probability), 1e-6)
        step = np.linalg.solve(design.T @ (design * curvature[:, None]) + penalty, gradient)
        solution -= np.clip(step, -2, 2)
        if float(np.abs(step).max()) < 1e-8:
            break
    weights = solution[:-1] / scale
    return Logistic(weights, float(solution[-1] - weights @ mean))


def fit_rising(features: Array, labels: Array, importance: Array, rising: npt.NDArray[np.bool_]) -> Logistic:
    """Return a logistic regression in which some features never speak against: those that would are left out, the worst first.

    Args:
        features: (N, F).
        labels: (N,), 0 or 1.
        importance: (N,).
        rising: (F,), True where more of the feature can only mean more support.
    """
    kept = np.ones(features.shape[1], dtype=np.bool_)
    while True:
        model = fit_logistic(features[:, kept], labels, importance)
        weights = np.zeros(features.shape[1])
        weights[kept] = model.weights
        against = np.where(rising, weights * features.std(axis=0), 0.0)
        if against.min() >= 0:
            return Logistic(weights, model.bias)
        kept[against.argmin()] = False


def fit_choice(features: Sequence[Array], gains: Sequence[Array], ridge: float = 0.01) -> Array:
    """Return weights (F,) under which a softmax over each example's choices expects the most gain; by gradient ascent of the log.

    Args:
        features: for each example (choices, F).
        gains: for each example (choices,), at least one above zero.
        ridge: penalty on the squared standardised weights.
    """
    everything = np.concatenate(list(features))
    mean, scale = everything.mean(axis=0), np.maximum(everything.std(axis=0), 1e-9)
    standard = [(one - mean) / scale for one in features]
    weights, velocity = np.zeros(everything.shape[1]), np.zeros(everything.shape[1])
    for _ in range(_NUM_STEPS):
        gradient = -2 * ridge * weights
        for one, gain in zip(standard, gains, strict=True):
            share = np.exp(one @ weights - (one @ weights).max())
            share /= share.sum()
            good = share * gain / (share @ gain)
            gradient += (good - share) @ one / len(features)
        velocity = 0.9 * velocity + 0.05 * gradient
        weights = weights + velocity
        if float(np.abs(gradient).max()) < 1e-5:
            break
    return np.asarray(weights / scale)


def auroc(scores: Array, labels: Array) -> float:
    """Return the chance that a positive scores above a negative; ties count half. NaN without both."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    if not len(positive) or not len(negative):
        return float("nan")
    above = (positive[:, None] > negative[None, :]).mean()
    return float(above + 0.5 * (positive[:, None] == negative[None, :]).mean())


def choose_threshold(probability: Array, labels: Array, strangers: Array, max_false: float) -> float:
    """Return the threshold of the best balanced accuracy among those that call at most `max_false` of the strangers supported.

    Args:
        probability: (N,).
        labels: (N,), 0 or 1.
        strangers: (N,), True for questions on another topic.
        max_false: a share in [0, 1].
    """
    candidates = np.unique(np.round(np.concatenate([probability, [0.5]]), 3)).clip(0.001, 0.999)
    best, best_accuracy = 0.999, -1.0
    for threshold in candidates:
        supported = probability >= threshold
        if supported[strangers].mean() <= max_false:
            accuracy = (supported[labels == 1].mean() + (~supported[labels == 0]).mean()) / 2
            if accuracy > best_accuracy:
                best, best_accuracy = float(threshold), float(accuracy)
    return best
