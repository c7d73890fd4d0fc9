import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retriever.errors import ModelFilesMissing
from retriever.runtime import Session, ShippedModel, sha256
from retriever.sentence_encoder import MINILM


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A shipped model's folder with one small file."""
    (tmp_path / "model.onnx").write_bytes(b"weights")
    config = {"dimension": 3, "files": {"model.onnx": sha256(tmp_path / "model.onnx")}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_a_file_as_shipped_is_accepted(folder: Path) -> None:
    model = ShippedModel.read(folder)
    assert model.verified("model.onnx") == folder / "model.onnx"
    assert model.integer("dimension") == 3


def test_an_altered_file_is_refused_with_the_way_out(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"wEights")
    with pytest.raises(ModelFilesMissing, match=r"was altered.*git checkout"):
        ShippedModel.read(folder).verified("model.onnx")


def test_an_absent_file_is_refused_with_the_way_out(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelFilesMissing, match=r"is absent.*git checkout"):
        Session(ShippedModel.read(folder))


def test_a_file_that_is_not_listed_is_refused(folder: Path) -> None:
    (folder / "other.onnx").write_bytes(b"weights")
    with pytest.raises(ModelFilesMissing, match=r"does not list other\.onnx"):
        ShippedModel.read(folder).verified("other.onnx")


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", '{"files": 1'])
def test_a_config_that_is_none_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelFilesMissing, match="absent or altered"):
        ShippedModel.read(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFilesMissing, match="absent or altered"):
        ShippedModel.read(tmp_path / "nowhere")


def test_a_setting_that_is_no_number_is_refused(folder: Path) -> None:
    with pytest.raises(ModelFilesMissing, match="should give max_tokens"):
        ShippedModel.read(folder).integer("max_tokens")


def test_shipped_files_are_complete_small_and_carry_their_notice() -> None:
    model = ShippedModel.read(MINILM)
    assert sum(model.verified(name).stat().st_size for name in model.files) <= 24_000_000
    assert "Apache License" in (MINILM / "NOTICE").read_text()
    assert (MINILM / "MODEL_CARD.md").is_file()


def test_truncated_weights_are_noticed_before_they_run(tmp_path: Path) -> None:
    shutil.copytree(MINILM, tmp_path / "model")
    weights = tmp_path / "model" / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelFilesMissing, match="was altered"):
        Session(ShippedModel.read(tmp_path / "model"))


def test_importing_the_runtime_loads_no_network() -> None:
    code = (
        "import sys, retriever.runtime, retriever.cascade, retriever.build;"
        "print(sorted({'onnxruntime', 'torch', 'faiss', 'pocketsphinx', 'sqlalchemy'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_running_a_network_keeps_no_usage_statistics(tmp_path: Path) -> None:
    code = "from retriever.sentence_encoder import SentenceEncoder; print(SentenceEncoder().encode(['hello']).shape)"
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    env |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_DATA_HOME": str(tmp_path / "data")}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=120)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
