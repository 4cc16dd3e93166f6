"""The section `agent`: limits and rules for the agent's tools, and what is wrong with them."""

import pytest

from opskit.config.document import InvalidConfigError


def test_rules_and_limits_are_read(configured):
    """What the file says is in the tree, and what it does not say keeps its default."""
    agent = configured(
        "agent:\n"
        "  workspace: ~/stack\n"
        "  ssh_hosts: [gpu-box, ops@10.0.0.5]\n"
        "  policy: {allow: [docker restart *]}\n"
        "  tools: {timeout_s: 5s}\n"
    ).config.agent
    assert (agent.workspace, agent.ssh_hosts) == ("~/stack", ("gpu-box", "ops@10.0.0.5"))
    assert agent.policy.allow == ("docker restart *",)
    assert (agent.tools.timeout_s, agent.tools.output_bytes, agent.sandbox) == (5.0, 16384, "auto")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("policy: {alow: [x]}", "did you mean `allow`?"),
        ("tools: {timeot_s: 3}", "did you mean `timeout_s`?"),
        ("sandbox: maybe", "must be 'auto', 'required' or 'off'"),
        ('policy: {allow: ["* restart"]}', "without wildcards"),
        ('policy: {allow: ["p?thon x"]}', "without wildcards"),
        ('policy: {deny: ["docker ... x"]}', "only the last word"),
        ('policy: {ask: ["say \\"x"]}', "not closed"),
        ('policy: {ask: ["..."]}', "name of a program"),
        ('policy: {ask: [""]}', "must not be empty"),
        ('policy: {ask: ["a\\nb"]}', "cannot be shown"),
        ("policy: {ask: 3}", "must be a list"),
        ("ssh_hosts: [-oProxyCommand=id]", "host as ssh names it"),
        ('ssh_hosts: ["a b"]', "host as ssh names it"),
        ("tools: {output_bytes: 0}", "at least 1"),
        ("tools: {timeout_s: -1}", "more than 0"),
    ],
)
def test_a_mistake_is_reported_with_its_line(configured, line, message):
    """Every mistake has file and line, and says what is right."""
    with pytest.raises(InvalidConfigError) as caught:
        configured(f"agent:\n  {line}\n")
    (problem,) = caught.value.problems
    assert problem.line == 2
    assert message in problem.message
