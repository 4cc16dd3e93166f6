"""How a goal is worked on, by its words, in Russian and English: one question, or steps with tools. Pure."""

import re

METHODS = ("simple", "react")

#: A goal that asks about this machine, its files, services, models or logs cannot be answered without a look.
_ABOUT_MACHINE = re.compile(
    # A path, or the name of a file.
    r"(?:^|[\s\"'«(`])(?:~?/|\./|\.\./)[\w.-]+|\b[\w-]+\.(?:log|txt|md|ya?ml|json|toml|ini|conf|cfg|py|sh|csv|env|xml)\b"
    r"|\b(?:files?|folders?|director(?:y|ies)|logs?|containers?|docker|processes|disk|ports?|services?|daemon|"
    r"uptime|cpu|hostname|model servers?|loaded models?|models? (?:is|are) (?:loaded|installed|there)|"
    r"this (?:machine|host|server|box)|stack|ollama|mlx|victoria|veronica|postgres\w*|"
    r"installed|running|listening|mounted|last (?:answer|request|run))\b"
    r"|\b(?:файл\w*|папк\w*|каталог\w*|директори\w*|лог(?:и|а|ах|ов|е|у)?|журнал\w*|контейнер\w*|докер\w*|"
    r"процесс(?:ы|ов|а|ах)?|диск\w*|порт(?:ы|а|у|ов|ах)?|сервис\w*|служб\w*|сервер\w*|машин\w*|стек\w*|"
    r"загружен\w*|модел(?:и|ей) (?:есть|стоят|доступны)|установлен\w*|запущен\w*|свободн\w+ мест\w*|"
    r"последн\w+ (?:ответ|запрос)\w*)\b",
    re.IGNORECASE,
)
_ABOUT_STACK = re.compile(
    r"\b(?:stack|ollama|mlx|llama\.?cpp|victoria|veronica|model servers?|agents?|containers?|"
    r"last (?:answer|request|run)|стек\w*|сервер\w* модел\w*|агент\w*|контейнер\w*|"
    r"последн\w+ (?:ответ|запрос)\w*)\b",
    re.IGNORECASE,
)
#: A request to write or to explain something is answered from what a model knows, whatever it is about.
_GENERAL = re.compile(
    r"^\W*(?:write|draft|translate|explain what|what (?:is|are) an?\b|what does .{1,40} mean|define|"
    r"напиши|сочини|переведи|что такое|что значит|дай определение|объясни,? что такое)",
    re.IGNORECASE,
)
_SEQUENCE = re.compile(
    r"\b(?:then|after that|afterwards|and (?:also|finally)|first .{1,80} then|step by step|"
    r"затем|потом|после этого|а также|сначала|наконец|по шагам)\b",
    re.IGNORECASE,
)
_LONG_WORDS = 30


def about_stack(goal: str) -> bool:
    """Tell whether a goal asks about the stack itself, which an examination answers without a model."""
    return about_machine(goal) and _ABOUT_STACK.search(goal[:4000]) is not None


def about_machine(goal: str) -> bool:
    """Tell whether a goal can only be answered by looking at this machine."""
    head = goal[:4000]
    return _ABOUT_MACHINE.search(head) is not None and _GENERAL.search(head) is None


def method_of(goal: str) -> str:
    """Return the method for a goal that names none."""
    return "react" if about_machine(goal) else "simple"


def wants_plan(goal: str) -> bool:
    """Tell whether a goal has several parts: a plan pays for its two model calls only then."""
    return len(goal.split()) > _LONG_WORDS or _SEQUENCE.search(goal) is not None
