"""Whether the settings of a Git repository can run a program when Git only reads."""

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from opskit.agent.policy.decision import Objection
from opskit.agent.policy.rules import ShippedRules

#: Only lines of these shapes are read; Git knows more, and whoever uses it is asked.
_SECTION = re.compile(r"\s*\[(\w+)(?: \"[^\"\\\]]*\")?\]\s*")
_SETTING = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:=[^\\\"#;]*)?")
_COMMENT = re.compile(r"\s*(?:[#;].*)?")
_MAX_INDEX_BYTES = 64 * 1024 * 1024
#: An entry of the index: its mode at 24, its flags at 60, its name after them (gitformat-index(5)).
_ENTRY_BYTES = 62
_GITLINK = 0o160000
_EXTENDED = 0x4000


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
    if not _plain_index(git / "index"):
        yield "it has submodules, whose own settings can run programs"
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


def _plain_index(path: Path) -> bool:
    """Tell whether no entry of the index is another repository; False for what cannot be told."""
    try:
        if path.stat().st_size > _MAX_INDEX_BYTES:
            return False
        data = path.read_bytes()
        signature, version, count = struct.unpack_from(">4sII", data)
        if signature != b"DIRC" or version not in (2, 3):
            return False
        at = 12
        for _ in range(count):
            mode, flags = struct.unpack_from(">I32xH", data, at + 24)
            if mode == _GITLINK:
                return False
            name = at + _ENTRY_BYTES + (2 if flags & _EXTENDED else 0)
            at += (data.index(0, name) - at) // 8 * 8 + 8
        # What follows is a checksum, and extensions: small letters are those that change the meaning.
        while at + 28 <= len(data):
            name_of_extension, size = struct.unpack_from(">4sI", data, at)
            if not name_of_extension[:1].isupper():
                return False
            at += 8 + size
    except FileNotFoundError:
        return True
    except (OSError, ValueError, struct.error):
        return False
    return True
