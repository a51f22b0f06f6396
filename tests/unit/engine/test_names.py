"""The public names of the contract: whoever changes one changes this list knowingly."""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest

NAMES = {
    "base": {"Engine", "ProgressSink"},
    "checks": {"check", "check_context", "check_embed", "check_prompt"},
    "delivery": {"Delivery"},
    "loading": {"SharedLoad"},
    "text": {"IncrementalText", "StopMatcher", "utf8"},
    "toolcalls": {"FORMATS", "CallPiece", "Piece", "ToolCallParser", "guess", "parser"},
    "types": {
        "Accepted",
        "Capabilities",
        "ChatPrompt",
        "Delta",
        "Done",
        "EmbedRequest",
        "Embeddings",
        "EngineStats",
        "Event",
        "Failed",
        "FinishReason",
        "Finished",
        "GenerateRequest",
        "ImagePart",
        "Limits",
        "Message",
        "OutputFormat",
        "Part",
        "Pooling",
        "Prefilled",
        "Progress",
        "Prompt",
        "Rendered",
        "Role",
        "Sampling",
        "Score",
        "Started",
        "StreamItem",
        "TextPart",
        "TextPrompt",
        "TokenLogprob",
        "TokenPrompt",
        "Tool",
        "ToolCall",
        "ToolCallDelta",
        "ToolChoice",
        "Usage",
        "text_of",
    },
}


def defined(module: str) -> set[str]:
    """The names without an underscore that a module binds itself, or lists in `__all__`."""
    found = importlib.import_module(f"capyra.engine.{module}")
    if hasattr(found, "__all__"):
        return set(found.__all__)
    names: set[str] = set()
    for node in ast.parse(inspect.getsource(found)).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("module", NAMES)
def test_public_names(module: str) -> None:
    assert defined(module) == NAMES[module]
