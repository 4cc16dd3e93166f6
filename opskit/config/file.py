"""The layer between defaults and environment: what the configuration file says, with all its problems.

What may stand in it is derived from `opskit.config.schema`. Names carry the rules (house style): a float that
ends in `_s` is a duration and may be written as `2s`, other floats are positive numbers, integers are counts.
"""

import re
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path as FilePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, Field, create_model

from opskit.config.command_pattern import command_pattern
from opskit.config.document import Document, Path, Problem, only_name, substitute, unknown
from opskit.config.fields import CONFIG, DURATION, MAX_COUNT, RETYPED, Count, Flag, Text, validated
from opskit.config.model_names import CATEGORIES
from opskit.config.origins import (
    AGENTS,
    NODES,
    Origin,
    Setting,
    Settings,
    folder,
    printable_text,
    secret,
    sections,
)
from opskit.config.schema import AgentConfig, NodeConfig, Secret
from opskit.config.url import normalise
from opskit.errors import ConfigError
from opskit.records import MutableRecord, field, is_record

MAX_DURATION_S = 365 * 24 * 3600.0

_SECRET_DEPTH = 3  # nodes.NAME.api_key
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SSH_HOST = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9](?:[\w.-]*\w)?", re.ASCII)
_NAME_RULE = "a name is made of a-z, 0-9, _ and -"
#: Counts for which zero would switch the whole thing off by accident.
_AT_LEAST_ONE = frozenset(
    {
        "failures",
        "max_tokens",
        "max_tokens_by_category",
        "num_ctx",
        "goal_bytes",
        "max_bytes",
        "max_file_bytes",
        "max_repairs",
        "escalate_repairs",
        "keep",
        "output_bytes",
        "entries",
    }
)
#: Numbers for which zero is a choice.
_MAY_BE_ZERO = frozenset({"temperature"})


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(_NAME_RULE)
    return value


def _ssh_host(value: str) -> str:
    if not _SSH_HOST.fullmatch(value):
        raise ValueError("must be a host as ssh names it: HOST or USER@HOST")
    return value


def _command_rule(value: str) -> str:
    return command_pattern(value).text


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice:
        raise ValueError(f"names {twice} twice")
    return values


_Name = Annotated[str, AfterValidator(_name)]
_Printable = Annotated[Text, AfterValidator(printable_text)]
#: Texts of lists that are more than text, by the key of the list.
_ITEMS = {
    "ssh_hosts": Annotated[Text, AfterValidator(_ssh_host)],
    **dict.fromkeys(("deny", "ask", "allow"), Annotated[Text, AfterValidator(_command_rule)]),
}
_Url = Annotated[str, Field(strict=True), AfterValidator(str)]
_Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False), RETYPED]
_NotNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False), RETYPED]
_Duration = Annotated[float, Field(strict=True, gt=0, le=MAX_DURATION_S, allow_inf_nan=False), DURATION]
_CountFromOne = Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT), RETYPED]


def _annotation(name: str, hint: Any) -> Any:
    simple = {
        bool: Flag,
        int: _CountFromOne if name in _AT_LEAST_ONE else Count,
        float: _float(name),
        str: _Url if name == "url" else _Printable,
    }
    if hint in simple:
        return simple[hint]
    if is_record(hint):
        return _shape(cast("type", hint))
    if get_origin(hint) is UnionType:
        (inner,) = (arg for arg in get_args(hint) if arg is not NoneType)
        # A secret is resolved before it comes here, so that nothing else ever sees it.
        return Any if inner is Secret else _annotation(name, inner) | None
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        if get_origin(item) is Literal:
            return Annotated[hint, Field(min_length=1), AfterValidator(_distinct)]
        texts: Any = tuple
        return texts[_ITEMS.get(name, _Printable), ...]
    if get_origin(hint) is dict:
        mapping: Any = dict
        return mapping[_Name, _annotation(name, get_args(hint)[1])]
    return hint


def _float(name: str) -> Any:
    """Return the pydantic type of a number that may have a fraction."""
    if name.endswith("_s") and not name.endswith("_per_s"):
        return _Duration
    return _NotNegative if name in _MAY_BE_ZERO else _Positive


