"""Which goals are questions that a tool answers, and what they ask."""

import pytest

from opskit.agent.question import Question, QuestionKind, asked_about, paths_named

COUNT, ERROR, VALUE = QuestionKind.COUNT, QuestionKind.ERROR, QuestionKind.VALUE


@pytest.mark.parametrize(
    ("goal", "paths"),
    [
        ("How many lines has notes.txt?", ["notes.txt"]),
        ("Compare conf/a.yaml, and conf/b.yaml.", ["conf/a.yaml", "conf/b.yaml"]),
        ("Что в файле VERSION?", ["VERSION"]),
        ("Сколько файлов в папке scripts?", ["scripts"]),
        ("Is http://127.0.0.1:11434/api/tags up?", []),
        ("Why is host.docker.internal not known?", []),
        ("Which container is down?", []),
    ],
)
def test_what_a_goal_names_as_a_file_or_folder(goal: str, paths: list[str]):
    """By its shape, or behind the word for it; an address is none."""
    assert paths_named(goal) == paths


@pytest.mark.parametrize(
    ("goal", "question"),
    [
        ("How many lines are in a.log?", Question(COUNT, "lines")),
        ("Сколько строк в файле a.log?", Question(COUNT, "lines")),
        ("How many lines of a.log contain timeout?", Question(COUNT, "lines", ("timeout",))),
        ("How many times does 'no route' occur in a.log?", Question(COUNT, "times", ("no route",))),
        ("Count the FATAL lines in a.log", Question(COUNT, "critical")),
        ("Did a.log succeed?", Question(ERROR)),
        ("Is a.log clean?", Question(ERROR)),
        ("Сколько ошибок в a.log?", Question(COUNT, "error")),
        ("What is the last error in a.log?", Question(ERROR, last=True)),
        ("Найди ошибку в логе a.log", Question(ERROR)),
        ("Which port does a.log set?", Question(VALUE, terms=("port",))),
        ("Summarise a.log in two sentences", Question(QuestionKind.SUMMARY)),
    ],
)
def test_a_question_of_known_words_is_understood(goal: str, question: Question):
    """In Russian and in English."""
    assert asked_about(goal, "a.log") == question


@pytest.mark.parametrize(
    "goal",
    [
        "How many empty lines are in a.log?",
        "How many lines of a.log do not contain timeout?",
        "How many lines with a timestamp has a.log?",
        "How many errors and warnings are in a.log?",
        "How many files and folders are in a.log?",
        "How many lines are in a.log after noon?",
        "Сколько строк в a.log длиннее ста знаков?",
        "Find the error in a.log and mend it",
        "Why did the error in a.log come only on Monday?",
        "Summarise a.log and translate it into German",
        "Delete a.log",
    ],
)
def test_one_word_more_is_another_question(goal: str):
    """It is left to a model, which has to read it."""
    assert asked_about(goal, "a.log") is None


@pytest.mark.parametrize(
    ("goal", "asked"),
    [
        ("Why has the container web-1 stopped?", True),
        ("Почему контейнер web-1 не работает?", True),
        ("Stop the container web-1", False),
        ("Останови контейнер web-1", False),
        ("Which image does the container web-1 use?", False),
        ("Is the container web-1 down because of its memory?", False),
    ],
)
def test_the_state_of_a_container(goal: str, asked: bool):
    """Its image and its memory are no state, and an order is no question."""
    assert (asked_about(goal, "web-1", container=True) is not None) is asked
