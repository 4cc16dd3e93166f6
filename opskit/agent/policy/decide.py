"""The policy: one command in, one decision out. It looks at files; it runs and changes nothing."""

import os
import re
import shlex
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from opskit.agent.policy.arguments import ReadArguments
from opskit.agent.policy.containment import MAX_ENTRIES, Containment, is_secret_name
from opskit.agent.policy.identity import ProgramIdentity, identify, plain_names
from opskit.agent.policy.rules import (
    CommandRule,
    Decision,
    Objection,
    PolicyRules,
    Ruling,
    ShippedRules,
    policy_rules,
)
from opskit.config.compose_files import with_override
from opskit.config.schema import Config
from opskit.errors import UsageError
from opskit.facts.compose_project import project_files
from opskit.result import Finding, Report, Status

#: Only lines of these shapes are read; Git knows more, and a person is asked about it.
_SECTION = re.compile(r"\s*\[(\w+)(?: \"[^\"\\\]]*\")?\]\s*")
_SETTING = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:=[^\\\"#;]*)?")
_COMMENT = re.compile(r"\s*(?:[#;].*)?")
#: What makes Git read another repository, or further settings.
_NOT_PLAIN = ("commondir", "config.worktree", "objects/info/alternates")
_MAX_INDEX_BYTES = 64 * 1024 * 1024
#: An entry of the index: its mode at 24, its flags at 60, its name after them (gitformat-index(5)).
_ENTRY_BYTES = 62
_GITLINK = 0o160000
_EXTENDED = 0x4000


def repository_objection(
    folder: Path, root: Path, rules: ShippedRules, *, shows_files: bool = False
) -> Objection | None:
    """Return why a Git command in `folder` asks: it would use a repository that is more than plain.

    `shows_files`: it prints the content of files, also of those whose name promises a secret.
    """
    for place in (folder, *folder.parents):
        for problem in _problems(place, rules):
            return Objection("repository", f"{place}: {problem}")
        for name in _names_in_index(place / ".git" / "index") or () if shows_files else ():
            if any(is_secret_name(part, rules) for part in name.split("/")):
                return Objection("secret", f"it may show {name}, which has a name that promises a secret")
        if place == root:
            break
    return None


def _problems(place: Path, rules: ShippedRules) -> Iterator[str]:
    git = place / ".git"
    if (place / "HEAD").exists() and (place / "objects").exists():
        yield "it is a bare repository"
    if not os.path.lexists(git):
        return
    if git.is_symlink() or not git.is_dir():
        yield "its .git leads somewhere else"
    yield from (f"it has {name}, and is not plain" for name in _NOT_PLAIN if (git / name).exists())
    if (leads_away := _leads_away(git)) is not None:
        yield leads_away
    if _names_in_index(git / "index") is None:
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


def _leads_away(git: Path) -> str | None:
    """Return why the files of a repository may be others: Git prints lines of what it cannot use."""
    entries, folders = 0, [str(git)]
    while folders:
        with os.scandir(folders.pop()) as found:
            for entry in found:
                entries += 1
                if entry.is_symlink():
                    return f"{os.path.relpath(entry.path, git.parent)} is a link"
                if entries > MAX_ENTRIES:
                    return "its .git has too many files to look for links among them"
                # Hooks are never run.
                if entry.is_dir() and entry.name != "hooks":
                    folders.append(entry.path)
    return None


def _names_in_index(path: Path) -> list[str] | None:
    """Return the tracked files; None where one is another repository, or where that cannot be told."""
    names = list[str]()
    try:
        if path.stat().st_size > _MAX_INDEX_BYTES:
            return None
        data = path.read_bytes()
        signature, version, count = struct.unpack_from(">4sII", data)
        if signature != b"DIRC" or version not in (2, 3):
            return None
        at = 12
        for _ in range(count):
            mode, flags = struct.unpack_from(">I32xH", data, at + 24)
            if mode == _GITLINK:
                return None
            name = at + _ENTRY_BYTES + (2 if flags & _EXTENDED else 0)
            end = data.index(0, name)
            names.append(os.fsdecode(data[name:end]))
            at += (end - at) // 8 * 8 + 8
        # What follows is a checksum, and extensions: small letters change the meaning.
        while at + 28 <= len(data):
            name_of_extension, size = struct.unpack_from(">4sI", data, at)
            if not name_of_extension[:1].isupper():
                return None
            at += 8 + size
    except FileNotFoundError:
        return []
    except (OSError, ValueError, struct.error):
        return None
    return names


MAX_WORDS = 200
MAX_CHARS = 32 * 1024
MAX_WHY_CHARS = 300
_EMPTY = CommandRule()
_STATUSES = {Ruling.ALLOW: Status.PASS, Ruling.ASK: Status.INCONCLUSIVE, Ruling.DENY: Status.FAIL}
#: A shell of the other machine that is not POSIX reads these inside quotes too.
_NOT_QUOTED_EVERYWHERE = "\\'!"


def decide(
    argv: Sequence[str], workspace: Path | None, rules: PolicyRules, *, remote: bool = False
) -> Decision:
    """Decide about a command; what is denied is never asked about, what asks is never simply allowed.

    `workspace` is the folder in which it would run, None when there is none. `remote`: it would run on
    another machine, whose files cannot be looked at.
    """
    argv = tuple(argv)
    if (problem := _malformed(argv)) is not None:
        return Decision(Ruling.DENY, f"deny.{problem.rule}", problem.why, argv)
    try:
        return _decision(argv, workspace, rules, remote=remote)
    except OSError as exc:
        # A folder that may not be searched, or a link that went away between two looks at it.
        why = f"{exc.filename}: {exc.strerror}"[:MAX_WHY_CHARS]
        return Decision(Ruling.ASK, "ask.cannot-be-judged", why, argv)


