"""The texts by which servers tell how a call failed, one pattern for each kind of fault.

A text is matched only where status and type leave the kind open (`opskit.llm.faults`). The patterns are taken
from the servers' sources and from recorded answers (wire facts A4, A8, B2, C); each has recorded examples in
`tests/unit/llm/test_faults.py`. `opskit explain` searches pasted logs with them, so a pattern is a sentence
that a server says of a failure, never a word of everyday logs. Every repetition is bounded.
"""

import re

from opskit.text import lazy_pattern


def _any(*patterns: str) -> re.Pattern[str]:
    return lazy_pattern("|".join(patterns), re.IGNORECASE)


OUT_OF_MEMORY = _any(
    # Ollama's own vocabulary (llm/status.go), its load messages, Metal's, and PyTorch's.
    r"out[ -]of[ -](device[ -])?memory",
    r"outofmemory|out_of_device_memory",
    r"(cuda|hip)Malloc failed|CUBLAS_STATUS_ALLOC_FAILED",
    r"(failed|unable) to allocate|allocation failed|cannot allocate memory|std::bad_alloc",
    r"not enough memory|insufficient memory",
    r"requires more system memory|model requires .{1,40} but only .{1,40} available",
    r"unable to load full model on GPU",
    r"\[metal::malloc\]",
    r"No available memory for the cache blocks",
)
#: The kernel's OOM killer is the usual sender of SIGKILL, but the runner does not know who sent it.
KILLED = _any(r"signal: killed|SIGKILL\b|exit (status|code):? 137\b|killed by signal 9\b")

BROKEN_MODEL_FILE = _any(
    # Ollama.
    r"invalid file magic|digest mismatch",
    r"offset ?\+ ?size \(\d{1,20}\) exceeds file size",
    r"(unable|failed) to load model: ?.{0,400}(blob|\.gguf|sha256)",
    # llama.cpp: gguf.cpp and llama-model-loader.cpp.
    r"invalid magic characters|failed to read magic|bad magic\b",
    r"not within the file bounds|(is|are) corrupted or incomplete|(file|model|blob) is corrupt",
    r"failed to read (key-value pairs|tensor (info|data)|header)",
    r"exceeds remaining file size|unexpected(ly reached)? end of file",
    r"wrong number of tensors|missing tensor '|has wrong shape; expected|duplicate tensor name",
    r"key not found in model|cannot find tokenizer merges in model",
    r"failed to open GGUF file|error loading model( \w{1,20})?: ",
    # MLX and safetensors.
    r"error while deserializing( header)?: |SafetensorError|HeaderTooLarge|MetadataIncompleteBuffer",
    r"InvalidHeader(Deserialization|Length|Start)",
    r"\[load(_safetensors|_gguf)?\] (Invalid|Unknown|Failed to open|The JSON|NULL|Tensor|gguf_init)",
    r"\[read\] Unable to read|No safetensors found",
    r"Received \d{1,6} parameters not in model|Missing \d{1,6} parameters:|checkpoint has no weights for",
)
UNKNOWN_ARCHITECTURE = _any(
    r"(unknown|unsupported|unrecognized) (model )?architecture",
    r"model architectures? .{1,200} (is|are) not supported",
    r"model type .{1,100} (is )?not supported|unsupported model type",
    r"does not recognize this architecture|No module named '(mlx_lm|mlx_vlm|mlx_audio)\.models",
    r"unknown (pre-tokenizer|tokenizer|projector)( type)?:|unsupported projector type",
    r"requires a newer version of (ollama|llama|mlx|transformers)",
    r"only supports up to version|(bad|unsupported) GGUF version|has invalid ggml type",
    r"\[safetensor\] unsupported dtype",
)
BROKEN_TEMPLATE = _any(
    # Go's text/template in Ollama.
    r"\btemplate: ?[^\s:]{0,80}:\d{1,6}(:\d{1,6})?: ",
    # llama.cpp's engines.
    r"jinja exception|error executing jinja|while executing \w{1,40} at line \d",
    r"unable to generate parser for this template",
    r"unknown (method|filter|function|test|operator)s?:? .{1,60} at (row|line) \d",
    # jinja2 and transformers, in mlx_lm.server and vLLM.
    r"jinja2\.exceptions|\bTemplate(Syntax|Assertion|Runtime)?Error\b|\bUndefinedError\b",
    r"'[^']{1,80}' is undefined|encountered unknown tag '|no (filter|test) named '",
    r"expected token '[^']{1,40}', got",
    r"cannot use chat template functions|must provide a chat template",
    r"(failed|unable|cannot|could not) (to )?(parse|apply|render|load|initialize|execute|use)"
    r".{0,40}chat[ _]template",
    r"chat[ _]template.{0,40}(is not (set|supported|valid)|parsing failed|could not be (parsed|applied))",
)
#: A request that asks for what cannot be: an option, a format, a grammar, or roles that the template refuses.
BAD_REQUEST = _any(
    r"\boption \\?[\"'].{1,80} must be of type|invalid option",
    r"\btime: (missing|unknown) unit in duration|\btime: invalid duration",
    r"invalid format: |invalid json schema|JSON schema (conversion failed|error)",
    r"(failed|unable|cannot|could not) (to )?(parse|initialize|create|compile) (the )?(GBNF )?grammar",
    r"(error|failed) parsing grammar|grammar is (invalid|not valid)|invalid grammar",
    r"failed to parse (messages|tools|tool call arguments)",
    r"missing request body|invalid JSON in request body",
    r"roles must alternate|system role (is )?not supported|roles? (is|are) (not )?supported",
)
CONTEXT_EXCEEDED = _any(
    r"exceed_context_size_error|context_length_exceeded",
    r"exceeds? (the |this )?(model'?s? )?(available |maximum )?(model )?context",
    r"(longer|greater|larger) than the (model'?s? )?(maximum )?(context|model) length",
    r"maximum context length (is|of) \d{1,9} tokens|maximum context length \(",
    r"context (length|size|window)( has been| was| is)? exceeded",
    r"too (long|large) to fit into the model|too large for model with \d{1,9} maximum context",
    r"prompt is too long|(is )?too large to process\. increase the physical batch",
    r"exceed context (window|limit)|prompt exceeds n_ctx",
    r"reached context length of|context the overflows|overflows the context",
    r"input token count .{0,40}exceeds the maximum|reduce the length of the (messages|prompt|input)",
    r"`?inputs`? tokens \+ `?max_new_tokens`? must be",
)
#: The server's parser gave up on what the model wrote; both are well.
UNPARSABLE_ANSWER = _any(
    r"does not match the expected .{1,80}format|produced output that does not match",
    r"error parsing tool call|failed to parse (the )?(tool call|input at pos|(model'?s? )?output)",
    r"XML syntax error on line \d|unexpected tokens remaining in message header",
)

