"""Which names a person may pause: everything that recovery knows of this stack. Pure."""

from collections.abc import Iterable

from opskit.config.schema import Config
from opskit.errors import OpskitError, UsageError
from opskit.recovery.memory import Memory
from opskit.recovery.pauses import ALL, same

#: The steps that are there whatever the configuration says.
STEPS = ("wifi", "internet", "docker", "network")
_MAX_CHARS = 200


def known(config: Config, memory: Memory) -> list[str]:
    """Steps, Compose projects, nodes, agents, containers, and the targets that recovery has met."""
    met: list[str] = []
    targets = (memory.last_run or {}).get("targets")
    for one in targets if isinstance(targets, list) else ():
        if isinstance(one, dict):
            met += [str(one.get("step", "")), str(one.get("target", ""))]
    names = (
        *STEPS,
        *(f"compose:{name}" for name in config.stack.compose),
        *(node.name for node in config.nodes),
        *(agent.name for agent in config.agents),
        *(f"container:{name}" for group in config.stack.containers.values() for name in group),
        *memory.targets,
        *met,
    )
    return [name for name in dict.fromkeys(names) if name]


def chosen(name: str, among: Iterable[str], *, force: bool = False, command: str = "pause") -> str:
    """The name as it will be kept. Raises OpskitError RECOVER_002, with near names, for an unknown one.

    With `force` any name will do; `command` is who asks. Raises UsageError for what cannot be a name.
    """
    if not name.strip() or not name.isprintable() or len(name) > _MAX_CHARS:
        raise UsageError("that is no name of a target", remedy="`opskit status` lists the targets")
    name = name.strip()
    names = list(among)
    if name == ALL or force or any(same(name, one) for one in names):
        return name
    import difflib

    bare = {one.partition(":")[2] or one: one for one in names}
    near = difflib.get_close_matches(name, [*names, *bare], 3, 0.6)
    found = list(dict.fromkeys(bare.get(one, one) for one in near))
    hint = f"did you mean {' or '.join(found)}?" if found else f"known: {', '.join(names)}"
    remedy = f"`opskit {command} {found[0]}`" if found else "`opskit recover --dry-run` lists the targets"
    if command == "pause":
        remedy += "; `--force` takes a name that is not known yet"
    raise OpskitError("RECOVER_002", f"there is no target {name!r}; {hint}", remedy=remedy)
