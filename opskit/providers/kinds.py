"""The kinds of model servers: what is known of each before it is asked anything.

`expected_kind` is the kind that a node is configured as; what a server turned out to be is `Provider.kind`.
Code outside this package decides by the attributes of a kind, never by its name.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from opskit.config.schema import Source
from opskit.records import Record, field, replace

#: A small model that many registries have, for examples.
EXAMPLE_MODEL: Final = "phi3.5:3.8b"


class ServerKind(Record, kw_only=True):
    """One kind of model server. Texts are commands in backquotes or parts of a sentence; `""` means none.

    name: a stable word for JSON and tables; label: how it calls itself; phrase: the same inside a sentence.
    start: what a person types to start it, with `{port}`; fill: what gives an empty server a
    model; pull, unload: the commands for one `{model}`, without backquotes; restart: what restarts it
    where it is installed as a service; log: where its log is, for people (`upkeep.kept` knows both of a
    process that runs); log_file: the same below the home folder.
    program: the command with which people pull and stop its models.
    default_port, address_variable: where its own command looks for it, and what tells it another address.
    slots: requests that it works on at once by default, before the next one queues.
    known_by: words in a program, a unit or a container by which one is known that does not answer any more.
    services: names under which it may be installed as a service.
    pages: paths of GETs that cost nothing.
    """

    name: str
    label: str
    phrase: str
    start: str = ""
    fill: str = "start it with a model"
    pull: str = ""
    unload: str = ""
    restart: str = ""
    log: str = ""
    log_file: str = ""
    program: str = ""
    default_port: int = 8080
    address_variable: str = ""
    slots: int = 8
    known_by: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    pages: tuple[str, ...] = ("/v1/models",)
    #: `Provider.load` loads a model without generating, and the server unloads and loads while it runs.
    loads_on_demand: bool = False
    #: A request that names another model may download it, and replaces the one that is loaded.
    naming_swaps: bool = False
    #: It can say which of its models are loaded.
    tells_residency: bool = True
    #: Its list of models is complete: what is not listed is not there.
    lists_every_model: bool = True
    #: It serves each model by a process of its own, with a port and pages like llama.cpp.
    runs_model_processes: bool = False
    #: The context length comes with a request: another value reloads the model, a longer prompt is cut.
    context_per_request: bool = False
    #: The page that tells which of the models on its list are loaded.
    loaded_page: str = ""
    #: A JSON schema that comes with a request is enforced while the model writes.
    enforces_schema: bool = True
    #: It hands `chat_template_kwargs` of a request to the template of the model.
    takes_template_arguments: bool = False
    #: Its clients may speak a protocol that no other kind has.
    own_protocol: bool = False
    #: What the environment variables begin with that it reads when it starts.
    settings_prefix: str = ""
    #: What to type after a fault of a call, by the value of its `FaultKind`, where this kind has a way of its
    #: own; with `{model}`, `{node}`, `{again}`.
    advice: Mapping[str, str] = field(default_factory=dict)

    def start_hint(self, url: str) -> str:
        """Return what to type to start one at this address."""
        if not self.start:
            return f"the server at {url}"
        return self.start.format(port=_port(url), there=self._there(url))

    def pull_hint(self, model: str = EXAMPLE_MODEL) -> str:
        """Return the command that installs a model; empty where there is none."""
        return f"`{self.pull.format(model=model)}`" if self.pull else ""

    def unload_hint(self, model: str, url: str = "") -> str:
        """Return the command that frees the memory of a model at `url`; empty where there is none."""
        if not self.unload:
            return ""
        return f"`{self._there(url)}{self.unload.format(model=model)}`"

    def _there(self, url: str) -> str:
        """Return what its program needs before it to use an address that is not the usual one."""
        if not url or not self.address_variable or _port(url) == self.default_port:
            return ""
        return f"{self.address_variable}={urlsplit(url).hostname}:{_port(url)} "


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


OLLAMA: Final = ServerKind(
    name="ollama",
    label="Ollama",
    phrase="Ollama",
    start="`{there}ollama serve`",
    fill=f"`ollama pull {EXAMPLE_MODEL}`",
    pull="ollama pull {model}",
    unload="ollama stop {model}",
    restart="`systemctl restart ollama`",
    log="`journalctl -u ollama -n 50` (macOS: ~/.ollama/logs/server.log)",
    log_file=".ollama/logs/server.log",
    program="ollama",
    default_port=11434,
    address_variable="OLLAMA_HOST",
    slots=1,  # OLLAMA_NUM_PARALLEL (wire facts A6)
    known_by=("ollama",),
    services=("ollama",),
    pages=("/api/version", "/api/tags", "/api/ps"),
    runs_model_processes=True,
    loads_on_demand=True,
    context_per_request=True,
    own_protocol=True,
    settings_prefix="OLLAMA_",
    advice={
        "not_installed": "`ollama pull {model}`",
        "context_exceeded": "shorten the prompt, or give it a larger context: `nodes.{node}.num_ctx: N`, "
        "or OLLAMA_CONTEXT_LENGTH=N where the server starts (`ollama show {model}` names the longest that "
        "the model can use)",
        "broken_model_file": "`ollama rm {model}`, then `ollama pull {model}` fetches its files again; "
        "`df -h` shows whether the disk is full; if it fails again, update Ollama",
        "broken_template": "`ollama show --template {model}` shows it (`--parameters`: its stop words); "
        "`ollama pull {model}` fetches the published one, for a model of your own correct its Modelfile",
        "unknown_architecture": "update Ollama, which is too old for {model} (Linux: `curl -fsSL "
        "https://ollama.com/install.sh | sh`, macOS: `brew upgrade ollama`); or choose another model "
        "(`opskit models list`)",
    },
)
MLX_LM: Final = ServerKind(
    name="mlx_lm",
    label="mlx_lm.server",
    phrase="an MLX server",
    start="`mlx_lm.server --model DIR --port {port}`",
    fill="start it with a model: `mlx_lm.server --model DIR`",
    known_by=("mlx", "lmstudio", "lm studio", "lms"),
    services=("mlx",),
    pages=("/health", "/v1/models"),
    naming_swaps=True,
    enforces_schema=False,  # it ignores `response_format` in silence
    takes_template_arguments=True,
    lists_every_model=False,  # only part of what it can load (B1)
    advice={
        "context_exceeded": "shorten the prompt, or take a model with a longer context "
        "(`opskit models list`)",
        "broken_model_file": "`hf download {model} --force-download` fetches its files again; `df -h` "
        "shows whether the disk is full; if it fails again, `pip install --upgrade mlx mlx-lm`",
        "broken_template": "start `mlx_lm.server` with `--chat-template TEMPLATE`, or take another "
        "conversion of {model}",
        "unknown_architecture": "`pip install --upgrade mlx-lm`, then restart the server: it is too old "
        "for {model}; or choose another model (`opskit models list`)",
    },
)
LLAMACPP: Final = ServerKind(
    name="llamacpp",
    label="llama.cpp",
    phrase="llama.cpp's server",
    start="`llama-server --model FILE.gguf --port {port}`",
    fill="start it with a model: `llama-server --model FILE.gguf`",
    slots=4,
    known_by=("llama-server", "llama_server", "llama.cpp", "llamacpp"),
    services=("llama-server", "llamacpp"),
    pages=("/health", "/v1/models", "/props", "/slots"),
    takes_template_arguments=True,
)
LMSTUDIO: Final = ServerKind(
    name="lmstudio",
    label="LM Studio",
    phrase="LM Studio",
    default_port=1234,
    known_by=("lmstudio", "lm studio", "lms"),
    pages=("/v1/models", "/api/v0/models"),
)
OPENAI: Final = ServerKind(
    name="openai",
    label="OpenAI-style server",
    phrase="a model server",
    known_by=("vllm", "llama", "localai", "lmstudio", "lm studio", "sglang"),
    services=("openai",),
    tells_residency=False,
    lists_every_model=False,
)
#: Servers in the OpenAI style that load the model which a request names, by how they sign their lists.
BY_OWNER: Final = {
    owner: replace(
        OPENAI,
        name=label.lower(),
        label=label,
        phrase=label,
        pages=("/v1/models", page),
        tells_residency=True,
        lists_every_model=True,
        loaded_page=page,
    )
    for owner, label, page in (
        ("llama-swap", "llama-swap", "/running"),
        ("tabbyAPI", "TabbyAPI", "/v1/model"),
        ("user", "text-generation-webui", "/v1/internal/model/info"),
    )
}
#: One at the address of an MLX server that does not say what it is: what is safe with mlx_lm.server is safe.
UNNAMED_MLX: Final = replace(MLX_LM, name=OPENAI.name, label=OPENAI.label, phrase=OPENAI.phrase)

_BY_SOURCE: Final[dict[Source, ServerKind]] = {
    "ollama": OLLAMA,
    "mlx": MLX_LM,
    "llamacpp": LLAMACPP,
    "openai": OPENAI,
}


def expected_kind(source: Source) -> ServerKind:
    """Return the kind of server that a node of this `source` is configured as."""
    return _BY_SOURCE[source]


def source_of(kind: ServerKind) -> Source:
    return next((source for source, known in _BY_SOURCE.items() if known is kind), "openai")


def is_misplaced(source: Source, kind: ServerKind) -> bool:
    """Tell whether a server is surely another than the one that its node is configured as.

    `openai` may be any, and any server in the OpenAI style may run models of MLX.
    """
    expected = expected_kind(source)
    is_other = kind is not expected and expected is not OPENAI
    return is_other and (expected.own_protocol or source_of(kind) != "openai")
