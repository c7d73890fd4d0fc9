"""Word error rates on real speech, for several systems on the same clips: `python -m app.evaluation.words --help`."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from app.evaluation.cache import LineCache
from app.evaluation.domain import Context
from app.evaluation.listening import Listener, cut, total_cost
from app.evaluation.runner import describe
from app.evaluation.sets.clips import ClipChoice, load_clips
from app.evaluation.sounds import Noise
from app.evaluation.systems import System, parse_systems
from app.evaluation.transcripts import WordErrors, said_in, word_errors
from app.settings import load_settings
from retriever.build import build_segmenter
from retriever.config import FixedWindows
from retriever.domain import join_words, to_seconds

WHOLE = FixedWindows(window_s=30.0)  # a clip is heard as it is; only what lasts longer than a segment may is cut


def hear(system: System, contexts: Sequence[Context], work: Path) -> tuple[WordErrors | None, float]:
    """Return the errors over all clips, and the CPU seconds for each second of sound; work is kept.

    Raises:
        RecognitionFailed: the recogniser died.
    """
    settings = describe(WHOLE)
    spans = cut(contexts, build_segmenter(WHOLE), LineCache(work / "spans.jsonl"))
    with closing(system.build()) as retriever:
        name = sha256(retriever.fingerprint.encode()).hexdigest()[:16]
        kept = LineCache(work / f"clips-{name}.jsonl")
        heard = list(Listener(system, retriever, settings, Noise()).contexts(contexts, spans, kept))
    said = [said_in(context) or "" for context in contexts]
    texts = [" ".join(join_words(one.words) for one in segments) for segments in heard]
    audio_s = to_seconds(sum(span.num_samples for context in contexts for span in spans[context.id]))
    return word_errors(said, texts, "en"), total_cost(contexts, kept).cpu_s / audio_s if audio_s else 0.0


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, required=True, help="folder with the tables and tar files")
    parser.add_argument("--clips", nargs="+", default=["libri-train-clean-100@ls26", "kathleen"], help="CORPUS[@SPEAKER…], of dev")
    parser.add_argument("--systems", default="cascade", help="as of `askaloud evaluate`")
    parser.add_argument("--num-clips", type=int, help="so many of each corpus, spread over it")
    parser.add_argument("--out", type=Path, required=True, help="folder for unpacked clips and kept work")
    arguments = parser.parse_args()
    systems = parse_systems(arguments.systems, load_settings())
    for text in arguments.clips:
        contexts = load_clips(arguments.speech, ClipChoice.parse(text, arguments.num_clips), arguments.out / "clips")
        for system in systems:
            errors, cpu = hear(system, contexts, arguments.out)
            if errors is None:
                print(f"{text}, {system.name}: nothing was said")
                continue
            kinds = f"{errors.substitutions} substituted, {errors.deletions} deleted, {errors.insertions} inserted"
            print(f"{text}, {system.name}: WER {100 * errors.rate:.1f} % of {errors.num_words} words in {len(contexts)} clips", end="")
            print(f" ({kinds}), {cpu:.3f} CPU s for a second of sound", flush=True)


if __name__ == "__main__":
    main()
