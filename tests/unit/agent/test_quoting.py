"""Answers out of results, without a model: what is quoted, and when there is none."""

import pytest

from opskit.agent.quoting import direct_answer, first_steps, strays, summary
from opskit.agent.step import AgentStep
from opskit.agent.tools.log_lines import count_lines
from opskit.agent.tools.tool import ToolResult

CONFIG = "# port: 1\nport: 80\nadmin_port: 81\ntimeout_s: 45\nversion = 2\nqueue_port: 9\nqueue_port: 8\n"
REPORT = (
    "# Outage\n\nThe payment gateway did not answer for eight minutes. The cause was an old certificate.\n"
    "The bank replaced the certificate at 10:15. Nobody paid twice. The menu of the week is on the wall.\n"
)


def read(text: str, path: str = "a.yaml") -> tuple[AgentStep, ToolResult]:
    lines = tuple(enumerate(text.splitlines(), 1))
    return AgentStep("", "read_file", {"path": path}), ToolResult(text, evidence={"path": path}, lines=lines)


@pytest.mark.parametrize(
    ("goal", "answer"),
    [
        ("Which port does a.yaml set?", "a.yaml, line 2: port: 80"),
        ("What is the admin port in a.yaml?", "a.yaml, line 3: admin_port: 81"),
        ("Какой таймаут указан в a.yaml?", "a.yaml, строка 4: timeout_s: 45"),
        ("Какая версия в a.yaml?", "a.yaml, строка 5: version = 2"),
        ("Which port does the admin interface use according to a.yaml?", "a.yaml, line 3: admin_port: 81"),
        ("Which queue port does a.yaml set?", None),
        ("Which portal does a.yaml name first?", None),
        ("Which password is in a.yaml?", None),
    ],
)
def test_a_setting_is_quoted_by_its_whole_name(goal: str, answer: str | None):
    """Also a Russian name for an English key; not one of two, not one that is only like it."""
    assert direct_answer(goal, *read(CONFIG)) == answer


def test_the_newest_of_each_kind_of_error_is_quoted():
    """The same error at another time is one."""
    log = (
        "10:00 ERROR timeout after 30 s\n10:01 ERROR timeout after 31 s\n10:02 ERROR disk is full\n10:03 INFO"
    )
    found = count_lines(log.encode())
    result = ToolResult("", evidence={"path": "a.log"}, lines=found.found)
    step = AgentStep("", "search_file", {"path": "a.log", "pattern": ""})
    both = "a.log, line 2: 10:01 ERROR timeout after 31 s\na.log, line 3: 10:02 ERROR disk is full"
    assert direct_answer("Find the errors in a.log", step, result) == both
    assert direct_answer("Какая ошибка в a.log последняя?", step, result) == (
        "a.log, строка 3: 10:02 ERROR disk is full"
    )


@pytest.mark.parametrize(
    ("log", "number"),
    [
        ("INFO no error so far\nWARN slow\nINFO y", None),
        ("job 7\nTraceback (most recent call last):\n  File x\nKeyError: 'id'\njob 8 failed", 4),
        ("copying\ntar: x: No space left on device\ntar: exiting with failure", 2),
        ("copying\nbackup failed\ndone", 2),
        ("copying\nrsync: connection unexpectedly closed (41 bytes)\ndone", 2),
    ],
)
def test_what_tells_most_of_an_error(log: str, number: int | None):
    """A level, an exception, words of the system; what only follows from it comes after."""
    assert [found for found, _ in count_lines(log.encode()).found] == ([] if number is None else [number])


def test_a_sentence_need_not_say_again_what_its_heading_says():
    """What no heading says it must say itself."""
    text = "# Move of the database\n\nThe move takes an hour.\nResponsible for the move: Olga.\n"
    answer = "a.md, line 4: Responsible for the move: Olga."
    assert (
        direct_answer("Who is responsible for the move of the database? a.md", *read(text, "a.md")) == answer
    )
    assert direct_answer("Who is responsible for the move of the printer? a.md", *read(text, "a.md")) is None


