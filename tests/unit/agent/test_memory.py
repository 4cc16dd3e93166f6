"""What was answered is found again: the same goal for a short time, similar ones in Russian and English."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from opskit.agent.memory import AnswerMemory, KeptAnswer, cache_key
from opskit.diagnose.redaction import Redactor

SECRET = "s3cr3t-Pa55word-9f8e7d"


def kept(goal: str, output: str = "an answer", at: float = 1000.0) -> KeptAnswer:
    return KeptAnswer(at, goal, output, "react", "m:1b", "ollama", [{"tool": "check_stack", "args": {}}])


def memory(
    folder: Path, problems: list[str] | None = None, now: float = 1000.0, **options: int
) -> AnswerMemory:
    report: Callable[[str], None] = print if problems is None else problems.append
    return AnswerMemory(folder, Redactor([SECRET]), report, clock=lambda: now, **options)


def test_the_same_goal_is_answered_from_the_cache_until_it_is_old(tmp_path: Path):
    """By its key and its age."""
    key = cache_key("atra", "simple", "what")
    memory(tmp_path).keep("atra", key, kept("what", "that"))
    assert (answer := memory(tmp_path, now=1299).cached(key, 300)) is not None
    assert answer.output == "that"
    assert memory(tmp_path, now=1301).cached(key, 300) is None
    assert memory(tmp_path).cached(cache_key("other", "simple", "what"), 300) is None


@pytest.mark.parametrize(
    ("before", "now", "is_found"),
    [
        (
            "Почему контейнер victoria-agent перезапускается?",
            "почему перезапускается контейнер victoria-agent",
            True,
        ),
        ("Какие порты заняты сервером Ollama?", "Какой порт занят сервером ollama", True),
        ("Где лежат логи агента?", "Где лежит лог агентов?", True),
        ("Which containers restart again and again?", "which container restarts again", True),
        ("Show the models loaded on Ollama", "show me the loaded models of ollama", True),
        ("Почему контейнер victoria-agent перезапускается?", "Какая столица Франции?", False),
        ("Which containers restart again and again?", "Which files are in this folder?", False),
        ("What is 6 times 7?", "What is 6 times 8?", False),
        ("Что?", "как", False),
        ('"; DROP TABLE answers; --', "NEAR( OR * ^", False),
    ],
)
def test_a_similar_goal_is_found_whatever_the_endings_of_its_words(
    tmp_path: Path, before: str, now: str, is_found: bool
):
    """In the same project only."""
    problems: list[str] = []
    store = memory(tmp_path, problems)
    store.keep("atra", None, kept(before))
    assert (store.similar("atra", now) is not None) is is_found
    assert store.similar("another", now) is None
    assert problems == []


def test_a_hint_about_the_machine_names_the_way_and_not_what_was_there(tmp_path: Path):
    """Yesterday's state is no evidence."""
    answer = kept("Which models are loaded?", "only phi3.5 is loaded")
    assert "check_stack" in answer.as_hint(about_machine=True)
    assert "phi3.5" not in answer.as_hint(about_machine=True)
    assert "phi3.5" in answer.as_hint(about_machine=False)


def test_secrets_are_masked_and_what_held_one_is_not_cached(tmp_path: Path):
    """Not in the file either."""
    store, key = memory(tmp_path), cache_key("x")
    store.keep("atra", key, kept(f"Why is {SECRET} refused by the login page?"))
    assert store.cached(key, 300) is None
    assert SECRET.encode() not in store.path.read_bytes()
    assert (found := store.similar("atra", "why does the login page refuse")) is None or "***" in found.goal


def test_the_file_is_private_and_the_oldest_answers_give_way(tmp_path: Path):
    """Mode 600, and no more rows than are to be kept."""
    store = memory(tmp_path, kept=3)
    for number in range(8):
        store.keep("atra", cache_key(number), kept(f"goal {number} about containers"))
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.cached(cache_key(4), 300) is None
    assert store.cached(cache_key(7), 300) is not None
    with sqlite3.connect(store.path) as db:
        assert db.execute("SELECT count(*) FROM answers").fetchone() == (3,)
        assert db.execute("SELECT count(*) FROM goals").fetchone() == (3,)
    db.close()


def test_what_is_too_long_is_not_kept(tmp_path: Path):
    """A megabyte of answer is nobody's hint."""
    store = memory(tmp_path)
    store.keep("atra", cache_key(1), kept("what", "x" * 1_000_000))
    assert store.cached(cache_key(1), 300) is None


def damaged(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)


def half_written(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE answers (something INTEGER)")
    db.close()


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("broken", [damaged, half_written, a_folder])
def test_a_file_that_cannot_be_used_is_a_note(tmp_path: Path, broken: Callable[[Path], None]):
    """No run fails for it."""
    broken(tmp_path / "memory.db")
    problems: list[str] = []
    store = memory(tmp_path, problems)
    store.keep("atra", "key", kept("what"))
    assert store.cached("key", 300) is None
    assert store.similar("atra", "which containers") is None
    assert len(problems) == 3
    assert all("memory.db" in problem for problem in problems)


def test_a_locked_file_is_a_note(tmp_path: Path):
    """Another process holds it for longer than a run waits."""
    problems: list[str] = []
    store = memory(tmp_path, problems)
    store.keep("atra", "key", kept("what"))
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    store.keep("atra", "other", kept("what else"))
    holder.close()
    assert len(problems) == 1
    assert "locked" in problems[0]
    assert store.cached("key", 300) is not None
