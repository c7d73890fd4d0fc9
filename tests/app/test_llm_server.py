"""How a model server is started and kept; tests/vllm does the same with the real vLLM."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from app.cli import run
from app.doctor import check
from app.errors import VllmMissing
from app.llm_probe import is_healthy
from app.llm_server import LlmServer, find_vllm
from app.settings import load_settings
from generator.families import FAMILIES, named_family

ROOT = Path(__file__).parents[2]
KEY = "nobody may read this"


def server(**changes: object) -> LlmServer:
    return LlmServer(**({"program": Path("/opt/vllm/bin/vllm"), "model": "models/Qwen2-Audio-7B", "family": None} | changes))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
def test_a_server_is_started_with_the_flags_of_its_family(family) -> None:
    command = server(family=family, port=8123, more=("--seed", "3")).command()
    assert command[:3] == ["/opt/vllm/bin/vllm", "serve", "models/Qwen2-Audio-7B"]
    assert command[command.index("--port") + 1] == "8123"
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--served-model-name") + 1] == "Qwen2-Audio-7B"  # the name tells the client the family
    assert all(flag.replace("{model}", "models/Qwen2-Audio-7B") in command for flag in family.serve_flags)
    assert not any("{model}" in part for part in command)
    assert command[-2:] == ["--seed", "3"]  # last, so that it wins


def test_the_key_is_in_the_environment_alone() -> None:
    keyed = server(key=KEY)
    assert keyed.environment({}, Path("/private"))["VLLM_API_KEY"] == KEY
    assert KEY not in " ".join([*keyed.command(), keyed.shell_line(), repr(keyed)])
    assert "VLLM_API_KEY" not in server().environment({}, Path("/private"))


def test_the_server_has_an_environment_of_its_own() -> None:
    ours = {"PYTHONPATH": "/ours", "VIRTUAL_ENV": "/ours", "PATH": "/usr/bin", "CUDA_VISIBLE_DEVICES": "1"}
    theirs = server().environment(ours, Path("/private"))
    assert "PYTHONPATH" not in theirs
    assert "VIRTUAL_ENV" not in theirs
    assert theirs["PATH"] == f"/opt/vllm/bin{os.pathsep}/usr/bin"
    assert theirs["TMPDIR"] == "/private"
    assert theirs["CUDA_VISIBLE_DEVICES"] == "1"


def test_the_server_is_offline_unless_it_may_fetch_the_model() -> None:
    assert server().environment({}, Path("/private"))["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in server(may_download=True).environment({}, Path("/private"))
    assert "DO_NOT_TRACK=1" in server(may_download=True).shell_line()


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "http://127.0.0.1:8000"), ("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000")]
)
def test_a_server_is_reached_from_here_wherever_it_listens(host: str, address: str) -> None:
    assert server(host=host).address == address


def test_vllm_is_found_where_it_was_named_or_beside_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VllmMissing, match=r"docs/gpu\.md"):
        find_vllm()
    with pytest.raises(VllmMissing, match="--vllm"):
        find_vllm(tmp_path / "nowhere")
    program = _program(tmp_path / ".venv-serve" / "bin" / "vllm", "exit 0")
    assert find_vllm() == find_vllm(program) == find_vllm(tmp_path / ".venv-serve") == program


def test_the_command_can_be_printed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve-llm", "--model", "m/Voxtral-Mini", "--port", "9", "--print", "--", "--tensor-parallel-size", "2"]) == 0
    printed = capsys.readouterr().out
    assert "vllm serve m/Voxtral-Mini --host 127.0.0.1 --port 9" in printed
    assert "--tokenizer-mode mistral" in printed
    assert printed.rstrip().endswith("--tensor-parallel-size 2")


def test_the_settings_say_where_and_what_unless_the_command_does(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASKALOUD_GENERATOR__KIND", "served-text")
    monkeypatch.setenv("ASKALOUD_GENERATOR__BASE_URL", "http://127.0.0.1:8765/v1")
    monkeypatch.setenv("ASKALOUD_GENERATOR__MODEL", "any-text-model")
    assert run(["serve-llm", "--print"]) == 0
    printed = capsys.readouterr().out
    assert "serve any-text-model --host 127.0.0.1 --port 8765" in printed
    assert "audio" not in printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no model is named"),
        (["--model", "unheard-of"], "of no family known here"),
        (["--model", "x", "--family", "unheard-of"], "is no family"),
        (["--model", "x", "--family", "text", "--vllm", "/nowhere"], "is no program"),
    ],
)
def test_what_is_missing_is_told_in_a_line(home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str) -> None:
    assert run(["serve-llm", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_the_compose_file_starts_the_server_as_we_do() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    ours = server(program=Path("vllm"), model="/model", family=named_family("qwen2-audio")).command()
    flags = dict(zip(ours[3::2], ours[4::2], strict=True))
    del flags["--host"], flags["--port"], flags["--served-model-name"]
    theirs = dict(part.split("=", 1) for part in services["llm"]["command"] if part.startswith("--"))
    del theirs["--served-model-name"]
    assert {name: value.replace(" ", "") for name, value in flags.items()} == theirs
    environment = services["llm"]["environment"]
    assert {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "VLLM_API_KEY"} <= environment.keys()
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", ()))


def test_a_server_that_cannot_start_is_given_up_with_the_end_of_its_log(tmp_path: Path, home: Path) -> None:
    program = _program(tmp_path / "bin" / "vllm", "echo many lines; echo 'ValueError: no such checkpoint'; exit 3")
    ended = subprocess.run(_serving(program, 1), capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert "exit code 3" in ended.stderr
    assert "ValueError: no such checkpoint" in ended.stderr


@pytest.mark.crash
def test_a_server_that_dies_is_started_again_and_ends_with_its_keeper(tmp_path: Path, home: Path) -> None:
    listen = "import http.server as h; h.HTTPServer(('127.0.0.1', int('$6')), h.SimpleHTTPRequestHandler).serve_forever()"
    (tmp_path / "health").write_text("well")
    program = _program(tmp_path / "bin" / "vllm", f'cd {tmp_path}; echo $$ >> pids; exec {sys.executable} -c "{listen}"')
    port = _free_port()
    told = tmp_path / "told"
    with told.open("w") as out:
        keeper = subprocess.Popen(_serving(program, port), stderr=out)
    try:
        _wait(lambda: told.read_text().count("is ready") == 1)
        os.kill(int((tmp_path / "pids").read_text()), signal.SIGKILL)
        _wait(lambda: told.read_text().count("is ready") == 2)
        assert len((tmp_path / "pids").read_text().split()) == 2
    finally:
        keeper.send_signal(signal.SIGTERM)
        keeper.wait(60)
    assert "starting it again" in told.read_text()
    assert keeper.returncode == 0
    assert not is_healthy(f"http://127.0.0.1:{port}")


def test_the_doctor_tells_of_a_server_that_is_away_and_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKALOUD_GENERATOR__KIND", "served")
    monkeypatch.setenv("ASKALOUD_GENERATOR__BASE_URL", f"http://127.0.0.1:{_free_port()}/v1")
    broken = [one for one in check(load_settings()) if one.name == "model server" and not one.ok]
    assert broken
    assert "askaloud serve-llm" in broken[-1].way_out


def _serving(program: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "app", "serve-llm", "--model", "tiny", "--family", "text", "--vllm", str(program), "--port", str(port)]


def _program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def _wait(reached) -> None:
    give_up_at = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
