"""Questions about the content of files that need no model: records, settings, sentences, times."""

import re
from pathlib import Path

import pytest

from opskit.agent.quoting import compared, direct_answer, first_steps
from tests.parts.agent_tools import Tools, tools

FILES = {
    "data/accounts.csv": "id,owner,city,balance,opened\n"
    "1,Ann,Oslo,120.50,2021-03-01\n2,Bo,Lund,900,2019-11-20\n3,Cy,Oslo,15.25,2024-01-05\n4,Dee,Riga,300,2020-07-07\n",
    "data/hosts.json": '{"region": "north",\n"hosts": [\n{"name": "alpha", "cpu": 8, "load": 0.7},\n'
    '{"name": "beta", "cpu": 16, "load": 3.2},\n{"name": "gamma", "cpu": 4, "load": 1.1}]}\n',
    "data/продажи.csv": "товар;цена;количество\nчай;120;5\nкофе;340;2\nсахар;60;10\n",
    "events.jsonl": '{"user": "ann", "action": "login"}\n{"user": "bo", "action": "login"}\n'
    '{"user": "ann", "action": "logout"}\n',
    "compose.yaml": "services:\n  web:\n    image: nginx:1.25\n  db:\n    image: postgres:15\n"
    "    port: 5432\nvolumes:\n  data: {}\n",
    "app.ini": "[server]\nport = 8080\ntimeout = 30\n[database]\nport = 5432\nhost = db-7\n",
    "conf/a.yaml": "port: 80\nhost: x\n",
    "conf/b.yaml": "port: 81\nhost: x\n",
    "conf/c.yaml": "port: 80\nhost: x\n",
    "logs/shop.log": "2026-03-02 10:00:01 INFO started\n2026-03-02 10:05:00 ERROR disk full on sda\n"
    "2026-03-02 10:06:30 WARNING slow query\n2026-03-02 10:09:00 ERROR timeout of gateway\n"
    "2026-03-02 10:15:00 ERROR disk full on sdb\n",
    "logs/iso.log": "2026-03-02T09:05:00Z ERROR a\n2026-03-02T10:05:00.123+02:00 ERROR b\n  at line 7\n",
    "logs/short.log": "09:05 ERROR a\n10:05 ERROR b\n",
    "logs/epoch.log": "1772445900 ERROR a\n1772445960 ERROR b\n",
    "logs/days.log": "2026-03-01 10:05:00 ERROR a\n2026-03-02 10:05:00 ERROR b\n",
    "memo.txt": "The cache was moved to host redis-2 on Tuesday.\nOlga is responsible for the backups.\n"
    "The nightly job takes forty minutes.\n"
    "The replica of the database was moved to db-2 during the night, and it follows the main server again.\n",
    "план.md": "Сервер почты переезжает на mail-3 в пятницу.\nРезервные копии делает Ольга каждую ночь.\n",
}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    made = tools(tmp_path_factory.mktemp("tools"))
    for path, text in FILES.items():
        (made.place / path).parent.mkdir(parents=True, exist_ok=True)
        (made.place / path).write_text(text)
    return made


async def answered(box: Tools, goal: str) -> str | None:
    """Return what the agent answers before it asks a model."""
    seen = []
    for step in first_steps(goal):
        result = await box.box.call(step.tool, step.args)
        seen.append((step, result))
        if (answer := direct_answer(goal, step, result)) is not None:
            return answer
    return compared(goal, seen)


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ("How many accounts are in data/accounts.csv?", r"is 4\.$"),
        ("How many people are listed in data/accounts.csv?", r"is 4\.$"),
        ("Сколько записей в data/accounts.csv?", "записей — 4"),
        ("How many accounts are in Oslo in data/accounts.csv?", r"is 2\.$"),
        ("Сколько записей из Осло в data/accounts.csv?", "— 2"),
        ("How many different cities are in data/accounts.csv?", r"is 3\.$"),
        ("How many users are in events.jsonl?", r"is 2\.$"),
        ("How many login actions are in events.jsonl?", r"is 2\.$"),
        ("How many services are defined in compose.yaml?", r"is 2\.$"),
        ("How many hosts are in data/hosts.json?", r"is 3\.$"),
        ("Who has the largest balance in data/accounts.csv?", "line 3 .*owner Bo"),
        ("Who has the largest balance in Oslo in data/accounts.csv?", "owner Ann"),
        ("Which host has the highest load in data/hosts.json?", "name beta"),
        ("Какая самая большая цена в data/продажи.csv?", "строка 3 .*кофе"),
        ("Which account was opened first in data/accounts.csv?", "owner Bo"),
        ("What is the total balance in data/accounts.csv?", r"is 1335\.75\.$"),
        ("What is the total balance of the accounts in Oslo in data/accounts.csv?", r"is 135\.75\.$"),
        ("Какой средний баланс в data/accounts.csv?", r" 333\.94\.$"),
        ("In which city does Bo live according to data/accounts.csv?", "city Lund"),
        ("How many CPUs does gamma have in data/hosts.json?", "cpu 4"),
    ],
)
async def test_records_answer(box: Tools, goal: str, said: str):
    """A count, the largest, a sum or one record: of CSV, JSON, JSON lines and YAML."""
    answer = await answered(box, goal)
    assert answer is not None
    assert re.search(said, answer), answer


