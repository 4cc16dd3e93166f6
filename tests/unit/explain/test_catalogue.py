"""The explanations: none is missing, none is empty, none contradicts the code it explains."""

import pytest

from opskit.checks.state import CODES, NodeState
from opskit.config.schema import NodeConfig
from opskit.errors import Exit, catalogue
from opskit.explain.catalogue import ENTRIES, Explanation, ExplanationKind, entry_of, named
from opskit.llm.answer import Attempt, AttemptOutcome
from opskit.llm.faults import FaultKind, classify
from opskit.llm.plan import ModelRequest, Plan
from opskit.llm.refusal import refusal
from opskit.llm.verdict import Verdict
from opskit.providers.base import CallCause, CallError

#: SPEC C13, and those of this stack.
STATUSES = (400, 401, 403, 404, 408, 411, 429, 499, 500, 502, 503, 504)
CODES_OF_THE_STACK = [f"{kind}_00{n}" for kind in ("MODEL", "GEN", "REV", "COMM", "VAL") for n in (1, 2, 3)]

WORDS = [
    *((ExplanationKind.CODE, code) for code in catalogue()),
    *((ExplanationKind.STATUS, str(status)) for status in STATUSES),
    *((ExplanationKind.FAULT, kind.value) for kind in FaultKind),
    *((ExplanationKind.VERDICT, verdict.value) for verdict in Verdict),
    *((ExplanationKind.STATE, state.value) for state in NodeState),
]
names = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.kind.value}-{entry.key}")


@pytest.mark.parametrize("kind, key", WORDS)
def test_every_word_of_opskit_is_explained(kind, key):
    """Each code, status, fault, verdict and state has an explanation, so that the catalogue cannot rot."""
    assert entry_of(kind, key) is not None


@pytest.mark.parametrize("code", CODES_OF_THE_STACK)
def test_the_codes_of_the_stack_are_explained(code):
    """SPEC C13: the fifteen application codes are there."""
    assert entry_of(ExplanationKind.CODE, code) is not None


@names
def test_an_explanation_says_what_and_why_and_what_to_do(entry: Explanation):
    """Title, cause and remedy are there, each on one line."""
    for text in (entry.title, entry.cause, entry.remedy):
        assert text.strip()
        assert len(text.splitlines()) == 1


@names
def test_the_fields_of_an_explanation_have_their_types(entry: Explanation):
    """YAML turns a bare 503 into a number and a bare `no` into a truth value: none of them gets in."""
    texts = (entry.key, entry.title, entry.cause, entry.remedy, *entry.see)
    assert all(isinstance(text, str) for text in texts)
    assert isinstance(entry.code, str | None)
    assert isinstance(entry.http_status, int | None)


@names
def test_an_explanation_refers_to_what_exists(entry: Explanation):
    """The code it is reported as and all it points to can be looked up in turn."""
    assert entry.code is None or entry.code in catalogue()
    assert all(named(key) for key in entry.see)


@names
def test_a_key_explains_itself_once(entry: Explanation):
    """No two explanations of one kind share a key."""
    assert [e for e in ENTRIES if (e.kind, e.key) == (entry.kind, entry.key)] == [entry]


@pytest.mark.parametrize("code", catalogue())
def test_a_code_is_explained_in_the_words_of_the_error_catalogue(code):
    """There is one truth about a code: texts and statuses come from `opskit.errors`."""
    entry, spec = entry_of(ExplanationKind.CODE, code), catalogue()[code]
    assert entry is not None
    assert (entry.title, entry.cause, entry.remedy) == (spec.title, spec.cause, spec.remedy)
    assert (entry.http_status, entry.exit) == (spec.http_status, spec.exit)


@pytest.mark.parametrize("kind", [*FaultKind, *Verdict])
def test_a_fault_is_reported_under_the_code_that_a_run_gives_it(kind):
    """The code in the explanation is the one with which the router refuses after such an attempt."""
    fault = kind.value
    attempt = Attempt("ollama", "small:3b", AttemptOutcome.FAULT, fault, "", 0.1, fallback=False)
    node = NodeConfig("ollama", "http://localhost:11434", "ollama")
    given = refusal(Plan((), ()), ModelRequest(), [attempt], seconds=0.1, partial="", nodes=[node])
    entry = entry_of(ExplanationKind.FAULT, fault) or entry_of(ExplanationKind.VERDICT, fault)
    assert entry is not None
    assert entry.code == given.code


@pytest.mark.parametrize(
    "kind", [k for k in FaultKind if (e := entry_of(ExplanationKind.FAULT, k.value)) and e.http_status]
)
def test_the_status_of_a_fault_is_one_of_the_http_errors(kind):
    """A fault that is told by a status names one that can be explained as well."""
    entry = entry_of(ExplanationKind.FAULT, kind.value)
    assert entry is not None
    assert entry_of(ExplanationKind.STATUS, str(entry.http_status)) is not None


@pytest.mark.parametrize(
    "kind", [FaultKind.BUSY, FaultKind.RATE_LIMITED, FaultKind.UNAUTHORISED, FaultKind.BAD_REQUEST]
)
def test_the_status_of_a_fault_is_classified_as_that_fault(kind):
    """Where a bare status says it all, the explanation names that status."""
    entry = entry_of(ExplanationKind.FAULT, kind.value)
    assert entry is not None
    assert classify(CallError(CallCause.STATUS, "", status=entry.http_status)).kind is kind


@pytest.mark.parametrize("state", NodeState)
def test_a_state_has_the_code_of_its_findings(state):
    """The code in the explanation is the one that `probe` prints."""
    entry = entry_of(ExplanationKind.STATE, state.value)
    assert entry is not None
    assert entry.code == CODES.get(state)
    assert (entry.exit is Exit.FAILED) is (state in CODES)


@pytest.mark.parametrize("key", ["MODEL_003", "model_003", "Model-003", " model 003 "])
def test_a_key_may_be_written_in_any_way(key):
    """Case, hyphens and spaces do not matter."""
    assert [entry.key for entry in named(key)] == ["MODEL_003"]


def test_a_word_of_two_kinds_gives_both():
    """`wedged` is a state of a node and a fault of a call: the state comes first."""
    assert [entry.kind for entry in named("wedged")] == [ExplanationKind.STATE, ExplanationKind.FAULT]
