import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "faiss", "sqlalchemy", "streamlit", "vllm", "av", "onnxruntime", "pocketsphinx", "sounddevice", "alembic"}


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules that a fresh Python has loaded after this statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(result.stdout))


def test_importing_the_packages_loads_nothing_heavy() -> None:
    assert loaded_by("import retriever, generator, storage, app") & HEAVY == set()


@pytest.mark.parametrize("package", ["retriever", "generator", "storage"])
def test_nouns_errors_interfaces_and_configuration_load_nothing_heavy(package: str) -> None:
    names = ", ".join(f"{package}.{module}" for module in ("domain", "errors", "base", "config"))
    assert loaded_by(f"import {names}") & HEAVY == set()


def test_the_command_line_answers_before_anything_heavy_is_loaded() -> None:
    assert loaded_by("import app.cli") & HEAVY == set()


def test_running_the_application_needs_neither_torch_nor_the_page() -> None:
    loaded = loaded_by("import app.build")
    assert loaded & {"torch", "streamlit", "transformers", "sounddevice"} == set()
    assert {"faiss", "sqlalchemy"} <= loaded


def test_importing_a_package_starts_no_threads_and_makes_no_folders(tmp_path: Path) -> None:
    program = "import threading, app.build, app.cli; assert threading.active_count() == 1, threading.enumerate()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=tmp_path, env={"ASKALOUD_HOME": f"{tmp_path}/home"})
    assert not list(tmp_path.iterdir())
