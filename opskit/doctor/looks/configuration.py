"""Looks at what was configured: opskit's own configuration, and the environment files of the stack."""

from dataclasses import replace

from opskit.checks.spec import Check, Observation
from opskit.doctor.evidence import EnvFileFacts
from opskit.doctor.looks.board import FactBoard, engine


def configuration() -> Check:
    """The engine's own check, with its findings as they are."""

    def judge(seen: Observation) -> Observation:
        unset = seen.values.get("unset_secrets") or []
        problem = "" if seen.values["valid"] else seen.detail
        if unset:
            problem = f"without a value: {', '.join(unset)}"
        return replace(seen, problem=problem)

    return engine("config", {}, judge, name="configuration", area="configuration", target="opskit")


def env_file(board: FactBoard, path: str) -> Check:
    def judge(seen: Observation) -> Observation:
        empty = tuple(seen.values.get("empty_secrets") or ())
        placeholders = tuple(seen.values.get("placeholders") or ())
        board.env_files[path] = EnvFileFacts(path, seen.problem, empty, placeholders)
        told = [f"without a value: {', '.join(empty)}"] if empty else []
        told += [f"a placeholder: {', '.join(placeholders)}"] if placeholders else []
        return replace(seen, problem=seen.problem or "; ".join(told))

    return engine(
        "env_file",
        {"path": path},
        judge,
        name=f"env file {path}",
        area="configuration",
        target=path,
    )
