"""The files of the stack: `.env` files without their values, whether Compose accepts its own (SPEC C2)."""

import asyncio

from opskit.diagnose.area import Section, TableSection, observe_kind
from opskit.facts.compose_project import env_files, read_compose_project, stack_files
from opskit.facts.docker_daemon import docker_address
from opskit.facts.survey import Survey
from opskit.records import replace
from opskit.result import Finding, Status
from opskit.system.compose import INSTALL

#: What is told of an `.env` file, by the name of the value that its check sees.
_SHOWN = {"names": "keys", "without_value": "empty", "malformed_lines": "malformed"}
_SHOWN |= {name: name for name in ("twice", "readable_by_all")}


async def docker_is_used(survey: Survey) -> bool:
    """Tell whether there is a program, an address or a socket of Docker: else it is not missing here."""
    address = await asyncio.to_thread(docker_address, survey.environ)
    return not address.is_unused


async def environment_files(survey: Survey) -> Section:
    """Read which keys and empty secrets there are, and lines that say nothing; never a value."""
    paths = env_files(survey.config, survey.cwd)
    if not paths:
        note = "none is configured (`stack.env_files`), and there is none beside the Compose files"
        return Section([], (TableSection(".env", lines=(note,)),))
    observed = await asyncio.gather(*(observe_kind("env_file", survey, path=str(path)) for path in paths))
    rows, data, findings = [], [], []
    for path, (judged, values) in zip(map(str, paths), observed, strict=True):
        rows.append((path, judged.detail))
        shown = {} if values is None else {key: values[name] for key, name in _SHOWN.items()}
        data.append({"path": path, **(shown or {"problem": judged.detail})})
        if judged.status is not Status.PASS:
            findings.append(replace(judged, check="env_file", target=path, seconds=0.0, evidence={}))
        elif values is not None and values["readable_by_all"]:
            detail, remedy = "every user of this machine may read it", f"`chmod 600 {path}`"
            findings.append(Finding("env_file", path, Status.WARN, "readable by all", detail, None, remedy))
    return Section(data, (TableSection(".env", ("file", "what is in it"), tuple(rows)),), tuple(findings))


async def compose_files(survey: Survey, limit_s: float) -> Section:
    """Read whether Compose accepts each project, and which services it declares."""
    stack = stack_files(survey.config, survey.cwd)
    if not stack:
        note = "no project is configured (`stack.compose`), and the working folder has no Compose file"
        return Section([], (TableSection("compose files", lines=(note,)),))
    findings = await asyncio.gather(*(_validate(name, survey, limit_s) for name in stack))
    known = {facts.name: facts for facts in survey.known(read_compose_project).values()}
    rows, data = [], []
    for (name, files), finding in zip(stack.items(), findings, strict=True):
        services = known[name].services if name in known else ()
        state = "valid" if finding is None else finding.state
        detail = ", ".join(services) if finding is None else finding.detail
        rows.append((name, ", ".join(map(str, files)), state, detail))
        data.append(
            {
                "project": name,
                "files": [str(path) for path in files],
                "valid": True if finding is None else (False if finding.status is Status.FAIL else None),
                "services": list(services),
                "problem": None if finding is None else finding.detail,
            }
        )
    table = TableSection("compose files", ("project", "files", "state", "services"), tuple(rows))
    return Section(data, (table,), tuple(finding for finding in findings if finding is not None))


async def _validate(name: str, survey: Survey, limit_s: float) -> Finding | None:
    unseen = Finding("compose", name, Status.INCONCLUSIVE, "unseen")
    try:
        async with asyncio.timeout(limit_s):
            project = await survey.get(read_compose_project, name)
    except TimeoutError:
        return replace(unseen, detail=f"Compose did not answer within {limit_s:g} s", code="COMM_003")
    if not project.problem:
        return None
    if project.has_no_program:
        return replace(unseen, detail=project.problem, code="HOST_001", remedy=INSTALL)
    state, remedy = "invalid", "correct the file; `docker compose config --quiet` checks it"
    if project.is_missing:
        state, remedy = "missing", "correct `stack.compose` in the configuration"
    return Finding("compose", name, Status.FAIL, state, project.problem, None, remedy)
