"""The English and Russian words by which a prompt shows what it asks for. Folded: lower case, `е` for `ё`."""

import re
from collections.abc import Sequence

from opskit.text import lazy_pattern


def vocabulary(text: str) -> frozenset[str]:
    return frozenset(text.split())


QUESTION_WORDS = vocabulary(
    "what whats who whos whom whose where wheres when why how hows which"
    " что чем чего кто кого кому где когда почему зачем как какой какая какое какие какую каков какова"
    " каким сколько чей чья чье чьи куда откуда отчего разве неужели"
)
AUXILIARIES = vocabulary(
    "is are was were am do does did can could should shall will would has have had may might must isnt"
    " arent dont doesnt wont cant"
    " можно можешь можете сможешь сможете есть"
)
_ORDERS = vocabulary(
    "explain describe write tell give list name say print repeat translate summarize summarise fix"
    " correct make create show define compare find calculate compute solve count sort convert rewrite"
    " generate draw help provide answer return output reply respond choose pick select let lets need"
    " want imagine suppose consider discuss analyze analyse implement build design suggest recommend"
    " outline complete finish continue add remove replace use be act always never keep ensure check"
    " prove evaluate identify extract classify rephrase paraphrase simplify improve edit proofread"
    " format refactor debug review teach recite state mention spell think guess read run plan prepare"
    " compose draft propose produce predict estimate determine decide brainstorm"
    " будь будьте нужно надо хочу"
)
_RUSSIAN_ORDER = lazy_pattern(
    r"(?:объясн|расскаж|напиш|перевед|скаж|назов|перечисл|сдела|да|покаж|реш|найд|посчита|подсчита"
    r"|вычисл|исправ"
    r"|сравн|состав|привед|вывед|повтор|придума|опиш|помог|ответ|сократ|провер|сгенерир|созда|нарису"
    r"|выбер|определ"
    r"|подскаж|посовет|предлож|прочита|продолж|законч|допиш|перепиш|перескаж|резюмир|отсортир|упоряд"
    r"|преобраз"
    r"|извлек|укаж|раздел|убер|удал|замен|добав|распечат|напечат|печат|проанализ|оцен|докаж|выпиш|запиш"
    r"|сочин"
    r"|разбер|поясн|разъясн|обобщ|дополн|встав|постав|сформулир|переформулир|классифиц|представ|скопир"
    r"|процитир"
    r"|подум|разработ|реализ|спланир|подготов)(?:у|ир|ти|а)?(?:и|й|ь)(?:те)?"
)
#: Who the words are for: a clause that begins with one of them instructs the model.
PERSONS = vocabulary("you youre your ты вы твоя ваша")
#: What follows cannot be answered by quoting: "how" and "why", and orders to make something new.
_MAKES_NEW = vocabulary(
    "how why explain describe write tell give make create implement build design suggest recommend help"
    " use generate draw plan discuss teach"
    " как почему зачем объясни объясните опиши опишите напиши напишите расскажи расскажите посоветуй"
    " посоветуйте придумай придумайте помоги помогите сделай сделайте создай создайте предложи"
)
_MEASURES = vocabulary("many much old long far tall big often")
FIRST_PERSON = vocabulary("i im ive my we our me я мне меня мой моя мое мои мы нас наш у")
FUNCTION_WORDS = vocabulary(
    "the a an in on at of to for with by from about and or if this that these those please"
    " в во на о об с со к ко по для из от и а но или если это пожалуйста не"
)
CHOICE = vocabulary("or vs versus или либо")
ALTERNATIVES = CHOICE | vocabulary("and и")
WHICH = CHOICE | vocabulary("which какой какая какое какие какую кто кого что")

POLITE = vocabulary(
    "please kindly hey hi hello so now then ok okay well and just also"
    " пожалуйста ну итак слушай привет здравствуйте здравствуй а и так"
)
POLITE_ORDERS = vocabulary("скажи скажите подскажи подскажите ответь ответьте можешь можете")
POLITE_PAIRS = vocabulary(
    "can_you could_you would_you will_you tell_me help_me id_like можешь_ли скажи_мне скажите_мне"
)

