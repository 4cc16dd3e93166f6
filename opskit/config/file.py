"""The layer between defaults and environment: what the configuration file says, with all its problems."""

from collections.abc import Collection, Mapping
from pathlib import Path as FilePath
from typing import Any, get_args, get_type_hints

from opskit.config.document import Document, Path, Problem, only_name, substitute, unknown
from opskit.config.model_names import CATEGORIES
from opskit.config.origins import (
    AGENTS,
    NODES,
    Origin,
    Setting,
    Settings,
    folder,
    secret,
    sections,
)
from opskit.config.schema import AgentConfig, NodeConfig, Secret, Source
from opskit.config.url import normalise
from opskit.config.values import NAME, NAME_RULE, section
from opskit.errors import ConfigError
from opskit.records import MutableRecord, Record, field, names

_SECRET_DEPTH = 3  # nodes.NAME.api_key


class _Root(Record):
    """The keys outside every section; null says nothing."""

    state_dir: str | None = None
    debug: bool = False
    victoria_model: str | None = None


def is_secret(path: Path) -> bool:
    """Whether the value at this place is a secret: `nodes.NAME.api_key`, or a Secret of the schema."""
    if len(path) == _SECRET_DEPTH:
        return path[0] in ("nodes", "agents") and path[2] == "api_key"
    section = sections().get(str(path[0])) if len(path) == 2 else None
    if section is None:
        return False
    return get_type_hints(section).get(str(path[1])) == Secret | None


def file_settings(
    document: Document, environ: Mapping[str, str], folder_of_file: FilePath, problems: list[Problem]
) -> Settings:
    """Return what `document` sets; what is wrong with it is added to `problems`.

    A relative `state_dir` belongs to `folder_of_file`.
    """
    reader = _FileReader(document, environ, folder_of_file)
    reader.read()
    problems += sorted(reader.problems, key=lambda problem: (problem.line or 0, problem.column or 0))
    return reader.settings


class _FileReader(MutableRecord):
    document: Document
    environ: Mapping[str, str]
    folder: FilePath
    settings: Settings = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _reported: set[Path] = field(default_factory=set)
    _unset: dict[Path, str] = field(default_factory=dict)

    def read(self) -> None:
        data = {key: self._substituted(value, (key,)) for key, value in self.document.data.items()}
        known = [*names(_Root), *sections(), "nodes", "agents"]
        for key in data:
            if key not in known:
                self._report((key,), unknown(key, known))
        nodes, agents = data.get("nodes"), data.get("agents")
        self._members("nodes", nodes, NodeConfig, own=NODES, taken=AGENTS)
        others = {*NODES, *(nodes if isinstance(nodes, dict) else ())}
        self._members("agents", agents, AgentConfig, own=AGENTS, taken=others)
        for name, schema in sections().items():
            values = self._validated(schema, data.get(name), (name,))
            self._section((name,), values)
            # A limit of tokens for a category that no goal has says nothing.
            categories = {*CATEGORIES, *(values.get("categories") or ())}
            for category in values.get("max_tokens_by_category") or ():
                if category not in categories:
                    message = unknown(category, sorted(categories))
                    self._report((name, "max_tokens_by_category", category), message)
        root = {key: value for key, value in data.items() if key in names(_Root)}
        values = self._validated(_Root, root, ())
        if values.get("state_dir") is not None:
            try:
                values["state_dir"] = str(folder(values["state_dir"], self.folder))
            except ValueError as exc:
                self._report(("state_dir",), str(exc))
        self._section((), {key: value for key, value in values.items() if value is not None})

    def _validated(self, schema: type, raw: object, path: Path) -> dict[str, Any]:
        """Return the keys that are set; none after a problem."""
        usable = True

        def report(at: Path, message: str) -> None:
            nonlocal usable
            usable = False
            self._report(at, message)

        values = section(schema, {} if raw is None else raw, path, report)
        return values if usable else {}

    def _section(self, path: Path, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict) and value:
                self._section((*path, key), value)
            else:
                self._set((*path, key), value)

    def _members(
        self, group: str, members: object, schema: type, *, own: Collection[str], taken: Collection[str]
    ) -> None:
        """Read the nodes or the agents; `own` exist anyway, `taken` are names of the other kind."""
        if members is None:
            return
        if not isinstance(members, dict):
            self._report((group,), "must be a section of `name: {url: ...}` lines")
            return
        for name, entry in members.items():
            path = (group, name)
            if not NAME.fullmatch(name):
                self._report(path, NAME_RULE)
            elif name in taken:
                self._report(path, f"{name} is the name of {'an agent' if group == 'nodes' else 'a node'}")
            else:
                self._member(path, entry, schema, builtin=name in own)

    def _member(self, path: Path, entry: object, schema: type, *, builtin: bool) -> None:
        """Read one node or agent; null and false switch it off."""
        if entry is None or entry is False:
            self._set((*path, "enabled"), False, at=path)
            return
        before = len(self.problems)
        if isinstance(entry, str):
            source = "" if builtin or schema is AgentConfig else ", source: ollama"
            self._report(path, f"must be a section: write {{url: ADDRESS{source}}}")
        values = self._validated(schema, entry, path)
        if len(self.problems) == before and not builtin and values.get("enabled", True):
            if "url" not in values:
                self._report((*path, "url"), "is missing: the address")
            if schema is NodeConfig and "source" not in values:
                self._report((*path, "source"), f"is missing: one of {', '.join(get_args(Source))}")
        # A wrong key does not hide a wrong address beside it.
        address = values.pop("url", entry.get("url") if isinstance(entry, dict) else None)
        for key, value in values.items():
            self._set((*path, key), value)
        if isinstance(address, str):
            self._address(path, address, required=bool(values.get("required")))

    def _address(self, path: Path, text: str, *, required: bool) -> None:
        """Set the address; an empty one comes from an empty variable and switches the member off."""
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
        if result.problem:
            self._report(path, result.problem)
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
        elif text := self.environ.get(variable, "").strip():
            try:
                return secret(text)
            except ValueError as exc:
                self._report(path, f"the variable {variable} {exc}", remedy=f"correct {variable}")
        else:
            self._unset[path] = variable
        return None

    def _set(self, path: Path, value: object, *, at: Path | None = None, note: str | None = None) -> None:
        origin = Origin("file", self.document.where(at or path), unset=self._unset.get(path))
        self.settings[".".join(str(part) for part in path)] = Setting(value, origin, note)

    def _report(
        self, path: Path, message: str, *, code: str = "CONFIG_001", remedy: str | None = None
    ) -> None:
        """Report only the first problem of a place: others follow from it."""
        if path not in self._reported:
            self._reported.add(path)
            self.problems.append(self.document.problem(path, message, code=code, remedy=remedy))