CRASHED = _any(
    r"unexpectedly stopped|this may be due to resource limitations",
    r"process has terminated|process no longer running",
    r"exited (unexpectedly|prematurely)|unexpected server status",
    r"mlx runner failed|error was encountered while running the model",
    r"\b(Get|Post) \\?\"?https?://(127\.0\.0\.1|localhost|\[::1\]):\d+/\S*: (EOF|read|write|dial)",
    r"connection reset by peer|forcibly closed by the remote host",
    r"signal: (aborted|segmentation fault|bus error|illegal instruction)|\bSIG(SEGV|ABRT|BUS|ILL)\b",
    r"segmentation fault|core dumped|GGML_ASSERT|CUDA error|ROCm error",
    r"EngineDeadError|EngineCore encountered|model has crashed|rpc error: code = Unavailable",
)
#: mlx_lm.server 0.32.2 answers every completion with 404 and this text once its worker is gone; seen by
#: running it (tests/integration/test_real_mlx_wire.py). Older ones hang (wire facts B2).
DEAD_WORKER = _any(r"generation thread died")
LOAD_TIMEOUT = _any(
    r"timed out waiting for (llama|mlx)[- ]?\w* ?(runner|server)?", r"timeout waiting for mlx runner"
)
LOADING = _any(r"\b(still )?loading( the)? model\b", r"model is (still )?loading", "model_loading")
BUSY = _any(
    "server busy", "maximum pending requests", "no slots available", "overloaded", "too many requests"
)
UNSUPPORTED = _any(
    r"does not support (chat|generate|completion|tools|thinking|embed|insert|image|vision|audio|rerank)",
    r"does not support (multimodal|function calling)|(image|audio|video) input is not supported",
)
NOT_INSTALLED = _any(
    r"\bmodel\b.{0,200}\bnot found\b|try pulling it first|Repository Not Found|LocalEntryNotFound",
    r"Repo id must|is not a local folder|cannot find the requested files",
    r"couldn't connect to .{1,80}huggingface|outgoing traffic has been disabled",
    r"Cannot find an appropriate cached snapshot",
)
#: A 500 that says no more than that it is one, as web frameworks write it.
NO_REASON = _any(r"\s*", r"(http )?(500:? ?)?internal (server )?error\.?")