def test_a_container_that_is_not_there_is_the_answer():
    """It says what was not looked at."""
    evidence = {"absent": "redis-7", "names": "web"}
    step = AgentStep("", "show_container", {"container": "redis-7"})
    answer = direct_answer("Is redis-7 reachable?", step, ToolResult("", ok=False, evidence=evidence))
    assert answer is not None
    assert "no container redis-7 (it has: web)" in answer
    assert "nothing was looked at outside" in answer


def test_a_goal_names_its_first_step():
    """The tool that counts for a count, the container that is asked about."""
    assert [(s.tool, dict(s.args)) for s in first_steps("How many lines of x/a.log contain 'E 1'?")] == [
        ("search_file", {"path": "x/a.log", "pattern": "E 1"})
    ]
    assert [s.args["container"] for s in first_steps("Почему упал контейнер web-1?")] == ["web-1"]
    assert first_steps("What is wrong with the stack?") == []


@pytest.mark.parametrize(
    ("written", "is_taken"),
    [
        ("The payment gateway did not answer for eight minutes. The bank replaced the certificate.", True),
        ("The payment gateway did answer for eight minutes. The bank replaced the certificate.", False),
        ("The payment gateway did not answer for nine minutes 9. The bank replaced the certificate.", False),
        ("The bank replaced the gateway at 10:15. Nobody paid for the certificate.", False),
        (REPORT, False),
        ("", False),
    ],
)
def test_a_summary_of_a_model_says_what_sentences_of_the_source_say(written: str, is_taken: bool):
    """No negation lost, no words of two sentences put together, no number of its own; else it is quoted."""
    text, taken = summary("Summarise r.md", "r.md", REPORT, written)
    assert taken is is_taken
    if not taken:
        assert text.startswith("r.md, in its own words: The payment gateway did not answer")
        assert len(text) < 0.7 * len(REPORT)


def test_an_answer_out_of_another_line_strays():
    """The city of one user is no answer about another."""
    _, result = read("id,name,city\n1,Lea,Narva\n2,Jon,Bergen\n", "u.csv")
    goal = "Which of the users in u.csv lives in Narva?"
    assert strays(goal, "u.csv", result.lines, "Jon lives in Bergen.")
    assert not strays(goal, "u.csv", result.lines, "Lea lives in Narva.")


CONTAINERS = [
    {"name": name, "state": state, "image": image}
    for name, state, image in (
        ("web", "running", "nginx:1"),
        ("db", "exited", "postgres:15"),
        ("job", "exited", "nginx:1"),
        ("cache", "paused", "redis:7"),
    )
]


@pytest.mark.parametrize(
    ("goal", "answer"),
    [
        (
            "How many containers are running right now?",
            "The number of containers in Docker, state running is 1.",
        ),
        ("How many containers are there?", "The number of containers in Docker is 4."),
        ("How many stopped containers are there?", "The number of containers in Docker, state exited is 2."),
        ("How many containers use nginx:1?", "The number of containers in Docker, image nginx:1 is 2."),
        ("Сколько контейнеров остановлено?", "Docker, state exited: контейнеров — 2."),
        ("Сколько контейнеров сейчас работает?", "Docker, state running: контейнеров — 1."),
        ("Which containers are paused?", "Docker: name cache, state paused, image redis:7"),
        ("Какие контейнеры запущены?", "Docker: name web, state running, image nginx:1"),
        ("How many containers were running yesterday?", None),
        ("Which containers are not running?", None),
        ("How many containers crashed because of memory?", None),
    ],
)
def test_containers_are_counted_and_named_by_their_state(goal: str, answer: str | None):
    """In the words of people too; a goal with a word that is not understood is left to a model."""
    [step] = first_steps(goal)
    result = ToolResult("", evidence={"containers": CONTAINERS})
    assert (step.tool, direct_answer(goal, step, result)) == ("list_containers", answer)


@pytest.mark.parametrize(
    "goal",
    ["Stop all running containers", "Удали все остановленные контейнеры.", "Start the stopped containers"],
)
def test_a_goal_that_wants_containers_changed_is_not_answered_with_a_list(goal: str):
    """A list of them would look like success."""
    assert first_steps(goal) == []
