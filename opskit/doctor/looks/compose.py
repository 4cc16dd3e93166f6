"""The look at a Compose project: can its files be read, and are its variables set."""

import re
from dataclasses import replace
from pathlib import Path

from opskit.checks.spec import Check, CheckContext, Observation
from opskit.doctor.evidence import ProjectFacts
from opskit.doctor.looks.board import FactBoard, check


def compose(board: FactBoard, name: str, files: tuple[Path, ...]) -> Check:
    """Whether Compose can read the files of one project, laid over one another. No daemon is needed."""

    async def look(scene: CheckContext) -> Observation:
        from opskit.system.compose import find
        from opskit.system.program import NotStarted

        texts = tuple(map(str, files))
        facts = ProjectFacts(name, texts)
        lost = [str(path) for path in files if not path.is_file()]
        if lost:
            board.projects[name] = replace(facts, problem=f"there is no file {', '.join(lost)}")
            return Observation({}, problem=board.projects[name].problem, state="missing")
        try:
            program = await find(files, env=scene.around.environ)
        except NotStarted as exc:
            board.projects[name] = replace(facts, missing_program=True)
            return Observation({}, problem=exc.message, code=exc.code, remedy=exc.remedy)
        done = await program("config", "--services")
        facts = replace(facts, command=program.command, unset=unset_variables(done.err))
        if done.exit:
            board.projects[name] = replace(facts, problem=done.complaint)
            return Observation({}, problem=done.complaint, state="invalid")
        board.projects[name] = replace(facts, services=tuple(sorted(done.out.split())))
        told = f"variables without a value: {', '.join(facts.unset)}" if facts.unset else ""
        return Observation({}, f"{len(board.projects[name].services)} services", problem=told)

    return check(
        f"compose {name}",
        look,
        area="docker",
        target=name,
        timeout_s=30.0,
        imports=("opskit.system.compose",),
    )


def unset_variables(complaints: str) -> tuple[str, ...]:
    """Names out of Compose's warnings: version 1 writes them bare, version 2 in quotes."""
    found = re.findall(r"[Tt]he \\?\"?([A-Za-z_][A-Za-z0-9_]*)\\?\"? variable is not set", complaints)
    return tuple(dict.fromkeys(found))
