"""Who may import whom, and what an import may cost. Lazy and typing imports count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ALLOWED = {
    "kernels": {"capyra.kernels"},
    "engine": {"capyra.engine", "capyra.kernels"},
    "orchestrator": {
        "capyra.orchestrator",
        "capyra.engine.types",
        "capyra.engine.errors",
        "capyra.engine.config",
    },
    "deployments": {
        "capyra.deployments",
        "capyra.engine",
        "capyra.kernels",
        "capyra.orchestrator",
    },
}
ONLY_IN_DEPLOYMENTS = {"ray", "fastapi", "starlette", "uvicorn", "httpx", "typer", "rich"}
NO_TORCH = {"orchestrator", "deployments"}


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules, or names in modules, that this code imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Paths such as the registry's, which are imported later.
            module, colon, _ = node.value.partition(":")
            if colon and module.startswith("capyra.") and " " not in module:
                yield module


def sources() -> list[Path]:
    return sorted(path for folder in ALLOWED for path in (ROOT / folder).rglob("*.py"))


def within(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_each_folder_imports_what_it_may(path: Path) -> None:
    folder = path.relative_to(ROOT).parts[0]
    for name in imported(ast.parse(path.read_text())):
        if name == "capyra" or name.startswith("capyra."):
            allowed = within(name, ALLOWED[folder]) or name == "capyra.__version__"
            assert allowed, f"{folder} may not import {name}"
        elif folder != "deployments":
            assert not within(name, ONLY_IN_DEPLOYMENTS), f"{name} belongs in deployments"
        if folder in NO_TORCH:
            assert not within(name, {"torch", "vllm"}), f"{name} belongs in an engine"


def test_the_rule_sees_lazy_typing_and_named_imports() -> None:
    code = """
if TYPE_CHECKING:
    from ray import serve
def later():
    import torch.nn
    return "capyra.engine.echo.engine:create"
"""
    assert set(imported(ast.parse(code))) == {
        "ray.serve",
        "torch.nn",
        "capyra.engine.echo.engine",
    }


@pytest.mark.parametrize(
    "module",
    [
        "capyra",
        "capyra.engine.base",
        "capyra.engine.checks",
        "capyra.engine.registry",
        "capyra.engine.echo.options",
        "capyra.engine.toolcalls",
        "capyra.orchestrator",
    ],
)
def test_importing_is_cheap(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    costly = {"torch", "ray", "vllm", "transformers", "numpy", "PIL", "fastapi", "tokenizers"}
    assert not costly & set(loaded)
