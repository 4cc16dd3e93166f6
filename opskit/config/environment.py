"""The layer above the file: the variables that an existing Knowledge OS already sets (SPEC A6, B7, D7)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from opskit.config.origins import Origin, Setting, Settings
from opskit.config.problems import Problem
from opskit.config.schema import Secret
from opskit.config.url import normalise
from opskit.errors import ConfigError

#: The first variable that is set decides; set to nothing, it switches the node or agent off.
URLS = {
    "nodes.ollama": ("OLLAMA_API_URL", "OLLAMA_BASE_URL"),
    "nodes.mlx": ("MLX_API_URL",),
    "agents.victoria": ("VICTORIA_URL",),
    "agents.veronica": ("VERONICA_URL",),
}

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def settings(environ: Mapping[str, str], cwd: Path) -> tuple[Settings, list[Problem]]:
    """What the environment says. Apart from URLs, an empty variable says nothing."""
    result: Settings = {}
    problems: list[Problem] = []
    for target, variables in URLS.items():
        variable = next((name for name in variables if name in environ), None)
        if variable is None:
            continue
        try:
            result |= _address(target, environ, variables[variables.index(variable) :])
        except ConfigError as exc:
            problems.append(Problem(variable, None, f"{target}.url", exc.message, exc.code, exc.remedy))
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "OLLAMA_API_KEY": ("nodes.ollama.api_key", secret),
        "MLX_API_KEY": ("nodes.mlx.api_key", secret),
        "USE_MLX_FALLBACK": ("router.use_mlx_fallback", _truth),
        "VICTORIA_DEBUG": ("debug", _truth),
        "VICTORIA_MODEL": ("victoria_model", _text),
        "OPSKIT_STATE_DIR": ("state_dir", lambda value: str(folder(value, cwd))),
    }
    for variable, (key, read) in readers.items():
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            result[key] = Setting(read(text), Origin("env", variable))
        except ValueError as exc:
            problems.append(Problem(variable, None, key, str(exc), remedy=f"correct or unset {variable}"))
    return result, problems


def secret(text: str) -> Secret:
    """Raise ValueError, without the value, for what no HTTP header can carry."""
    if not text.isascii() or not text.isprintable():
        raise ValueError("holds characters that a key cannot have")
    return Secret(text)


def folder(text: str, base: Path) -> Path:
    """`~` is the home folder and a relative path belongs to `base`. Raises ValueError."""
    try:
        return base / Path(_text(text)).expanduser()
    except RuntimeError as exc:
        raise ValueError("names a home folder that does not exist") from exc


def _address(target: str, environ: Mapping[str, str], variables: Sequence[str]) -> Settings:
    """The first of `variables` decides; the others matter only for what people should know."""
    variable, *others = variables
    origin = Origin("env", variable)
    if not environ[variable].strip():
        ignored = [name for name in others if environ.get(name)]
        note = f"off, because {variable} is empty; {ignored[0]} is not read" if ignored else None
        return {f"{target}.enabled": Setting(False, origin, note)}
    address = normalise(environ[variable])
    return {
        f"{target}.enabled": Setting(True, origin),
        f"{target}.url": Setting(address.url, origin, address.note),
    }


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError("must be one of true, false, 1, 0, yes, no")
    return _TRUTH[text.lower()]


def _text(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds characters that cannot be shown")
    return text
