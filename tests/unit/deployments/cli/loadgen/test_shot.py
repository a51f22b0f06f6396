"""One request: its times, its tokens, its failure."""

from __future__ import annotations

import json

import pytest

from capyra.deployments.cli.loadgen.shot import Reading, Shot
from scripted_server import ending, event, piece


def read(
    *timed: tuple[float, bytes], status: int = 200, stream: bool = True, ended: float = 9.0
) -> Shot:
    shot = Shot(0, intended=1.0, sent=2.0)
    reading = Reading(shot, stream=stream)
    reading.head(status)
    for at, data in timed:
        reading.body(data, at)
    reading.finish(ended)
    return shot


def test_times_of_a_stream() -> None:
    role = event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
    shot = read(
        (3.0, role),
        (4.0, piece("a")),
        (4.5, piece("b")),
        (6.0, piece("c") + b"".join(ending(7, 5))),
    )
    assert shot.ok
    assert (shot.first, shot.last, shot.ended) == (4.0, 6.0, 9.0)
    assert shot.gaps == [0.5, 1.5]
    assert (shot.pieces, shot.tokens, shot.prompt_tokens) == (3, 5, 7)
    assert shot.per_token == pytest.approx(0.5)


def test_without_usage_pieces_are_counted() -> None:
    shot = read((4.0, piece("a") + piece("b")), (5.0, b"data: [DONE]\n\n"))
    assert shot.completion_tokens is None
    assert shot.tokens == 2


def test_text_and_thinking_and_calls_are_content() -> None:
    deltas = [{"reasoning_content": "x"}, {"tool_calls": [{"index": 0}]}, {"content": None}]
    chunks = [event({"choices": [{"delta": delta}]}) for delta in deltas]
    chunks.append(event({"choices": [{"text": "x"}]}))
    assert read((4.0, b"".join([*chunks, *ending(1, 3)]))).pieces == 3


def test_a_whole_answer() -> None:
    told = {"choices": [{}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    shot = read((5.0, json.dumps(told).encode()), stream=False)
    assert (shot.ok, shot.first, shot.tokens) == (True, 9.0, 4)


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (piece("a"), "stream without end"),
        (
            piece("a") + event({"error": {"code": "expert_lost", "message": "m"}}),
            "stream error expert_lost",
        ),
        (event({"error": "text"}), "stream error"),
        (b"data: nonsense\n\n", "event is no JSON"),
        (b"data: [DONE]\n\n", "empty answer"),
        (b"", "stream without end"),
    ],
)
def test_failures_of_a_stream(data: bytes, failure: str) -> None:
    assert read((3.0, data)).failure == failure


@pytest.mark.parametrize(
    ("status", "data", "failure", "detail"),
    [
        (429, b'{"error": {"code": "queue_full", "message": "Full."}}', "429 queue_full", "Full."),
        (400, b'{"error": {"type": "bad", "message": "No."}}', "400 bad", "No."),
        (502, b"<html>", "502", "<html>"),
        (500, b"[]", "500", "[]"),
        (404, b'{"error": "text"}', "404", '{"error": "text"}'),
    ],
)
def test_refusals(status: int, data: bytes, failure: str, detail: str) -> None:
    shot = read((3.0, data), status=status)
    assert (shot.failure, shot.detail) == (failure, detail)


@pytest.mark.parametrize("data", [b"nonsense", b"[]", b'{"choices": []}'])
def test_what_is_no_completion_has_failed(data: bytes) -> None:
    assert read((3.0, data), stream=False).failure == "answer is no completion"


def test_a_record_counts_from_the_start_of_the_load() -> None:
    record = read((4.0, piece("a")), (5.0, b"".join(ending(1, 1)))).record(start=1.0)
    assert (record["intended_s"], record["sent_s"], record["first_s"]) == (0.0, 1.0, 3.0)
