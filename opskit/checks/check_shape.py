"""One check as it stands in a checklist."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from opskit.checks.fields import CONFIG, Count, Seconds, Text, Texts

_MAX_RETRIES = 1000


def _few(value: int) -> int:
    if value > _MAX_RETRIES:
        raise ValueError(f"must be at most {_MAX_RETRIES}")
    return value


@dataclass(frozen=True, slots=True)
class RetryShape:
    __pydantic_config__ = CONFIG

    count: Annotated[Count, AfterValidator(_few)]
    delay: Seconds = 1.0


@dataclass(frozen=True, slots=True)
class CheckShape:
    """One check as it stands in a checklist; `with` and `expect` belong to its kind."""

    __pydantic_config__ = CONFIG
    #: Keys of a check that are read by its kind.
    OF_THE_KIND: ClassVar = ("with", "expect")

    name: Text
    kind: Text
    requires: Texts = ()
    retry: RetryShape | None = None
    timeout: Seconds | None = None
    severity: Literal["critical", "error", "warning", "info"] = "error"
    tags: Texts = ()
    skip: bool | Text = False
    remedy: Text | None = None
