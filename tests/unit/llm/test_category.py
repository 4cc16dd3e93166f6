"""What kind of work a goal is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.llm.wording import CATEGORIES, categorise, goal_category


@pytest.mark.parametrize(
    "goal, category",
    [
        ("напиши код", "coding"),
        ("Создай простой polling бот для телеграм с aiogram", "coding"),
        ("Почини баг в функции разбора", "coding"),
        ("write a Python function that adds two numbers", "coding"),
        ("Explain this traceback", "coding"),
        ("```\nx = 1\n```", "coding"),
        ("Помоги с анализом данных", "reasoning"),
        ("Почему небо голубое?", "reasoning"),
        ("составь план на неделю", "reasoning"),
        ("compare these two offers", "reasoning"),
        ("Привет", "fast"),
        ("What time is it?", "fast"),
        ("Tell me about your holidays. " * 5, "default"),
    ],
)
def test_a_goal_has_its_category(goal, category):
    """SPEC B8, D6: by words and length, in Russian and in English."""
    assert categorise(goal) == category


@pytest.mark.parametrize(
    "goal",
    [
        "Какая самая большая планета?",
        "Классный сегодня день",
        "Где мой багаж?",
        "Купи ботинки",
        "Что говорит кодекс?",
        "Who is Pythagoras?",
    ],
)
def test_words_that_only_begin_like_technical_ones_are_everyday_words(goal):
    """A planet is no plan, luggage is no bug."""
    assert categorise(goal) == "fast"


@pytest.mark.parametrize(
    "goal, category",
    [
        ("напиши код", "coding"),
        ("write a Python function", "coding"),
        ("составь план на неделю", "planning"),
        ("Draft a roadmap for the team", "planning"),
        ("Почему небо голубое?", "reasoning"),
        ("compare these two offers", "reasoning"),
        ("Перезапусти victoria-agent", "execution"),
        ("Please restart the router", "execution"),
        ("Сначала расскажи о Риме, потом об Афинах", "complex"),
        ("Tell me of Rome, then of Athens", "complex"),
        ("Привет", "fast"),
        ("What time is it?", "fast"),
        ("Расскажи, пожалуйста, как прошли твои каникулы в горах этим летом", "general"),
        ("I would like to hear how your holidays in the mountains have been", "general"),
    ],
)
def test_a_goal_has_its_kind_of_work(goal, category):
    """SPEC D6, finer than what the router needs."""
    assert goal_category(goal) == category


@given(st.text())
def test_every_goal_has_a_category(goal):
    """Whatever is asked, somebody can be chosen."""
    assert categorise(goal) in CATEGORIES
