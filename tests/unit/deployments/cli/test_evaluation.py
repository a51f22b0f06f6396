"""Questions with known answers, asked of a server that says what it is told to."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from capyra.deployments.cli.client import Client
from capyra.deployments.cli.examination import Examination, is_right, read_questions, tally
from capyra.engine.errors import InvalidValue
from scripted_server import Reply, Server, ending, error, piece

PNG = b"\x89PNG\r\n\x1a\n and so on"


def write(folder: Path, *questions: object) -> Path:
    path = folder / "questions.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in questions))
    return path


def sums(path: str, body: dict[str, object]) -> Reply:
    """Adds, but not with sevens."""
    text = str(body["messages"][0]["content"])  # type: ignore[index]
    if "9" in text:
        return error(429, "queue_full", "There is no room.")
    left, _, right = text.partition("+")
    result = 7 if "7" in text else int(left) + int(right)
    return Reply(chunks=[piece("I add.\n"), piece(str(result)), *ending(3, 2)])


def test_answers_are_asked_and_counted_by_field(server: Server, tmp_path: Path) -> None:
    server.answer = sums
    path = write(
        tmp_path,
        {"prompt": "1+2", "result": "3", "field": "small"},
        {"prompt": "7+2", "result": "9", "field": "small"},
        {"prompt": "10+20", "result": "30", "field": "large", "experts": ["x"]},
        {"prompt": "9+20", "result": "29", "field": "large"},
    )
    ended = []
    with Client(server.url) as client:
        found = Examination(read_questions(path), "last-line", 3, 50).take(
            client, "m", lambda: ended.append(1)
        )
    assert [each.right for each in found] == [True, False, True, False]
    assert len(ended) == 4
    assert "There is no room" in str(found[3].failure)
    told = tally(found)
    assert told.fields == {"small": (1, 2), "large": (1, 2)}
    assert (told.right, told.asked, told.failed) == (2, 4, 1)
    assert 0 < told.first_token_s <= told.answer_s
    body = server.asked[0][1]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0, 50)


def test_an_image_is_a_file_beside_the_questions_or_a_data_url(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    path = write(
        tmp_path,
        {"prompt": "What is it?", "result": "x", "image": "a.png"},
        {"prompt": "What is it?", "result": "x", "image": url},
    )
    assert [each.image for each in read_questions(path)] == [url, url]


def test_what_has_to_be_the_result() -> None:
    assert is_right("so\n 42 \n", "42", "last-line")
    assert not is_right("so 42", "42", "last-line")
    assert is_right("so 42", "42", "contains")
    assert is_right(" 42\n", "42", "whole")
    assert not is_right("so\n42", "42", "whole")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", ":2: this is no JSON object"),
        ("[]", ":2: this is no JSON object"),
        ('{"prompt": "x"}', ":2: a question needs a result"),
        ('{"prompt": 1, "result": "x"}', ":2: a question needs a prompt"),
        ('{"prompt": "x", "result": "x", "image": 1}', ":2: an image is a file"),
        ('{"prompt": "x", "result": "x", "image": "none.png"}', "cannot read the image"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(f'{{"prompt": "x", "result": "y"}}\n{line}\n')
    with pytest.raises(InvalidValue, match=said):
        read_questions(path)


def test_a_file_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="has no questions"):
        read_questions(write(tmp_path))
    with pytest.raises(InvalidValue, match="cannot read"):
        read_questions(tmp_path / "none")
