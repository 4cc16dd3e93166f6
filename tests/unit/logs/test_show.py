"""Sources in one order, context around matches, and following files through rotation."""

import asyncio
import contextlib
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from opskit.logs.events import Grouper
from opskit.logs.files import FileSource, files, rotated
from opskit.logs.glob_source import resolve
from opskit.logs.record import LogEntry
from opskit.logs.select import EntryFilter
from opskit.logs.show import Break, followed, once, settled
from opskit.logs.source import Note, Window

ANY = EntryFilter()


class Given:
    """A source that says what it was given."""

    def __init__(self, name, entries):
        self.name = name
        self._entries = entries

    async def read(self, window):
        for entry in self._entries:
            yield [entry]

    async def follow(self, window):
        async for batch in self.read(window):
            yield batch


async def shown(sources, selection=ANY, window=None, context=0):
    return [item async for item in once(sources, selection, window or Window(), context)]


@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=8), min_size=1, max_size=4))
def test_merging_keeps_each_source_and_follows_time(times):
    """By time across sources; inside a source as it stands, even when its clock goes backwards."""
    sources = [
        Given(
            f"s{number}",
            [LogEntry(f"s{number}", f"{number}.{i}".encode(), at) for i, at in enumerate(column)],
        )
        for number, column in enumerate(times)
    ]
    found = asyncio.run(shown(sources))
    for source in sources:
        assert [e.raw for e in found if e.source == source.name] == [e.raw for e in source._entries]
    steady = all(column == sorted(t for t in column if t is not None) for column in times)
    if steady:
        found_times = [entry.at for entry in found]
        assert found_times == sorted(found_times)


async def test_context_is_shown_once():
    """-C: neighbours of each match, overlapping ones once, a break where events were left out."""
    lines = [LogEntry("s", f"line {n}{'!' if n in (2, 4, 9) else ''}".encode(), float(n)) for n in range(12)]
    found = await shown([Given("s", lines)], EntryFilter(grep=("!",)), context=1)
    words = ["--" if isinstance(item, Break) else item.raw.decode().split()[1].strip("!") for item in found]
    assert words == ["1", "2", "3", "4", "5", "--", "8", "9", "10"]


async def test_a_follower_groups_and_ends(tmp_path: Path):
    """Followed sources that end: their last event is not lost."""
    lines = [LogEntry("s", b"2026-11-20T08:00:00Z ERROR x", 1.0), LogEntry("s", b"  more", None)]
    found = [item async for item in followed([Given("s", lines)], ANY, Window())]
    assert [item.raw for item in found] == [b"2026-11-20T08:00:00Z ERROR x\n  more"]


class Following:
    """Follows a file in a task and remembers what came."""

    def __init__(self, path: Path, tail: int | None = 0):
        self.lines: list[str] = []
        self.notes: list[str] = []
        self._path, self._tail = path, tail

    async def __aenter__(self):
        begun = asyncio.Event()

        async def run():
            source = FileSource(self._path)
            async with contextlib.aclosing(source.follow(Window(tail=self._tail))) as batches:
                async for batch in batches:
                    begun.set()
                    for item in batch:
                        if isinstance(item, Note):
                            self.notes.append(item.text)
                        else:
                            self.lines.append(item.raw.decode())

        self._task = asyncio.create_task(run())
        await begun.wait()
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, count: int):
        async with asyncio.timeout(10):
            while len(self.lines) < count:
                await asyncio.sleep(0.01)


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


async def test_following_an_appended_file(tmp_path: Path):
    """The last lines first, then what is appended; a line is shown when it is complete."""
    path = tmp_path / "a.log"
    append(path, "one", "two", "three")
    async with Following(path, tail=2) as seen:
        append(path, "four")
        await seen.until(3)
        with path.open("a") as file:
            file.write("fi")
            file.flush()
            await asyncio.sleep(0.25)
            assert seen.lines == ["two", "three", "four"]
            file.write("ve\n")
        await seen.until(4)
    assert seen.lines == ["two", "three", "four", "five"]


async def test_rotation_by_rename_loses_and_doubles_nothing(tmp_path: Path):
    """A writer that renames its file many times: every line once, in order."""
    path = tmp_path / "a.log"
    append(path, "start")
    async with Following(path, tail=1000) as seen:
        expected = ["start"]
        for turn in range(6):
            batch = [f"{turn}.{n}" for n in range(50)]
            expected += batch
            append(path, *batch[:25])
            path.rename(tmp_path / f"a.log.{turn}")
            with (tmp_path / f"a.log.{turn}").open("a") as old:
                old.write("".join(f"{line}\n" for line in batch[25:40]))
            append(path, *batch[40:])
            await seen.until(len(expected))
    assert seen.lines == expected
    assert any("rotated" in note for note in seen.notes)


