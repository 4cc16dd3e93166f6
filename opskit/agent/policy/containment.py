"""Which file a word of a command names, and whether the agent may read it without asking."""

import ipaddress
import os
import re
import stat
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from urllib.parse import urlsplit

from opskit.agent.policy.rules import Objection, PolicyRules, ShippedRules
from opskit.diagnose.secret_names import promises_secret

#: A folder with more than this is not searched for secrets to its end.
MAX_ENTRIES = 20_000
_MAX_LINKS = 100
_DELIMITERS = re.compile(r"[=@:,;|\s]+")
#: Kinds of files whose name tells what is in them: code that is called `password_reset.py` is no password.
_DATA_SUFFIXES = frozenset(
    {"", ".txt", ".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".xml", ".properties", ".bak"}
)
_HARMLESS = frozenset({"/dev/null", "-"})
#: What curl would expand or read as another host stays out.
_URL = re.compile(r"[A-Za-z0-9_./:?&=%-]+")


class Containment:
    """Judges words by the folder that the agent may read. Without a workspace no path is inside.

    `remote`: the words are for another machine, whose files cannot be looked at from here.
    """

    def __init__(self, workspace: Path | None, rules: PolicyRules, *, remote: bool = False) -> None:
        self._rules = rules
        self._remote = remote
        self.root = None if workspace is None or remote else Path(os.path.realpath(workspace))

    def objection(self, kind: str, word: str) -> Objection | None:
        """Return why a word of this kind asks."""
        if kind == "lsof_word" and "@" not in word and not self._is_of_kind("lsof_address", word):
            kind = "path"
        if kind in ("path", "file"):
            inside = self.path_objection(word) or self._text_objection(word, missing=True)
            return inside or (self._folder_objection(word) if kind == "file" else None)
        if kind == "revision":
            paths = (word, *word.split(":")[1:])
            return next(filter(None, map(self.path_objection, paths)), None)
        if kind in ("host", "dig_word") and not (kind == "dig_word" and self._is_of_kind(kind, word)):
            # What a name server is asked can carry anything out of here.
            known = word.casefold().removesuffix(".") in self._rules.known_hosts or is_address(word)
            return (
                None
                if known and self._is_of_kind("host", word)
                else Objection("host", f"{word} is neither an address nor a host of the configuration")
            )
        if kind == "local_api":
            return (
                None if self._is_local_api(word) else Objection("address", f"{word} is no node or agent here")
            )
        if not self._is_of_kind(kind, word):
            return Objection("operand", f"{word} is not a word that is known here")
        return self._text_objection(word, missing=kind != "text")

    def _is_of_kind(self, kind: str, word: str) -> bool:
        return self._rules.shipped.kinds[kind].fullmatch(word) is not None

    def free(self, word: str) -> bool:
        """Tell whether a wildcard may take the word: it is no option and names nothing outside."""
        return (
            not word.startswith("-")
            and (
                self._text_objection(word, missing=True)
                or (self.path_objection(word) if self.root is not None else None)
            )
            is None
        )

    def path_objection(self, word: str) -> Objection | None:
        """Judge a word that the program opens as a file."""
        if word in _HARMLESS:
            return None
        if self._remote:
            return Objection("outside-workspace", f"{word} is a path on the other machine")
        if self.root is None:
            return Objection("no-workspace", f"{word} is a path, and `agent.workspace` is not set")
        real = Path(os.path.realpath(self.root / word))
        if leads_through_process(self.root / word):
            return Objection("outside-workspace", f"{word} leads through /proc or /dev")
        if word.startswith("~") or not real.is_relative_to(self.root):
            return Objection("outside-workspace", f"{word} is outside of {self.root}")
        written = Path(os.path.normpath(self.root / word))
        written_below = written.relative_to(self.root).parts if written.is_relative_to(self.root) else ()
        names = {*real.relative_to(self.root).parts, *written_below}
        if any(is_secret_name(name, self._rules.shipped) for name in names):
            return Objection("secret", f"{word} has a name that promises a secret")
        try:
            mode = real.stat().st_mode
        except OSError:
            return None
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return Objection("special-file", f"{word} is neither a file nor a folder")
        return None

    def _folder_objection(self, word: str) -> Objection | None:
        """Judge a word of a program that follows the links in a folder."""
        folder = self.root is not None and (self.root / word).is_dir()
        return (
            Objection("operand", f"{word} is a folder, and its links would be followed") if folder else None
        )

    def _text_objection(self, word: str, *, missing: bool) -> Objection | None:
        """Judge a word that may name a file: as a whole, and each part behind `=`, `@`, `:` or a comma.

        Without `missing` a path that leads to nothing is only text, such as `/api/tags` in a search.
        """
        root = self.root or Path("/")
        for text in {word, *_DELIMITERS.split(word)} - {""}:
            path = os.path.expanduser(text)  # noqa: PTH111 - an unknown user stays a name
            leads_away = text.startswith(("/", "~")) or ".." in PurePath(text).parts
            if self._remote:
                if leads_away:
                    return Objection("outside-workspace", f"{text} is a path on the other machine")
            elif (leads_away and missing) or os.path.lexists(root / path):
                objection = self.path_objection(path)
                if objection is not None:
                    return objection
        return None

    def secret_below(self, words: Iterable[str]) -> Objection | None:
        """Judge a command that reads every file below the folders among its words, or below all of them."""
        if self.root is None:
            return None
        entries = 0
        for word in [word for word in words if os.path.lexists(self.root / word)] or ["."]:
            for folder, folders, files in os.walk(self.root / word):
                entries += len(folders) + len(files)
                if entries > MAX_ENTRIES:
                    return Objection("secret", f"{word} has too many files to look for secrets among them")
                for name in (*files, *folders):
                    if is_secret_name(name, self._rules.shipped):
                        path = os.path.relpath(os.path.join(folder, name), self.root)  # noqa: PTH118
                        return Objection("secret", f"it reads all files below {word}, {path} among them")
        return None

    def _is_local_api(self, word: str) -> bool:
        if self._remote or not _URL.fullmatch(word):
            return False
        try:
            parts = urlsplit(word)
        except ValueError:
            return False
        return f"{parts.scheme}://{parts.netloc}" in self._rules.local_urls


def is_address(word: str) -> bool:
    """Tell whether a word is an address that carries nothing: IPv4, or IPv6 of this machine or its network.

    The name server of a network is asked for the names of its addresses, and one of IPv6 has room for text.
    """
    try:
        address = ipaddress.ip_address(word)
    except ValueError:
        return False
    return address.version == 4 or not address.is_global


def leads_through_process(path: Path) -> bool:
    """Tell whether a path leads through /proc or /dev, whose links lead elsewhere in another process."""
    waiting, links = [path], set[Path]()
    while waiting:
        way = waiting.pop()
        for place in (way, *way.parents):
            if os.path.normpath(place) in ("/proc", "/dev") or len(links) > _MAX_LINKS:
                return True
            if place not in links and place.is_symlink():
                links.add(place)
                waiting.append(place.parent / place.readlink())
    return False


def is_secret_name(name: str, rules: ShippedRules) -> bool:
    """Tell whether a file or a folder of this name holds secrets."""
    name = name.casefold()
    if any(fnmatchcase(name, pattern) for pattern in rules.not_secrets):
        return False
    if any(fnmatchcase(name, pattern) for pattern in rules.secrets):
        return True
    path = PurePath(name)
    return path.suffix in _DATA_SUFFIXES and promises_secret(path.stem)
