"""Tallies of files and streams: cut anywhere, on one process or on several."""

import gzip
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import OpskitError
from opskit.logs import stats
from opskit.logs.stats import LogTally, tally_file, tally_pieces
from opskit.logs.stats_counts import CountLimits
from opskit.logs.stats_report import as_json
from tests.parts.logfile import write


def exact(tally):
    """Without the minutes of lines that are only counted, which depend on the blocks."""
    found = as_json(tally)
    del found["timeline"]["untimed_lines"]
    for bucket in found["timeline"]["buckets"]:
        del bucket["lines"]
    found["timeline"]["buckets"] = [b for b in found["timeline"]["buckets"] if b["errors"] or b["calls"]]
    return found


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "app.log"
    truth = write(path, size_bytes=3_000_000, seed=11)
    return truth, path


class TestFiles:
    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_processes_make_no_difference(self, log, monkeypatch, workers):
        """Tallied by one process or by several, the result is that of the whole text."""
        truth, path = log
        monkeypatch.setattr(stats, "PARALLEL_FROM", 0)
        whole = LogTally()
        whole.feed(path.read_bytes(), str(path))
        counted = tally_file(path, workers=workers)
        assert exact(counted) == exact(whole)
        assert (counted.lines, counted.errors.total) == (truth.lines, truth.errors)

    def test_beside_other_threads_processes_are_started_afresh(self, log, monkeypatch):
        """Forking beside a thread could copy a lock that nobody holds any more."""
        truth, path = log
        monkeypatch.setattr(stats, "PARALLEL_FROM", 0)
        over = threading.Event()
        other = threading.Thread(target=over.wait)
        other.start()
        try:
            assert tally_file(path, workers=2).lines == truth.lines
        finally:
            over.set()
            other.join()

    def test_a_lost_process_is_made_up_for(self, log, monkeypatch):
        """When a child dies, its part is read here."""
        truth, path = log
        monkeypatch.setattr(stats, "PARALLEL_FROM", 0)
        monkeypatch.setattr(stats, "_work", _die)
        assert tally_file(path, workers=2).lines == truth.lines

    def test_a_packed_file_is_read_like_a_plain_one(self, log, tmp_path):
        """gzip, known by its content."""
        _, path = log
        packed = tmp_path / "old.log"
        packed.write_bytes(gzip.compress(path.read_bytes(), 1))
        assert exact(tally_file(packed, source=str(path))) == exact(tally_file(path))

    def test_an_empty_file_has_nothing(self, tmp_path):
        """No lines, no times."""
        path = tmp_path / "empty.log"
        path.touch()
        assert tally_file(path).lines == 0

    def test_a_file_that_cannot_be_read_is_named(self, tmp_path):
        """With the reason of the system."""
        with pytest.raises(OpskitError, match="gone"):
            tally_file(tmp_path / "gone.log")

    def test_one_line_longer_than_any_block_is_one_line(self, tmp_path, monkeypatch):
        """Its bytes are counted, its head is read, whoever gets which part of it."""
        monkeypatch.setattr(stats, "PARALLEL_FROM", 0)
        path = tmp_path / "long.log"
        text = b"2026-03-01 12:00:00 ERROR long " + b"x" * 20_000_000 + b"\nERROR behind it\n"
        path.write_bytes(text)
        for workers in (1, 2):
            counted = tally_file(path, workers=workers)
            assert (counted.lines, counted.size_bytes, counted.errors.total) == (2, len(text), 2)


def _die(*_):
    raise SystemExit(1)


class TestPieces:
    @given(data=st.data())
    def test_pieces_cut_anywhere_give_the_whole(self, data):
        """In the middle of a line, of a traceback, of a character."""
        text = TEXT * data.draw(st.integers(1, 3))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
        whole = LogTally()
        pieces = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        whole.feed(text, "x")
        assert exact(tally_pieces(pieces, "x", CountLimits())) == exact(whole)

    def test_a_line_without_end_takes_no_memory(self):
        """Only its head is held and counted, as one line, and what follows it is read again."""
        pieces = [b"first\nERROR a ", *[b"y" * 1_000_000] * 40, b"\nERROR b\n"]
        counted = tally_pieces(pieces, "x", CountLimits())
        assert (counted.lines, counted.errors.total) == (3, 2)
        assert counted.size_bytes == sum(map(len, pieces))


TEXT = """2026-03-01 12:00:00,000 ERROR не удалось 12
Traceback (most recent call last):
  File "x.py", line 1
KeyError: 4
{"level": "warn", "message": "m", "duration": 12.5}
2026-03-01T12:00:01.000Z [LLM_CALL] node=a model=m fallback=false attempt=1
plain
""".encode()
