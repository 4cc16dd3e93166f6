"""The kinds of fault, and which simulated server can show which."""

from enum import StrEnum


class SandboxFaultKind(StrEnum):
    """Every fault by the name it has on the command line."""

    REFUSE = "refuse"
    SILENCE = "silence"
    RESET = "reset"
    CRASH = "crash"
    CRASH_OLD = "crash-old"
    OOM = "oom"
    KILLED = "killed"
    BROKEN_FILE = "broken-file"
    BLOB_MISSING = "blob-missing"
    BROKEN_TEMPLATE = "broken-template"
    UNKNOWN_ARCHITECTURE = "unknown-architecture"
    BAD_OPTION = "bad-option"
    CONTEXT_EXCEEDED = "context-exceeded"
    UNPARSABLE = "unparsable"
    SLOW_LOAD = "slow-load"
    FAST_503 = "fast-503"
    RATE_LIMITED = "rate-limited"
    NOT_INSTALLED = "not-installed"
    PS_BLOCKS = "ps-blocks"
    GARBAGE = "garbage"
    GARBAGE_TAGS = "garbage-tags"
    EMPTY = "empty"
    ECHO = "echo"
    LOOP = "loop"
    DONE_FALSE = "done-false"
    LENGTH = "length"
    CUT = "cut"
    ERROR_INBAND = "error-inband"
    UNAUTHORISED = "unauthorised"
    ZOMBIE = "zombie"
    NOTFOUND_ALL = "notfound-all"
    EMPTY_REPLY = "empty-reply"
    HANG_MIDSTREAM = "hang-midstream"
    SLOW_TOKEN = "slow-token"  # noqa: S105
    LOADING_503 = "loading-503"
    CLOSE_BEFORE_DONE = "close-before-done"


K = SandboxFaultKind

ANY_NODE = frozenset({
    K.REFUSE, K.SILENCE, K.RESET, K.GARBAGE, K.EMPTY, K.ECHO, K.CUT, K.UNAUTHORISED, K.SLOW_TOKEN,
})  # fmt: skip
ANY_MODEL_SERVER = ANY_NODE | {
    K.OOM, K.SLOW_LOAD, K.RATE_LIMITED, K.NOT_INSTALLED, K.GARBAGE_TAGS, K.LOOP, K.LENGTH, K.HANG_MIDSTREAM,
    K.BROKEN_FILE, K.BROKEN_TEMPLATE, K.UNKNOWN_ARCHITECTURE, K.BAD_OPTION, K.CONTEXT_EXCEEDED, K.UNPARSABLE,
}  # fmt: skip
OLLAMA_FAULTS = ANY_MODEL_SERVER | {
    K.CRASH, K.CRASH_OLD, K.FAST_503, K.PS_BLOCKS, K.DONE_FALSE, K.ERROR_INBAND, K.CLOSE_BEFORE_DONE,
    K.KILLED, K.BLOB_MISSING,
}  # fmt: skip
MLX_FAULTS = ANY_MODEL_SERVER | {K.ZOMBIE, K.NOTFOUND_ALL, K.EMPTY_REPLY, K.LOADING_503}
AGENT_FAULTS = ANY_NODE | {K.CRASH}

SHOWN_BY = {
    "ollama": OLLAMA_FAULTS,
    "mlx": MLX_FAULTS,
    "victoria": AGENT_FAULTS,
    "veronica": AGENT_FAULTS,
}
"""Node names of the grammar, each with the faults it can show."""

WHOLE_NODE = frozenset({K.REFUSE, K.SILENCE, K.PS_BLOCKS, K.GARBAGE_TAGS, K.ZOMBIE})
"""Faults of a process rather than of a model: they take no model name."""
