"""How the profiles of models look: what each can do, and what it cost to find out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opskit.cli import render

if TYPE_CHECKING:
    from opskit.llm.profile import ModelProfile

_ABILITIES = (
    "node",
    "model",
    "schema",
    "native tools",
    "tools as text",
    "thinking",
    "context",
    "agent asks by",
)
_COSTS = ("node", "model", "probe", "result", "seconds", "tokens read", "tokens written")


def page(profiles: "Sequence[ModelProfile]") -> None:
    """Print a table of abilities and one of costs."""
    if not profiles:
        return
    render.table(_ABILITIES, [_abilities(profile) for profile in profiles])
    render.line("")
    costs = []
    for profile in profiles:
        for probe in profile.probes:
            tokens = (_count(probe.prompt_tokens), _count(probe.completion_tokens))
            costs.append(
                [profile.node, profile.model, probe.name, probe.outcome, f"{probe.seconds:.2f}", *tokens]
            )
    render.table(_COSTS, costs)
    for profile in profiles:
        load = "" if profile.load_s is None else f", after a load of {profile.load_s:.1f} s"
        at = f"{profile.probed_at:%Y-%m-%d %H:%M} UTC"
        render.line(f"{profile.model} on {profile.node}: probed at {at} in {profile.seconds:.1f} s{load}")


def _abilities(profile: "ModelProfile") -> list[str]:
    flags = (profile.enforces_schema, profile.native_tools, profile.tools_as_text, profile.thinks)
    context = f"{_count(profile.real_context)} of {_count(profile.trained_context)}"
    words = ["yes" if flag else "no" for flag in flags]
    return [profile.node, profile.model, *words, context, profile.mode.value]


def _count(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)
