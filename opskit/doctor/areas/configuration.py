"""What was written wrong, or not at all: configuration, addresses, secrets, environment files."""

from collections.abc import Iterator
from pathlib import Path

from opskit.checks.restore_assessment import assess_interrupted_restore
from opskit.checks.spec import Check, CheckContext, Observation, assessing
from opskit.config.document import Problem
from opskit.doctor.cause import Cause, warning
from opskit.doctor.evidence import Evidence
from opskit.doctor.target import ExaminationTarget
from opskit.facts.environment import EnvFileFacts, read_env_file
from opskit.facts.unfinished_restore import read_unfinished_restores
from opskit.text import and_more, counted, listing

_CLAIMS = frozenset({"configuration"})
_ADDRESS = "CONFIG_003"
_SHOWN_PROBLEMS = 4


def checks(target: ExaminationTarget) -> Iterator[Check]:
    area = ("configuration",)
    yield assessing("configuration", _configuration, target, "opskit", name="configuration", tags=area)
    yield assessing("restore", _restore, None, "backup", name="restore", tags=area)
    for path in map(target.config.located, target.config.stack.env_files):
        yield assessing("env file", _env_file, path, str(path), tags=area)


async def _configuration(target: ExaminationTarget, _: CheckContext) -> Observation:
    config, unset = target.config, [key for key, origin in target.loaded.origins.items() if origin.unset]
    values = {"unset_secrets": unset}
    if target.problems:
        first, *others = target.problems
        problem = f"{first}{and_more(len(others))}"
        return Observation(values, problem=problem, state="invalid", code=first.code, remedy=first.advice)
    problem = f"without a value: {', '.join(unset)}" if unset else ""
    members = f"{counted(len(config.nodes), 'node')}, {counted(len(config.agents), 'agent')}"
    detail = f"{config.path or 'no file, defaults'}: {members}"
    return Observation(values, detail, problem=problem, state="ok")


async def _restore(_: None, context: CheckContext) -> Observation:
    restores = await context.survey.get(read_unfinished_restores)
    halves = [assess_interrupted_restore(restore) for restore in restores if restore.is_interrupted]
    if halves:
        problem, half = "; ".join(half.detail for half in halves), halves[0]
        return Observation({}, problem=problem, state=half.state, code=half.code, remedy=half.remedy)
    return Observation({}, "no restore of a backup was interrupted", state="ok")


async def _env_file(path: Path, context: CheckContext) -> Observation:
    env_file = await context.survey.get(read_env_file, path)
    values = {"empty_secrets": env_file.empty_secrets, "placeholders": env_file.placeholder_secrets}
    problem = env_file.problem or "; ".join(_missing_values(env_file))
    return Observation(values, f"{counted(len(env_file.keys), 'key')}", problem=problem)


def causes(evidence: Evidence) -> Iterator[Cause]:
    yield from _problems(evidence.target.problems)
    for restore in evidence.restores:
        half = assess_interrupted_restore(restore)
        archive = f"what it replaced is kept in {restore.safety}"
        yield Cause(
            id="restore-interrupted",
            target=half.target,
            title=f"a restore of a backup to {half.target} was interrupted",
            evidence=(half.detail, archive),
            remedy=half.remedy or "",
            claims=frozenset({"restore"}),
        )
    yield from _unset_secrets(evidence)
    for path, env_file in evidence.env_files.items():
        yield from _of_env_file(path, env_file)


def _problems(problems: tuple[Problem, ...]) -> Iterator[Cause]:
    others = []
    for problem in problems:
        if problem.code != _ADDRESS:
            others.append(problem)
            continue
        yield Cause(
            id="address-invalid",
            target=problem.where,
            title=f"an address cannot be used: {problem.where}",
            evidence=(_text(problem),),
            remedy=problem.advice,
            claims=_CLAIMS,
        )
    if others:
        more = len(others) - _SHOWN_PROBLEMS
        shown = [f"{problem.where}: {_text(problem)}" for problem in others[:_SHOWN_PROBLEMS]]
        yield Cause(
            id="config-invalid",
            title="the configuration is not valid; the rest was examined without what is wrong in it",
            evidence=(*shown, *([f"and {more} more"] if more > 0 else [])),
            remedy=f"{others[0].advice}; `opskit config check` shows every problem",
            claims=_CLAIMS,
        )


def _text(problem: Problem) -> str:
    return ": ".join(filter(None, (problem.key, problem.message)))


def _unset_secrets(evidence: Evidence) -> Iterator[Cause]:
    for key, origin in evidence.origins.items():
        if origin.unset:
            yield warning(
                id="secret-unset",
                target=key,
                title=f"{key} refers to {origin.unset}, which holds nothing",
                evidence=(f"{origin}: ${{{origin.unset}}} is not set in this environment",),
                remedy=f"export {origin.unset}=... before opskit is started (and in the scheduler's "
                "environment)",
                claims=_CLAIMS,
            )


def _of_env_file(path: str, env_file: EnvFileFacts) -> Iterator[Cause]:
    claims = frozenset({f"env file {path}"})
    if env_file.problem:
        yield Cause(
            id="env-file-missing",
            target=path,
            title=f"the environment file {path} cannot be read",
            evidence=(env_file.problem,),
            remedy="create it (often `cp .env.example .env`), or correct `stack.env_files`",
            claims=claims,
        )
    names = (*env_file.empty_secrets, *env_file.placeholder_secrets)
    if names:
        yield warning(
            id="secret-empty",
            target=path,
            title=f"{counted(len(names), 'secret')} without a real value in {path}",
            evidence=_missing_values(env_file),
            remedy=f"write values for {listing(names)} in {path}",
            claims=claims,
        )


def _missing_values(env_file: EnvFileFacts) -> tuple[str, ...]:
    empty, examples = env_file.empty_secrets, env_file.placeholder_secrets
    return (
        *([f"no value: {listing(empty)}"] if empty else []),
        *([f"still the value of an example: {listing(examples)}"] if examples else []),
    )
