"""An operator's words, and replays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capyra.deployments.cli import listing, residency
from capyra.engine.errors import InvalidValue, UnknownExpert
from scripted_server import Reply, Server, as_json, error

STATUS = {"name": "echo", "state": "ready", "pinned": True, "held": None}
FILE = """
residency: {{max_resident: {resident}, node_memory: 4GiB, warm: 0, stay: 0}}
experts:
  ant: {{engine: echo, resources: {{memory: 1GiB}}}}
  bee: {{engine: echo, resources: {{memory: 1GiB}}}}
"""


@pytest.mark.parametrize("what", ["load", "unload", "pin", "unpin"])
def test_a_word_is_told_and_its_outcome_shown(
    server: Server, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    server.answer = lambda *_: as_json(STATUS)
    command = getattr(residency, what)
    command("echo", server.url)
    assert capsys.readouterr().err == "echo: ready, pinned\n"
    command("echo", server.url, as_json=True)
    assert json.loads(capsys.readouterr().out) == STATUS
    assert {path for path, _, _ in server.asked} == {f"/v1/experts/echo/{what}"}


def test_a_refusal_is_an_error(server: Server) -> None:
    server.answer = lambda *_: error(404, "model_not_found", "did you mean 'echo'?")
    with pytest.raises(UnknownExpert, match="did you mean"):
        residency.pin("ecko", server.url)


def test_auto_goes_to_control(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer = lambda *_: as_json({**STATUS, "held": 2})
    listing.scale("echo", "auto", server=server.url)
    path, body, _ = server.asked[0]
    assert (path, body) == ("/v1/experts/echo/scale", {"replicas": "auto"})
    assert "held at 2" in capsys.readouterr().err


def test_why(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer = lambda *_: as_json({"lines": ["first", "then"]})
    residency.why("echo", server.url)
    assert capsys.readouterr().out == "first\nthen\n"
    server.answer = lambda *_: as_json({"lines": []})
    residency.why("echo", server.url)
    assert "nobody remembers" in capsys.readouterr().err


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    arrivals = [{"at": 20.0 * n, "expert": "ant" if n % 2 else "bee"} for n in range(20)]
    path.write_text("".join(json.dumps(each) + "\n" for each in arrivals))
    return path


def test_a_replay_compares_settings(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for resident in (1, 2):
        files.append(tmp_path / f"{resident}.yaml")
        files[-1].write_text(FILE.format(resident=resident))
    residency.replay(trace, files, as_json=True)
    tight, roomy = json.loads(capsys.readouterr().out).values()
    assert tight["requests"] == roomy["requests"] == tight["served"] == 20
    assert tight["loads"] > 10 > 2 == roomy["loads"]
    assert tight["byte_hours"] < roomy["byte_hours"]
    residency.replay(trace, files)
    assert "REQUESTS" in capsys.readouterr().out


def test_what_the_server_remembers_is_written_first(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [b'{"at": 0, "expert": "ant"}\n', b'{"at": 9, "expert": "bee"}\n']
    server.answer = lambda *_: Reply(200, lines, "application/x-ndjson")
    file = tmp_path / "experts.yaml"
    file.write_text(FILE.format(resident=2))
    trace = tmp_path / "new.jsonl"
    residency.replay(trace, [file], record=True, server=server.url, as_json=True)
    assert trace.read_bytes() == b"".join(lines)
    (figures,) = json.loads(capsys.readouterr().out).values()
    assert figures["served"] == 2


@pytest.mark.parametrize(
    ("content", "memory", "message"),
    [
        ("{oops", None, "cannot read the trace"),
        ('{"at": 0, "expert": "cow"}', None, "no active expert 'cow'"),
        ('{"at": 0, "expert": "ant"}', "lots", "--memory lots"),
    ],
)
def test_what_cannot_be_replayed_is_told(
    tmp_path: Path, content: str, memory: str | None, message: str
) -> None:
    trace, file = tmp_path / "trace", tmp_path / "experts.yaml"
    trace.write_text(content)
    file.write_text(FILE.format(resident=1))
    with pytest.raises(InvalidValue, match=message):
        residency.replay(trace, [file], memory=memory)
