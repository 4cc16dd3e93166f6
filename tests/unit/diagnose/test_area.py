"""Areas: sections side by side, each within its limit, and what becomes of one that cannot be read."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from opskit.config.schema import Config
from opskit.diagnose.area import Area, Section, SectionSource, TableSection, read_areas
from opskit.errors import OpskitError
from opskit.facts.survey import Survey
from opskit.result import Finding, Status

FINDING = Finding("x", "docker", Status.INCONCLUSIVE, "silent", "Docker does not answer")


async def well(_: Survey) -> Section:
    return Section([1], (TableSection("t", ("a",), (("1",),)),))


async def hangs(_: Survey) -> Section:
    await asyncio.Event().wait()
    return Section(None)


async def silent(_: Survey) -> Section:
    return Section(None, findings=(FINDING,))


async def read(**readers: Callable[[Survey], Awaitable[Section]]) -> Area:
    """Read sections by their keys; all others require the one that is called `docker`."""
    survey = Survey(Config("/s", (), ()), {}, state_folder=Path("/s"), cwd=Path("/s"))
    sources = [
        SectionSource("x", key, key, reader, 0.05, () if key == "docker" else ("x docker",))
        for key, reader in {"docker": well, **readers}.items()
    ]
    (area,) = await read_areas(["x"], sources, survey)
    return area


async def test_a_section_that_hangs_is_cut_and_the_others_are_shown():
    """Its key is null, and a finding and a table say why."""
    area = await read(first=well, second=hangs)
    assert area.data == {"first": [1], "second": None}
    (finding,) = area.findings
    assert (finding.target, finding.status, finding.code) == ("second", Status.INCONCLUSIVE, "COMM_003")
    assert "cannot be looked at" in area.plain()


async def test_what_a_section_raises_is_told_as_its_finding():
    """An expected failure with its own code, a mistake of ours as BUG_001."""

    async def fails(_: Survey) -> Section:
        raise OpskitError("DOCKER_001", "no daemon answers")

    async def breaks(_: Survey) -> Section:
        raise ZeroDivisionError

    area = await read(first=fails, second=breaks)
    assert [(finding.code, finding.state) for finding in area.findings] == [
        ("DOCKER_001", "unseen"),
        ("BUG_001", "unseen"),
    ]
    assert "traceback" in area.findings[1].evidence


async def test_what_a_section_requires_is_shown_only_where_it_fails():
    """Then it stands for all that could not be read because of it."""
    assert (await read(first=well)).data == {"first": [1]}
    area = await read(docker=silent, first=well, second=well)
    assert area.data == {"docker": None}
    assert area.findings == (FINDING,)


async def test_sections_wait_for_those_that_they_come_after():
    """Reading is work too: what is measured first is measured alone."""
    running: list[str] = []

    def reader(name: str) -> Callable[[Survey], Awaitable[Section]]:
        async def work(_: Survey) -> Section:
            running.append(f"{name} begins")
            await asyncio.sleep(0)
            running.append(f"{name} ends")
            return Section(name)

        return work

    survey = Survey(Config("/s", (), ()), {}, state_folder=Path("/s"), cwd=Path("/s"))
    sources = [
        SectionSource("x", "a", "a", reader("a"), 1.0, after=("x load",)),
        SectionSource("x", "load", "load", reader("load"), 1.0),
    ]
    await read_areas(["x"], sources, survey)
    assert running == ["load begins", "load ends", "a begins", "a ends"]