@pytest.mark.parametrize(
    "goal",
    [
        "How many accounts in data/accounts.csv have a balance over 200?",
        "How many accounts are in Paris in data/accounts.csv?",
        "Who does not live in Oslo in data/accounts.csv?",
        "Who has the second largest balance in data/accounts.csv?",
        "Is Ann the one with the largest balance in data/accounts.csv?",
        "What was the balance of Bo last year in data/accounts.csv?",
        "Which city has the most accounts in data/accounts.csv?",
        "What is the last owner in data/accounts.csv?",
        "Which is the newest event in events.jsonl?",
        "Delete the account of Bo in data/accounts.csv",
        "Which port does web use in compose.yaml?",
        "Какой хост самый загруженный в data/hosts.json?",
    ],
)
async def test_records_do_not_answer_what_is_not_understood(box: Tools, goal: str):
    """A word that is neither of the question nor of the file, an order that is not that of the lines."""
    assert await answered(box, goal) is None


@pytest.mark.parametrize(
    ("goal", "answer"),
    [
        ("What is the database port in app.ini?", "app.ini, line 5: database.port: 5432"),
        ("What is the region in data/hosts.json?", "data/hosts.json, line 1: region: north"),
        ("What is the port in app.ini?", None),
        ("What should the database port in app.ini be?", None),
    ],
)
async def test_a_setting_inside_of_others_is_named_with_them(box: Tools, goal: str, answer: str | None):
    """In a section or a mapping; not one of two."""
    assert await answered(box, goal) == answer


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ("Where was the cache moved? See memo.txt", "redis-2"),
        ("Who is responsible for the backups in memo.txt?", "Olga"),
        ("What time does the nightly job take, by memo.txt?", "forty"),
        ("How long does the nightly job take according to memo.txt?", "forty"),
        ("Куда переезжает сервер почты? план.md", "mail-3"),
        ("Which is the main server, according to memo.txt?", None),
        ("Why was the cache moved? See memo.txt", None),
        ("Who is not responsible for the backups in memo.txt?", None),
        ("Was the cache moved to redis-3? See memo.txt", None),
    ],
)
async def test_the_one_sentence_with_all_words_of_a_question_answers_it(
    box: Tools, goal: str, said: str | None
):
    """Not where a word of the question stands nowhere, is a negation, or asks for a yes."""
    answer = await answered(box, goal)
    assert (answer is None) if said is None else (said in (answer or ""))


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ("How many errors are in logs/shop.log between 10:04 and 10:10?", r"is 2\.$"),
        ("How many errors happened after 10:06 in logs/shop.log?", r"is 2\.$"),
        ("Сколько ошибок в logs/shop.log с 10:00 до 10:06?", "— 1"),
        ("Сколько предупреждений (WARNING) в logs/shop.log?", "— 1"),
        ("Which errors are in logs/shop.log after 10:07?", "sdb"),
        ("Что пошло не так в logs/shop.log после 10:07?", "sdb"),
        ("When was the last error in logs/shop.log?", "10:15:00"),
        ("What was the first error in logs/shop.log?", "10:05:00"),
        ("When did the gateway timeout happen in logs/shop.log?", "10:09:00"),
        ("How many errors are in logs/iso.log after 9:30?", r"is 1\.$"),
        ("How many errors are in logs/iso.log before 10:05:01?", r"is 2\.$"),
        ("How many errors are in logs/short.log after 9:30?", r"is 1\.$"),
        ("How many errors are in logs/epoch.log after 9:30?", None),
        ("How many errors are in logs/days.log after 10:00?", None),
        ("Which errors are in logs/days.log after 10:00?", None),
        ("How many lines are in logs/shop.log after noon?", None),
    ],
)
async def test_a_time_of_the_day_chooses_the_lines_of_a_log(box: Tools, goal: str, said: str | None):
    """Where all lines have a time, and are of one day."""
    answer = await answered(box, goal)
    assert (answer is None) if said is None else re.search(said, answer or "")


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ("What is the difference between conf/a.yaml and conf/b.yaml?", "conf/b.yaml, line 1: port: 81"),
        ("Чем отличается conf/a.yaml от conf/b.yaml?", "port: 81"),
        ("Are conf/a.yaml and conf/c.yaml identical?", "is the same"),
        ("Which of conf/a.yaml and conf/b.yaml is right?", None),
        ("What is the same in conf/a.yaml and conf/b.yaml?", None),
    ],
)
async def test_two_files_are_compared_by_their_lines(box: Tools, goal: str, said: str | None):
    """The lines that differ are quoted with their numbers."""
    answer = await answered(box, goal)
    assert (answer is None) if said is None else (said in (answer or ""))


async def test_a_file_that_is_larger_than_what_a_model_reads_is_counted_whole(box: Tools):
    """The model gets its beginning and end; the records are counted all."""
    rows = "".join(f"{number},user{number},Oslo\n" for number in range(5000))
    (box.place / "many.csv").write_text(f"id,name,city\n{rows}")
    assert (
        await answered(box, "How many users are in many.csv?") == "The number of records in many.csv is 5000."
    )


async def test_a_secret_among_the_records_is_masked(box: Tools, tmp_path: Path):
    """What a model must not read is not quoted past it either."""
    (box.place / "hosts.csv").write_text("host,password\nalpha,hunter2hunter2\nbeta,swordfish99\n")
    answer = await answered(box, "What is the password of alpha in hosts.csv?")
    assert "hunter2" not in (answer or "")


@pytest.mark.parametrize(
    ("goal", "container"),
    [
        ("Why is worker-1 down?", "worker-1"),
        ("Почему упал worker-1?", "worker-1"),
        ("Is redis up?", "redis"),
        ("Did migrate-1 finish properly?", "migrate-1"),
        ("Why is the sky blue?", None),
        ("Why is ollama down?", None),
        ("What is wrong with the stack?", None),
    ],
)
def test_a_container_need_not_be_called_one(goal: str, container: str | None):
    """Where a goal asks for the state of one thing; the stack itself is examined instead."""
    assert [step.args["container"] for step in first_steps(goal)] == ([container] if container else [])
