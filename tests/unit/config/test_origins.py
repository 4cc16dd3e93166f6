"""What `opskit config show` has to show."""

from opskit.config.origins import Shown, shown


def rows(loaded) -> dict[str, Shown]:
    return {one.key: one for one in shown(loaded.config, loaded.origins)}


def test_secrets_stay_hidden(configured):
    """A key that is set is stars; one that is not names its variable; one that nobody asked for is null."""
    text = "nodes:\n  ollama: {api_key: '${SET}'}\nagents:\n  victoria: {api_key: '${UNSET}'}\n"
    shown_rows = rows(configured(text, {"SET": "sk-secret"}))
    assert shown_rows["nodes.ollama.api_key"].value == "***"
    assert shown_rows["agents.victoria.api_key"].value == "(unset: UNSET)"
    assert shown_rows["nodes.mlx.api_key"].text == "null"
    assert "sk-secret" not in str(shown_rows)


def test_every_value_has_an_origin(configured):
    """Each effective value is listed once, and its origin is known."""
    loaded = configured("router: {max_tokens: 9}", {"VICTORIA_DEBUG": "1"})
    shown_rows = rows(loaded)
    assert set(shown_rows) <= set(loaded.origins)
    assert str(shown_rows["router.max_tokens"].origin) == "opskit.yaml:1"
    assert str(shown_rows["debug"].origin) == "env VICTORIA_DEBUG"
    assert str(shown_rows["router.order"].origin) == "default"
    assert shown_rows["router.order"].text == "mlx, ollama, llamacpp, openai"
    assert shown_rows["router.categories.default"].text == "[]"


def test_what_is_switched_off_says_so(configured):
    """A node that is off has one line, and it tells who switched it off."""
    shown_rows = rows(configured("nodes:\n  mlx: null\n"))
    assert [key for key in shown_rows if key.startswith("nodes.mlx")] == ["nodes.mlx.enabled"]
    assert shown_rows["nodes.mlx.enabled"].text == "false"
    assert str(shown_rows["nodes.mlx.enabled"].origin) == "opskit.yaml:2"