SALUTATIONS = vocabulary(
    "hello hi hey hiya howdy greetings thanks thank bye goodbye cheers congratulations congrats"
    " farewell goodnight morning evening ciao hola bonjour salut hallo aloha namaste yo gracias danke"
    " merci adios sayonara"
    " привет приветствую здравствуй здравствуйте спасибо пока прощай прощайте поздравляю салют удачи"
    " извини извините ура хай приветик"
)
#: "OK" is answered by "OK".
ACKNOWLEDGEMENTS = vocabulary("ok okay yes no да нет ладно хорошо понятно ясно ага окей")
WISHES = lazy_pattern(
    r"\W*(?:good (?:morning|afternoon|evening|night|day|bye|luck)|happy (?:birthday|new year|holidays"
    r"|easter|\w+ day)"
    r"|merry christmas|see you|take care|welcome back|nice to meet you|how do you do|have a (?:nice"
    r"|good|great) \w+"
    r"|buen[oa]s \w+|guten \w+|добр\w+ (?:утр\w+|день|дня|вечер\w*|ноч\w+)|спокойной ночи|хорошего \w+"
    r"|до (?:свидания|встречи|завтра|скорого)|с (?:новым годом|рождеством|праздником|днем рождения"
    r"|наступающим)"
    r"|всего (?:доброго|хорошего)|с добрым утром)\b"
)
#: "Ready?" is answered by "Ready."
STATES = vocabulary(
    "ready done ok okay fine finished готово готов готова готовы сделано закончено нормально верно"
)

_TRANSFORM = (
    r"(?:translate|correct|fix|proofread|punctuate|rewrite|rephrase|paraphrase|repeat|echo|copy|quote"
    r"|lowercase"
    r"|uppercase|capitali[sz]e|normali[sz]e|reformat|format|clean|spell|edit|improve|simplify|переведи"
    r"|исправь"
    r"|повтори|перепиши|перефразируй|переформулируй|процитируй|скопируй|отредактируй|проверь|переводи"
    r"|исправляй"
    r"|повторяй)(?:те)?\b"
)
_LANGUAGE = (
    r"gramma\w*|spelling|punctuation|typos?|mistakes?|грамматик\w*|орфографи\w+|пунктуаци\w+"
    r"|опечатк\w+|ошибк\w+"
)
#: An order that makes a text out of a text, which may already be as it should.
TRANSFORMS = lazy_pattern(
    rf"(?:^|[.!?:;\n]\s*|(?<!not )\bto |\byou (?:will|must|should|only) |\bplease "
    rf"|пожалуйста,? ){_TRANSFORM}"
    rf"|\b(?:{_LANGUAGE}|translator|interpreter|proofreader|editor|corrector|переводчи\w+|корректор\w*"
    rf"|редактор\w*)\b"
)
#: The answer may be a sentence of the prompt: said again, corrected, found, chosen.
TAKES_FROM_PROMPT = lazy_pattern(
    rf"\b{_TRANSFORM}|\b(?:{_LANGUAGE})\b"
    r"|\b(?:say|print|type|write|output|return|read|first|last|sentence|phrase|questions?|extract|find"
    r"|sort|verbatim"
    r"|which|choose|pick|ask|скажи\w*|напиши\w*|выведи\w*|перв\w+|последн\w+|предложени\w+|фраз\w+"
    r"|вопрос\w*|найди\w*"
    r"|извлеки\w*|выбер\w+|каки\w+|какой|какая|какое|спроси\w*|дословно)\b"
)
#: "Repeat this sentence": no text follows but the prompt itself.
RETURNS_ITSELF = lazy_pattern(
    r"^\W*(?:please |пожалуйста )?(?:(?:repeat|copy|echo|return|quote|повтор\w+|скопир\w+|процитир\w+"
    r"|верн\w+)\b)"
    r"[^:\"«]*\b(?:message|prompt|sentence|question|input|text|words|request|phrase|сообщени\w+"
    r"|запрос\w*|вопрос\w*"
    r"|предложени\w+|фраз\w+|текст\w*|слов\w*)\b[^:\"«]*$"
)
#: "The first word of this sentence": any beginning of the prompt may be right.
NAMES_ITSELF = lazy_pattern(
    r"\b(?:this|my|эт\w+|мо\w+) (?:\w+ )?(?:message|prompt|sentence|question|request|phrase|сообщени\w+"
    r"|запрос\w*"
    r"|вопрос\w*|предложени\w+|фраз\w+)\b"
)

