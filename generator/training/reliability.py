"""Draws how far confidence can be trusted, and says how often the decision is right, from the calibrations alone.

    python -m generator.training.reliability --out docs/reliability.png

Reads what `generator.training.calibrate` wrote and runs nothing again; needs matplotlib, which the extra `evaluate` brings. The lines of a
table go to standard output.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from generator.calibration import WEIGHTS_FOLDER, Mode

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL_INCHES: Final = 3.0
_DOT_AREA: Final = 0.6  # square points for each example


@dataclass(frozen=True, slots=True)
class Decision:
    """What was measured of one mode of one calibration, on the lectures that it was not fitted on; shares in [0, 1].

    Attributes:
        threshold: of the confidence, from which on an answer is called supported.
        bins: mean confidence, share that is right and number of examples, for each tenth of confidence that has any.
        right: share of the questions whose answer was found that are called supported.
        strangers, removed: likewise of questions on another topic, and of those whose passage was taken out: the hard ones.
    """

    retriever: str
    generator: str
    mode: Mode
    threshold: float
    bins: tuple[tuple[float, float, int], ...]
    right: float
    strangers: float
    removed: float

    @property
    def accuracy_strangers(self) -> float:
        """Mean of the shares decided rightly with and without an answer, those without on another topic."""
        return (self.right + 1 - self.strangers) / 2

    @property
    def accuracy_removed(self) -> float:
        """Likewise, those without an answer being of lectures on the topic whose passage was taken out."""
        return (self.right + 1 - self.removed) / 2

    @property
    def calibration_error(self) -> float:
        """Mean distance of confidence and share that is right, each bin by its number of examples (Guo et al. 2017, eq. 3)."""
        total = sum(number for _, _, number in self.bins)
        return sum(abs(confidence - right) * number for confidence, right, number in self.bins) / total


def read_decisions(folder: Path, language: str = "en") -> list[Decision]:
    """Return what the calibrations of a folder say, in order of their names, typed before spoken."""
    found = []
    for path in sorted(folder.glob("support-*-*.json")):
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found += [_decision(record, record["languages"][language][mode], mode) for mode in get_args(Mode)]
    return found


def _decision(record: Mapping[str, Any], measured: Mapping[str, Any], mode: Mode) -> Decision:
    quality = measured["quality"]
    return Decision(
        str(record["retriever_kind"]),
        str(record["generator_kind"]),
        mode,
        float(measured["threshold"]),
        tuple((float(confidence), float(right), int(number)) for confidence, right, number in measured["reliability"]),
        *(float(quality[f"supported_{name}"]) for name in ("answer_in_evidence", "stranger", "removed")),
    )


def table(decisions: Sequence[Decision]) -> Iterator[str]:
    """Yield a table in Markdown, a line for each decision."""
    yield "| retriever, generator, question | threshold | balanced accuracy, other topic | passage taken out | calibration error |"
    yield "|---|---|---|---|---|"
    for one in decisions:
        numbers = (one.threshold, one.accuracy_strangers, one.accuracy_removed, one.calibration_error)
        yield f"| `{one.retriever}`, `{one.generator}`, {one.mode} | {' | '.join(f'{number:.3f}' for number in numbers)} |"


def draw(decisions: Sequence[Decision]) -> "Figure":
    """Return a figure with a diagram for each retriever and generator.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import rcParams  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    rcParams["svg.hashsalt"] = "askaloud"  # the same numbers give the same file
    pairs = list(dict.fromkeys((one.retriever, one.generator) for one in decisions))
    columns = min(2, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(_PANEL_INCHES * columns + 0.8, _PANEL_INCHES * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, pair in zip(grid.flat, pairs, strict=False):
        _draw_pair(axes, [one for one in decisions if (one.retriever, one.generator) == pair])
    for axes in list(grid.flat)[len(pairs) :]:
        axes.set_axis_off()
    figure.supxlabel("confidence", fontsize=9)
    figure.supylabel("share whose evidence holds the answer", fontsize=9)
    return figure


def _draw_pair(axes: "Axes", decisions: Sequence[Decision]) -> None:
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for number, one in enumerate(decisions):
        confidence, right, sizes = zip(*one.bins, strict=True)
        label = f"{one.mode}, error {one.calibration_error:.3f}"
        axes.plot(confidence, right, color=f"C{number}", linewidth=1, label=label)
        axes.scatter(confidence, right, [_DOT_AREA * size for size in sizes], color=f"C{number}", alpha=0.6, linewidths=0)
        axes.axvline(one.threshold, color=f"C{number}", linestyle=":", linewidth=1)
    axes.set_title(f"{decisions[0].retriever}, {decisions[0].generator}", fontsize=9)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.legend(fontsize=7, loc="upper left")


def main() -> None:
    """Read the arguments, draw, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=WEIGHTS_FOLDER, help="folder of the calibrations")
    parser.add_argument("--out", type=Path, required=True, help="an .svg or .png")
    arguments = parser.parse_args()
    decisions = read_decisions(arguments.weights)
    if not decisions:
        parser.error(f"{arguments.weights} holds no support-*.json; make them with `python -m generator.training.calibrate`")
    try:
        figure = draw(decisions)
    except ImportError:
        parser.error("drawing needs matplotlib: pip install 'askaloud[evaluate]'")
    metadata = {"Date": None} if arguments.out.suffix == ".svg" else None
    figure.savefig(arguments.out, metadata=metadata)
    for line in table(decisions):
        print(line)


if __name__ == "__main__":
    main()
