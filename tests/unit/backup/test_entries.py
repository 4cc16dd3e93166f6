"""What may not be in an archive."""

import pytest

from opskit.backup.manifest import ArchiveEntry, DamagedArchiveError, check_entries, problem_of_link
from tests.parts.backups import file, folder, link


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([file("/etc/passwd")], "absolute"),
        ([file("../x")], "`[.][.]`"),
        ([folder("a"), file("a/../../x")], "`[.][.]`"),
        ([file("a//x")], "empty name"),
        ([file("./x")], "empty name"),
        ([file("")], "empty name"),
        ([file("a\0b")], "control"),
        ([file("a\nb")], "control"),
        ([file("a\x1b[2Jb")], "control"),
        ([file("x" * 256)], "longer than"),
        ([file(".opskit-manifest.json")], "kept for the manifest"),
        ([folder("a"), file("a/.opskit-restore-1.new")], "left over"),
        ([file(".opskit-restore")], "left over"),
        ([file("a", mode=0o4755)], "setuid"),
        ([file("a", mode=0o2755)], "setuid"),
        ([folder("a", mode=0o1777)], "setuid"),
        ([file("a"), file("a")], "twice"),
        ([folder("a"), file("a")], "twice"),
        ([file("a/b")], "is not there before it"),
        ([file("a"), file("a/b")], "below the file"),
        ([folder("real"), link("a", "real"), file("a/b")], "below the link"),
        ([link("a", "/etc")], "absolute"),
        ([link("a", "..")], "leads out"),
        ([folder("d"), link("d/a", "../../etc")], "leads out"),
        ([folder("d"), link("d/a", "x/../../..")], "behind a name"),
        ([link("a", "")], "no usable target"),
        ([link("a", "b\nc")], "control"),
        ([folder("/".join("d" * 101))], "folders deep"),
    ],
)
def test_what_could_do_harm_is_refused(members: list[ArchiveEntry], reason: str) -> None:
    """Each way out of the folder, and each name that cannot be, is found and named."""
    with pytest.raises(DamagedArchiveError, match=reason):
        check_entries(members)


def test_what_opskit_writes_is_sound() -> None:
    """Folders before files, links that stay inside, names in any script and even in no encoding."""
    deep = [folder("/".join("d" * count)) for count in range(1, 100)]
    members = [
        folder("a"),
        file("a/x"),
        link("a/l", "../b"),
        link("b", "a/x"),
        file("имя 文"),
        file("\udcff"),
    ]
    check_entries([*members, *deep])


def test_a_link_may_not_climb_through_another() -> None:
    """With `d` a link to the top, `d/..` is outside although it looks as if it were inside."""
    assert problem_of_link("a/b/l", "d/..") is not None
    assert problem_of_link("a/b/l", "../..") is None
    assert problem_of_link("a/b/l", "../../..") is not None
