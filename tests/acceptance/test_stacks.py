"""The doctor on stacks whose true cause is known: it names the true one and accuses nothing else."""

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.stacks import (
    addresses,
    agents,
    configuration,
    containers,
    incidents,
    machine,
    midnight,
    model_servers,
    ollama,
    proxies,
    records,
    strangers,
)
from tests.acceptance.stacks.judging import Verdict, judged
from tests.acceptance.stacks.stack import Stack
from tests.parts.plain_host import plain_host
from tests.parts.postgres import postgres

__all__ = ["postgres"]

AREAS = (
    incidents, midnight,
    addresses, agents, configuration, containers, machine, model_servers, ollama, proxies, records, strangers,
)  # fmt: skip
SIDE_BY_SIDE = 4
SHARE = 0.95


def stacks_of(area: Any) -> Iterator[Stack]:
    """The stacks of a module, in the order in which they stand there."""
    for value in vars(area).values():
        if isinstance(value, Stack):
            yield value
        elif isinstance(value, tuple):
            yield from (stack for stack in value if isinstance(stack, Stack))


STACKS = [stack for area in AREAS for stack in stacks_of(area)]


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Verdict]:
    """The verdicts on the stacks that were selected, which were examined side by side where they can be."""
    params = (item.callspec.params for item in request.session.items if hasattr(item, "callspec"))
    chosen = {stack.name for names in params if isinstance(stack := names.get("stack"), Stack)}
    selected = [stack for stack in STACKS if stack.name in chosen] or STACKS
    needs = dict.fromkeys(need for stack in selected for need in stack.needs)
    parts = {need: request.getfixturevalue(need) for need in needs}
    folder = tmp_path_factory.mktemp("s")
    with plain_host(tmp_path_factory.mktemp("plain")) as host, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:

        def examine(stack: Stack) -> Verdict:
            return judged(stack, folder / stack.name, parts, host)

        together = list(pool.map(examine, [stack for stack in selected if not stack.alone]))
        alone = [examine(stack) for stack in selected if stack.alone]
    return {verdict.stack.name: verdict for verdict in (*together, *alone)}


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: stack.name)
def test_the_true_cause_is_named_and_no_other(stack: Stack, verdicts: Mapping[str, Verdict]):
    """Doctor names what is wrong with this stack, and nothing that is not."""
    verdict = verdicts[stack.name]
    assert verdict.right, verdict.explanation


def test_the_share_of_right_verdicts(verdicts: Mapping[str, Verdict], capsys: pytest.CaptureFixture[str]):
    """At least 95 of 100 stacks are judged right."""
    right = sum(verdict.right for verdict in verdicts.values())
    with capsys.disabled():
        print(f"\ndoctor: {right} of {len(verdicts)} stacks right ({right / len(verdicts):.0%})")
    path = os.environ.get("STACKS_TABLE")
    if path:
        rows = [verdict.row for verdict in verdicts.values()]
        Path(path).write_text(json.dumps(rows, indent=1))
    assert right / len(verdicts) >= SHARE
