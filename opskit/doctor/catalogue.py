"""The causes that a doctor knows, in the order in which they are to be dealt with: roots first.

The ids are stable: scripts may depend on them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownCause:
    """One kind of cause: its area, and what is looked at to find it."""

    id: str
    area: str
    looks_at: str


AREAS = ("configuration", "machine", "network", "docker", "nodes", "agents", "models", "requests", "schedule")

KNOWN = (
    KnownCause(
        "config-invalid", "configuration", "the configuration file and the variables that opskit reads"
    ),
    KnownCause(
        "restore-interrupted", "configuration", "folders that a killed `opskit backup restore` left half done"
    ),
    KnownCause("address-invalid", "configuration", "addresses: scheme, host, port, no password"),
    KnownCause("secret-unset", "configuration", "variables that secrets of the configuration refer to"),
    KnownCause("env-file-missing", "configuration", "files of `stack.env_files`"),
    KnownCause("secret-empty", "configuration", "secrets in `stack.env_files`: no value, or a placeholder"),
    KnownCause("disk-full", "machine", "room for the state folder, Docker and models (`watch.disk_percent`)"),
    KnownCause("state-unusable", "machine", "whether opskit can write into its state folder"),
    KnownCause("memory-full", "machine", "used memory (`watch.memory_percent`)"),
    KnownCause("runner-orphaned", "machine", "processes of models whose Ollama has ended: they hold memory"),
    KnownCause("lock-held", "machine", "locks of opskit that another process holds, and which"),
    KnownCause("localhost-unresolved", "network", "whether the name localhost leads to this machine"),
    KnownCause("docker-context-invalid", "docker", "DOCKER_HOST, DOCKER_CONTEXT and the context in use"),
    KnownCause(
        "docker-host-stale", "docker", "a DOCKER_HOST or context that leads nowhere while Docker is elsewhere"
    ),
    KnownCause("docker-not-permitted", "docker", "whether this user may use Docker's socket"),
    KnownCause("docker-silent", "docker", "a daemon that accepts connections and never answers"),
    KnownCause("docker-down", "docker", "whether a Docker daemon answers"),
    KnownCause("compose-missing", "docker", "whether there is a Docker Compose on PATH"),
    KnownCause("compose-broken", "docker", "whether Compose can read the files of `stack.compose`"),
    KnownCause("compose-variable-unset", "docker", "variables of Compose files without a value"),
    KnownCause("network-missing", "docker", "the network of `stack.docker_network`"),
    KnownCause(
        "container-oom-killed", "docker", "containers of the stack that were killed for want of memory"
    ),
    KnownCause(
        "container-restarting", "docker", "containers of the stack that Docker restarts again and again"
    ),
    KnownCause("container-stopped", "docker", "containers of the stack that have ended"),
    KnownCause(
        "container-missing", "docker", "containers of `stack.containers` and services of `stack.compose`"
    ),
    KnownCause("container-unhealthy", "docker", "health checks of containers of the stack"),
    KnownCause(
        "container-network-lost", "docker", "containers that share the network of one that was replaced"
    ),
    KnownCause("oom-killed", "machine", "the kernel's log: model servers that it killed for want of memory"),
    KnownCause("health-check-broken", "docker", "health checks that cannot run: their program is missing"),
    KnownCause("bind-address", "network", "0.0.0.0 or :: where a client needs an address to dial"),
    KnownCause(
        "localhost-in-container", "network", "containers that look for the host's servers at localhost"
    ),
    KnownCause(
        "loopback-only", "network", "servers on loopback that containers look for at the host (Linux)"
    ),
    KnownCause(
        "host-name-unknown", "network", "containers that look for host.docker.internal on Linux without it"
    ),
    KnownCause(
        "port-published-elsewhere", "network", "ports of containers that are published on one address only"
    ),
    KnownCause(
        "address-wrong", "nodes", "what leads to a node: scheme, path, certificate, redirect, proxy, ::1"
    ),
    KnownCause("port-taken", "nodes", "who really holds the port of a node or an agent"),
    KnownCause("wrong-server", "nodes", "addresses of Ollama, MLX and llama.cpp that lead to one another"),
    KnownCause(
        "ollama-host-port", "nodes", "an OLLAMA_HOST with a scheme and no port, which means port 80 or 443"
    ),
    KnownCause("two-servers", "nodes", "two servers on one port: localhost means now this one, now that one"),
    KnownCause("process-stopped", "nodes", "servers, and processes of models, that are stopped (SIGSTOP)"),
    KnownCause("scheduler-hangs", "nodes", "an Ollama that keeps requests from the idle process of a model"),
    KnownCause(
        "node-wedged", "nodes", "nodes with green health pages that give no token; busy ones are left alone"
    ),
    KnownCause(
        "node-unreachable", "nodes", "nodes on hosts that cannot be reached, or whose name does not resolve"
    ),
    KnownCause("node-unauthorised", "nodes", "nodes that want a key"),
    KnownCause("node-down", "nodes", "nodes where nothing listens"),
    KnownCause("node-failing", "nodes", "nodes that answer with errors"),
    KnownCause(
        "model-unusable", "models", "models that a server holds and cannot run: file, template, architecture"
    ),
    KnownCause("no-model", "models", "nodes without a model that can chat"),
    KnownCause("model-missing", "models", "models that the configuration names and no node holds"),
    KnownCause(
        "model-too-large", "models", "models that are wanted, are not loaded and do not fit in memory"
    ),
    KnownCause("ollama-memory", "models", "OLLAMA_NUM_PARALLEL x OLLAMA_CONTEXT_LENGTH against the memory"),
    KnownCause("ollama-one-model", "models", "OLLAMA_MAX_LOADED_MODELS=1 with several models in use"),
    KnownCause("ollama-keep-alive", "models", "OLLAMA_KEEP_ALIVE=0: each request loads its model anew"),
    KnownCause("ollama-kv-cache", "models", "OLLAMA_KV_CACHE_TYPE without OLLAMA_FLASH_ATTENTION"),
    KnownCause("ollama-setting-invalid", "models", "OLLAMA_* values that the server ignores"),
    KnownCause(
        "shell-settings-ignored", "models", "OLLAMA_* of this shell that the running server does not have"
    ),
    KnownCause(
        "num-ctx-differs", "requests", "clients that ask one model with different num_ctx: it reloads"
    ),
    KnownCause(
        "context-truncated", "requests", "prompts that are cut: the loaded context, Ollama's log, `--deep`"
    ),
    KnownCause("context-exceeded", "requests", "prompts that a server refused: longer than its context"),
    KnownCause(
        "requests-failing",
        "requests",
        "requests of the last hour that failed, by opskit's log and the servers'",
    ),
    KnownCause("mlx-idle", "requests", "an MLX server that gets no work while Ollama does, and why"),
    KnownCause("clock-skew", "machine", "the clocks of nodes, agents and Docker (`watch.clock_skew_s`)"),
    KnownCause("agent-unauthorised", "agents", "agents that want a key"),
    KnownCause("agent-down", "agents", "agents where nothing listens"),
    KnownCause("agent-wedged", "agents", "agents that accept connections and never answer"),
    KnownCause("agent-failing", "agents", "agents that answer with errors"),
    KnownCause("agent-version", "agents", "agents without the API that opskit speaks to: another version"),
    KnownCause("agent-level-off", "agents", "levels of Victoria that are switched off"),
    KnownCause(
        "recovery-gave-up", "schedule", "targets that recovery has given up after repairs that did not help"
    ),
    KnownCause("job-not-loaded", "schedule", "a recovery job that is installed and not loaded"),
    KnownCause(
        "job-environment", "schedule", "what works in this shell and not in the scheduler's environment"
    ),
    KnownCause("job-failing", "schedule", "a recovery job whose last run failed"),
    KnownCause("check-failed", "machine", "checks that failed for a reason that none of the above explains"),
)
RANKS = {known.id: rank for rank, known in enumerate(KNOWN)}
AREA_OF = {known.id: known.area for known in KNOWN}
