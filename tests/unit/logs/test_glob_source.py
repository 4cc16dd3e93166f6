"""A glob that is followed takes in the files that begin to match it."""

import asyncio
import contextlib
import gzip
from pathlib import Path

import pytest

from opskit.errors import OpskitError
from opskit.logs.glob_source import GlobSource, resolve
from opskit.logs.source import Note, Window


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


@contextlib.asynccontextmanager
async def followed(pattern: str):
    """What a glob has brought so far, and a wait for more of it."""
    seen: list[tuple[str, str]] = []
    arrived = asyncio.Event()

    async def run():
        [source], _ = await resolve([pattern], Path("/nonexistent"), follow=True)
        async with contextlib.aclosing(source.follow(Window(tail=5))) as batches:
            async for batch in batches:
                seen.extend((item.source, item.raw.decode()) for item in batch if not isinstance(item, Note))
                arrived.set()

    async def until(*lines: tuple[str, str]):
        async with asyncio.timeout(10):
            while not set(lines) <= set(seen):
                arrived.clear()
                await arrived.wait()

    task = asyncio.create_task(run())
    try:
        yield seen, until
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_new_file_is_read_from_its_beginning(tmp_path):
    """The day changes, and with it the name; both files go on."""
    append(tmp_path / "app-20.log", "one")
    async with followed(f"{tmp_path}/app-*.log") as (seen, until):
        await until(("app-20.log", "one"))
        append(tmp_path / "app-21.log", "two", "three")
        await until(("app-21.log", "two"), ("app-21.log", "three"))
        append(tmp_path / "app-20.log", "four")
        append(tmp_path / "app-21.log", "five")
        await until(("app-20.log", "four"), ("app-21.log", "five"))
    assert len(seen) == 5


async def test_rotation_within_the_glob_doubles_nothing(tmp_path):
    """What was renamed or packed and still matches is not new."""
    append(tmp_path / "app.log", "one")
    async with followed(f"{tmp_path}/app.log*") as (seen, until):
        await until(("app.log", "one"))
        (tmp_path / "app.log").rename(tmp_path / "app.log.1")
        (tmp_path / "app.log.2.gz").write_bytes(gzip.compress(b"older\n"))
        append(tmp_path / "app.log", "two")
        await until(("app.log", "two"))
        append(tmp_path / "app.log.new", "three")
        await until(("app.log.new", "three"))
    assert sorted(text for _, text in seen) == ["one", "three", "two"]


async def test_files_of_one_name_are_told_apart(tmp_path):
    """By their folders."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        append(tmp_path / folder / "app.log", folder)
    async with followed(f"{tmp_path}/*/app.log") as (_, until):
        await until((f"{tmp_path}/a/app.log", "a"), (f"{tmp_path}/b/app.log", "b"))


async def test_a_glob_without_a_file_is_said(tmp_path):
    """At the start; a typing error is not waited for."""
    with pytest.raises(OpskitError, match="no file matches"):
        await resolve([f"{tmp_path}/*.log"], Path("/nonexistent"), follow=True)
    append(tmp_path / "a.log", "one")
    [batch] = [batch async for batch in GlobSource(f"{tmp_path}/*.log").read(Window())]
    assert [item.raw for item in batch] == [b"one"]
