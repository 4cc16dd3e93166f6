"""Attribution: who follows from whom, and who explains what."""

from hypothesis import given
from hypothesis import strategies as st

from opskit.doctor.cause import KNOWN, RANKS, Cause, key_of
from opskit.doctor.diagnosis import OPEN, Attributed, attribute, diagnosed, order
from opskit.doctor.examination import settled
from opskit.errors import catalogue
from opskit.result import Finding, Status

CHECKS = ("a", "b", "c", "d")
IDS = sorted(RANKS)
KEYS = [key_of(identifier, target) for identifier in IDS[:6] for target in ("", "x", "y")]

causes = st.lists(
    st.builds(
        Cause,
        id=st.sampled_from(IDS[:6]),
        target=st.sampled_from(["", "x", "y"]),
        title=st.sampled_from(["one", "two"]),
        evidence=st.just(()),
        remedy=st.just(""),
        claims=st.frozensets(st.sampled_from(CHECKS)),
        because=st.lists(st.sampled_from(KEYS), max_size=3).map(tuple),
        status=st.sampled_from([Status.FAIL, Status.WARN]),
    ),
    max_size=12,
)
findings = st.lists(
    st.builds(Finding, st.sampled_from(CHECKS), st.just("t"), st.sampled_from(list(Status))),
    max_size=4,
    unique_by=lambda one: one.check,
)


@given(causes, findings)
def test_every_cause_is_told_once(known: list[Cause], found: list[Finding]):
    """No cause is lost, and none is told twice."""
    entries, _ = attribute(known, found)
    assert sorted(one.cause.key for one in entries) == sorted({one.key for one in known})


@given(causes, findings)
def test_no_cause_explains_itself(known: list[Cause], found: list[Finding]):
    """Going up from a cause never comes back to it, and ends at a root."""
    entries, _ = attribute(known, found)
    parents = {one.cause.key: one.parent for one in entries}
    for key, parent in parents.items():
        seen = {key}
        above = parent
        while above is not None:
            assert above not in seen
            seen.add(above)
            above = parents[above]


@given(causes, findings)
def test_a_root_comes_before_what_follows_from_it(known: list[Cause], found: list[Finding]):
    """Parents stand before their children, with nothing but their own family between them."""
    entries, _ = attribute(known, found)
    parents = {one.cause.key: one.parent for one in entries}
    open_ends: list[str] = []
    for entry in entries:
        while open_ends and entry.parent != open_ends[-1]:
            open_ends.pop()
        assert entry.parent is None or open_ends[-1:] == [entry.parent]
        open_ends.append(entry.cause.key)
    assert all(parent is None or parent in parents for parent in parents.values())


def test_a_cause_follows_from_one_of_a_later_kind():
    """What restarts because what it needs has stopped is no root, though its kind ranks first."""
    base = Cause(id="container-stopped", target="base", title="", evidence=(), remedy="")
    needs = (key_of("container-stopped", "base"),)
    api = Cause(id="container-restarting", target="api", title="", evidence=(), remedy="", because=needs)
    entries, _ = attribute([api, base], [])
    assert [(entry.cause.target, entry.parent) for entry in entries] == [("base", None), ("api", base.key)]


@given(causes, findings)
def test_each_finding_is_explained_at_most_once(known: list[Cause], found: list[Finding]):
    """Open findings are explained by one cause that claims them, or left; those that are well by none."""
    entries, left = attribute(known, found)
    explained = [name for one in entries for name in one.explains]
    assert len(explained) == len(set(explained))
    assert all(set(one.explains) <= one.cause.claims for one in entries)
    open_names = {one.check for one in found if one.status in OPEN}
    assert set(explained) | {one.check for one in left} == open_names
    assert not set(explained) & {one.check for one in left}


@given(causes, findings, st.randoms(use_true_random=False))
def test_the_order_is_always_the_same(known: list[Cause], found: list[Finding], random):
    """Causes may come in any order; the diagnosis is the same."""
    shuffled = list(known)
    random.shuffle(shuffled)
    told = [(one.cause.key, one.cause.title, one.parent) for one in attribute(known, found)[0]]
    again = [(one.cause.key, one.cause.title, one.parent) for one in attribute(shuffled, found)[0]]
    assert told == again


@given(causes, findings)
def test_what_fails_stands_before_what_warns(known: list[Cause], found: list[Finding]):
    """Among roots, those that fail or make something fail come first."""
    entries, _ = attribute(known, found)
    families: list[list[Attributed]] = []
    for entry in entries:
        if entry.parent is None:
            families.append([])
        families[-1].append(entry)
    fails = [any(one.cause.status is Status.FAIL for one in family) for family in families]
    assert fails == sorted(fails, reverse=True)
    for wanted in (True, False):
        roots = [family[0].cause for family, fail in zip(families, fails, strict=True) if fail is wanted]
        assert roots == sorted(roots, key=order)


@given(causes, findings)
def test_a_failure_never_goes_unsaid(known: list[Cause], found: list[Finding]):
    """Every failed check is explained by a cause; exit 0 means that none failed."""
    result = diagnosed(known, found)
    explained = {name for one in result.entries for name in one.explains}
    assert {one.check for one in found if one.status is Status.FAIL} <= explained
    if result.exit == 0:
        assert not any(one.status is Status.FAIL for one in found)
    assert (result.exit == 1) == bool(result.entries)


def test_the_exit_status_of_nothing_judged():
    """Without a cause and without a check that passed nothing is known: 3."""
    open_one = Finding("a", "t", Status.INCONCLUSIVE)
    assert diagnosed([], [open_one]).exit == 3
    assert diagnosed([], [open_one, Finding("b", "t", Status.PASS)]).exit == 0
    assert diagnosed([], []).exit == 3


def test_the_code_of_each_cause_is_in_the_error_catalogue():
    """A person can look up the code of every cause, and a failing node has that of its kind."""
    assert {known.code for known in KNOWN if known.code is not None} <= catalogue().keys()
    failing = Cause(id="node-failing", title="", evidence=(), remedy="")
    assert (failing.error_code, Cause(id="clock-skew", title="", evidence=(), remedy="").error_code) == (
        "GEN_001",
        None,
    )


def test_a_check_that_was_late_is_no_cause():
    """On a busy machine a check may get no result in time, which says nothing of what it looks at."""
    late = Finding("ports", "ports", Status.FAIL, "timeout", "no result within 10 s")
    findings = settled([late], [])
    assert [finding.status for finding in findings] == [Status.INCONCLUSIVE]
    assert diagnosed([], findings).causes == []
