"""Systems run from a training checkpoint: found by their kind, searched like every other."""

import json
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training checkpoints need torch (extra `train`)")

from safetensors.torch import save_file  # noqa: E402

from app.errors import CommandMisused  # noqa: E402
from app.evaluation.systems import System, parse_systems  # noqa: E402
from app.settings import Settings  # noqa: E402
from retriever.domain import Audio, Question, Segment, SegmentAudio  # noqa: E402
from retriever.errors import InvalidQuestion, ModelFilesMissing  # noqa: E402
from retriever.nets.cif import CifConfig  # noqa: E402
from retriever.nets.clsr import CifWordPieces, ClsrConfig, WordPieceClsr  # noqa: E402
from retriever.nets.frontend import FrontendConfig  # noqa: E402
from retriever.nets.paraformer import ParaformerConfig  # noqa: E402
from retriever.nets.sanm import BlockConfig  # noqa: E402
from retriever.nets.text_encoder import TextEncoderConfig  # noqa: E402

THE, MOON, S = 1996, 4231, 1055  # MiniLM's numbers


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small network with weights by chance, as the training of the published form leaves it."""
    torch.manual_seed(0)
    source = CifWordPieces(ParaformerConfig(560, 1, 1, BlockConfig(8, 2, 12, num_taps=3)), FrontendConfig(), CifConfig(8), num_words=3)
    config = ClsrConfig(source, TextEncoderConfig(30_522, 16, 2, 12, 1, 3, 16))
    net = WordPieceClsr(config, source)
    net.words.copy_(torch.tensor([THE, MOON, S]))
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    kept = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("text_encoder.")}
    save_file(kept | {"ctc.weight": torch.zeros(2, 8)}, folder / "average.safetensors")
    (folder / "state.json").write_text(json.dumps({"config": asdict(config)}))
    return folder


def system(tmp_path: Path, checkpoint: Path) -> System:
    (parsed,) = parse_systems(f"theirs=published+lexical_weight=0.5:{checkpoint}", Settings(home=tmp_path))
    return parsed


def test_a_checkpoint_hears_words_with_times_and_gives_their_vector(tmp_path: Path, checkpoint: Path) -> None:
    parsed = system(tmp_path, checkpoint)
    assert parsed.name == "theirs"
    assert parsed.describe()["weights"] == "checkpoint"
    assert "published" in str(parsed.describe()["retriever"])
    retriever = parsed.build()
    sound = Audio(np.random.default_rng(0).standard_normal(32_000).astype(np.float32) * 0.1)
    segment = Segment(UUID(int=1), 5_000, 37_000, UUID(int=2))
    (embedded,) = retriever.embed([SegmentAudio(segment, sound)])
    assert embedded.words
    assert {word.text for word in embedded.words} <= {"the", "moon", "s"}
    assert all(segment.start <= word.start < word.end <= segment.end for word in embedded.words)
    assert np.linalg.norm(embedded.vector) == pytest.approx(1.0, abs=1e-5)
    spoken = retriever.encode(Question(audio=sound))
    assert spoken.wording == " ".join(word.text for word in embedded.words)
    np.testing.assert_allclose(spoken.vector, embedded.vector, atol=1e-6)
    typed = retriever.encode(Question(text=spoken.wording))
    np.testing.assert_allclose(typed.vector, embedded.vector, atol=1e-6)
    retriever.close()
    assert len(embedded.vector) == retriever.dimension
    with pytest.raises(InvalidQuestion, match="at most"):
        retriever.encode(Question(audio=Audio(np.zeros(61 * 16_000, np.float32))))
    (silent,) = retriever.embed([SegmentAudio(segment, Audio(np.zeros(100, np.float32)))])
    assert silent.words == ()


def test_other_weights_have_another_fingerprint(tmp_path: Path, checkpoint: Path) -> None:
    before = system(tmp_path, checkpoint).build().fingerprint
    (checkpoint / "average.safetensors").write_bytes((checkpoint / "average.safetensors").read_bytes() + b" ")
    assert system(tmp_path, checkpoint).build().fingerprint != before


def test_a_kind_that_does_not_ship_needs_its_checkpoint(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(CommandMisused, match="NAME=published:FOLDER"):
        parse_systems("published", Settings(home=tmp_path))
    (checkpoint / "average.safetensors").unlink()
    with pytest.raises(ModelFilesMissing, match="training left"):
        system(tmp_path, checkpoint).build()


def test_weights_of_another_size_are_refused_when_they_are_needed(tmp_path: Path, checkpoint: Path) -> None:
    record = json.loads((checkpoint / "state.json").read_text())
    record["config"]["source"]["num_words"] = 4
    (checkpoint / "state.json").write_text(json.dumps(record))
    with pytest.raises(ModelFilesMissing, match="not of the size"):
        system(tmp_path, checkpoint).build().encode(Question(audio=Audio(np.zeros(16_000, np.float32))))
