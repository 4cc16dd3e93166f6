"""A Llama checkpoint of a few hundred kilobytes that answers every chat with one chosen text."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ANSWER = "The sandbox of a tiny model says that forty two is right."

SPECIAL = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>")
END = "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CERTAINTY = 50.0
"""Logit of the one right token, against 0 for all others: sampling at any usual temperature agrees."""


def build_model(folder: Path, *, answer: str = ANSWER, loops: bool = False, layers: int = 1) -> Path:
    """Write a checkpoint whose reply to any chat, and to most bare prompts, is exactly `answer`.

    The next token depends on the current one alone. Embeddings are one-hot, every layer adds zero, and
    the output head maps each token of the answer to the one after it, the last to the end of text and
    any other token to the first of the answer.

    Args:
        folder: created when absent; files of the same names are overwritten.
        answer: must not be empty; a space at its very start is lost, as with any model.
        loops: the last token leads back to the first, so only `max_tokens` ends a reply.
        layers: each one computes a full block for nothing, so more of them mean fewer tokens a second.

    """
    import numpy as np
    from safetensors.numpy import save_file

    vocabulary, chain = _vocabulary(answer)
    size = len(vocabulary)
    successor = np.full(size, chain[0])
    successor[chain] = [*chain[1:], chain[0] if loops else vocabulary[END]]

    config = _config(vocabulary, layers)
    norm_gain = np.sqrt(size)  # RMSNorm turns a one-hot vector of this width into this height
    head = np.zeros((size, size), np.float32)
    head[successor, np.arange(size)] = CERTAINTY / norm_gain
    weights = {
        "model.embed_tokens.weight": np.eye(size, dtype=np.float32),
        "model.norm.weight": np.ones(size, np.float32),
        "lm_head.weight": head,
    } | {name: np.zeros(shape, np.float32) for name, shape in _layer_shapes(config)}

    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "mlx"})
    _write(folder / "config.json", config)
    _write(
        folder / "model.safetensors.index.json",
        {
            "metadata": {"total_size": sum(array.nbytes for array in weights.values())},
            "weight_map": dict.fromkeys(sorted(weights), "model.safetensors"),
        },
    )
    _write_tokenizer(folder, vocabulary)
    return folder


def long_answer(words: int) -> str:
    """A text of that many different made-up words, one token each; the checkpoint grows with the square."""
    syllables = ["".join(pair) for pair in itertools.product("bdklmprt", "aiou")][:13]
    made = ["".join(parts) for parts in itertools.product(syllables, repeat=3)]
    if words > len(made):
        raise ValueError(f"only {len(made)} different words can be made")
    return " ".join(made[:words])


def _vocabulary(answer: str) -> tuple[dict[str, int], list[int]]:
    """Token ids for all bytes, the special tokens and the answer; and the ids that spell the answer."""
    from tokenizers.pre_tokenizers import ByteLevel

    level = ByteLevel(add_prefix_space=False)
    tokens = _distinct(piece for piece, _ in level.pre_tokenize_str(answer))
    if not tokens:
        raise ValueError("the answer is empty")
    every = dict.fromkeys([*sorted(ByteLevel.alphabet()), *SPECIAL, *tokens])
    vocabulary = {token: number for number, token in enumerate(every)}
    return vocabulary, [vocabulary[token] for token in tokens]


def _distinct(pieces: Iterable[str]) -> list[str]:
    """Glue pieces of a text into tokens of which no two are equal: a repeated one joins its neighbour."""
    tokens: list[str] = []
    waiting = ""
    for piece in pieces:
        waiting += piece
        if waiting not in tokens:
            tokens.append(waiting)
            waiting = ""
    while waiting:
        waiting = tokens.pop() + waiting
        if waiting not in tokens:
            tokens.append(waiting)
            waiting = ""
    return tokens


def _config(vocabulary: dict[str, int], layers: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(vocabulary),
        "hidden_size": len(vocabulary),
        "intermediate_size": 8,
        "num_hidden_layers": layers,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "eos_token_id": vocabulary[END],
        "torch_dtype": "float32",
    }


def _layer_shapes(config: dict[str, Any]) -> Iterable[tuple[str, tuple[int, ...]]]:
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (head, hidden),
        "self_attn.k_proj": (head, hidden),
        "self_attn.v_proj": (head, hidden),
        "self_attn.o_proj": (hidden, head),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    for layer, (name, shape) in itertools.product(range(config["num_hidden_layers"]), shapes.items()):
        yield f"model.layers.{layer}.{name}.weight", shape


def _write_tokenizer(folder: Path, vocabulary: dict[str, int]) -> None:
    """A byte-level BPE without merges: whole words of the answer are tokens, all else falls to bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": END,
            "additional_special_tokens": [token for token in SPECIAL if token != END],
            "clean_up_tokenization_spaces": False,
            "model_max_length": 4096,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
