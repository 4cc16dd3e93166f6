"""What was written wrong, or not at all: configuration, addresses, secrets."""

from collections.abc import Iterator

from opskit.doctor.cause import Cause, counted, listing
from opskit.doctor.evidence import ConfigProblem, Evidence
from opskit.result import Status

CHECK = "configuration"
_ADDRESS = "CONFIG_003"


def causes(evidence: Evidence) -> Iterator[Cause]:
    yield from _problems(evidence)
    yield from _secrets(evidence)
    for one in evidence.env_files:
        check = frozenset({f"env file {one.path}"})
        if one.problem:
            yield Cause(
                "env-file-missing",
                one.path,
                f"the environment file {one.path} cannot be read",
                (one.problem,),
                "create it (often `cp .env.example .env`), or correct `stack.env_files`",
                check,
                code="CONFIG_002",
            )
        if one.empty or one.placeholders:
            told = [f"no value: {listing(one.empty)}"] if one.empty else []
            told += (
                [f"still the value of an example: {listing(one.placeholders)}"] if one.placeholders else []
            )
            number = len(one.empty) + len(one.placeholders)
            yield Cause(
                "secret-empty",
                one.path,
                f"{counted(number, 'secret')} without a real value in {one.path}",
                tuple(told),
                f"write values for {listing((*one.empty, *one.placeholders))} in {one.path}",
                check,
                status=Status.WARN,
                code="CONFIG_001",
            )


def _problems(evidence: Evidence) -> Iterator[Cause]:
    addresses = [one for one in evidence.problems if one.code == _ADDRESS]
    others = [one for one in evidence.problems if one.code != _ADDRESS]
    for one in addresses:
        yield Cause(
            "address-invalid",
            one.where,
            f"an address cannot be used: {one.where}",
            (one.text,),
            one.remedy,
            frozenset({CHECK}),
            code=_ADDRESS,
        )
    if others:
        yield _invalid(others)


def _invalid(problems: list[ConfigProblem]) -> Cause:
    more = len(problems) - 4
    told = [f"{one.where}: {one.text}" for one in problems[:4]] + ([f"and {more} more"] if more > 0 else [])
    return Cause(
        "config-invalid",
        "",
        "the configuration is not valid; the rest was examined without what is wrong in it",
        tuple(told),
        f"{problems[0].remedy}; `opskit config check` shows every problem",
        frozenset({CHECK}),
        code="CONFIG_001",
    )


def _secrets(evidence: Evidence) -> Iterator[Cause]:
    for key, origin in evidence.origins.items():
        if origin.unset:
            yield Cause(
                "secret-unset",
                key,
                f"{key} refers to {origin.unset}, which holds nothing",
                (f"{origin}: ${{{origin.unset}}} is not set in this environment",),
                f"export {origin.unset}=... before opskit is started (and in the scheduler's environment)",
                frozenset({CHECK}),
                status=Status.WARN,
                code="CONFIG_001",
            )