@cache
def _shape(schema: type) -> type[BaseModel]:
    """Return the model of the section that becomes `schema`; every key is optional."""
    hints = get_type_hints(schema)
    keys: dict[str, Any] = {key: (_annotation(key, hint), None) for key, hint in hints.items()}
    if schema in (NodeConfig, AgentConfig):
        del keys["name"], keys["explicit"]
        keys.pop("proxy", None)
        keys["enabled"] = (Flag, None)
    return create_model(schema.__name__, __config__=CONFIG, **keys)


class _Root(BaseModel):
    """The keys outside every section; null says nothing."""

    model_config = CONFIG

    state_dir: _Printable | None = None
    debug: Flag = False
    victoria_model: _Printable | None = None


def is_secret(path: Path) -> bool:
    """Whether the value at this place is a secret: `nodes.NAME.api_key`, or a Secret of the schema."""
    if len(path) == _SECRET_DEPTH:
        return path[0] in ("nodes", "agents") and path[2] == "api_key"
    section = sections().get(str(path[0])) if len(path) == 2 else None
    if section is None:
        return False
    return get_type_hints(section).get(str(path[1])) == Secret | None


def file_settings(
    document: Document, environ: Mapping[str, str], folder_of_file: FilePath
) -> tuple[Settings, list[Problem]]:
    """Return what `document` sets, and its problems, without which alone the settings are usable.

    A relative `state_dir` belongs to `folder_of_file`.
    """
    reader = _FileReader(document, environ, folder_of_file)
    reader.read()
    reader.problems.sort(key=lambda problem: (problem.line or 0, problem.column or 0))
    return reader.settings, reader.problems


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
        known = [*_Root.model_fields, *sections(), "nodes", "agents"]
        for key in data:
            if key not in known:
                self._report((key,), unknown(key, known))
        nodes, agents = data.get("nodes"), data.get("agents")
        self._members("nodes", nodes, NodeConfig, own=NODES, taken=AGENTS)
        others = {*NODES, *(nodes if isinstance(nodes, dict) else ())}
        self._members("agents", agents, AgentConfig, own=AGENTS, taken=others)
        for name, schema in sections().items():
            if name in data:
                self._section((name,), self._validated(_shape(schema), data[name], (name,)))
        self._known_categories()
        root = {key: value for key, value in data.items() if key in _Root.model_fields}
        values = self._validated(_Root, root, ())
        if values.get("state_dir") is not None:
            try:
                values["state_dir"] = str(folder(values["state_dir"], self.folder))
            except ValueError as exc:
                self._report(("state_dir",), str(exc))
        self._section((), {key: value for key, value in values.items() if value is not None})

    def _known_categories(self) -> None:
        """Report a limit of tokens for a category that no goal has."""
        known = {*CATEGORIES, *self._names("router.categories.")}
        for name in self._names("router.max_tokens_by_category."):
            if name not in known:
                self._report(("router", "max_tokens_by_category", name), unknown(name, sorted(known)))

    def _names(self, prefix: str) -> list[str]:
        return [key.removeprefix(prefix) for key in self.settings if key.startswith(prefix)]

    def _validated(self, shape: type[BaseModel], raw: object, path: Path) -> dict[str, Any]:
        """Return the keys that are set; none after a problem."""
        model = validated(shape, raw, path, self._report)
        return {} if model is None else model.model_dump(exclude_unset=True)

    def _section(self, path: Path, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if not isinstance(value, dict) or not value:
                self._set((*path, key), value)
                continue
            for name, texts in value.items():
                # Patterns of models are matched against lower-cased names.
                patterns = (*path, key) == ("router", "categories")
                self._set((*path, key, name), tuple(text.lower() for text in texts) if patterns else texts)

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
            if not _NAME.fullmatch(name):
                self._report(path, _NAME_RULE)
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
        values = self._validated(_shape(schema), entry, path)
        required_keys = ("url", "source") if schema is NodeConfig else ("url",)
        if len(self.problems) == before and not builtin and values.get("enabled", True):
            for key in required_keys:
                if key not in values:
                    self._report((*path, key), "is missing")
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
        origin = Origin("file", self.document.where(at or path), unset=self._unset.get(path))
        self.settings[".".join(str(part) for part in path)] = Setting(value, origin, note)

    def _report(
        self, path: Path, message: str, *, code: str = "CONFIG_001", remedy: str | None = None
    ) -> None:
        """Report only the first problem of a place: others follow from it."""
        if path not in self._reported:
            self._reported.add(path)
            self.problems.append(self.document.problem(path, message, code=code, remedy=remedy))
