"""The models that are preferred where the configuration names none."""

#: SPEC A4.
FALLBACK_MLX = (
    "phi3.5:3.8b",
    "qwen2.5:3b",
    "tinyllama:1.1b-chat",
    "phi3:mini-4k",
    "qwen2.5-coder:32b",
)
FALLBACK_OLLAMA = ("phi3.5:3.8b", "tinyllama:1.1b-chat", "glm-4.7-flash:q8_0", "qwen2.5-coder:32b")

#: SPEC D4: the most powerful first.
POWER = (
    "command-r-plus:104b",
    "deepseek-r1-distill-llama:70b",
    "llama3.3:70b",
    "qwen2.5-coder:32b",
)

#: What a category prefers. Patterns are matched as `fnmatch` against the lower-cased name, in order.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "reasoning": (
        "command-r-plus*",
        "deepseek-r1*70b*",
        "llama3.3*",
        "qwq*",
        "*deepseek-r1*",
        "*qwen3*",
        "*qwen2.5:32b*",
        "*qwen2.5:14b*",
    ),
    "coding": (
        "*qwen*coder*32b*",
        "*qwen*coder*",
        "*deepseek-coder*",
        "*codestral*",
        "*codellama*",
        "*starcoder*",
        "*coder*",
        "*code*",
    ),
    "fast": (
        "*phi3.5*",
        "*phi-3.5*",
        "*qwen2.5:3b*",
        "*tinyllama*",
        "*phi3*",
        "*phi-3*",
        "*gemma*2b*",
        "*llama3.2:1b*",
        "*llama3.2*",
    ),
    "default": (),
}
