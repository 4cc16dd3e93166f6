"""The configuration as the rest of opskit sees it: frozen dataclasses with their defaults.

Durations end in `_s` (seconds), sizes in `_bytes`. Validation of what a person wrote lives in
`opskit.config.load`; here every value is already right.
"""

from pathlib import Path
from typing import Literal

from opskit.config.compose_files import with_override
from opskit.config.model_names import CATEGORIES, FALLBACK_MLX, FALLBACK_OLLAMA, POWER
from opskit.records import Record, field

Source = Literal["mlx", "ollama", "llamacpp", "openai"]
Protocol = Literal["auto", "ollama", "openai"]
Sandboxing = Literal["auto", "required", "off"]


class Secret(str):
    """A value that is used and never shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class NodeConfig(Record):
    """A server that answers.

    `source` is the kind of back end for ordering (SPEC B); `protocol` "auto" lets the node say by itself
    what it speaks. `explicit` is False when the address is only opskit's default, so that its absence is no
    news; `address_from` is the variable or the line (`opskit.yaml:3`) that gives it. `required` makes its
    absence a failure of `probe`. `proxy` is the URL by which it is asked.
    """

    name: str
    url: str
    source: Source
    protocol: Protocol = "auto"
    api_key: Secret | None = None
    default_model: str | None = None
    num_ctx: int | None = None
    required: bool = False
    explicit: bool = True
    address_from: str = ""
    proxy: Secret | None = None

    @property
    def dialled(self) -> str:
        """The URL whose host and port are connected to: that of the proxy where there is one."""
        return self.proxy or self.url

    @property
    def is_mlx(self) -> bool:
        """Whether `--use-mlx` and the rules for MLX are about this node (SPEC A5, A6, B10)."""
        return self.source == "mlx"


class AgentConfig(Record):
    """An agent over HTTP (SPEC D): Victoria, Veronica."""

    name: str
    url: str
    api_key: Secret | None = None
    required: bool = False
    explicit: bool = True
    address_from: str = ""


class Budgets(Record):
    """How long each phase of a request may take. They are separate: a load is not a hang (SPEC B9).

    load: `load_s` + `load_s_per_gib` for each GiB of weights. first token: `first_token_s` + one second for
    each `prefill_chars_per_s` characters of prompt. idle: between two tokens. total: the whole request with
    all its fallbacks, loads excluded.
    """

    connect_s: float = 2.0
    queue_s: float = 120.0
    load_s: float = 60.0
    load_s_per_gib: float = 20.0
    load_patience_s: float = 10.0
    first_token_s: float = 20.0
    prefill_chars_per_s: float = 400.0
    idle_s: float = 20.0
    total_s: float = 300.0
    metadata_s: float = 3.0


class CircuitConfig(Record):
    """When a sick node or model is left alone, and for how long."""

    failures: int = 2
    open_s: float = 5.0
    open_max_s: float = 300.0
    overload_s: float = 10.0


class RouterConfig(Record):
    """Which model answers, and what follows when it does not (SPEC A3, A4, B8, B10, D4).

    max_tokens: the most that an answer may have; max_tokens_by_category sets it for one of the categories
    alone. temperature and seed go with every request to every node; null sends none, so that each server
    uses its own. With a seed mlx_lm.server answers one request at a time.

    For example:
      max_tokens_by_category: {fast: 256, reasoning: 8192}
    """

    order: tuple[Source, ...] = ("mlx", "ollama", "llamacpp", "openai")
    max_fallbacks: int = 3
    use_mlx_fallback: bool = True
    prefer_resident: bool = True
    fallback_mlx: tuple[str, ...] = FALLBACK_MLX
    fallback_ollama: tuple[str, ...] = FALLBACK_OLLAMA
    power: tuple[str, ...] = POWER
    categories: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(CATEGORIES))
    catalog_ttl_s: float = 120.0
    holdback_chars: int = 24
    max_tokens: int = 4096
    max_tokens_by_category: dict[str, int] = field(default_factory=dict)
    temperature: float | None = None
    seed: int | None = None
    mlx_warning_every_s: float = 300.0
    memory_factor: float = 1.15
    memory_reserve_bytes: int = 512 * 1024 * 1024

    def max_tokens_for(self, category: str) -> int:
        """Return the most tokens that an answer to a goal of this category may have."""
        return self.max_tokens_by_category.get(category, self.max_tokens)

    def fallbacks(self, source: Source) -> tuple[str, ...]:
        """Return the models that follow a failure, on nodes of this source (SPEC A4)."""
        return self.fallback_mlx if source == "mlx" else self.fallback_ollama

    def may_fall_back_to(self, source: Source) -> bool:
        """Whether nodes of this source take part in fallback: USE_MLX_FALLBACK switches MLX off (SPEC A6)."""
        return self.use_mlx_fallback or source != "mlx"


class ProbeConfig(Record):
    """Deadlines of `opskit probe` and where slow begins."""

    http_s: float = 10.0
    slow_http_s: float = 1.0
    first_token_s: float = 15.0
    slow_first_token_s: float = 2.0
    cycle_s: float = 60.0


class LogConfig(Record):
    """The tagged request log in the state folder (SPEC A1)."""

    max_bytes: int = 10 * 1024 * 1024
    backups: int = 3
    preview_chars: int = 120


class Limits(Record):
    """What is refused before it costs anything."""

    goal_bytes: int = 1024 * 1024


class StackConfig(Record):
    """What belongs to the stack besides nodes and agents.

    compose: the files of each Compose project, laid over one another, or its folder; projects are started in
    this order. A relative path belongs to the folder of this file. docker_network: the network that they
    share; null for none. containers: the container behind a node or an agent. start: the program and its
    arguments that start a node or an agent which nothing else owns (no shell). env_files: `.env` files of the
    stack.

    For example:
      compose: {knowledge-os: [~/atra/docker-compose.yml], web-ide: [~/atra-web-ide/docker-compose.yml]}
      start: {mlx: [/opt/mlx/bin/mlx_lm.server, --model, /models/phi, --port, "11435"]}
    """

    docker_network: str | None = "atra-network"
    compose: dict[str, tuple[str, ...]] = field(default_factory=dict)
    containers: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {"victoria": ("victoria-agent",), "veronica": ("veronica-agent",)}
    )
    start: dict[str, tuple[str, ...]] = field(default_factory=dict)
    env_files: tuple[str, ...] = ()


class RecoveryConfig(Record):
    """How `opskit recover` heals, and when it stops.

    A repair that did not help is tried again after `backoff_s`, doubling up to `backoff_max_s`; after
    `max_repairs` within `window_s` the target's circuit opens and one repair is tried every `retry_s`;
    `reset_s` of health closes it. `escalate_repairs` repairs within `escalate_s` that did not last call a
    person. What was started less than `startup_grace_s` ago is still starting, a model that loads has
    `load_grace_s`; what a person stopped or edited within `hands_off_s` is left alone. `budget_s` bounds a
    whole run, `step_s` the wait after a fix.
    """

    budget_s: float = 240.0
    step_s: float = 90.0
    backoff_s: float = 10.0
    backoff_max_s: float = 300.0
    max_repairs: int = 5
    window_s: float = 300.0
    retry_s: float = 3600.0
    reset_s: float = 600.0
    reminder_s: float = 3600.0
    escalate_repairs: int = 5
    escalate_s: float = 86400.0
    startup_grace_s: float = 60.0
    load_grace_s: float = 300.0
    hands_off_s: float = 300.0
    docker_restart_every_s: float = 3600.0
    wifi_toggle: bool = False
    wifi_toggle_every_s: float = 900.0


class NoticeConfig(Record):
    """Who is notified when recovery gives up, escalates or heals.

    webhook gets JSON by POST, or is the address of a service of apprise such as slack://; command gets the
    same JSON on its standard input; ping is a healthchecks-style address that gets start and exit status.
    Addresses are secrets: only as ${NAME}. At most one notice of a target in `min_interval_s`; none may take
    longer than `timeout_s`.
    """

    desktop: bool = True
    webhook: Secret | None = None
    command: tuple[str, ...] = ()
    ping: Secret | None = None
    min_interval_s: float = 60.0
    timeout_s: float = 5.0


class BackupConfig(Record):
    """What `opskit backup` keeps, and where.

    root: the folder that archives are made of and restored to; null for the folder of this file. files:
    patterns below it; `**` is any number of folders, a folder means all that is in it, `!` in front takes
    out. folder: where archives lie; null for `backups` in the state folder. keep: how many. max_file_bytes:
    a larger file is left out, and reported.
    """

    root: str | None = None
    files: tuple[str, ...] = (
        ".env*",
        "docker-compose*.y*ml",
        "compose*.y*ml",
        "opskit.yaml",
        "results/**",
        "logs/**",
    )
    folder: str | None = None
    keep: int = 10
    max_file_bytes: int = 1024**3


class WatchConfig(Record):
    """Where `opskit watch` and `opskit doctor` begin to warn."""

    memory_percent: float = 80.0
    disk_percent: float = 90.0
    cpu_percent: float = 95.0
    slow_request_s: float = 5.0
    clock_skew_s: float = 30.0


class PolicyConfig(Record):
    """Rules for commands of the agent, beside the rules of opskit; deny wins over ask, ask over allow.

    Each is words of a command line: `*` in a word is any text, `...` at the end any further words. In `allow`
    a wildcard takes neither an option nor a path outside the workspace: write these in full. What opskit
    itself denies stays denied (`opskit policy check -- CMD ARG...`).

    For example:
      allow: [docker restart victoria-agent, "tail -n * /var/log/ollama.log"]
    """

    deny: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


class ToolLimits(Record):
    """How long a tool of the agent may take, and how much of its output the model gets: beginning and end."""

    timeout_s: float = 30.0
    output_bytes: int = 16 * 1024
    entries: int = 200


class VictoriaConfig(Record):
    """What the agent's tools may do.

    workspace: the folder whose files they may read; null refuses every path. sandbox: `auto` runs commands
    under bubblewrap where it works, `required` runs none without it, `off` does not use it. ssh_hosts: hosts
    that `ssh_run` may reach, as ssh names them; ssh_config: the file for `ssh -F`, null for the usual ones.
    approval_s: how long a run waits for the approval of a command before it fails.
    main_project, allowed_projects: whose answers a run remembers and uses; MAIN_PROJECT and ALLOWED_PROJECTS
    win. cache_s: how long the same goal gets the same answer again, machine_cache_s the same for goals about
    this machine; null asks each time.
    """

    workspace: str | None = None
    sandbox: Sandboxing = "auto"
    ssh_hosts: tuple[str, ...] = ()
    ssh_config: str | None = None
    approval_s: float = 86400.0
    main_project: str = "atra-web-ide"
    allowed_projects: tuple[str, ...] = ("atra-web-ide", "atra")
    cache_s: float | None = 300.0
    machine_cache_s: float | None = None
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    tools: ToolLimits = field(default_factory=ToolLimits)

    def allows(self, project: str) -> bool:
        """Whether a client may name this project (SPEC D5)."""
        return project == self.main_project or project in self.allowed_projects


class Config(Record):
    """Everything, once."""

    state_dir: str
    nodes: tuple[NodeConfig, ...]
    agents: tuple[AgentConfig, ...]
    router: RouterConfig = field(default_factory=RouterConfig)
    budgets: Budgets = field(default_factory=Budgets)
    circuit: CircuitConfig = field(default_factory=CircuitConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    log: LogConfig = field(default_factory=LogConfig)
    limits: Limits = field(default_factory=Limits)
    stack: StackConfig = field(default_factory=StackConfig)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    notices: NoticeConfig = field(default_factory=NoticeConfig)
    backup: BackupConfig = field(default_factory=BackupConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    agent: VictoriaConfig = field(default_factory=VictoriaConfig)
    debug: bool = False
    victoria_model: str | None = None
    path: str | None = None

    def node(self, name: str) -> NodeConfig:
        """Raise KeyError when there is no such node."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def located(self, path: str) -> Path:
        """A path of the configuration: `~` is the home folder, a relative one belongs to the file's folder.

        Without a file that is the working folder.
        """
        folder = Path(self.path).absolute().parent if self.path is not None else Path.cwd()
        return folder / Path(path).expanduser()

    def compose_files(self) -> dict[str, tuple[Path, ...]]:
        """Return the files of the Compose projects, absolute, by project, with the overrides beside them."""
        return {
            name: with_override([self.located(path).absolute() for path in files])
            for name, files in self.stack.compose.items()
        }

    def agent_named(self, name: str) -> AgentConfig | None:
        return next((agent for agent in self.agents if agent.name == name), None)
