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

#: Each line is an id, its area, and what is looked at.
_TABLE = """
config-invalid configuration the configuration file and the variables that opskit reads
restore-interrupted configuration folders that a killed `opskit backup restore` left half done
address-invalid configuration addresses: scheme, host, port, no password
secret-unset configuration variables that secrets of the configuration refer to
env-file-missing configuration files of `stack.env_files`
secret-empty configuration secrets in `stack.env_files`: no value, or a placeholder
disk-full machine room for the state folder, Docker and models (`watch.disk_percent`)
state-unusable machine whether opskit can write into its state folder
memory-full machine used memory (`watch.memory_percent`)
runner-orphaned machine processes of models whose Ollama has ended: they hold memory
lock-held machine locks of opskit that another process holds, and which
localhost-unresolved network whether the name localhost leads to this machine
docker-context-invalid docker DOCKER_HOST, DOCKER_CONTEXT and the context in use
docker-host-stale docker a DOCKER_HOST or context that leads nowhere while Docker is elsewhere
docker-not-permitted docker whether this user may use Docker's socket
docker-silent docker a daemon that accepts connections and never answers
docker-down docker whether a Docker daemon answers
compose-missing docker whether there is a Docker Compose on PATH
compose-broken docker whether Compose can read the files of `stack.compose`
compose-variable-unset docker variables of Compose files without a value
network-missing docker the network of `stack.docker_network`
container-oom-killed docker containers of the stack that were killed for want of memory
container-restarting docker containers of the stack that Docker restarts again and again
container-stopped docker containers of the stack that have ended
container-missing docker containers of `stack.containers` and services of `stack.compose`
container-unhealthy docker health checks of containers of the stack
container-network-lost docker containers that share the network of one that was replaced
oom-killed machine the kernel's log: model servers that it killed for want of memory
health-check-broken docker health checks that cannot run: their program is missing
bind-address network 0.0.0.0 or :: where a client needs an address to dial
localhost-in-container network containers that look for the host's servers at localhost
loopback-only network servers on loopback that containers look for at the host (Linux)
host-name-unknown network containers that look for host.docker.internal on Linux without it
port-published-elsewhere network ports of containers that are published on one address only
address-wrong nodes what leads to a node: scheme, path, certificate, redirect, proxy, ::1
port-taken nodes who really holds the port of a node or an agent
wrong-server nodes addresses of Ollama, MLX and llama.cpp that lead to one another
ollama-host-port nodes an OLLAMA_HOST with a scheme and no port, which means port 80 or 443
two-servers nodes two servers on one port: localhost means now this one, now that one
process-stopped nodes servers, and processes of models, that are stopped (SIGSTOP)
scheduler-hangs nodes an Ollama that keeps requests from the idle process of a model
node-wedged nodes nodes with green health pages that give no token; busy ones are left alone
node-unreachable nodes nodes on hosts that cannot be reached, or whose name does not resolve
node-unauthorised nodes nodes that want a key
node-down nodes nodes where nothing listens
node-failing nodes nodes that answer with errors
model-unusable models models that a server holds and cannot run: file, template, architecture
no-model models nodes without a model that can chat
model-missing models models that the configuration names and no node holds
model-too-large models models that are wanted, are not loaded and do not fit in memory
ollama-memory models OLLAMA_NUM_PARALLEL x OLLAMA_CONTEXT_LENGTH against the memory
ollama-one-model models OLLAMA_MAX_LOADED_MODELS=1 with several models in use
ollama-keep-alive models OLLAMA_KEEP_ALIVE=0: each request loads its model again
ollama-kv-cache models OLLAMA_KV_CACHE_TYPE without OLLAMA_FLASH_ATTENTION
ollama-setting-invalid models OLLAMA_* values that the server ignores
shell-settings-ignored models OLLAMA_* of this shell that the running server does not have
num-ctx-differs requests clients that ask one model with different num_ctx: it reloads
context-truncated requests prompts that are cut: the loaded context, Ollama's log, `--deep`
context-exceeded requests prompts that a server refused: longer than its context
requests-failing requests requests of the last hour that failed, by opskit's log and the servers'
mlx-idle requests an MLX server that gets no work while Ollama does, and why
clock-skew machine the clocks of nodes, agents and Docker (`watch.clock_skew_s`)
agent-unauthorised agents agents that want a key
agent-down agents agents where nothing listens
agent-wedged agents agents that accept connections and never answer
agent-failing agents agents that answer with errors
agent-version agents agents without the API that opskit speaks to: another version
agent-level-off agents levels of Victoria that are switched off
recovery-gave-up schedule targets that recovery has given up after repairs that did not help
job-not-loaded schedule a recovery job that is installed and not loaded
job-environment schedule what works in this shell and not in the scheduler's environment
job-failing schedule a recovery job whose last run failed
check-failed machine checks that failed for a reason that none of the above explains
"""
KNOWN = tuple(KnownCause(*line.split(" ", 2)) for line in _TABLE.strip().splitlines())
RANKS = {known.id: rank for rank, known in enumerate(KNOWN)}
AREA_OF = {known.id: known.area for known in KNOWN}
