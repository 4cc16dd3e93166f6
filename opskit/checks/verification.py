"""What `opskit verify` does: checklists are read and run, and a check is written from the live state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opskit.checks import checklist, runner
from opskit.checks.check_shape import default_expectation
from opskit.checks.kinds import KINDS
from opskit.checks.kinds.databases import can_be_read
from opskit.checks.spec import Check, Kind
from opskit.config.document import FromEnvironment, dotted, printable, unknown
from opskit.config.schema import Config
from opskit.config.values import validated
from opskit.errors import OpskitError, UsageError
from opskit.facts.survey import Survey
from opskit.records import Record, replace
from opskit.result import Status

_HINT = "`opskit verify --kinds` shows kinds and their parameters"


class Verification(Record):
    """One configuration in one environment: where checklists are read and checks run."""

    config: Config
    environ: Mapping[str, str]
    cwd: Path

    @property
    def variables(self) -> dict[str, str]:
        """The environment with the addresses of the configuration, which already reads the environment."""
        names = {"ollama": "OLLAMA_API_URL", "mlx": "MLX_API_URL"}
        urls = {names[node.name]: node.url for node in self.config.nodes if node.name in names}
        urls |= {f"{agent.name.upper().replace('-', '_')}_URL": agent.url for agent in self.config.agents}
        return {**self.environ, **urls}

    def checklist(self, files: Sequence[str], given: Mapping[str, str]) -> checklist.Checklist:
        """Read checklists; `given` wins over their variables. Raises ChecklistError or ConfigError."""
        database = self.environ.get("DATABASE_URL", "").strip()
        each = {
            "nodes": [node.name for node in self.config.nodes],
            "agents": [agent.name for agent in self.config.agents],
            "databases": [database] if can_be_read(database) else [],
        }
        return checklist.load(files, given=given, environ=self.variables, cwd=self.cwd, each=each)

    async def recorded(
        self, survey: Survey, kind: str, given: Mapping[str, str], *, name: str | None = None
    ) -> dict[str, Any]:
        """Return a check of the live state as it would stand in a checklist. `given` are its parameters.

        Raises UsageError for parameters that cannot be used, and OpskitError when there is nothing to record:
        what is broken now must not become what is expected.
        """
        if kind not in KINDS:
            raise UsageError(f"{printable(kind)}: {unknown(kind, KINDS, 'kind')}", remedy=_HINT)
        check, params = _probe(KINDS[kind], given)
        check = replace(check, name=name or f"{kind} {check.target}")
        finding, values = await runner.observed(check, survey)
        if values is None or finding.status in (Status.SKIP, Status.INCONCLUSIVE):
            code = finding.code if finding.code not in (None, "BUG_001") else "VAL_001"
            problem = f"there is no state to record: {finding.detail}"
            raise OpskitError(str(code), problem, remedy=finding.remedy or _HINT)
        record: dict[str, Any] = {"name": check.name, "kind": kind}
        if params:
            record["with"] = params
        # Words and whole numbers as they are; amounts keep the bound that the kind expects anyway.
        record["expect"] = {
            key: values[key] if isinstance(values.get(key), str | bool | int) else usual
            for key, usual in check.kind.expects.items()
        }
        return record


def _probe(kind: Kind, given: Mapping[str, str]) -> tuple[Check, dict[str, Any]]:
    """Return a check with the given parameters, and the parameters as YAML can write them."""
    # Text as from a variable: it may stand for a number or a truth value.
    texts = {key: FromEnvironment(text) for key, text in given.items()}
    problems: list[str] = []
    params = validated(
        kind.params, texts, (), lambda at, message: problems.append(f"{dotted(at)} {message}".strip())
    )
    if params is None:
        raise UsageError(f"{kind.name}: {'; '.join(problems)}", remedy=_HINT)
    check = Check("", kind, params, default_expectation(kind), timeout_s=kind.timeout_s)
    return check, {key: _plain(getattr(params, key)) for key in texts}


def appended(text: str, check: Mapping[str, Any]) -> str:
    """Return a checklist with one more check; an empty text becomes a checklist."""
    import yaml

    item = yaml.safe_dump([check], allow_unicode=True, sort_keys=False, width=110)
    if not text.strip():
        return f"checks:\n{item}"
    entries = [line for line in text.splitlines() if line.lstrip().startswith("- ")]
    indent = " " * (len(entries[-1]) - len(entries[-1].lstrip())) if entries else ""
    lines = "".join(f"{indent}{line}\n" for line in item.splitlines())
    return f"{text.rstrip()}\n{lines}"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
