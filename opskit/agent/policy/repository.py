"""Whether the settings of a Git repository can run a program when Git only reads."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from opskit.agent.policy.decision import Objection
from opskit.agent.policy.rules import ShippedRules

#: Only lines of these shapes are read; Git knows more, and whoever uses it is asked.
_SECTION = re.compile(r"\s*\[(\w+)(?: \"[^\"\\\]]*\")?\]\s*")
_SETTING = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:=[^\\\"#;]*)?")
_COMMENT = re.compile(r"\s*(?:[#;].*)?")


def repository_objection(folder: Path, root: Path, rules: ShippedRules) -> Objection | None:
    """Return why a Git command in `folder` asks: it would use a repository that is more than plain."""
    for place in (folder, *folder.parents):
        for problem in _problems(place, rules):
            return Objection("repository", f"{place}: {problem}")
        if place == root:
            break
    return None


def _problems(place: Path, rules: ShippedRules) -> Iterator[str]:
    git = place / ".git"
    if (place / "HEAD").exists() and (place / "objects").exists():
        yield "it is a bare repository"
    if not os.path.lexists(git):
        return
    if git.is_symlink() or not git.is_dir() or (git / "commondir").exists():
        yield "its .git leads somewhere else"
    if (git / "config.worktree").exists():
        yield "it has settings of a worktree"
    try:
        text = (git / "config").read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        yield "its settings cannot be read"
        return
    known: frozenset[str] = frozenset()
    for line in text.split("\n"):
        if section := _SECTION.fullmatch(line):
            known = rules.git_settings.get(section[1].lower(), frozenset())
        elif setting := _SETTING.fullmatch(line):
            if setting[1].lower() not in known:
                yield f"its .git/config has the setting {setting[1]}, which may run a program"
        elif not _COMMENT.fullmatch(line):
            yield "its .git/config cannot be judged"
