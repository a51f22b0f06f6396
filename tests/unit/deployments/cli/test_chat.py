"""A conversation grows, and an answer is counted."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from capyra.deployments.cli.chat import Answer, Chat, image_url, total
from capyra.deployments.cli.client import CallPiece, Counted, Ended, Text, Waiting
from capyra.engine.errors import InvalidValue

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def test_a_conversation_grows_by_question_and_answer() -> None:
    chat = Chat("echo", system="brief", settings={"seed": 1})
    chat.ask("one")
    chat.answered("eins")
    body = chat.ask("two")
    assert body == {
        "model": "echo",
        "seed": 1,
        "messages": [
            {"role": "system", "content": "brief"},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "eins"},
            {"role": "user", "content": "two"},
        ],
    }


def test_a_question_without_answer_is_forgotten() -> None:
    chat = Chat("echo")
    chat.ask("one")
    chat.answered("")
    assert [turn["content"] for turn in chat.ask("two")["messages"]] == ["two"]


def test_images_go_with_one_message() -> None:
    chat = Chat("echo", images=["data:a", "data:b"])
    first = chat.ask("what?")["messages"][0]["content"]
    assert [part["type"] for part in first] == ["image_url", "image_url", "text"]
    assert chat.ask("and?")["messages"][-1]["content"] == "and?"


def test_an_image_is_what_its_bytes_say(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(PNG)
    assert image_url(path) == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    path.write_text("no picture")
    with pytest.raises(InvalidValue, match=r"picture\.jpg is no PNG"):
        image_url(path)
    with pytest.raises(InvalidValue, match="No such file"):
        image_url(tmp_path / "none.png")


def timed(pieces: int, tokens: int | None) -> Answer:
    answer = Answer(began=10.0)
    answer.take(Waiting(), 10.5)
    for number in range(pieces):
        answer.take(Text("so "), 11.0 + number / 10)
    answer.take(Ended("stop"), 20.0)
    if tokens is not None:
        usage = {"prompt_tokens": 7, "completion_tokens": tokens}
        answer.take(Counted(usage | {"prompt_tokens_details": {"cached_tokens": 4}}), 20.0)
    return answer


def test_pace_is_counted_from_the_first_piece() -> None:
    answer = timed(pieces=11, tokens=11)
    assert answer.first_s == pytest.approx(1.0)
    assert answer.tokens_per_s == pytest.approx(10.0)
    assert answer.summary() == (
        "11 tokens in 2.0 s · 10.0 tokens/s · first after 1.0 s · prompt 7, 4 cached"
    )


def test_pieces_of_several_tokens_do_not_flatter() -> None:
    assert timed(pieces=11, tokens=22).tokens_per_s == pytest.approx(20.0)
    assert timed(pieces=2, tokens=500).tokens_per_s is None


def test_without_the_servers_count_pieces_are_named_so() -> None:
    assert timed(pieces=11, tokens=None).summary().startswith("11 pieces in 2.0 s · 10.0 pieces/s")


def test_calls_are_put_together() -> None:
    answer = Answer(began=0.0)
    answer.take(CallPiece(0, "add", '{"a":'), 1.0)
    answer.take(CallPiece(0, "", "1}"), 2.0)
    assert answer.calls == {0: ["add", '{"a":1}']}


def test_answers_are_summed() -> None:
    assert total([timed(5, 5), timed(5, 7), Answer(0.0)]) == "2 answers, 12 tokens"
    assert Answer(0.0).summary() == "no answer"
