"""Which containers a spec means."""

import pytest

from opskit.errors import OpskitError
from opskit.logs.container import chosen
from opskit.system.docker_records import PROJECT, SERVICE, ListedContainer


def container(name: str, **labels: str) -> ListedContainer:
    """Its id is made of its name."""
    return ListedContainer(name.encode().hex().ljust(64, "0"), name, "image", "running", labels)


VICTORIA = container("ops_victoria-agent_1", **{PROJECT: "ops", SERVICE: "victoria-agent"})
VERONICA = container("veronica-agent", **{PROJECT: "ops", SERVICE: "veronica"})
OTHER = container("other", role="db", empty="")
ALL = [VICTORIA, VERONICA, OTHER]


@pytest.mark.parametrize(
    ("spec", "found", "grows"),
    [
        ("other", [OTHER], False),
        (OTHER.id, [OTHER], False),
        (OTHER.id[:12], [OTHER], False),
        ("*agent*", [VICTORIA, VERONICA], True),
        ("label:role=db", [OTHER], True),
        ("label:role", [OTHER], True),
        ("label:empty=", [OTHER], True),
        ("compose:ops", [VICTORIA, VERONICA], True),
        ("compose:ops/veronica", [VERONICA], True),
        ("compose:/veronica", [VERONICA], True),
        ("victoria-agent", [VICTORIA], True),
        ("veronica-agent", [VERONICA], False),
    ],
)
def test_every_form_of_a_spec(spec: str, found: list[ListedContainer], grows: bool):
    """A name means one container; everything else may come to mean more."""
    there, wanted = chosen(spec, ALL)
    assert there == found
    assert (wanted is not None) is grows


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        ("veronica-agnt", "veronica-agent"),
        ("victoria-agen", "victoria-agent"),
        ("compose:opz", "compose:ops"),
        ("compose:ops/veronika", "compose:ops/veronica"),
        ("label:rol=db", "label:role=db"),
    ],
)
def test_a_slip_of_the_finger_names_what_comes_near(spec: str, near: str):
    """Names of containers and services, projects, or labels: whatever was meant."""
    with pytest.raises(OpskitError, match="did you mean") as caught:
        chosen(spec, ALL)
    assert caught.value.code == "DOCKER_002"
    assert near in caught.value.message


@pytest.mark.parametrize("spec", ["label:", "label:=", "compose:", "compose:/"])
def test_a_prefix_alone_means_nothing(spec: str):
    """Not everything."""
    with pytest.raises(OpskitError) as caught:
        chosen(spec, ALL)
    assert caught.value.code == "DOCKER_002"
