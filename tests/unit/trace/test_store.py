"""What a store of traces keeps, finds and forgets."""

import multiprocessing
from pathlib import Path

import pytest

from opskit.errors import StateError, UsageError
from opskit.trace import store as store_module
from opskit.trace.span import Recording, SpanKind, SpanStatus, record, span
from opskit.trace.store import TraceStore
from opskit.trace.waterfall import bar, rows


def recorded(correlation_id: str, traceparent: str | None = None, name: str = "request") -> Recording:
    attributes = {"n": 1, "l": ("a", "b")}
    with (
        record(name, correlation_id, traceparent=traceparent) as (recording, _),
        span("plan"),
        span("chat m", kind=SpanKind.CLIENT, attributes=attributes) as call,
    ):
        call.fail("wedged", "no token")
    return recording


def test_a_trace_comes_back_as_it_was(tmp_path: Path):
    """Spans, their order, their attributes and their failure."""
    recording = recorded("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")
    store = TraceStore(tmp_path)
    store.save(recording, "a goal")
    trace = store.find("0a1b2c3d")
    assert trace is not None
    assert trace.goal == "a goal"
    assert [s.as_json() for s in trace.spans] == [s.as_json() for s in recording.spans]
    assert trace.spans[2].attributes["l"] == ("a", "b")
    assert [(depth, s.name) for depth, s in trace.tree()] == [(0, "request"), (1, "plan"), (2, "chat m")]
    assert trace.status is SpanStatus.OK


def test_two_processes_write_one_trace(tmp_path: Path):
    """The agent's spans stand beneath the span that asked it."""
    here = recorded("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")
    there = recorded("other", here.spans[1].traceparent, "POST /run")
    store = TraceStore(tmp_path)
    store.save(there, "")
    store.save(here, "a goal")
    trace = store.find(here.trace_id)
    assert trace is not None
    assert trace.root is not None
    assert trace.root.name == "request"
    assert (2, "POST /run") in [(depth, s.name) for depth, s in trace.tree()]


def test_a_beginning_that_fits_several_is_refused_with_the_ids(tmp_path: Path):
    """Nobody is shown another request than the one that was meant."""
    store = TraceStore(tmp_path)
    for last in "12":
        store.save(recorded(f"aaaa0000-0000-4000-8000-00000000000{last}"), "")
    with pytest.raises(UsageError, match="several traces begin with aaaa"):
        store.find("aaaa")
    with pytest.raises(UsageError, match="too short"):
        store.find("aaa")
    found = store.find("AAAA0000-0000-4000-8000-000000000002")
    assert found is not None
    assert found.correlation_id.endswith("2")
    assert store.find("bbbb") is None


@pytest.mark.parametrize("wanted", ["%%%%", "____", "' OR 1", "\x00\x00\x00\x00"])
def test_an_id_is_text_and_no_pattern(tmp_path: Path, wanted: str):
    """Wildcards and quotes find nothing."""
    store = TraceStore(tmp_path)
    store.save(recorded("aaaa0000-0000-4000-8000-000000000001"), "")
    assert store.find(wanted) is None


def test_the_oldest_give_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file does not grow for ever, and no span outlives its trace."""
    monkeypatch.setattr(store_module, "KEPT_TRACES", 20)
    store = TraceStore(tmp_path)
    names = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(30)]
    for name in names:
        store.save(recorded(name), name)
    kept = [trace.correlation_id for trace in store.newest(100)]
    assert 18 <= len(kept) <= 20
    assert kept == names[::-1][: len(kept)]
    assert all(len(trace.spans) == 3 for trace in store.newest(100))


def test_a_store_that_is_none_is_refused_with_what_to_do(tmp_path: Path):
    """A damaged file is named; nothing is deleted."""
    store = TraceStore(tmp_path)
    store.path.write_bytes(b"not a database, but long enough to look like a file" * 20)
    with pytest.raises(StateError, match=r"traces\.db") as caught:
        store.save(recorded("aaaa0000-0000-4000-8000-000000000001"), "")
    assert "move" in (caught.value.remedy or "")
    assert store.path.read_bytes().startswith(b"not a database")


def test_no_store_holds_no_trace_and_is_not_made_by_looking(tmp_path: Path):
    """`trace list` on a new machine leaves no file."""
    store = TraceStore(tmp_path)
    assert store.newest(5) == []
    assert store.find("aaaa") is None
    assert list(tmp_path.iterdir()) == []


def _save_many(folder: str, worker: int) -> None:
    store = TraceStore(Path(folder))
    for number in range(20):
        store.save(recorded(f"{worker:04x}{number:04x}-0000-4000-8000-000000000000"), "")


def test_several_processes_write_at_once(tmp_path: Path):
    """Nothing is lost when commands end at the same time."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_save_many, args=(str(tmp_path), number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(TraceStore(tmp_path).newest(200)) == 80


def test_every_bar_can_be_seen(tmp_path: Path):
    """What is too short for a column is a thin line, and no bar leaves its room."""
    store = TraceStore(tmp_path)
    recording = recorded("aaaa0000-0000-4000-8000-000000000001")
    recording.spans[0].seconds = 100.0
    recording.spans[2].start += 99.999
    store.save(recording, "")
    trace = store.find("aaaa")
    assert trace is not None
    drawn = [bar(row, 40) for row in rows(trace)]
    assert all(len(text) == 40 and text.strip() for text in drawn)
    assert drawn[0] == "█" * 40
    assert drawn[2].startswith(" " * 39)