async def test_what_is_written_to_a_file_after_its_rename_is_read(tmp_path: Path):
    """A writer goes on with the old file until it is told to open the new one, which is there already."""
    path, renamed = tmp_path / "a.log", tmp_path / "a.log.1"
    append(path, "one")
    async with Following(path, tail=1000) as seen:
        await seen.until(1)
        path.rename(renamed)
        append(path, "new one")
        await seen.until(2)
        append(renamed, "late")
        await seen.until(3)
        append(path, "new two")
        await seen.until(4)
    assert seen.lines == ["one", "new one", "late", "new two"]


async def test_a_file_that_is_moved_away_and_back_is_not_read_again(tmp_path: Path):
    """It is the same file, read so far already."""
    path = tmp_path / "a.log"
    append(path, "one", "two")
    async with Following(path, tail=1000) as seen:
        await seen.until(2)
        path.rename(tmp_path / "b.log")
        async with asyncio.timeout(30):
            while not seen.notes:
                await asyncio.sleep(0.01)
        append(tmp_path / "b.log", "three")
        (tmp_path / "b.log").rename(path)
        append(path, "four")
        await seen.until(4)
    assert seen.lines == ["one", "two", "three", "four"]


async def test_copy_and_truncate_is_noticed(tmp_path: Path):
    """A file cut to nothing is read from its new beginning."""
    path = tmp_path / "a.log"
    append(path, *(f"old {n}" for n in range(20)))
    async with Following(path, tail=1000) as seen:
        await seen.until(20)
        os.truncate(path, 0)
        append(path, "new 1")
        await seen.until(21)
    assert seen.lines[-1] == "new 1"
    assert any("truncated" in note for note in seen.notes)


async def test_a_file_that_is_rewritten_past_its_old_size_is_noticed(tmp_path: Path):
    """Copied away, cut and grown beyond where it was read to, all between two looks."""
    path = tmp_path / "a.log"
    append(path, *(f"old {n}" for n in range(20)))
    async with Following(path, tail=5) as seen:
        await seen.until(5)
        path.write_text("".join(f"new {n}\n" for n in range(200)))
        await seen.until(205)
        append(path, "later")
        await seen.until(206)
    assert seen.lines[5:] == [*(f"new {n}" for n in range(200)), "later"]
    assert sum("truncated" in note for note in seen.notes) == 1


async def test_a_file_by_two_names_is_read_once(tmp_path: Path):
    """A link, and a path written in another way, are no sources of their own."""
    path = tmp_path / "a.log"
    append(path, "one")
    (tmp_path / "link.log").symlink_to(path)
    (tmp_path / "folder").mkdir()
    specs = [str(path), f"{tmp_path}/folder/../a.log", f"{tmp_path}/*.log", str(path)]
    sources, _ = await resolve(specs, tmp_path / "own.log")
    assert [item.raw for item in await shown(sources)] == [b"one"]


async def test_a_file_that_goes_and_comes_back(tmp_path: Path):
    """Deleted: waited for; back: read from its beginning."""
    path = tmp_path / "a.log"
    append(path, "one")
    async with Following(path, tail=1000) as seen:
        path.unlink()
        async with asyncio.timeout(30):
            while not seen.notes:
                await asyncio.sleep(0.01)
        append(path, "two")
        await seen.until(2)
    assert seen.lines == ["one", "two"]


def test_generations_come_oldest_first(tmp_path: Path):
    """`app.log.2.gz`, `app.log.1`, `app.log`; other files are left alone."""
    for name in ("app.log", "app.log.1", "app.log.2.gz", "app.log.lock", "app.log.bak"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in rotated(tmp_path / "app.log")] == ["app.log.2.gz", "app.log.1", "app.log"]


def test_globs(tmp_path: Path):
    """A glob is the files that match."""
    for name in ("a.log", "b.log", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [source.name for source in files(f"{tmp_path}/*.log")] == ["a.log", "b.log"]


async def test_what_comes_while_a_settled_event_is_handled_is_not_lost():
    """The source has more just when the reader is busy with the event that silence completed."""
    more = asyncio.Event()

    async def source():
        yield [LogEntry("app", b"first")]
        await more.wait()
        yield [LogEntry("app", b"second")]

    raws = []
    async for batch in settled(source(), Grouper()):
        raws += [event.raw for event in batch]
        if batch:
            more.set()
            await asyncio.sleep(0.01)
    assert raws == [b"first", b"second"]
