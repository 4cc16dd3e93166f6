"""Which goals need a look at this machine, in Russian and English."""

import pytest

from opskit.agent.method import about_machine, about_stack, method_of
from opskit.llm.wording import has_parts


@pytest.mark.parametrize(
    "goal",
    [
        "Read /etc/hostname",
        "How many lines has notes.txt?",
        "Which models are loaded on the model servers?",
        "Why does the MLX server not answer?",
        "Find the error in app.log",
        "Show the state of the container web",
        "Is anything listening on port 8080?",
        "How full is the disk?",
        "Почему MLX не отвечает?",
        "Сколько файлов в этой папке?",
        "Найди ошибку в логах",
        "В каком состоянии контейнер web?",
        "Что запущено на этой машине?",
        "Прочитай ./README.md",
        "Why is worker-1 down?",
        "Is redis up?",
        "What happened to web_2?",
        "Did migration-3 finish properly?",
        "Has migration-3 completed successfully?",
        "Что сейчас происходит с web-2?",
        "Почему упал redis?",
        "Is everything fine with mailer-7?",
        "What was the last thing migrate-2 printed?",
        "Почему gateway-1 не отвечает?",
    ],
)
def test_a_goal_about_this_machine_needs_tools(goal: str):
    """It cannot be answered from what a model knows."""
    assert about_machine(goal)
    assert method_of(goal) == "react"


@pytest.mark.parametrize(
    "goal",
    [
        "In which year did World War II end?",
        "List five fruits.",
        "What is 6 times 7?",
        "Write a poem about docker",
        "What is a container?",
        "Explain what a port is",
        "Какая столица Франции?",
        "Напиши стих о файлах",
        "Что такое процесс?",
        "Translate: the disk is full",
        "Good morning!",
        "Why do stars die?",
        "Why is utf-8 used?",
        "Explain gpt-4",
        "Why is he down?",
        "Why did the company crash?",
        "Is open-source software secure by design?",
        "Is utf-8 better than latin-1?",
        "How does sha-256 work?",
        "How to restart nginx-1 without downtime?",
        "What went wrong here?\n\nERROR /etc/x.conf: no such file on port 80",
    ],
)
def test_a_general_question_is_one_call(goal: str):
    """A model answers it alone."""
    assert method_of(goal) == "simple"


def test_only_the_stack_is_answered_by_the_doctor():
    """A question about a file is not."""
    assert about_stack("Why does Ollama not answer?")
    assert about_stack("Почему последний ответ был медленным?")
    assert not about_stack("How many lines has notes.txt?")
    assert not about_stack("What is a stack?")


def test_goals_of_several_parts_get_a_plan():
    """A plan costs two calls; one question is not worth it."""
    assert has_parts("Read a.txt, then count its lines")
    assert has_parts("Сначала прочитай a.txt, потом посчитай строки")
    assert not has_parts("How many lines has a.txt?")


@pytest.mark.parametrize(
    ("goal", "method"),
    [
        ("Think carefully: which of the two is older?", "extended_thinking"),
        ("Подумай хорошо: кто из них старше?", "extended_thinking"),
        ("Double-check in which year the war ended", "consensus"),
        ("В каком году кончилась война? Перепроверь.", "consensus"),
        ("Ask several experts how to learn a language", "swarm"),
        ("Посмотри на это с разных точек зрения", "swarm"),
        ("Explore alternatives to a monorepo", "tree_of_thoughts"),
        ("Рассмотри варианты отпуска", "tree_of_thoughts"),
        ("Break it down into parts and find out why MLX is slow", "hierarchical"),
        ("Разбей задачу на части: проверь логи", "hierarchical"),
        ("Hard thinking is what a bicycle needs", "simple"),
        ("Эксперты спорят о вкусах", "simple"),
    ],
)
def test_a_goal_may_say_how_it_wants_to_be_worked_on(goal: str, method: str):
    """The cost was asked for."""
    assert method_of(goal) == method


@pytest.mark.parametrize(
    ("goal", "plain", "enhanced"),
    [
        ("Составь план переезда", "simple", "hierarchical"),
        ("Почему небо голубое?", "simple", "extended_thinking"),
        ("First tell me of Rome, then of Athens", "simple", "swarm"),
        ("Read a.txt, then count its lines", "react", "hierarchical"),
        ("Read a.txt", "react", "react"),
        ("What is 6 times 7?", "simple", "simple"),
        ("напиши код", "simple", "simple"),
    ],
)
def test_only_the_enhanced_level_gives_a_goal_more_calls_by_itself(goal: str, plain: str, enhanced: str):
    """A fact stays one call there too."""
    assert method_of(goal) == plain
    assert method_of(goal, enhanced=True) == enhanced


@pytest.mark.parametrize(
    "goal",
    [
        "Is redis-7 reachable?",
        "Has the nightly-sync job succeeded today?",
        "Can cache_2 be reached, or is it gone?",
        "mail-gateway-1 went away, what killed it?",
        "Did billing-2 log anything before it quit?",
        "Отвечает ли mail-gateway?",
        "Поднят ли cache-7?",
    ],
)
def test_what_is_said_of_a_service_is_looked_up(goal: str):
    """In whatever words: no model knows how it is."""
    assert method_of(goal) == "react"
