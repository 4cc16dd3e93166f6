"""An examination without the command, of whatever a test sets up."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from opskit.doctor.cause import Cause
from opskit.doctor.diagnosis import Diagnosis
from opskit.doctor.examination import examine
from opskit.doctor.target import ExaminationTarget, examination_target
from opskit.sandbox.stage import Stage
from tests.parts.command import environment

#: The room and memory of the machine that runs the tests are not under test, and nobody waits 15 s.
QUIET: dict[str, Any] = {
    "watch": {"memory_percent": 100, "disk_percent": 100},
    "probe": {"first_token_s": 1, "http_s": 1},
}


def target_of(
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
    in_docker: bool = False,
    platform: str = "linux",
    deep: bool = False,
) -> ExaminationTarget:
    """What is examined: `config` over QUIET; MLX is off unless `env` says where it is."""
    written = {**QUIET, **(config or {})}
    (folder / "opskit.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    environ = environment(folder, {"MLX_API_URL": "", **(env or {})})
    return examination_target(
        None, environ=environ, cwd=folder, platform=platform, deep=deep, in_docker=in_docker
    )


async def examined(folder: Path, **about: Any) -> Diagnosis:
    """An examination; a check that failed by a mistake of ours fails the test."""
    diagnosis = await examine(target_of(folder, **about))
    assert [finding.evidence for finding in diagnosis.findings if finding.state == "bug"] == []
    return diagnosis


async def on_stage(folder: Path, stage: Stage, **about: Any) -> Diagnosis:
    """An examination of a simulated stack."""
    env = {**stage.environment(), **about.pop("env", {})}
    return await examined(folder, env=env, **about)


def keys(diagnosis: Diagnosis) -> list[str]:
    return [cause.key for cause in diagnosis.causes]


def cause(diagnosis: Diagnosis, key: str) -> Cause:
    """The cause of this key; fails with those that there are."""
    found = [one for one in diagnosis.causes if one.key == key]
    assert found, f"{key} is not among {keys(diagnosis)}"
    return found[0]


def log_of_calls(folder: Path, *calls: Mapping[str, Any]) -> None:
    """Writes opskit's own log with these requests, as if they were made just now."""
    from datetime import UTC, datetime
    from uuid import uuid4

    from opskit.tags import format_line

    lines = []
    for fields in calls:
        one = {"correlation_id": str(uuid4()), **fields}
        fault = one.pop("fault", None)
        lines.append(format_line("LLM_CALL", one, datetime.now(UTC)))
        end = {"LLM_ERROR": {**one, "fault": fault}} if fault else {"LLM_RESPONSE": {**one, "status": 200}}
        lines += [format_line(tag, content, datetime.now(UTC)) for tag, content in end.items()]
    path = folder / "state/opskit/opskit.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
