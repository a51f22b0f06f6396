"""Everything that can go wrong, as one tree.

    CapyraError
    ├── RequestError            the caller can mend it
    │   ├── InvalidValue        a parameter has a value that makes no sense
    │   ├── Unsupported         the expert's engine cannot do what was asked
    │   ├── ContextTooLong      prompt and answer do not fit the context
    │   ├── TooLarge            body, image or list over its limit
    │   ├── UnknownExpert       no expert of that name
    │   ├── Unauthenticated     no key, or not one of ours
    │   └── Forbidden           the key may not do this
    ├── CapacityError           later, or elsewhere, it works; carries `retry_after_s`
    │   ├── QueueFull           the expert's waiting room is full
    │   ├── ExpertStopped       the operator holds the expert at zero replicas
    │   ├── LoadFailed          the expert's weights could not be loaded
    │   └── ExpertLost          the replica died, or was lost, under the request
    ├── DeadlineExceeded        the request's own deadline passed
    ├── Cancelled               the caller went away, or aborted
    ├── ConfigError             the experts file is wrong
    ├── ModelError              a model directory is wrong
    └── EngineFault             our mistake: an invariant broke inside an engine

Each class has a stable `code`, which clients see. HTTP statuses are the gateway's business.
Between processes an error travels as a `Failure`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class CapyraError(Exception):
    """A sentence for a person, and the facts a program needs."""

    code: ClassVar[str] = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class RequestError(CapyraError):
    code = "invalid_request"


class InvalidValue(RequestError):
    code = "invalid_value"


class Unsupported(RequestError):
    code = "unsupported"


class ContextTooLong(RequestError):
    code = "context_length_exceeded"


class TooLarge(RequestError):
    code = "too_large"


class UnknownExpert(RequestError):
    code = "model_not_found"


class Unauthenticated(RequestError):
    code = "invalid_api_key"


class Forbidden(RequestError):
    code = "forbidden"


class CapacityError(CapyraError):
    code = "unavailable"


class QueueFull(CapacityError):
    code = "queue_full"


class ExpertStopped(CapacityError):
    code = "expert_stopped"


class LoadFailed(CapacityError):
    code = "load_failed"


class ExpertLost(CapacityError):
    code = "expert_lost"


class DeadlineExceeded(CapyraError):
    code = "deadline_exceeded"


class Cancelled(CapyraError):
    code = "cancelled"


class ConfigError(CapyraError):
    code = "config_error"


class ModelError(CapyraError):
    code = "model_error"


class EngineFault(CapyraError):
    code = "engine_fault"


def _tree(root: type[CapyraError]) -> dict[str, type[CapyraError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE: dict[str, type[CapyraError]] = _tree(CapyraError)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on its way between processes."""

    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None

    @classmethod
    def of(cls, error: CapyraError) -> Failure:
        return cls(error.code, error.message, error.param, error.retry_after_s)

    def error(self) -> CapyraError:
        """The exception again, of its own class."""
        kind = BY_CODE.get(self.code, CapyraError)
        return kind(self.message, param=self.param, retry_after_s=self.retry_after_s)
