"""A cause, the checks that it explains, and the command that ends it.

The ids of causes are stable: scripts may depend on them.
"""

import shlex
from functools import partial
from typing import Any

from opskit.records import Record
from opskit.result import Status


class Fix(Record):
    """A command, word by word, that ends a cause. Only a safe one is ever run, and only after a question.

    Safe means: it stops no work, loses no data, downloads nothing and changes no file. `target` is what it
    repairs, by the name under which recovery counts repairs and people pause them (`container:web`,
    `network`, `ollama`). `undo` is how a person takes it back.
    """

    command: tuple[str, ...]
    safe: bool = False
    target: str = ""
    undo: str = ""

    @property
    def text(self) -> str:
        """As a person would type it."""
        return shlex.join(self.command)

    def as_json(self) -> dict[str, Any]:
        return {"command": self.text, "safe": self.safe}


class Cause(Record, kw_only=True):
    """One thing that is wrong.

    `id` is an entry of the catalogue, `target` what it is about (a node, a container, a path); both together
    are its key. `evidence` are sentences that show it. `claims` are names of checks whose outcome it can
    explain, `because` keys of causes of which it would be a mere consequence. `code` is an entry of the error
    catalogue where that of its kind does not do.
    """

    id: str
    title: str
    evidence: tuple[str, ...]
    remedy: str
    target: str = ""
    claims: frozenset[str] = frozenset()
    because: tuple[str, ...] = ()
    fix: Fix | None = None
    status: Status = Status.FAIL
    code: str | None = None

    @property
    def error_code(self) -> str | None:
        return self.code or CODE_OF[self.id]

    @property
    def key(self) -> str:
        return key_of(self.id, self.target)


def claims_of(*names: str) -> frozenset[str]:
    """Return the checks of nodes and agents."""
    return frozenset(f"{kind} {name}" for name in names for kind in ("node", "agent"))


#: A cause of what works all the same, or worse than it could.
warning = partial(Cause, status=Status.WARN)


def key_of(identifier: str, target: str = "") -> str:
    return f"{identifier}:{target}" if target else identifier


class KnownCause(Record):
    """One kind of cause: its area, its entry of the error catalogue, and what is looked at to find it."""

    id: str
    area: str
    code: str | None
    looks_at: str


AREAS = ("configuration", "machine", "network", "docker", "nodes", "agents", "models", "requests", "schedule")

