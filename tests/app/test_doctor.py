import json
import shutil
from pathlib import Path

import pytest

from app import doctor
from app.build import Parts, build_worker
from app.doctor import Check, check, to_json
from app.settings import load_settings
from generator.errors import CalibrationMissing
from retriever import runtime
from storage.domain import LOCAL_OWNER


def found(checks: list[Check], name: str) -> Check:
    return next(one for one in checks if one.name == name)


def test_a_library_in_order_passes_every_check(home_with_lecture: Path) -> None:
    checks = check(load_settings())
    assert [one for one in checks if not one.ok] == []
    assert {
        "settings",
        "python",
        "packages",
        "retriever",
        "model files",
        "disk",
        "database",
        "worker",
        "index",
        "sound devices",
        "model server",
    } <= {one.name for one in checks}
    assert "as in the library" in found(checks, "index").message
    assert "av 1" in found(checks, "packages").message


def test_a_new_data_folder_passes_every_check(home: Path) -> None:
    checks = check(load_settings())
    assert [one for one in checks if not one.ok] == []
    assert found(checks, "worker").way_out  # a hint: nothing is at work yet


def test_a_broken_database_is_told_and_the_other_checks_go_on(home_with_lecture: Path) -> None:
    for path in home_with_lecture.glob("*.db*"):
        path.write_bytes(b"this is no database" * 300)
    checks = check(load_settings())
    broken = [one for one in checks if not one.ok]
    assert broken
    assert all(one.way_out for one in broken)
    assert found(checks, "model files").ok
    assert found(checks, "sound devices").ok
    assert found(checks, "model server").ok


def test_sound_that_is_missing_is_told(home_with_lecture: Path, parts: Parts) -> None:
    (info,) = parts.library.lectures.list(LOCAL_OWNER, parts.retriever.fingerprint)
    parts.library.lectures.original_path(info.lecture.id).unlink()
    broken = [one for one in check(load_settings()) if not one.ok]
    assert [one.name for one in broken] == ["database"]


def test_an_index_that_is_lost_is_a_hint_with_the_way_out(home_with_lecture: Path, parts: Parts) -> None:
    for path in parts.index_folder.rglob("*"):
        if path.is_file():
            path.unlink()
    told = found(check(load_settings()), "index")
    assert told.ok
    assert "askaloud rebuild" in told.way_out
    build_worker(parts).rebuild_index()
    assert found(check(load_settings()), "index").way_out == ""


def test_an_altered_model_file_is_told(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    weights = tmp_path / "retriever" / "weights"
    shutil.copytree(runtime.WEIGHTS, weights)
    altered = next(path for path in sorted(weights.rglob("*.json")) if path.name != "config.json")
    altered.write_bytes(altered.read_bytes() + b" ")
    monkeypatch.setattr(runtime, "WEIGHTS", weights)
    broken = [one for one in check(load_settings()) if not one.ok]
    assert [one.name for one in broken] == ["models"]
    assert "was altered" in broken[0].message


def test_an_answering_part_that_is_broken_does_not_hide_the_library(home_with_lecture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CalibrationMissing("there are no thresholds; install again")

    monkeypatch.setattr("generator.build.build_generator", refuse)
    checks = check(load_settings())
    assert [(one.name, one.message) for one in checks if not one.ok] == [("answering", "there are no thresholds; install again")]
    assert "as in the library" in found(checks, "index").message


def test_an_old_package_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.metadata, "requires", lambda _name: ["av>=9999.1", "no-such-package>=1", "pytest>=1; extra == 'dev'"])
    told = found(check(load_settings()), "packages")
    assert not told.ok
    assert "older than 9999.1" in told.message
    assert "no-such-package is missing" in told.message
    assert "pip install" in told.way_out


def test_little_room_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKALOUD_STORAGE__MIN_FREE_BYTES", str(2**60))
    told = found(check(load_settings()), "disk")
    assert not told.ok
    assert "make room" in told.way_out


def test_a_misspelt_environment_variable_is_a_hint(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKALOUD_RETREIVER__KIND", "cascade")
    assert any("ASKALOUD_RETREIVER__KIND" in one.message for one in check(load_settings()))


def test_checks_leave_as_json(home: Path) -> None:
    value = json.loads(json.dumps(to_json([Check("a", True, "b"), Check("c", False, "d", "e")])))
    assert value == {
        "ok": False,
        "checks": [
            {"name": "a", "ok": True, "message": "b", "way_out": ""},
            {"name": "c", "ok": False, "message": "d", "way_out": "e"},
        ],
    }


@pytest.mark.parametrize(
    ("line", "name", "floor"),
    [
        ("av>=17.1", "av", "17.1"),
        ("streamlit<1.68,>=1.67", "streamlit", "1.67"),
        ("rich", "rich", "0"),
        ("psycopg[binary]>=3.3", "psycopg", "3.3"),
    ],
)
def test_requirements_are_read(line: str, name: str, floor: str) -> None:
    assert doctor._requirement(line) == (name, floor)
