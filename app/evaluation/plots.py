"""Plots of a report's JSON, as SVG; needs matplotlib, which the extra `evaluate` brings.

Made from `evaluation.json` alone, so that they can be drawn again without running anything.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import CommandMisused
from app.evaluation.report import short_segmentation
from app.evaluation.sides import ALL_SIDES, FUSED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, Any]
SIZE_INCHES = (6.4, 3.8)
MANY = 6  # names beside each other on an axis


def draw(path: Path) -> list[Path]:
    """Draw what a report has data for, beside it; return the files.

    Args:
        path: of an `evaluation.json`.

    Raises:
        CommandMisused: matplotlib is not installed.
    """
    report = json.loads(path.read_text(encoding="utf-8"))
    outcomes: list[Row] = report["outcomes"]
    plots = {
        "recall": (_draw_recall, outcomes),
        "sides": (_draw_sides, outcomes),
        "recall-by-wer": (_draw_by_error, [one for one in outcomes if one["errors"]]),
        "recall-by-segments": (_draw_by_segments, outcomes),
        "speed": (_draw_speed, [one for one in outcomes if one["speed"]]),
    }
    made = []
    for name, (draw_one, rows) in plots.items():
        if _is_worth_drawing(name, rows):
            figure, axes = _new()
            draw_one(axes, rows)
            out = path.with_name(f"{name}.svg")
            axes.set_title(report["set"]["name"], fontsize=9)
            figure.savefig(out, bbox_inches="tight", metadata={"Date": None})
            made.append(out)
    return made


def _new() -> tuple[Any, "Axes"]:
    try:
        from matplotlib import rcParams  # noqa: PLC0415 - an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise CommandMisused("plots need the extra `evaluate`: pip install 'askaloud[evaluate]'") from error
    rcParams["svg.hashsalt"] = "askaloud"  # the same numbers give the same file
    figure = Figure(figsize=SIZE_INCHES)
    return figure, figure.subplots()


def _is_worth_drawing(name: str, rows: Sequence[Row]) -> bool:
    """Return whether there is more than one point."""
    if name == "recall-by-wer":
        return len({row["noise"] for row in rows}) > 1
    if name == "recall-by-segments":
        return len({row["segmentation"] for row in rows}) > 1
    return bool(rows)


def _draw_recall(axes: "Axes", rows: Sequence[Row]) -> None:
    rows = _first_condition(rows)
    forms = list(rows[0]["forms"])
    for number, form in enumerate(forms):
        places = [place + 0.8 * (number + 0.5) / len(forms) - 0.4 for place in range(len(rows))]
        found = [row["forms"][form]["sides"][FUSED]["r1"] for row in rows]
        shares = [100 * one["mean"] for one in found]
        axes.bar(places, shares, 0.8 / len(forms), yerr=_lengths(found), capsize=3, label=f"{form} questions")
    _name_places(axes, [row["system"] for row in rows])
    _show_all_shares(axes, "R@1 of the fusion in %, 95 % interval")


def _draw_sides(axes: "Axes", rows: Sequence[Row]) -> None:
    rows = _first_condition(rows)
    for number, side in enumerate(ALL_SIDES):
        places = [place + 0.8 * (number + 0.5) / len(ALL_SIDES) - 0.4 for place in range(len(rows))]
        shares = [100 * next(iter(row["forms"].values()))["sides"][side]["context"]["r1"] for row in rows]
        axes.bar(places, shares, 0.8 / len(ALL_SIDES), label=side)
    _name_places(axes, [row["system"] for row in rows])
    _show_all_shares(axes, f"R@1 in %, {next(iter(rows[0]['forms']))} questions")


def _draw_by_error(axes: "Axes", rows: Sequence[Row]) -> None:
    rows = _of_curves([row for row in rows if row["segmentation"] == rows[0]["segmentation"]], "noise")
    for system in dict.fromkeys(row["system"] for row in rows):
        for side, style in ((FUSED, "-o"), ("dense", ":x"), ("characters", "--+")):
            points = sorted((100 * row["errors"]["rate"], _r1(row, side)) for row in rows if row["system"] == system)
            axes.plot([x for x, _ in points], [y for _, y in points], style, label=f"{system}, {side}")
    axes.set_xlabel("word error rate of the contexts in %")
    _show_all_shares(axes, "R@1 in %")


def _draw_by_segments(axes: "Axes", rows: Sequence[Row]) -> None:
    rows = _of_curves(rows, "segmentation")
    kinds = list(dict.fromkeys(row["segmentation"] for row in rows))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    for number, system in enumerate(systems):
        chosen = [row for row in rows if row["system"] == system and row["noise"] == rows[0]["noise"]]
        places = [kinds.index(row["segmentation"]) + 0.1 * (number - (len(systems) - 1) / 2) for row in chosen]
        found = [next(iter(row["forms"].values()))["sides"][FUSED]["r1"] for row in chosen]
        axes.errorbar(places, [100 * one["mean"] for one in found], _lengths(found), fmt="o", capsize=3, label=system)
    _name_places(axes, [short_segmentation(kind) for kind in kinds])
    _show_all_shares(axes, "R@1 of the fusion in %, 95 % interval")


def _draw_speed(axes: "Axes", rows: Sequence[Row]) -> None:
    rows = _first_condition(rows)
    below = [0.0] * len(rows)
    for part, label in (("recogniser", "recogniser"), ("text_encoder", "text encoder")):
        costs = [row["speed"][part]["cpu_s"] / row["speed"]["audio_s"] for row in rows]
        axes.bar(range(len(rows)), costs, bottom=below, label=label)
        below = [low + cost for low, cost in zip(below, costs, strict=True)]
    _name_places(axes, [row["system"] for row in rows])
    axes.set_ylabel("CPU seconds for each second of sound")
    axes.legend(fontsize=8)


def _lengths(intervals: Sequence[Row]) -> list[list[float]]:
    """Return how far intervals reach below and above their means, in %."""
    return [[100 * (one["mean"] - one["low"]) for one in intervals], [100 * (one["high"] - one["mean"]) for one in intervals]]


def _show_all_shares(axes: "Axes", label: str) -> None:
    """Draw from 0 to 100 %, so that small differences look small; the legend lies below."""
    axes.set_ylim(0, 104)
    axes.set_ylabel(label)
    below = -0.24 if len(axes.get_xticklabels()) > MANY and not axes.get_xlabel() else -0.17 if axes.get_xlabel() else -0.1
    axes.legend(fontsize=7, ncols=5, loc="upper center", bbox_to_anchor=(0.5, below))


def _first_condition(rows: Sequence[Row]) -> list[Row]:
    """Return one outcome for each system: that of the comparison."""
    return [row for row in rows if (row["segmentation"], row["noise"]) == (rows[0]["segmentation"], rows[0]["noise"])]


def _of_curves(rows: Sequence[Row], condition: str) -> list[Row]:
    """Return the outcomes of the systems that were run under more than one condition."""
    known: dict[str, set[str]] = {}
    for row in rows:
        known.setdefault(row["system"], set()).add(row[condition])
    return [row for row in rows if len(known[row["system"]]) > 1]


def _r1(row: Row, side: str) -> float:
    share: float = next(iter(row["forms"].values()))["sides"][side]["context"]["r1"]
    return 100 * share


def _name_places(axes: "Axes", names: Iterable[str]) -> None:
    listed = list(names)
    axes.set_xticks(range(len(listed)), listed, fontsize=8)
    if len(listed) > MANY:
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
