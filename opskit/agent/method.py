"""How a goal is worked on, by its words, in Russian and English. Pure."""

import re
from collections.abc import Mapping

from opskit.llm.wording import goal_category, has_parts, parted
from opskit.text import lazy_pattern

METHODS = (
    "simple",
    "react",
    "extended_thinking",
    "swarm",
    "consensus",
    "tree_of_thoughts",
    "hierarchical",
)

#: A goal that asks about this machine, its files, services, models or logs cannot be answered without a look.
_ABOUT_MACHINE = lazy_pattern(
    # A path, or the name of a file.
    r"(?:^|[\s\"'«(`])(?:~?/|\./|\.\./)[\w.-]+|\b[\w-]+\.(?:log|txt|md|ya?ml|json|toml|ini|conf|cfg|py|sh|csv|env|xml)\b"
    r"|\b(?:files?|folders?|director(?:y|ies)|logs?|containers?|docker|processes|disk|ports?|services?|daemon|"
    r"uptime|cpu|hostname|model servers?|loaded models?|models? (?:is|are) (?:loaded|installed|there)|"
    r"this (?:machine|host|server|box)|stack|ollama|mlx|victoria|veronica|postgres\w*|"
    r"(?:this|the|git) repo(?:sitory)?|uncommitted|last commit|репозитори\w*|последн\w+ коммит\w*|"
    r"installed|running|listening|mounted|last (?:answer|request|run))\b"
    r"|\b(?:файл\w*|папк\w*|каталог\w*|директори\w*|лог(?:и|а|ах|ов|е|у)?|журнал\w*|контейнер\w*|докер\w*|"
    r"процесс(?:ы|ов|а|ах)?|диск\w*|порт(?:ы|а|у|ов|ах)?|сервис\w*|служб\w*|сервер\w*|машин\w*|стек\w*|"
    r"загружен\w*|модел(?:и|ей) (?:есть|стоят|доступны)|установлен\w*|запущен\w*|свободн\w+ мест\w*|"
    r"последн\w+ (?:ответ|запрос)\w*)\b",
    re.IGNORECASE,
)
_ABOUT_STACK = lazy_pattern(
    r"\b(?:stack|ollama|mlx|llama\.?cpp|victoria|veronica|model servers?|agents?|containers?|"
    r"last (?:answer|request|run)|стек\w*|сервер\w* модел\w*|агент\w*|контейнер\w*|"
    r"последн\w+ (?:ответ|запрос)\w*)\b",
    re.IGNORECASE,
)
_ASKS_STATE = lazy_pattern(
    r"\b(?:down|up|running|dead|paused|happened|(?:un)?healthy|(?:stop|crash|exit|restart|fail|end)\w*|died?|"
    r"упал\w*|жив\w?|работает|останов\w+|перезапуска\w+|завершил\w+|случилось)\b",
    re.IGNORECASE,
)
#: Where a plain word may be a name: in "is it down", and among Cyrillic ones.
_IS_DOWN = lazy_pattern(
    r"\b(?:is|are)\b.{1,60}\b(?:down|up|running|dead|(?:un)?healthy)\b|[а-яё]", re.IGNORECASE
)
#: A request to write or to explain something is answered from what a model knows, whatever it is about.
_GENERAL = lazy_pattern(
    r"^\W*(?:write|draft|translate|explain what|what (?:is|are) an?\b|what does .{1,40} mean|define|"
    r"напиши|сочини|переведи|что такое|что значит|дай определение|объясни,? что такое)",
    re.IGNORECASE,
)
#: What a goal says about how it wants to be worked on.
_WISH = lazy_pattern(
    r"\b(?:(?P<consensus>double-?check|cross-?check|ask (?:several|all) models|перепровер\w*|"
    r"спроси (?:несколько|все) модел\w*)"
    r"|(?P<swarm>(?:ask|consult) (?:several |the )?experts|from several (?:points of view|perspectives)|"
    r"с разных (?:сторон|точек зрения)|спроси экспертов|мнени\w+ (?:нескольких )?экспертов)"
    r"|(?P<tree_of_thoughts>explore (?:several |the |different )?(?:alternatives|options)|"
    r"consider several (?:options|ways)|(?:рассмотри|перебери) (?:несколько |разные )?вариант\w*)"
    r"|(?P<extended_thinking>think (?:hard|harder|carefully|deeply|twice)|хорошенько подумай|"
    r"подумай (?:хорошо|тщательно|как следует)|(?:хорошо|тщательно|как следует) подумай)"
    r"|(?P<hierarchical>(?:break|split|divide) (?:it |this )?(?:down )?into (?:parts|sub-?goals|subtasks)|"
    r"раз(?:бей|дели) (?:это |задачу )?на (?:части|подзадачи|подцели)))\b",
    re.IGNORECASE,
)
#: What suits a goal that names no way, where several model calls a goal are wanted.
_SUITS = {"planning": "hierarchical", "reasoning": "extended_thinking", "complex": "swarm"}


def about_stack(goal: str) -> bool:
    """Tell whether a goal asks about the stack itself, which an examination answers without a model."""
    return about_machine(goal) and _ABOUT_STACK.search(parted(goal)[0][:4000]) is not None


def about_machine(goal: str) -> bool:
    """Tell whether only a look at this machine answers a goal; the text below it is not asked about that."""
    head = parted(goal)[0][:4000]
    if is_general(head):
        return False
    return _ABOUT_MACHINE.search(head) is not None or _names_service(head)


def is_general(goal: str) -> bool:
    """Tell whether a goal wants something written or explained, which no look at a machine answers."""
    return _GENERAL.search(goal) is not None


def _names_service(goal: str) -> bool:
    """Tell whether a goal asks for the state of one thing that is called as services are."""
    from opskit.agent.question import state_of, subject_of, tells_state

    if subject_of(goal) is not None:
        return True
    names = state_of(goal)
    if len(names) != 1 or not any(map(str.isalpha, names[0])):
        return False
    if not names[0].isalpha():
        return tells_state(goal)
    is_name = len(names[0]) > 3 and names[0].islower()
    return is_name and _ASKS_STATE.search(goal) is not None and _IS_DOWN.search(goal) is not None


def method_of(goal: str, *, enhanced: bool = False) -> str:
    """Return the method for a goal that names none.

    Without a wish in its words a goal costs one call of a model, or steps with tools. `enhanced` gives goals
    of several parts, plans and questions why more calls (SPEC D1, D6).
    """
    wish = _WISH.search(parted(goal)[0][:4000])
    if wish is not None and wish.lastgroup is not None:
        return wish.lastgroup
    if about_machine(goal):
        return "hierarchical" if enhanced and has_parts(goal) else "react"
    return _SUITS.get(goal_category(goal), "simple") if enhanced else "simple"


def enhanced(environ: Mapping[str, str]) -> bool:
    """Tell whether the Enhanced level is on (SPEC D1)."""
    return environ.get("USE_VICTORIA_ENHANCED", "").lower() in ("1", "true", "yes")