#: Each line is an id, its area, its code (or none), and what is looked at.
_TABLE = """
config-invalid configuration CONFIG_001 the configuration file and the variables that opskit reads
restore-interrupted configuration BACKUP_005 folders that a killed `opskit backup restore` left half done
address-invalid configuration CONFIG_003 addresses: scheme, host, port, no password
secret-unset configuration CONFIG_001 variables that secrets of the configuration refer to
env-file-missing configuration CONFIG_002 files of `stack.env_files`
secret-empty configuration CONFIG_001 secrets in `stack.env_files`: no value, or a placeholder
disk-full machine BACKUP_003 room for the state folder, Docker and models (`watch.disk_percent`)
state-unusable machine STATE_001 whether opskit can write into its state folder
memory-full machine MODEL_003 used memory (`watch.memory_percent`)
runner-orphaned machine MODEL_003 processes of models whose Ollama has ended: they hold memory
lock-held machine RECOVER_001 locks of opskit that another process holds, and which
localhost-unresolved network COMM_002 whether the name localhost leads to this machine
docker-context-invalid docker DOCKER_001 DOCKER_HOST, DOCKER_CONTEXT and the context in use
docker-host-stale docker DOCKER_001 a DOCKER_HOST or context that leads nowhere while Docker is elsewhere
docker-not-permitted docker DOCKER_001 whether this user may use Docker's socket
docker-silent docker DOCKER_001 a daemon that accepts connections and never answers
docker-down docker DOCKER_001 whether a Docker daemon answers
compose-missing docker HOST_001 whether there is a Docker Compose on PATH
compose-broken docker CONFIG_001 whether Compose can read the files of `stack.compose`
compose-variable-unset docker CONFIG_001 variables of Compose files without a value
network-missing docker - the network of `stack.docker_network`
container-oom-killed docker MODEL_003 containers of the stack that were killed for want of memory
container-restarting docker - containers of the stack that Docker restarts again and again
container-stopped docker - containers of the stack that have ended
container-missing docker DOCKER_002 containers of `stack.containers` and services of `stack.compose`
container-unhealthy docker - health checks of containers of the stack
container-network-lost docker - containers that share the network of one that was replaced
oom-killed machine MODEL_003 the kernel's log: model servers that it killed for want of memory
health-check-broken docker - health checks that cannot run: their program is missing
bind-address network CONFIG_003 0.0.0.0 or :: where a client needs an address to dial
localhost-in-container network CONFIG_003 containers that look for the host's servers at localhost
loopback-only network COMM_002 servers on loopback that containers look for at the host (Linux)
proxy-in-container network COMM_002 containers that ask a proxy for servers of this machine
host-name-unknown network COMM_002 containers that look for host.docker.internal on Linux without it
port-published-elsewhere network COMM_002 ports of containers that are published on one address only
address-wrong nodes COMM_002 what leads to a node: scheme, path, certificate, redirect, proxy, ::1
port-taken nodes COMM_001 who really holds the port of a node or an agent
wrong-server nodes COMM_001 addresses of Ollama, MLX and llama.cpp that lead to one another
ollama-host-port nodes CONFIG_003 an OLLAMA_HOST with a scheme and no port, which means port 80 or 443
two-servers nodes COMM_001 two servers on one port: localhost means now this one, now that one
process-stopped nodes MODEL_002 servers, and processes of models, that are stopped (SIGSTOP)
scheduler-hangs nodes MODEL_002 an Ollama that keeps requests from the idle process of a model
node-wedged nodes MODEL_002 nodes with green health pages that give no token; busy ones are left alone
node-unreachable nodes COMM_002 nodes on hosts that cannot be reached, or whose name does not resolve
node-unauthorised nodes COMM_001 nodes that want a key
node-down nodes COMM_001 nodes where nothing listens
node-failing nodes GEN_001 nodes that answer with errors
model-unusable models GEN_001 models that a server holds and cannot run: file, template, architecture
no-model models MODEL_001 nodes without a model that can chat
model-missing models MODEL_001 models that the configuration names and no node holds
model-too-large models MODEL_003 models that are wanted, are not loaded and do not fit in memory
ollama-memory models MODEL_003 OLLAMA_NUM_PARALLEL x OLLAMA_CONTEXT_LENGTH against the memory
ollama-one-model models - OLLAMA_MAX_LOADED_MODELS=1 with several models in use
ollama-keep-alive models - OLLAMA_KEEP_ALIVE=0: each request loads its model again
ollama-kv-cache models - OLLAMA_KV_CACHE_TYPE without OLLAMA_FLASH_ATTENTION
ollama-setting-invalid models - OLLAMA_* values that the server ignores
shell-settings-ignored models - OLLAMA_* of this shell that the running server does not have
num-ctx-differs requests - clients that ask one model with different num_ctx: it reloads
context-truncated requests VAL_001 prompts that are cut: the loaded context, Ollama's log, `--deep`
context-exceeded requests - prompts that a server refused: longer than its context
requests-failing requests - requests of the last hour that failed, by opskit's log and the servers'
mlx-idle requests - an MLX server that gets no work while Ollama does, and why
clock-skew machine - the clocks of nodes, agents and Docker (`watch.clock_skew_s`)
agent-unauthorised agents COMM_001 agents that want a key
agent-down agents COMM_001 agents where nothing listens
agent-wedged agents COMM_003 agents that accept connections and never answer
agent-queue-stuck agents COMM_003 runs that wait in the queue of an agent while none is under way
agent-failing agents GEN_001 agents that answer with errors
agent-version agents GEN_001 agents without the API that opskit speaks to: another version
agent-level-off agents GEN_001 levels of Victoria that are switched off
recovery-gave-up schedule RECOVER_005 targets that recovery has given up after repairs that did not help
job-not-loaded schedule SCHEDULE_002 a recovery job that is installed and not loaded
job-environment schedule SCHEDULE_002 what works in this shell and not in the scheduler's environment
job-failing schedule SCHEDULE_002 a recovery job whose last run failed
check-failed machine - checks that failed for a reason that none of the above explains
"""
_ROWS = (line.split(" ", 3) for line in _TABLE.strip().splitlines())
KNOWN = tuple(KnownCause(name, area, code.strip("-") or None, sight) for name, area, code, sight in _ROWS)
RANKS = {known.id: rank for rank, known in enumerate(KNOWN)}
AREA_OF = {known.id: known.area for known in KNOWN}
CODE_OF = {known.id: known.code for known in KNOWN}
