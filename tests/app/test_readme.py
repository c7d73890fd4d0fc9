"""What the README says is true: its commands run, its settings load, its files are there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for line in README.splitlines() if line.startswith("askaloud ")]


@pytest.fixture
def _files_named_there(home_with_lecture: Path, short_lecture: Path, short_question: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home_with_lecture.parent / "here"
    folder.mkdir()
    shutil.copy(short_lecture, folder / "lecture.opus")
    shutil.copy(short_question, folder / "question.wav")
    monkeypatch.chdir(folder)


@pytest.mark.usefixtures("_files_named_there")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command: str) -> None:
    from app.cli import run  # noqa: PLC0415  heavy

    code = run(shlex.split(command)[1:])
    allowed = {0, 1} if command == "askaloud doctor" else {0}  # 1: a machine without microphone, say
    assert code in allowed


def test_the_readme_names_commands() -> None:
    assert len(COMMANDS) >= 5


def test_the_settings_of_the_readme_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.settings import load_settings  # noqa: PLC0415

    (block,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "askaloud.toml"
    path.write_text(block, encoding="utf-8")
    monkeypatch.setenv("ASKALOUD_CONFIG", str(path))
    assert load_settings().web.port == 8501


def test_every_file_of_the_readme_is_there() -> None:
    names = [name for row in re.findall(r"^\| (`.*?`) \|", README, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)]
    names += re.findall(r"\]\(([^)]+)\)", README)
    missing = [name for name in names if "://" not in name and not (ROOT / name).exists()]
    assert names
    assert not missing
