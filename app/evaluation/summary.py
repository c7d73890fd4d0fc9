"""The comparison in a few rows, fit to be read and quoted: what comes first in a report.

All under the condition of the comparison: the first segmentation, without noise. Each system has a row; the last system, which should be
the one that is judged, is compared with every other on the same questions. Then a table for each curve.
"""

from collections.abc import Iterator, Sequence

from app.evaluation.results import Difference, Outcome, SideResult
from app.evaluation.sides import FUSED
from app.evaluation.transcripts import WordErrors
from retriever.metrics import Interval


def summary(outcomes: Sequence[Outcome], differences: Sequence[Difference]) -> Iterator[str]:
    """Yield the lines of the comparison: recall fused, in %, with 95 % intervals."""
    rows = [one for one in outcomes if (one.segmentation, one.noise) == (outcomes[0].segmentation, outcomes[0].noise)]
    forms, last = list(rows[0].forms), rows[-1].system
    found = {
        (one.other, one.form): one.interval
        for one in differences
        if one.system == last
        and one.side == one.other_side == FUSED
        and (one.segmentation, one.noise) == (rows[0].segmentation, rows[0].noise)
    }
    recalls = " | ".join(f"{form}: R@1 [interval] / 5 / 10 | {form}, C→Q: R@1 / 5 / 10" for form in forms)
    yield f"| system | {recalls} | words wrong: contexts, questions | {last} less it: {', '.join(forms)} |"
    yield "|---" * (3 + 2 * len(forms)) + "|"
    for row in rows:
        sides = [row.forms[form].sides[FUSED] for form in forms]
        cells = [cell for side in sides for cell in (_forth(side), _back(side))]
        spoken = next((form.errors for form in row.forms.values() if form.errors), None)
        gaps = ", ".join(signed(found[row.system, form]) for form in forms if (row.system, form) in found)
        yield f"| {row.system} | {' | '.join(cells)} | {_errors(row.errors)}, {_errors(spoken)} | {gaps or '–'} |"


def curves(outcomes: Sequence[Outcome], name_segmentation: dict[str, str]) -> Iterator[str]:
    """Yield a table of each system for each curve that has more than one point.

    Args:
        outcomes: under all conditions.
        name_segmentation: what each segmentation is called.
    """
    first = outcomes[0]
    for system in dict.fromkeys(one.system for one in outcomes):
        own = [one for one in outcomes if one.system == system]
        noisy = [(one.noise, one) for one in own if one.segmentation == first.segmentation]
        cut = [(name_segmentation[one.segmentation], one) for one in own if one.noise == first.noise]
        for what, points in (("noise", noisy), ("segments", cut)):
            if len(points) > 1:
                forms = list(points[0][1].forms)
                yield from ("", f"{system}, by {what}:", "", f"| {what} | words wrong | {' | '.join(forms)} |")
                yield "|---" * (2 + len(forms)) + "|"
                for name, one in points:
                    cells = " | ".join(interval_of(one.forms[form].sides[FUSED].r1) for form in forms)
                    yield f"| {name} | {_errors(one.errors)} | {cells} |"


def interval_of(share: Interval) -> str:
    """Return a share in % with its interval."""
    return f"{100 * share.mean:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def signed(gap: Interval) -> str:
    """Return a difference in points of % with its interval."""
    return f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"


def _forth(side: SideResult) -> str:
    return f"{interval_of(side.r1)} / {100 * side.context.r5:.1f} / {100 * side.context.r10:.1f}"


def _back(side: SideResult) -> str:
    return " / ".join(f"{100 * share:.1f}" for share in (side.question.r1, side.question.r5, side.question.r10))


def _errors(errors: WordErrors | None) -> str:
    return f"{100 * errors.rate:.1f}" if errors else "–"
