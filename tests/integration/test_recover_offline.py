"""Without the internet: a whole run over real steps, with a webhook that counts what it is told."""

import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from opskit.config.load import load
from opskit.errors import Exit
from opskit.facts.internet import InternetTargets
from opskit.facts.survey import Survey
from opskit.recovery.outcome import RecoveryRun, RepairResult
from opskit.recovery.run import RecoverOptions, recover
from opskit.recovery.step import RecoveryContext, Step
from opskit.recovery.steps.network import internet
from opskit.recovery.steps.servers import agents, nodes
from opskit.sandbox.stage import Stage
from tests.parts.command import environment

#: Port 9 (discard) of loopback, where nothing listens, and a name that never resolves (RFC 6761).
NOWHERE = InternetTargets(by_name=("nobody.invalid:9",), by_address=("127.0.0.1:9",))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with Stage() as made:
        yield made


def offline(context: RecoveryContext) -> Sequence[Step]:
    return [internet(context, targets=NOWHERE), *nodes(context), *agents(context)]


async def run(home: Path, stage: Stage, hook: str, later_s: float) -> RecoveryRun:
    env = environment(home, {**stage.environment(), "HOOK": hook, "DOCKER_HOST": "unix:///nowhere.sock"})
    (home / "opskit.yaml").write_text("notices: {webhook: '${HOOK}', desktop: false}\n")
    config = load(None, environ=env, cwd=home, in_docker=False).config
    state = home / "state"
    state.mkdir(exist_ok=True)
    async with Survey(config, {**os.environ, **env}, state_folder=state, cwd=state) as survey:
        return await recover(
            survey,
            RecoverOptions(),
            steps=offline,
            platform=sys.platform,
            clock=lambda: time.time() + later_s,
        )


async def test_local_servers_are_left_alone_and_one_notice_is_sent(
    tmp_path: Path, stage: Stage, httpserver: HTTPServer
):
    """Three runs, five minutes apart: no command, one notice, and a stack that is well is well."""
    httpserver.expect_request("/hook", method="POST").respond_with_data("")
    for later_s in (0.0, 300.0, 600.0):
        done = await run(tmp_path, stage, httpserver.url_for("/hook"), later_s)
        found = {one.target: one.result for one in done.outcomes}
        assert found.pop("internet") is RepairResult.MANUAL
        assert set(found.values()) == {RepairResult.OK}, found
        assert (done.mutations, done.exit()) == (0, Exit.OK)
    told = [request.get_json() for request, _ in httpserver.log]
    assert [(one["level"], one["target"]) for one in told] == [("escalation", "internet")]