#: Nothing, null or an empty list is asked for by name ...
NULL_NAMED = lazy_pattern(
    r"\b(?:null|none|nil|undefined|nan|nothing|empty|blank|void|return|nobody|ничего|пуст\w*|верни\w*"
    r"|никто)\b"
    r"|\b(?:extract|parse|find|get|извлеки|найди)\b.*\bjson\b|\bjson\b.*\b(?:extract|parse|find|get"
    r"|извлеки|найди)\b",
    re.DOTALL,
)
#: ... or may be the answer to a question.
NULL_POSSIBLE = lazy_pattern(
    r"\b(?:python|javascript|js|typescript|sql|ruby|lua|java|value|variable|result|function|output"
    r"|print|json"
    r"|how many|how much|are there|is there|any|which|значени\w+|перемен\w+|результат|функци\w+|код|сколько"
    r"|есть ли|каки[ех]|из них)\b|[\[\]{}=]|\(\)|\d\s*[/*+-]\s*\d"
)
_SIGNS = (
    r"symbols?|signs?|operators?|characters?|punctuation|brackets?|braces?|parenthes\w+|quotes?|dash\w*"
    r"|hyphens?|dots?"
    r"|ellipsis|commas?|colons?|semicolons?|asterisks?|(?:question|exclamation|quotation) marks?"
    r"|horizontal|separator"
    r"|divider|delimiter|tags?|html|xml|markdown|regex\w*|nothing|underscores?|slash\w*|backslash\w*"
    r"|backticks?"
    r"|ampersand|символ\w*|знак\w*|оператор\w*|скобк\w*|скобок|кавыч\w*|точк\w*|точек|запят\w+|тире"
    r"|дефис\w*|многоточ\w+"
    r"|разделител\w*|тег\w*|ничего|пробел\w*|регулярк\w+|подчеркиван\w*"
)
#: The answer may be a sign, a tag or a drawing without one letter.
SYMBOL_NAMED = lazy_pattern(
    r"\b(?:draw|morse|braille|emojis?|emoticons?|smileys?|ascii art|нарисуй\w*|морзе|смайл\w*|эмодзи)\b"
    r"|\b(?:which|whats?|how (?:do|to|can|would|should)|write|type|give|show|insert|put|print|output"
    r"|use|name"
    r"|как\w*|чем|напиши\w*|поставь\w*|введи\w*|выведи\w*|покажи\w*|назови\w*)\b"
    rf"[^.?!]*\b(?:{_SIGNS})\b"
    r"|[<>=]+[\"']? *(?:or|или|,)|\b(?:which|whats?|какой|каким)\b[^.?!]*\b(?:token|токен\w*)\b"
    r"[^.?!]*\b(?:ends?|stops?|starts?|begins?|special|pad\w*|gpt\S*|заверша\w+|конц\w+)\b"
)


def is_order(word: str) -> bool:
    """Tell whether a clause that begins with this word wants something done."""
    return word in _ORDERS or _RUSSIAN_ORDER.fullmatch(word) is not None


def makes_new(words: Sequence[str]) -> bool:
    """Tell whether a clause cannot be answered by words out of what precedes it."""
    return bool(words) and words[0] in _MAKES_NEW and not (len(words) > 1 and words[1] in _MEASURES)
