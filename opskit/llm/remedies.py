"""What to type after a fault of a call: one text for `run`, `probe`, `doctor` and `models test`. Pure."""

from collections.abc import Mapping

from opskit.llm.faults import FaultKind
from opskit.providers.base import DEFAULT_MODEL

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
_OLLAMA: Mapping[FaultKind, str] = {
    FaultKind.NOT_INSTALLED: "`ollama pull {model}`",
    FaultKind.CONTEXT_EXCEEDED: "shorten the prompt, or give it a larger context: `nodes.{node}.num_ctx: N` "
    "(`ollama show {model}` names the longest that the model can use)",
    FaultKind.BROKEN_MODEL_FILE: "`ollama rm {model}`, then `ollama pull {model}` fetches its files again; "
    "`df -h` shows whether the disk is full; if it fails again, update Ollama",
    FaultKind.BROKEN_TEMPLATE: "`ollama show --template {model}` shows it; `ollama pull {model}` fetches the "
    "published one, for a model of your own correct TEMPLATE in its Modelfile",
    FaultKind.UNKNOWN_ARCHITECTURE: "update Ollama, which is too old for {model} (Linux: `curl -fsSL "
    "https://ollama.com/install.sh | sh`, macOS: `brew upgrade ollama`); or choose another model "
    "(`opskit models list`)",
}
_MLX: Mapping[FaultKind, str] = {
    FaultKind.CONTEXT_EXCEEDED: "shorten the prompt, or take a model with a longer context "
    "(`opskit models list`)",
    FaultKind.BROKEN_MODEL_FILE: "`hf download {model} --force-download` fetches its files again; `df -h` "
    "shows whether the disk is full; if it fails again, `pip install --upgrade mlx mlx-lm`",
    FaultKind.BROKEN_TEMPLATE: "start `mlx_lm.server` with `--chat-template TEMPLATE`, or take another "
    "conversion of {model}",
    FaultKind.UNKNOWN_ARCHITECTURE: "`pip install --upgrade mlx-lm`, then restart the server: it is too old "
    "for {model}; or choose another model (`opskit models list`)",
}
_BY_SOURCE: Mapping[str, Mapping[FaultKind, str]] = {"ollama": _OLLAMA, "mlx": _MLX}


def fault_remedy(kind: FaultKind, *, model: str, node: str, source: str, again: str) -> str | None:
    """The next thing to type; None where only the state of the node tells it.

    `again` is the command that tries once more.
    """
    text = _BY_SOURCE.get(source, {}).get(kind) or _ANYWHERE.get(kind)
    if text is None:
        return None
    return text.format(model="MODEL" if model == DEFAULT_MODEL else model, node=node, again=again)
