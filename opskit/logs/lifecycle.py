"""What Docker's events of a container mean in words."""

from opskit.logs.source import Note
from opskit.system.docker_records import DockerEvent

#: The events that are told of, and those that are only listened to.
ACTIONS = (
    "create",
    "start",
    "restart",
    "kill",
    "stop",
    "die",
    "oom",
    "pause",
    "unpause",
    "rename",
    "destroy",
    "health_status",
)


def note(shown: str, happening: DockerEvent) -> Note:
    """The note for an event."""
    return Note(shown, happening.at_ns / 1e9, _text(happening))


def _text(happening: DockerEvent) -> str:
    said = happening.attributes
    match happening.action:
        case "create":
            return f"created as {happening.id[:12]} from {said.get('image', 'an unnamed image')}"
        case "start":
            return "started"
        case "restart":
            return "restarted"
        case "kill":
            return f"was sent signal {said.get('signal', '?')}"
        case "stop":
            return "stopped"
        case "die":
            return f"died with exit code {said.get('exitCode', '?')}"
        case "oom":
            return "ran out of memory (OOM)"
        case "pause":
            return "paused"
        case "unpause":
            return "goes on after a pause"
        case "rename":
            return f"renamed, was {said.get('oldName', '?').lstrip('/')}"
        case "destroy":
            return f"removed ({happening.id[:12]})"
        case "health_status":
            return f"health: {happening.detail or '?'}"
        case other:
            return other
