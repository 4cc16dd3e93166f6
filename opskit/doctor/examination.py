"""One examination: read the configuration, however broken; look at everything side by side; diagnose."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from opskit.checks import runner
from opskit.checks.spec import Check
from opskit.config.defaults import running_in_docker
from opskit.config.load import LoadedConfig, ensure_state_dir, load
from opskit.config.problems import InvalidConfigError
from opskit.doctor.areas import every
from opskit.doctor.diagnosis import Diagnosis, diagnosed
from opskit.doctor.evidence import ConfigProblem, Evidence
from opskit.doctor.looks.board import FactBoard
from opskit.doctor.plan import ExaminationScope, checks
from opskit.facts.environment import known
from opskit.facts.survey import Survey
from opskit.result import Finding, Status

#: No configuration is found from here.
_NOWHERE = Path("/nonexistent")


@dataclass(frozen=True, slots=True)
class ExaminationTarget:
    """What is examined, and from where. `problems` are those of the configuration that was asked for."""

    loaded: LoadedConfig
    environ: Mapping[str, str]
    cwd: Path
    platform: str
    problems: tuple[ConfigProblem, ...] = ()
    config_path: str | None = None
    in_docker: bool = False
    deep: bool = False


def patient(
    path: str | None,
    *,
    environ: Mapping[str, str],
    cwd: Path,
    platform: str,
    deep: bool = False,
    in_docker: bool | None = None,
) -> ExaminationTarget:
    """Whoever stands here. A configuration that cannot be used is a finding, not the end.

    What is wrong in the environment is left out; a file with a mistake is passed over as a whole. Raises
    ConfigError for a file that was named and is not there. `in_docker` None means: look.
    """
    if in_docker is None:
        in_docker = running_in_docker()
    problems: tuple[ConfigProblem, ...] = ()
    try:
        loaded = load(path, environ=environ, cwd=cwd, in_docker=in_docker)
    except InvalidConfigError as exc:
        problems = tuple(
            ConfigProblem(one.where, ": ".join(filter(None, (one.key, one.message))), one.code, one.advice)
            for one in exc.problems
        )
        wrong = {one.path for one in exc.problems}
        loaded = _without(wrong, path, environ, cwd, in_docker=in_docker)
    return ExaminationTarget(loaded, environ, cwd, platform, problems, path, in_docker, deep)


def _without(
    wrong: set[str], path: str | None, environ: Mapping[str, str], cwd: Path, *, in_docker: bool
) -> LoadedConfig:
    """The configuration without the variables, or the file, that hold mistakes."""
    kept = {name: value for name, value in environ.items() if name not in wrong}
    if wrong <= set(environ):
        return load(path, environ=kept, cwd=cwd, in_docker=in_docker)
    kept.pop("OPSKIT_CONFIG", None)
    kept["XDG_CONFIG_HOME"] = str(_NOWHERE)
    if kept.get("OPSKIT_STATE_DIR"):
        kept["OPSKIT_STATE_DIR"] = str(cwd / Path(kept["OPSKIT_STATE_DIR"]).expanduser())
    return load(None, environ=kept, cwd=_NOWHERE, in_docker=in_docker)


async def examine(
    who: ExaminationTarget,
    *,
    begins: Callable[[int], None] = lambda _: None,
    told: runner.Told = lambda _: None,
) -> Diagnosis:
    """Look at everything and diagnose. `begins` hears how many checks there are, `told` of each finding.

    Raises StateError when the state folder cannot be used; never for what is examined.
    """
    began = time.monotonic()
    evidence = await gather(who, begins=begins, told=told)
    return diagnosed(every.causes(evidence), evidence.findings, time.monotonic() - began)


async def gather(
    who: ExaminationTarget,
    *,
    begins: Callable[[int], None] = lambda _: None,
    told: runner.Told = lambda _: None,
) -> Evidence:
    """All facts, once. Every look has its own deadline and cannot end the others."""
    config = who.loaded.config
    locks = Path(ensure_state_dir(config.state_dir))
    board = FactBoard()
    home = Path(who.environ.get("HOME") or "~").expanduser()
    asked = checks(ExaminationScope(config, who.loaded.origins, who.environ, home, who.deep), board)
    begins(len(asked))
    around = Survey(config, who.environ, state_folder=locks, cwd=who.cwd, config_path=who.config_path)
    async with around:
        findings = await runner.run(asked, around, told=told)
    memory = board.memory
    clocks = [*board.clocks, *([board.docker_clock] if board.docker_clock is not None else [])]
    return Evidence(
        config=config,
        now=datetime.now(UTC),
        platform=who.platform,
        in_docker=who.in_docker,
        origins=who.loaded.origins,
        problems=who.problems,
        notes=who.loaded.notes,
        shell=known(who.environ),
        findings=tuple(without_docker(findings, asked)),
        nodes=tuple(board.nodes[one.name] for one in config.nodes if one.name in board.nodes),
        agents=tuple(board.agents[one.name] for one in config.agents if one.name in board.agents),
        holders=board.holders,
        disks=tuple(board.disks),
        memory_used_percent=memory.get("used_percent"),
        memory_available_bytes=memory.get("available_bytes"),
        memory_total_bytes=memory.get("total_bytes"),
        localhost=board.localhost,
        docker=board.docker,
        containers=board.containers,
        network_exists=board.network_exists,
        projects=tuple(board.projects.values()),
        clocks=tuple(clocks),
        env_files=tuple(board.env_files.values()),
        calls=tuple(board.calls),
        cuts=tuple(board.cuts),
        schedule=board.schedule,
    )


def without_docker(findings: Sequence[Finding], asked: Sequence[Check]) -> list[Finding]:
    """Where nothing needs Docker, what could only be asked of it is not open, but left out. Pure."""
    left = {one.check for one in findings if one.status is Status.SKIP}
    needs = {check.name: check.requires for check in asked}
    found = []
    for one in findings:
        reason = next((name for name in needs.get(one.check, ()) if name in left), None)
        if one.status is Status.INCONCLUSIVE and reason is not None:
            left.add(one.check)
            found.append(replace(one, status=Status.SKIP, state="left out", detail=f"{reason} was left out"))
        else:
            found.append(one)
    return found
