"""The program as a script sees it: what it prints where, and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from capyra.deployments.cli import main
from capyra.engine.errors import ConfigError
from scripted_server import Reply, Server, as_json, ending, error, event, piece

CARD = {"id": "echo", "capyra": {"state": "ready", "target": 1, "replicas": [], "context": 64}}


class Program:
    """`piped` is the standard input, as a file; without it there is none."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        directory: Path,
    ) -> None:
        self._patch = monkeypatch
        self._capsys = capsys
        self._input = directory / "input"

    def __call__(self, *arguments: str, piped: str | None = None) -> tuple[int, str, str]:
        self._patch.setattr(sys, "argv", ["capyra", *arguments])
        self._input.write_text(piped or "")
        source = Path(os.devnull) if piped is None else self._input
        with source.open() as stdin:
            self._patch.setattr(sys, "stdin", stdin)
            with pytest.raises(SystemExit) as ended:
                main()
        told = self._capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Program:
    return Program(monkeypatch, capsys, tmp_path)


@pytest.fixture
def talking(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that answers and lists, at the default address."""
    monkeypatch.setenv("CAPYRA_SERVER", server.url)

    def answer(path: str, body: dict[str, object]) -> Reply:
        if path == "/v1/models":
            return as_json({"data": [CARD]})
        if body["model"] != "echo":
            return error(404, "model_not_found", "There is no such model.")
        return Reply(chunks=[piece("Hel"), piece("lo"), *ending(3, 2)])

    server.answer = answer
    return server


def test_one_answer(talking: Server, program: Program) -> None:
    assert program("run", "echo", "hi there") == (0, "Hello\n", "")
    assert talking.asked[0][1]["messages"] == [{"role": "user", "content": "hi there"}]


def test_an_answer_to_what_is_piped_in(talking: Server, program: Program) -> None:
    code, out, _ = program("run", "echo", "--set", "seed=1", "--system", "x", piped="a\nb\n")
    assert (code, out) == (0, "Hello\n")
    body = talking.asked[0][1]
    assert body["messages"][-1]["content"] == "a\nb"
    assert body["seed"] == 1


def test_an_answer_for_programs(talking: Server, program: Program) -> None:
    code, out, err = program("run", "echo", "hi", "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert (told["text"], told["finish_reason"]) == ("Hello", "stop")
    assert told["stats"]["completion_tokens"] == 2


def test_stats_are_beside_the_answer(talking: Server, program: Program) -> None:
    _, out, err = program("run", "echo", "hi", "--stats")
    assert out == "Hello\n"
    assert err.startswith("2 tokens in")


def test_listings(talking: Server, program: Program) -> None:
    code, out, _ = program("ps")
    assert (code, out.splitlines()[1].split()) == (
        0,
        ["echo", "ready", "0/1", "0", "0", "0", "B", "-"],
    )
    assert json.loads(program("ps", "--json")[1])[0]["expert"] == "echo"
    assert json.loads(program("models", "--json")[1]) == [CARD]
    assert "echo" in program("models")[1]


def test_an_evaluation(talking: Server, program: Program, tmp_path: Path) -> None:
    questions, kept = tmp_path / "questions.jsonl", tmp_path / "kept.json"
    questions.write_text('{"prompt": "a", "result": "Hello", "field": "greetings"}\n')
    code, out, err = program("eval", "echo", "-q", str(questions), "--save", str(kept))
    assert (code, err) == (0, "asking echo 1 question\n")
    assert out.splitlines()[1].split() == ["greetings", "1", "of", "1", "100.0%"]
    assert json.loads(kept.read_text())["echo"][0]["answer"] == "Hello"
    questions.write_text('{"prompt": "a", "result": "Bye"}\n')
    _, out, _ = program("eval", "echo", "-q", str(questions), "--show", "1")
    assert "not  Hello" in out
    told = json.loads(program("eval", "echo", "-q", str(questions), "--json")[1])
    assert (told["echo"]["right"], told["echo"]["asked"]) == (0, 1)
    code, _, err = program("eval", "nobody", "-q", str(questions))
    assert (code, err) == (2, "capyra: there is no model 'nobody': the server has echo\n")
    talking.answer = lambda path, _: (
        as_json({"data": [CARD]}) if path == "/v1/models" else error(503, "expert_stopped", "No.")
    )
    code, out, err = program("eval", "echo", "-q", str(questions))
    assert code == 1
    assert "--save tells why" in err


def test_a_request_refused_is_wrong_usage(talking: Server, program: Program) -> None:
    assert program("run", "eco", "hi") == (2, "", "capyra: There is no such model\n")


def test_half_an_answer_is_a_failure(talking: Server, program: Program) -> None:
    lost = event({"error": {"message": "Gone.", "code": "expert_lost"}})
    talking.answer = lambda *_: Reply(chunks=[piece("Hel"), lost])
    assert program("run", "echo", "hi") == (1, "Hel\n", "capyra: Gone\n")


@pytest.mark.parametrize("command", [["ps"], ["models"], ["run", "echo", "hi"], ["bench", "echo"]])
def test_nobody_there(program: Program, command: list[str]) -> None:
    code, out, err = program(*command, "--server", "http://127.0.0.1:1")
    assert (code, out) == (3, "")
    assert "nothing answers at" in err


def test_no_dashboard(program: Program) -> None:
    code, _, err = program("scale", "echo", "1", "--address", "127.0.0.1:1")
    assert code == 3
    assert "does not answer" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense"),
        (["run"], "EXPERT"),
        (["run", "echo"], "nothing to ask"),
        (["run", "echo", "hi", "--set", "x"], "NAME=VALUE"),
        (["run", "echo", "hi", "--server", "ftp://x"], "is no address"),
        (["replay", "/nosuch.jsonl", "/nosuch.yaml"], "cannot read the trace"),
        (["scale", "echo", "x"], "no number of replicas"),
        (["bench", "echo", "--duration", "soon"], "no duration"),
        (["bench", "echo", "--duration", "0"], "no time at all"),
        (["bench", "echo", "--burst", "3"], "bursts need a rate"),
        (["bench", "echo", "--prefix-tokens", "999"], "longer than the prompt"),
        (["bench", "echo", "--field", "x=y"], "NAME=JSON"),
        (["bench", "echo", "--prompts", "/nosuch"], "cannot read the prompts"),
        (["config", "check", "/nosuch.yaml"], "/nosuch.yaml"),
        (["deploy", "/nosuch.yaml"], "/nosuch.yaml"),
    ],
)
def test_wrong_usage(program: Program, arguments: list[str], message: str) -> None:
    code, out, err = program(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_stopping_nothing_is_done_at_once(program: Program) -> None:
    assert program("stop") == (0, "", "no server of yours runs here\n")
    assert json.loads(program("stop", "--json")[1]) == {"stopped": None}


def test_ctrl_c_is_told_to_scripts(talking: Server, program: Program) -> None:
    over = threading.Event()
    # A shell starts what runs in the background deaf to Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press(*_: object) -> Reply:
        identity = threading.main_thread().ident
        assert identity is not None
        signal.pthread_kill(identity, signal.SIGINT)
        over.wait(10)
        return Reply(cut=True)

    talking.answer = press
    for command in (["run", "echo", "hi"], ["ps"]):
        over.clear()
        try:
            assert program(*command) == (130, "", "")
        finally:
            over.set()
    signal.signal(signal.SIGINT, before)


def test_what_is_piped_in_follows_the_prompt(talking: Server, program: Program) -> None:
    program("run", "echo", "Review this:", piped="+ line\n")
    assert talking.asked[0][1]["messages"][0]["content"] == "Review this:\n\n+ line"


def test_our_own_mistakes_are_one_sentence(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("capyra.deployments.cli.app", broken)
    code, out, err = program("ps")
    assert (code, out) == (1, "")
    assert err.startswith("capyra: this is a mistake in Capyra: ZeroDivisionError")
    assert err.count("\n") == 1
    monkeypatch.setenv("CAPYRA_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main()


def test_the_problems_of_a_file_are_lines_for_editors(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(ConfigError):
        problems = ("a.yaml:1: x: wrong", "a.yaml:2: y: wrong")

    def broken(**_: object) -> None:
        raise Wrong("many")

    monkeypatch.setattr("capyra.deployments.cli.app", broken)
    assert program("deploy") == (2, "", "a.yaml:1: x: wrong\na.yaml:2: y: wrong\n")


def test_help_needs_neither_ray_nor_torch_nor_httpx() -> None:
    code = (
        "import sys, capyra.deployments.cli\n"
        "print(sorted({'ray', 'torch', 'httpx', 'rich', 'pydantic', 'asyncio'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