def _decision(argv: tuple[str, ...], workspace: Path | None, rules: PolicyRules, *, remote: bool) -> Decision:
    containment = Containment(workspace, rules, remote=remote)
    program = identify(argv, rules, containment.root, remote=remote)
    rule = rules.shipped.programs.get(program.name)
    known = rule or rules.shipped.watched.get(program.name, _EMPTY)
    reading = ReadArguments(program.name, known, words=list(program.words)).read()
    user = False
    if (refusal := _denied(program, reading, rules)) is not None:
        ruling, reason = Ruling.DENY, refusal
    elif (wish := _rule_of_user(argv[0], program, rules, containment)) is not None:
        ruling, reason = wish
        user = ruling is Ruling.ALLOW
    elif rule is None:
        is_watched = program.name in rules.shipped.watched
        why = "can change something" if is_watched else "is not a program that opskit knows as harmless"
        ruling, reason = Ruling.ASK, program.objection or Objection("unknown-program", f"{argv[0]} {why}")
    else:
        objections = _objections(argv, program, reading, containment, shipped=rules.shipped, remote=remote)
        objection = next(filter(None, objections), None)
        ruling = Ruling.ALLOW if objection is None else Ruling.ASK
        reason = objection or Objection(reading.command.replace(" ", "."), f"{reading.command} only reads")
    return Decision(
        ruling,
        f"{ruling}.{reason.rule}",
        reason.why[:MAX_WHY_CHARS],
        argv,
        program.path,
        network=user or reading.rule.network,
        unconfined=reading.rule.unconfined,
        user=user,
    )


def _malformed(argv: Sequence[str]) -> Objection | None:
    if not argv or not argv[0]:
        return Objection("empty", "there is no program")
    if len(argv) > MAX_WORDS or sum(map(len, argv)) > MAX_CHARS:
        return Objection("too-long", f"more than {MAX_WORDS} words or {MAX_CHARS} characters")
    if not all(word.isprintable() for word in argv):
        return Objection(
            "control-character", "a word holds a newline or another character that cannot be shown"
        )
    return None


def _denied(program: ProgramIdentity, reading: ReadArguments, rules: PolicyRules) -> Objection | None:
    for name in program.names:
        for plain in plain_names(name):
            if plain in rules.shipped.denied:
                group, why = rules.shipped.denied[plain]
                return Objection(group, f"{name} {why}")
    if program.untrusted is not None:
        return program.untrusted
    if reading.denied is not None:
        return reading.denied
    for index, pattern in enumerate(rules.deny):
        if pattern.matches(program.names, program.words):
            return Objection(f"user[{index}]", f"agent.policy.deny has {pattern.text!r}")
    return None


def _rule_of_user(
    word: str, program: ProgramIdentity, rules: PolicyRules, containment: Containment
) -> tuple[Ruling, Objection] | None:
    for ruling, patterns in ((Ruling.ASK, rules.ask), (Ruling.ALLOW, rules.allow)):
        for index, pattern in enumerate(patterns):
            if ruling is Ruling.ASK:
                matches = pattern.matches(program.names, program.words)
            else:
                name = program.name if program.objection is None else word
                matches = pattern.matches((name,), program.words, containment.free)
            if matches:
                return ruling, Objection(f"user[{index}]", f"agent.policy.{ruling} has {pattern.text!r}")
    return None


def _objections(
    argv: Sequence[str],
    program: ProgramIdentity,
    reading: ReadArguments,
    containment: Containment,
    *,
    shipped: ShippedRules,
    remote: bool,
) -> Iterator[Objection | None]:
    """Yield why a command of a known program asks, the first reason first; None where one does not hold."""
    yield program.objection
    yield reading.objection
    if reading.rule.here and containment.root is None:
        yield Objection(
            "no-workspace", f"{reading.command} reads the working folder, and there is no workspace"
        )
    if remote and any(char in word for word in argv for char in _NOT_QUOTED_EVERYWHERE):
        yield Objection("remote-quoting", "a word holds a character that not every shell takes literally")
    for kind, word in (*reading.operands, *reading.values):
        yield containment.objection(kind, word)
    if reading.reads_all and not reading.rule.repository:
        yield containment.secret_below(word for _, word in reading.operands)
    root = containment.root
    if reading.rule.compose and root is not None:
        yield _compose_objection(reading, root)
    if reading.rule.repository and root is not None:
        folders = [word for kind, word in reading.values if kind == "path"]
        if len(folders) > 1:
            yield Objection("repository", "of several -C each begins in the folder of the one before")
        for folder in (".", *folders):
            place = (root / folder).resolve()
            yield repository_objection(place, root, shipped, shows_files=reading.reads_all)


def _compose_objection(reading: ReadArguments, root: Path) -> Objection | None:
    """Return why a Compose command asks: it would read files outside, and print lines that it cannot use."""
    named = [root / word for kind, word in reading.values if kind == "path"]
    for path in project_files(with_override(named or [root]), {}):
        if not Path(os.path.realpath(path)).is_relative_to(root):
            return Objection("outside-workspace", f"the Compose project reads {path}")
    return None


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
