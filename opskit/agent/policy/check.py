"""A decision as a report, for `opskit policy check`."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from opskit.agent.policy.decide import decide
from opskit.agent.policy.decision import Ruling
from opskit.agent.policy.rules import policy_rules
from opskit.config.schema import Config
from opskit.errors import UsageError
from opskit.result import Finding, Report, Status

_STATUSES = {Ruling.ALLOW: Status.PASS, Ruling.ASK: Status.INCONCLUSIVE, Ruling.DENY: Status.FAIL}


def checked(
    argv: Sequence[str], workspace: Path | None, config: Config, environ: Mapping[str, str]
) -> Report:
    """Return the decision about one command. Raises UsageError for a workspace that is no folder."""
    if workspace is not None and not workspace.is_dir():
        raise UsageError(f"the workspace {workspace} is not a folder", remedy="set `agent.workspace`")
    decision = decide(argv, workspace, policy_rules(config, environ))
    remedies = {
        "ask.no-workspace": "set `agent.workspace`, or give --workspace DIR",
        "ask.unknown-program": "allow it in `agent.policy.allow` if the agent may run it",
    }
    finding = Finding(
        check="policy",
        target=shlex.join(argv),
        status=_STATUSES[decision.ruling],
        state=decision.ruling.value,
        detail=decision.why,
        remedy=remedies.get(decision.rule),
        evidence={
            "rule": decision.rule,
            "argv": list(argv),
            "program": decision.program,
            "workspace": None if workspace is None else str(workspace),
        },
    )
    return Report("policy check", [finding])
