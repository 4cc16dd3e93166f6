"""Which program the first word of a command is, whatever name or link leads to it."""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from opskit.agent.policy.rules import Objection, PolicyRules
from opskit.records import Record, replace

_MAX_LINKS = 40
#: python3.11, pip3, gawk-5.1 and bash5 are python, pip, gawk and bash.
_VERSION = re.compile(r"[-_]?\d+$")


class ProgramIdentity(Record):
    """A program that was found, or the word that should name one.

    `name` is what rules call it, `names` are all names on the way to the file, `words` what follows it.
    `untrusted` denies it, `objection` asks.
    """

    name: str
    names: tuple[str, ...]
    words: tuple[str, ...]
    path: str | None = None
    untrusted: Objection | None = None
    objection: Objection | None = None


def identify(argv: Sequence[str], rules: PolicyRules, root: Path | None, *, remote: bool) -> ProgramIdentity:
    """Return what would be run. `root` is the real folder of the workspace."""
    word = argv[0]
    base = os.path.basename(word)  # noqa: PTH119 - a word, not yet a path
    program = ProgramIdentity(base, (base,), tuple(argv[1:]))
    path = None
    if not remote:
        path = str((root or Path("/")) / word) if "/" in word else program_path(word, rules.search_path)
    if path is None or not os.path.lexists(path):
        objection = Objection("unknown-program", f"there is no program {word}")
        if remote:
            objection = Objection("program-path", f"{word} is a path on the other machine")
        return _applet(replace(program, objection=objection if "/" in word else None), rules)
    steps, real = _steps(path), os.path.realpath(path)
    program = replace(
        program,
        names=tuple(dict.fromkeys((base, *map(os.path.basename, (*steps, real))))),
        path=path,
        untrusted=_untrusted((*steps, real), root),
        objection=_other_program(word, base, real, rules),
    )
    return _applet(program, rules)


def plain_names(name: str) -> tuple[str, ...]:
    """Return a name as it is, without its variant (`vim.basic`), and without its version (`python3.11`)."""
    name = name.casefold()
    variant = name.split(".")[0] or name
    return (name, variant, _VERSION.sub("", variant))


def program_path(word: str, search_path: Sequence[str]) -> str | None:
    """Return the first file of this name that may be run."""
    for folder in search_path:
        path = f"{folder}/{word}"
        if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
            return path
    return None


def _steps(path: str) -> list[str]:
    """Return the path and every link on the way to its file."""
    steps = [path]
    while os.path.islink(steps[-1]) and len(steps) < _MAX_LINKS:  # noqa: PTH114
        folder = os.path.dirname(steps[-1])  # noqa: PTH120
        steps.append(os.path.join(folder, os.readlink(steps[-1])))  # noqa: PTH115, PTH118
    return steps


def _other_program(word: str, base: str, real: str, rules: PolicyRules) -> Objection | None:
    """Ask for a link with another name, and for a file that is not the one which PATH gives."""
    real_name = os.path.basename(real)  # noqa: PTH119
    if real_name not in rules.shipped.multicall and plain_names(real_name)[2] != plain_names(base)[2]:
        return Objection("other-program", f"{word} is a link to {real}")
    usual = program_path(base, rules.search_path)
    if usual is None or os.path.realpath(usual) != real:
        return Objection("other-program", f"{word} is not the {base} of PATH")
    return None


def _applet(program: ProgramIdentity, rules: PolicyRules) -> ProgramIdentity:
    """Return the applet that `busybox NAME ARG...` runs; by a link the program has its name already."""
    while program.name in rules.shipped.multicall:
        if not program.words or program.words[0].startswith("-"):
            objection = Objection("unknown-program", f"{program.name} without a program")
            return replace(program, name="", objection=objection)
        applet = os.path.basename(program.words[0])  # noqa: PTH119
        program = replace(program, name=applet, names=(*program.names, applet), words=program.words[1:])
    return program


def _untrusted(steps: Sequence[str], root: Path | None) -> Objection | None:
    """Deny what somebody else could have put there: in the workspace, or where everybody may write."""
    for step in steps:
        place = Path(os.path.realpath(os.path.dirname(step)))  # noqa: PTH120
        if root is not None and (place / os.path.basename(step)).is_relative_to(root):  # noqa: PTH119
            return Objection("program-in-workspace", f"{step} is in the workspace")
        for folder in (place, *place.parents):
            mode = _mode(folder)
            # In a sticky folder such as /tmp nobody can replace what belongs to others.
            if mode & stat.S_IWOTH and (folder == place or not mode & stat.S_ISVTX):
                return Objection("program-in-open-folder", f"everybody may write in {folder}")
    if _mode(Path(steps[-1])) & stat.S_IWOTH:
        return Objection("program-in-open-folder", f"everybody may write {steps[-1]}")
    return None


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return stat.S_IWOTH
