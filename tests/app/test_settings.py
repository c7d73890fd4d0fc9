from pathlib import Path

import pytest

from app.errors import SettingsInvalid
from app.settings import Settings, load_settings, require_home, with_kinds
from retriever.config import Cascade, Clsr, FixedWindows, SpeechPauses


def write(home: Path, text: str) -> None:
    (home / "askaloud.toml").write_text(text, encoding="utf-8")


def test_without_a_file_everything_has_its_default(home: Path) -> None:
    settings = load_settings()
    assert settings.home == home
    assert isinstance(settings.retriever, Clsr)
    assert isinstance(settings.segmentation, SpeechPauses)
    assert settings.web.host == "127.0.0.1"


def test_the_file_in_the_data_folder_is_read(home: Path) -> None:
    write(home, 'num_hits = 7\n[segmentation]\nkind = "windows"\nwindow_s = 12.5\n[retriever]\nnum_threads = 1\n')
    settings = load_settings()
    assert settings.num_hits == 7
    assert settings.segmentation == FixedWindows(window_s=12.5)
    assert settings.retriever == Clsr(num_threads=1)


def test_the_environment_wins_over_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, 'num_hits = 7\n[segmentation]\nkind = "windows"\nwindow_s = 12.5\n')
    monkeypatch.setenv("ASKALOUD_NUM_HITS", "3")
    monkeypatch.setenv("ASKALOUD_SEGMENTATION__WINDOW_S", "5")
    settings = load_settings()
    assert settings.num_hits == 3
    assert settings.segmentation == FixedWindows(window_s=5.0)


def test_another_settings_file_can_be_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.toml").write_text("num_hits = 9\n")
    monkeypatch.setenv("ASKALOUD_CONFIG", str(tmp_path / "other.toml"))
    assert load_settings().num_hits == 9


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("num_hits = 0\n", "num_hits"),
        ('num_hits = "many"\n', "num_hits"),
        ("num_hit = 5\n", "num_hit"),
        ('[retriever]\nkind = "oracle"\n', "retriever"),
        ('[segmentation]\nkind = "sentences"\n', "segmentation"),
        ('[segmentation]\nkind = "windows"\nwindow_sec = 5\n', "window_sec"),
        ('[web]\nport = "x"\n', "web.port"),
        ('[storage]\nfolder = "x"\n', "storage.folder"),
        ("num_hits = \n", "askaloud.toml"),
    ],
)
def test_a_wrong_value_is_named_with_the_file(home: Path, text: str, named: str) -> None:
    write(home, text)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings()
    assert named in str(caught.value)
    assert "askaloud.toml" in str(caught.value)


def test_a_setting_that_is_misspelt_is_called_unknown(home: Path) -> None:
    write(home, "num_hit = 5\n[web]\nprot = 1\n[retriever]\nknd = 1\n")
    with pytest.raises(SettingsInvalid) as raised:
        load_settings()
    for name in ("num_hit", "web.prot", "retriever.knd"):
        assert f"{name}: there is no such setting" in str(raised.value)


def test_a_data_folder_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(SettingsInvalid, match="ASKALOUD_HOME") as raised:
            require_home(Settings(home=home))
        assert str(home) in str(raised.value)


def test_a_file_that_is_not_text_is_refused(home: Path) -> None:
    (home / "askaloud.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsInvalid, match=r"askaloud\.toml is not TOML"):
        load_settings()


def test_a_setting_in_the_environment_that_is_wrong_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKALOUD_LIMITS__MAX_DURATION_S", "long")
    with pytest.raises(SettingsInvalid, match=r"limits\.max_duration_s"):
        load_settings()


def test_settings_cannot_be_changed(home: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().num_hits = 3


def test_a_kind_that_is_set_anyway_keeps_its_own_settings(home: Path) -> None:
    settings = Settings(home=home, retriever=Cascade(num_workers=1))
    assert with_kinds(settings, "cascade", "extractive").retriever == Cascade(num_workers=1)


@pytest.mark.parametrize(("retriever", "generator", "known"), [("oracle", None, "cascade"), (None, "oracle", "extractive")])
def test_an_unknown_kind_is_refused_with_the_list_of_kinds(home: Path, retriever: str | None, generator: str | None, known: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"'oracle'.*{known}"):
        with_kinds(load_settings(), retriever, generator)


@pytest.mark.parametrize("name", ["", "absent.toml"])
def test_a_named_settings_file_must_be_there(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ASKALOUD_CONFIG", str(tmp_path / name))
    with pytest.raises(SettingsInvalid, match="is no file"):
        load_settings()
