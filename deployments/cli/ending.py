"""How a command ends: what a script learns from its exit code, and a person from its sentence."""

from __future__ import annotations

from capyra.engine.errors import CapyraError, ConfigError, RequestError

FAILED = 1
MISUSED = 2
UNREACHABLE = 3
INTERRUPTED = 130


def exit_code(error: CapyraError) -> int:
    # By its code, not its class: the class lives beside the HTTP client, which is slow to import.
    if error.code == "unreachable":
        return UNREACHABLE
    return MISUSED if isinstance(error, RequestError | ConfigError) else FAILED


def sentence(error: CapyraError) -> str:
    """The error for the standard error output. Lines about a file begin with `file:line:`, as
    editors expect them."""
    problems = getattr(error, "problems", None)
    if problems:
        return "\n".join(str(problem) for problem in problems)
    later = ""
    if error.retry_after_s is not None:
        later = f" (try again in {error.retry_after_s:g} s)"
    return f"capyra: {error.message}{later}"
