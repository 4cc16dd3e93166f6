"""Does a model fit in memory?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.llm.fit import GIB, fit, gib

sizes = st.integers(0, 200 * GIB)


def test_a_loaded_model_fits():
    """What is in memory needs no more of it."""
    assert fit(70 * GIB, resident=True, local=True, available_bytes=0).ok is True


@pytest.mark.parametrize(
    "size, local, free",
    [(GIB, False, 0), (None, True, GIB), (GIB, True, None)],
    ids=["remote", "size", "memory"],
)
def test_what_cannot_be_told_is_left_open(size, local, free):
    """A remote node, an unknown size or unknown memory is no reason to refuse."""
    judged = fit(size, resident=False, local=local, available_bytes=free)
    assert judged.ok is None
    assert judged.reason


def test_a_refusal_names_both_numbers():
    """A person reads what is needed and what there is."""
    judged = fit(20 * GIB, resident=False, local=True, available_bytes=8 * GIB, factor=1.0)
    assert judged.ok is False
    assert judged.reason == "it does not fit: needs about 20.0 GiB, 8.0 GiB can be had"
    assert (judged.need_bytes, judged.have_bytes) == (20 * GIB, 8 * GIB)


@given(sizes, sizes, st.lists(sizes, max_size=3), st.floats(1.0, 2.0), sizes)
def test_it_fits_exactly_when_need_does_not_exceed_what_can_be_had(size, free, others, factor, reserve):
    """Weights with their surcharge and the reserve, against free memory and what may be unloaded."""
    judged = fit(
        size,
        resident=False,
        local=True,
        available_bytes=free,
        resident_bytes=others,
        factor=factor,
        reserve_bytes=reserve,
    )
    assert judged.ok is (round(size * factor) + reserve <= free + sum(others))


@pytest.mark.parametrize("size, text", [(GIB, "1.0 GiB"), (0, "0 MiB"), (300 * 1024**2, "300 MiB")])
def test_sizes_are_written_for_people(size, text):
    """Nobody reads bytes."""
    assert gib(size) == text
