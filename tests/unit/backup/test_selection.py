"""Which paths a pattern means."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.backup.selection import parse
from opskit.config.schema import BackupConfig
from opskit.errors import UsageError


@pytest.mark.parametrize(
    ("patterns", "path", "meant"),
    [
        ((".env*",), ".env", True),
        ((".env*",), ".env.local", True),
        ((".env*",), "sub/.env", False),
        (("results/**",), "results", True),
        (("results/**",), "results/a/b/.hidden", True),
        (("results",), "results/a/b", True),
        (("results/",), "results/a", True),
        (("results/*",), "results", False),
        (("results/*",), "results/a/b", True),
        (("./compose*.y*ml",), "compose.dev.yaml", True),
        (("**/.env",), ".env", True),
        (("**/.env",), "a/b/.env", True),
        (("a/**/z",), "a/z", True),
        (("a/**/z",), "a/b/c/z", True),
        (("a/**/z",), "a/b/c/y", False),
        (("a/**/b/**/z",), "a/b/b/z", True),
        (("**",), "anything/at/all", True),
        (("results/**", "!results/*.bin"), "results/a.bin", False),
        (("results/**", "!results/cache"), "results/cache/a/b", False),
        (("!**/*.tmp", "results/**"), "results/a/b.tmp", False),
        (("[ab].txt",), "b.txt", True),
        (("A.txt",), "a.txt", False),
    ],
)
def test_patterns_mean_paths(patterns: tuple[str, ...], path: str, meant: bool) -> None:
    """`*` is part of a name, `**` any depth, a folder all that is in it, and `!` takes out."""
    assert parse(patterns).match(path) is meant


@pytest.mark.parametrize("pattern", ["/etc/*", "~/x", "../x", "a/../b", "a//b", "", ".", "!../x"])
def test_a_pattern_that_leaves_the_folder_is_refused(pattern: str) -> None:
    """Nothing outside the root can be asked for."""
    with pytest.raises(UsageError):
        parse(("ok", pattern))


@pytest.mark.parametrize("patterns", [(), ("!a",)])
def test_patterns_that_want_nothing_are_refused(patterns: tuple[str, ...]) -> None:
    """A backup of nothing would be no backup."""
    with pytest.raises(UsageError):
        parse(patterns)


def test_the_default_patterns_are_valid() -> None:
    """What opskit ships can be used."""
    assert parse(BackupConfig().files).match("docker-compose.override.yml")


_NAMES = st.text("ab.", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))


@given(st.lists(_NAMES, min_size=1, max_size=4), st.lists(st.sampled_from(["a*", "*", "b", "?"]), min_size=1))
def test_names_match_one_by_one(names: list[str], globs: list[str]) -> None:
    """Without `**`, a path is meant when its first names match the pattern's one by one."""
    expected = len(names) >= len(globs) and all(map(fnmatch.fnmatchcase, names, globs))
    assert parse(["/".join(globs)]).match("/".join(names)) is expected


@given(st.lists(_NAMES, min_size=1, max_size=5), st.lists(st.sampled_from(["a", "**", "*"]), min_size=1))
def test_walking_never_stops_short(names: list[str], globs: list[str]) -> None:
    """Every folder above a path that is meant leads on, so that a walk finds it."""
    patterns = parse(["/".join(globs)])
    if patterns.match("/".join(names)):
        for name in names:
            patterns = patterns.below(name)
            assert patterns.leads_on
