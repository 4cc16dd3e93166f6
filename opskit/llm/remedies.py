"""What to type after a call that failed: one text for `run`, `probe`, `doctor` and `models test`. Pure."""

from collections.abc import Mapping

from opskit.llm.faults import FaultKind
from opskit.llm.verdict import Verdict
from opskit.providers.base import DEFAULT_MODEL
from opskit.providers.kinds import ServerKind

#: For every kind of server.
_ANYWHERE: Mapping[FaultKind, str] = {
    FaultKind.OUT_OF_MEMORY: "`ollama stop NAME` makes room; `opskit models list` shows smaller models; "
    "`journalctl -k -n 50` shows whether the kernel killed the runner",
    FaultKind.LOAD_TIMEOUT: "raise `budgets.load_s_per_gib` for a slow disk, then {again}",
    FaultKind.LOADING: "wait, then {again}",
    FaultKind.BUSY: "wait until it has less to do, then {again}",
    FaultKind.RATE_LIMITED: "wait until its limit is over, then {again}",
    FaultKind.NOT_INSTALLED: "`opskit models list --node {node}` shows the names it knows",
    FaultKind.NOT_LISTED: "`opskit models list --node {node}` shows the names it knows",
    FaultKind.UNAUTHORISED: "give its key: set `nodes.{node}.api_key: ${{NAME}}` and export NAME",
    FaultKind.BAD_REQUEST: "correct what the message names: an option, the format or the roles of the "
    "messages; the model is well",
    FaultKind.UNSUPPORTED: "{model} cannot do this: choose another model (`opskit models list`)",
    FaultKind.CONTEXT_EXCEEDED: "shorten the prompt, or restart {node} with a larger context (llama.cpp: "
    "`llama-server -c N`, vLLM: `--max-model-len N`)",
    FaultKind.UNPARSABLE_ANSWER: "{again}: the model and the server are well, one answer was not; if it is "
    "often so, update the server",
    FaultKind.BROKEN_MODEL_FILE: "download the files of {model} again and compare their checksums; `df -h` "
    "shows whether the disk is full; if the files are whole, update the server",
    FaultKind.BROKEN_TEMPLATE: "start {node} with a template that works (llama.cpp: `--chat-template-file "
    "FILE`), or take another conversion of {model}",
    FaultKind.UNKNOWN_ARCHITECTURE: "update the server of {node}: it is too old for {model}; or choose "
    "another model (`opskit models list`)",
}


def fault_remedy(kind: FaultKind, *, model: str, node: str, server: ServerKind, again: str) -> str | None:
    """Return the next thing to type; None where only the state of the node tells it.

    `again` is the command that tries once more.
    """
    text = server.advice.get(kind.value) or _ANYWHERE.get(kind)
    if text is None:
        return None
    return text.format(model="MODEL" if model == DEFAULT_MODEL else model, node=node, again=again)


def verdict_remedy(verdict: Verdict, *, model: str, limited: bool) -> str | None:
    """Return what helps against an answer that is none; None where nothing certain does.

    `limited` means that the token limit ended it.
    """
    if verdict is not Verdict.ONLY_THINKING:
        return None
    other = "or choose a model that does not think (`opskit models list`)"
    if limited:
        return (
            f"raise `router.max_tokens` (or its context, where that is full) for {model} to finish, {other}"
        )
    return f"ask again, {other}"
