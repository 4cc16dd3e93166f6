"""The layer between: what the configuration file says, every problem of it at once."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path as FilePath
from typing import Any

from opskit.config import defaults, shape
from opskit.config.defaults import AGENTS, NODES
from opskit.config.environment import folder, secret
from opskit.config.origins import Origin, Setting, Settings
from opskit.config.problems import Path, Problem, dotted, printable
from opskit.config.schema import AgentConfig, NodeConfig, Secret
from opskit.config.substitute import only_name, substitute
from opskit.config.url import normalise
from opskit.config.yaml import Document
from opskit.errors import ConfigError

_SECRET_DEPTH = 3  # nodes.NAME.api_key


def is_secret(path: Path) -> bool:
    """Whether the value at this place is a secret: `nodes.NAME.api_key`, or a Secret of the schema."""
    if len(path) == _SECRET_DEPTH:
        return path[0] in ("nodes", "agents") and path[2] == "api_key"
    section = defaults.sections().get(str(path[0])) if len(path) == 2 else None
    if section is None:
        return False
    return any(one.name == path[1] and one.type == Secret | None for one in fields(section))


def settings(document: Document, environ: Mapping[str, str], folder_of_file: FilePath) -> "FileLayer":
    """What `document` sets. A relative `state_dir` belongs to the folder of the file."""
    layer = FileLayer(document, environ, folder_of_file)
    layer.read()
    return layer


@dataclass(slots=True)
class FileLayer:
    """What was read so far. Use it only when `problems` is empty."""

    document: Document
    environ: Mapping[str, str]
    folder: FilePath
    settings: Settings = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _told: set[Path] = field(default_factory=set)
    _unset: dict[Path, str] = field(default_factory=dict)

    def read(self) -> None:
        data = {key: self._substituted(value, (key,)) for key, value in self.document.data.items()}
        sections = defaults.sections()
        rootless = {key: value for key, value in data.items() if key in shape.Root.model_fields}
        known = [*shape.Root.model_fields, *sections, "nodes", "agents"]
        for key in data:
            if key not in known:
                self._report((key,), shape.unknown(printable(key), known))
        nodes, agents = data.get("nodes"), data.get("agents")
        self._members("nodes", nodes, NodeConfig, own=NODES, taken=AGENTS)
        others = {*NODES, *(nodes if isinstance(nodes, dict) else ())}
        self._members("agents", agents, AgentConfig, own=AGENTS, taken=others)
        for name, schema in sections.items():
            if name in data:
                self._section(name, shape.checked(shape.section(schema), data[name], (name,), self._report))
        self._root(shape.checked(shape.Root, rootless, (), self._report))
        self.problems.sort(key=lambda problem: (problem.line or 0, problem.column or 0))

    def _root(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if value is None:
                continue
            if key != "state_dir":
                self._set((key,), value)
                continue
            try:
                self._set((key,), str(folder(value, self.folder)))
            except ValueError as exc:
                self._report((key,), str(exc))

    def _section(self, name: str, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict) and value:
                for item, texts in value.items():
                    # Patterns of models are matched against lower-cased names.
                    patterns = (name, key) == ("router", "categories")
                    self._set((name, key, item), tuple(text.lower() if patterns else text for text in texts))
            else:
                self._set((name, key), value)

    def _members(
        self, group: str, members: object, schema: type, *, own: Collection[str], taken: Collection[str]
    ) -> None:
        """The nodes or the agents. `own` are there anyway, `taken` are names of the other kind."""
        if members is None:
            return
        if not isinstance(members, dict):
            self._report((group,), "must be a section of `name: {url: ...}` lines")
            return
        for name, entry in members.items():
            path = (group, name)
            if not shape.NAME.fullmatch(name):
                self._report(path, "a name is made of a-z, 0-9, _ and -")
            elif name in taken:
                self._report(path, f"{name} is the name of {'an agent' if group == 'nodes' else 'a node'}")
            else:
                self._member(path, entry, schema, builtin=name in own)

    def _member(self, path: Path, entry: object, schema: type, *, builtin: bool) -> None:
        """One node or agent. null and false switch it off."""
        if entry is None or entry is False:
            self._set((*path, "enabled"), False, at=path)
            return
        before = len(self.problems)
        values = shape.checked(shape.section(schema), entry, path, self._report)
        required_keys = ("url", "source") if schema is NodeConfig else ("url",)
        if len(self.problems) == before and not builtin and values.get("enabled", True):
            for key in required_keys:
                if key not in values:
                    self._report((*path, key), "is missing")
        address = values.pop("url", None)
        for key, value in values.items():
            self._set((*path, key), value)
        if address is not None:
            self._address(path, address, required=bool(values.get("required")))

    def _address(self, path: Path, text: str, *, required: bool) -> None:
        """An empty address is a variable that holds nothing: the member is off, as in the environment."""
        at = (*path, "url")
        if not text.strip() and not required:
            self._set((*path, "enabled"), False, at=at, note="off, because its url is empty")
            return
        try:
            address = normalise(text)
        except ConfigError as exc:
            self._report(at, exc.message, code=exc.code, remedy=exc.remedy)
        else:
            self._set(at, address.url, note=address.note)

    def _substituted(self, value: object, path: Path) -> object:
        if is_secret(path):
            return self._secret(value, path)
        if isinstance(value, dict):
            return {key: self._substituted(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._substituted(item, (*path, index)) for index, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        result = substitute(value, self.environ)
        if result.malformed:
            self._report(path, "a `${` needs a name and a `}`; a dollar sign is `$$`")
        elif result.unset:
            self._report(
                path,
                f"the variable {result.unset[0]} is not set",
                remedy=f"set {result.unset[0]}, or write ${{{result.unset[0]}:-default}}",
            )
        return result.text

    def _secret(self, value: object, path: Path) -> Secret | None:
        if value is None:
            return None
        variable = only_name(value) if isinstance(value, str) else None
        if variable is None:
            self._report(path, "secrets only as ${NAME}", remedy="put the key in an environment variable")
            return None
        text = self.environ.get(variable, "").strip()
        if not text:
            self._unset[path] = variable
            return None
        try:
            return secret(text)
        except ValueError as exc:
            self._report(path, f"the variable {variable} {exc}")
            return None

    def _set(self, path: Path, value: object, *, at: Path | None = None, note: str | None = None) -> None:
        mark = self.document.mark(at or path)
        detail = f"{self.document.shown}:{mark.line}" if mark else self.document.shown
        origin = Origin("file", detail, unset=self._unset.get(path))
        self.settings[".".join(str(part) for part in path)] = Setting(value, origin, note)

    def _report(
        self, path: Path, message: str, *, code: str = "CONFIG_001", remedy: str | None = None
    ) -> None:
        """Only the first problem of a place: what follows from it is no news."""
        if path in self._told:
            return
        self._told.add(path)
        mark = self.document.mark(path)
        line, column = (mark.line, mark.column) if mark else (None, None)
        self.problems.append(
            Problem(self.document.shown, line, dotted(path), message, code, remedy, column),
        )
