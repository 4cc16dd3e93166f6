"""The commented configuration that `opskit config init` writes, made from the schema itself.

Prose begins with `##` and settings with `# `; a setting without its `# ` says what holds anyway.
"""

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import structs

from opskit.config.origins import AGENTS, NODES, sections
from opskit.config.schema import Config
from opskit.records import asdict

_HEAD = """\
## opskit configuration. Every setting is commented out and shows the value that holds without it:
## remove the `# ` in front to change it (and the `# ` of the section's name above it).
##
## - A duration is a number of seconds, or text such as 500ms, 2s, 1m.
## - ${NAME} and ${NAME:-default} take a variable of the environment; $$ is a dollar sign.
## - Keys are secrets and come only from the environment: api_key: ${NAME}.
## - `opskit config check` finds mistakes, `opskit config show` tells where each value comes from.
"""

_NODES = """\
## The servers that answer. OLLAMA_API_URL, OLLAMA_BASE_URL and MLX_API_URL win over what stands here;
## inside Docker the default host is host.docker.internal where that name resolves. OLLAMA_HOST is used where
## neither they nor this file say where Ollama is. `mlx: null` switches a node off. More nodes:
##   gpu-box: {url: "http://192.168.1.20:11434", source: ollama, required: true}
##   tiny: {url: "http://localhost:8080", source: llamacpp}
##   openrouter: {url: "https://openrouter.ai/api/v1", source: openai, api_key: "${OPENROUTER_API_KEY}"}
"""

_AGENTS = """\
## The agents. VICTORIA_URL and VERONICA_URL win over what stands here; null switches an agent off.
"""

_ROOT = {
    "state_dir": "Logs and state; OPSKIT_STATE_DIR wins. null: the system's folder for application state.",
    "debug": "Tracebacks and more lines; VICTORIA_DEBUG wins.",
    "victoria_model": "The model that Victoria uses whatever else there is; VICTORIA_MODEL wins.",
}


def text() -> str:
    return "\n".join(_blocks())


def _blocks() -> Iterator[str]:
    yield _HEAD
    yield _NODES + _settings(
        "nodes",
        [
            f"{name}: {{url: {json.dumps(f'http://localhost:{port}')}, source: {source}}}"
            for name, (source, port) in NODES.items()
        ],
    )
    yield _AGENTS + _settings(
        "agents",
        [f"{name}: {{url: {json.dumps(f'http://localhost:{port}')}}}" for name, port in AGENTS.items()],
    )
    for name, schema in sections().items():
        prose = [inspect.getdoc(part) or "" for part in (schema, *sections(schema).values())]
        head = "".join(f"## {line}".rstrip() + "\n" for line in "\n".join(prose).splitlines())
        yield head + _settings(name, list(_lines(asdict(schema()))))
    for field in structs.fields(Config):
        if field.name in _ROOT:
            default = None if field.required else field.default
            yield f"## {_ROOT[field.name]}\n# {field.name}: {json.dumps(default)}\n"


def _lines(defaults: Mapping[str, Any]) -> Iterator[str]:
    for name, value in defaults.items():
        if isinstance(value, dict) and value:
            yield f"{name}:"
            yield from (f"  {line}" for line in _lines(value))
        else:
            yield f"{name}: {json.dumps(value)}"


def _settings(section: str, lines: list[str]) -> str:
    return "".join(f"# {line}\n" for line in [f"{section}:", *(f"  {line}" for line in lines)])
