"""The error catalogue."""

import re
from pathlib import Path

import pytest

from opskit import errors
from opskit.errors import ConfigError, ErrorSpec, Exit, OpskitError, StateError, UsageError, catalogue

#: SPEC C13.
OF_THE_STACK = [f"{kind}_00{n}" for kind in ("MODEL", "GEN", "REV", "COMM", "VAL") for n in (1, 2, 3)]


@pytest.mark.parametrize("spec", catalogue().values(), ids=lambda spec: spec.code)
class TestEveryCode:
    def test_it_has_a_title_a_cause_and_a_remedy(self, spec: ErrorSpec):
        """Nobody is left alone with a bare code."""
        assert all(text.strip() for text in (spec.title, spec.cause, spec.remedy))

    def test_it_stands_under_its_own_name(self, spec: ErrorSpec):
        """Looking a code up gives that code."""
        assert catalogue()[spec.code] is spec

    def test_it_fails_for_shells_and_for_http_clients(self, spec: ErrorSpec):
        """No error can be taken for a success, by exit status or by HTTP status."""
        assert spec.exit is not Exit.OK
        assert 400 <= spec.http_status < 600

    def test_it_fits_on_lines(self, spec: ErrorSpec):
        """Catalogue texts are single lines, so they fit in a table and in a log."""
        assert len((spec.title + spec.cause + spec.remedy).splitlines()) == 1


@pytest.mark.parametrize("code", OF_THE_STACK)
def test_the_codes_of_the_stack_are_there(code):
    """SPEC C13: the application codes keep their numbers."""
    assert code in catalogue()


def test_an_error_takes_its_remedy_from_the_catalogue_unless_the_raiser_knows_better():
    """A better remedy on the spot wins, and none is never shown."""
    assert OpskitError("MODEL_001", "no").remedy == catalogue()["MODEL_001"].remedy
    assert OpskitError("MODEL_001", "no", remedy="do this").remedy == "do this"


def test_an_unknown_code_is_a_bug():
    """A code that nobody can look up is not raised."""
    with pytest.raises(KeyError):
        OpskitError("MODEL_999", "no")


@pytest.mark.parametrize(
    "error, exit_",
    [
        (UsageError("bad"), Exit.USAGE),
        (ConfigError("bad"), Exit.CONFIG),
        (StateError("bad"), Exit.CONFIG),
        (OpskitError("BUG_001", "bad"), Exit.BUG),
        (OpskitError("MODEL_001", "bad"), Exit.FAILED),
    ],
)
def test_each_kind_of_error_has_its_exit_status(error: OpskitError, exit_):
    """Scripts tell a wrong argument, a wrong configuration, a failure and a bug apart."""
    assert error.exit is exit_
    assert str(error) == error.message == "bad"


def test_no_code_is_given_twice():
    """A second entry would silently win."""
    text = Path(errors.__file__).with_suffix(".toml").read_text("utf-8")
    assert re.findall(r"^\[(\w+)\]$", text, re.MULTILINE) == list(catalogue())
