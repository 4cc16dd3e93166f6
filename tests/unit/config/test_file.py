"""What the file may say, and how each mistake is named."""

from pathlib import Path

import pytest

from opskit.config.model_names import CATEGORIES
from opskit.config.origins import Origin
from opskit.config.schema import NodeConfig


@pytest.mark.parametrize(
    "text, key, message",
    [
        ("bugdets: {}", "bugdets", "unknown key; did you mean `budgets`?"),
        ("router: {max_falbacks: 1}", "router.max_falbacks", "unknown key; did you mean `max_fallbacks`?"),
        ("nodes: {ollama: {ulr: x}}", "nodes.ollama.ulr", "unknown key; did you mean `url`?"),
        ("limits: {zzz: x}", "limits.zzz", "unknown key; known: goal_bytes"),
        ("nodes: {ollama: {explicit: true}}", "nodes.ollama.explicit", "unknown key; known: "),
        ("router: {max_fallbacks: yes}", "router.max_fallbacks", "must be a whole number"),
        ("router: {max_fallbacks: true}", "router.max_fallbacks", "must be a whole number"),
        ("router: {max_fallbacks: '3'}", "router.max_fallbacks", "must be a whole number"),
        ("router: {max_fallbacks: 1.5}", "router.max_fallbacks", "must be a whole number"),
        ("router: {max_fallbacks: null}", "router.max_fallbacks", "must be a whole number"),
        ("router: {max_fallbacks: -1}", "router.max_fallbacks", "must be at least 0"),
        ("router: {max_tokens: 0}", "router.max_tokens", "must be at least 1"),
        ("router: {temperature: -0.1}", "router.temperature", "must be at least 0"),
        ("router: {temperature: hot}", "router.temperature", "must be a number"),
        ("router: {seed: 1.5}", "router.seed", "must be a whole number"),
        (
            "router: {max_tokens_by_category: {fast: 0}}",
            "router.max_tokens_by_category.fast",
            "must be at least 1",
        ),
        (
            "router: {max_tokens_by_category: {fsat: 9}}",
            "router.max_tokens_by_category.fsat",
            "unknown key; did you mean `fast`?",
        ),
        ("router: {max_tokens_by_category: 9}", "router.max_tokens_by_category", "must be a section"),
        ("router: {memory_factor: x}", "router.memory_factor", "must be a number"),
        ("router: {memory_factor: .nan}", "router.memory_factor", "must be a finite number"),
        ("router: {use_mlx_fallback: yes}", "router.use_mlx_fallback", "must be true or false"),
        ("router: {order: mlx}", "router.order", "must be a list"),
        ("router: {order: []}", "router.order", "must not be empty"),
        ("router: {order: [mlx, ollama, mlx]}", "router.order", "names mlx twice"),
        ("router: {order: [mlx, gpu]}", "router.order.1", "must be 'mlx', 'ollama', 'llamacpp' or 'openai'"),
        ("router: {power: [a, '']}", "router.power.1", "must not be empty"),
        ("router: {categories: {coding: x}}", "router.categories.coding", "must be a list"),
        ("router: {categories: {'A b': [x]}}", "router.categories.A b", "a name is made of "),
        ("router: 7", "router", "must be a section"),
        ("budgets: {total_s: 0}", "budgets.total_s", "must be more than 0"),
        ("budgets: {total_s: -1s}", "budgets.total_s", "must be a duration"),
        ("budgets: {total_s: .inf}", "budgets.total_s", "must be a finite number"),
        ("budgets: {total_s: 2 weeks}", "budgets.total_s", "must be a duration"),
        ("budgets: {total_s: 1e12}", "budgets.total_s", "must be at most "),
        ("budgets: {total_s: 0ms}", "budgets.total_s", "must be more than 0"),
        ("budgets: {prefill_chars_per_s: 2s}", "budgets.prefill_chars_per_s", "must be a number"),
        ("log: {max_bytes: 99999999999999999999}", "log.max_bytes", "must be at most "),
        ("nodes: [ollama]", "nodes", "must be a section"),
        ("nodes: {Gpu: {url: http://x, source: mlx}}", "nodes.Gpu", "a name is made of "),
        ("nodes: {-x: {url: http://x, source: mlx}}", "nodes.-x", "a name is made of "),
        ("nodes: {victoria: {source: mlx}}", "nodes.victoria", "victoria is the name of an agent"),
        ("agents: {mlx: {url: http://x}}", "agents.mlx", "mlx is the name of a node"),
        ("agents: {g: {url: http://x}}\nnodes: {g: null}", "agents.g", "g is the name of a node"),
        ("nodes: {gpu: 7}", "nodes.gpu", "must be a section"),
        ("nodes: {gpu: {source: ollama}}", "nodes.gpu.url", "is missing"),
        ("nodes: {gpu: {url: http://x}}", "nodes.gpu.source", "is missing"),
        ("nodes: {gpu: {url: http://x, source: x}}", "nodes.gpu.source", "must be 'mlx', 'ollama',"),
        ("nodes: {mlx: {protocol: grpc}}", "nodes.mlx.protocol", "must be 'auto', 'ollama' or 'openai'"),
        ("nodes: {mlx: {default_model: 3}}", "nodes.mlx.default_model", "must be text"),
        ('nodes: {mlx: {default_model: "a\\e[31m"}}', "nodes.mlx.default_model", "holds characters"),
        ("nodes: {mlx: {num_ctx: 0}}", "nodes.mlx.num_ctx", "must be at least 1"),
        ("nodes: {mlx: {url: null}}", "nodes.mlx.url", "must be text"),
        ("agents: {victoria: {source: mlx}}", "agents.victoria.source", "unknown key"),
        ("debug: 1", "debug", "must be true or false"),
        ("state_dir: ''", "state_dir", "must not be empty"),
        ("state_dir: ~nobody-has-this-name/x", "state_dir", "names a home folder that does not exist"),
        ("nodes: {mlx: {url: '${NOWHERE}'}}", "nodes.mlx.url", "the variable NOWHERE is not set"),
        ("nodes: {mlx: {url: '${NOWHERE'}}", "nodes.mlx.url", "a `${` needs a name and a `}`"),
        ("nodes: {mlx: {url: '', required: true}}", "nodes.mlx.url", "the address is empty"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_problem_with_its_key(problems, text: str, key: str, message: str):
    """One mistake is one problem, named by key path and in plain words."""
    (problem,) = problems(text + "\n")
    assert problem.key == key
    assert problem.message.startswith(message)
    assert problem.line == 1
    assert "\n" not in f"{problem}"


@pytest.mark.parametrize(
    "text, environ",
    [
        ("api_key: sk-secret-1", {}),
        ("api_key: 5550123", {}),
        ("api_key: [sk-secret-1]", {}),
        ("api_key: 'Bearer ${KEY}'", {"KEY": "sk-secret-1"}),
        ("api_key: '${KEY:-sk-secret-1}'", {}),
        ("api_key: '$${KEY}'", {"KEY": "sk-secret-1"}),
        ("api_key: '${KEY}'", {"KEY": "sk-secret\n-1"}),
        ("default_model: {sk-secret-1: x}", {}),
        ("num_ctx: sk-secret-1", {}),
        ("source: '${KEY}'", {"KEY": "sk-secret-1"}),
        ("required: '${KEY}'", {"KEY": "5550123"}),
        ("url: sk-secret-1", {}),
        ("url: sk.secret.5550123", {}),
        ("protocol: sk-secret-1", {}),
        ("url: 'http://me:sk-secret-1@host'", {}),
        ("url: 'http://me:5550123/sk-secret-1@host:x'", {}),
        ("url: 'sk-secret-1@host'", {}),
        ("url: 'http://h?key=sk-secret-1'", {}),
        ("url: 'http://h:5550123'", {}),
    ],
)
def test_a_value_is_never_repeated(problems, text: str, environ: dict[str, str]):
    """Whatever is wrong with a value, it may be a secret and stays out of every message."""
    said = " ".join(f"{one} {one.advice}" for one in problems(f"nodes: {{ollama: {{{text}}}}}\n", environ))
    assert "sk-secret" not in said
    assert "5550123" not in said
    assert "secret.5" not in said


def test_all_mistakes_of_one_section_are_found(problems):
    """A wrong key does not hide a wrong address beside it, nor does it invent what follows from it."""
    text = "nodes:\n  a: {url: 'localhost:1', source: '${NO}', x: 1}\n  b: {ulr: http://x, source: mlx}\n"
    assert [one.key for one in problems(text)] == [
        "nodes.a.url",
        "nodes.a.source",
        "nodes.a.x",
        "nodes.b.ulr",
    ]


def test_problems_name_the_line_of_their_key(problems):
    """Each problem points to its own line."""
    text = "# one\nnodes:\n  ollama:\n    # two\n    url: nohost\nlog:\n  backups:\n    - 1\n"
    assert [one.where for one in problems(text)] == ["opskit.yaml:5:5", "opskit.yaml:7:3"]


def test_a_full_node_is_taken_over(configured):
    """Every key of a node reaches its place."""
    text = (
        "nodes:\n  gpu-box: {url: 'http://192.168.1.20:11434/', source: ollama, protocol: openai,"
        " required: true, num_ctx: 8192, default_model: 'a:1', api_key: '${GPU_KEY}'}\n"
    )
    loaded = configured(text, {"GPU_KEY": " key \n"})
    node = loaded.config.node("gpu-box")
    assert node == NodeConfig(
        *("gpu-box", "http://192.168.1.20:11434", "ollama", "openai", node.api_key, "a:1", 8192),
        required=True,
        address_from="opskit.yaml:2",
    )
    assert node.api_key == "key"
    assert "key'" not in repr(node).replace("api_key", "")
    assert [one.name for one in loaded.config.nodes] == ["ollama", "mlx", "gpu-box"]


@pytest.mark.parametrize("off", ["null", "false", "", "{enabled: false}", "{url: '${NOTHING:-}'}"])
@pytest.mark.parametrize("key", ["nodes.mlx", "agents.veronica"])
def test_a_default_can_be_switched_off(configured, key: str, off: str):
    """null, false, `enabled: false` and an address that turns out empty all mean: not there."""
    group, name = key.split(".")
    loaded = configured(f"{group}:\n  {name}: {off}\n")
    assert name not in [one.name for one in getattr(loaded.config, group)]
    assert loaded.origins[f"{key}.enabled"] == Origin("file", "opskit.yaml:2")


def test_a_partial_default_node_keeps_its_default_address(configured):
    """Who sets only num_ctx still has an address that nobody chose."""
    node = configured("nodes: {ollama: {num_ctx: 4096}}").config.node("ollama")
    assert (node.url, node.num_ctx, node.explicit) == ("http://localhost:11434", 4096, False)


def test_long_names_stay_apart(configured):
    """What messages shorten is whole in the configuration."""
    names = ["n" * 80 + end for end in "ab"]
    text = "nodes:\n" + "".join(f"  {name}: {{url: 'http://{name[-1]}', source: mlx}}\n" for name in names)
    assert [configured(text).config.node(name).url for name in names] == ["http://a", "http://b"]


def test_another_agent_may_be_named(configured):
    """The agents are not only Victoria and Veronica."""
    assert (
        configured("agents: {reviewer: {url: 'http://r:9002'}}").config.agent_named("reviewer").url
        == "http://r:9002"
    )


@pytest.mark.parametrize(
    "written, seconds",
    [
        ("2s", 2.0),
        ("500ms", 0.5),
        ("1m", 60.0),
        ("1.5h", 5400.0),
        ("1m30s", 90.0),
        ("7", 7.0),
        ("0.25", 0.25),
        ("2 s", 2.0),
    ],
)
def test_durations_are_numbers_or_text_with_a_unit(configured, written: str, seconds: float):
    """A duration without a unit is in seconds."""
    assert configured(f"budgets: {{total_s: {written}}}").config.budgets.total_s == pytest.approx(seconds)


def test_categories_are_merged_by_category(configured):
    """A category that is written replaces its own patterns, in lower case, and leaves the others."""
    categories = configured("router: {categories: {coding: ['Qwen*'], own: [x]}}").config.router.categories
    assert categories == CATEGORIES | {"coding": ("qwen*",), "own": ("x",)}


def test_substituted_text_may_be_a_number(configured):
    """Variables are text, so a reference may stand where a number or a truth value belongs."""
    config = configured(
        "router: {max_fallbacks: '${N}', use_mlx_fallback: '${B:-false}', order: ['${FIRST:-ollama}']}\n"
        "budgets: {total_s: '${T}'}\nvictoria_model: '${MODEL:-7}'\n",
        {"N": "5", "T": "2m"},
    ).config
    router = config.router
    assert (router.max_fallbacks, router.use_mlx_fallback, router.order) == (5, False, ("ollama",))
    assert (config.budgets.total_s, config.victoria_model) == (120.0, "7")


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}, {"KEY": " "}])
def test_a_secret_that_is_not_set_is_absent_and_recorded(configured, environ: dict[str, str]):
    """An unset key is no error, and the origin says which variable it waits for."""
    loaded = configured("nodes:\n  ollama:\n    api_key: ${KEY}\n", environ)
    assert loaded.config.node("ollama").api_key is None
    assert loaded.origins["nodes.ollama.api_key"] == Origin("file", "opskit.yaml:3", unset="KEY")


def test_a_key_in_the_environment_wins_over_one_in_the_file(configured):
    """OLLAMA_API_KEY needs no file, and wins over it."""
    loaded = configured("nodes: {ollama: {api_key: '${KEY}'}}", {"KEY": "a", "OLLAMA_API_KEY": "b"})
    assert loaded.config.node("ollama").api_key == "b"


def test_a_bind_address_is_noted(configured):
    """0.0.0.0 is dialled as loopback, and people are told."""
    loaded = configured("nodes: {ollama: {url: 'http://0.0.0.0:11434'}}")
    assert loaded.config.node("ollama").url == "http://127.0.0.1:11434"
    assert loaded.notes == ("nodes.ollama.url: 0.0.0.0 is a bind address; 127.0.0.1 is dialled",)


def test_a_note_about_a_value_that_lost_is_not_told(configured):
    """Only the address that is used is worth a note."""
    text = "nodes: {ollama: {url: 'http://0.0.0.0:11434'}}"
    assert not configured(text, {"OLLAMA_API_URL": "http://h:1"}).notes


@pytest.mark.parametrize("section", ["router", "budgets", "nodes", "agents", "limits", "state_dir"])
def test_an_empty_section_changes_nothing(configured, section: str):
    """A section whose lines are all commented out is as good as none."""
    with_section = configured(f"{section}:\n  # nothing\n").config
    assert (with_section.router, with_section.nodes, with_section.state_dir) == (
        configured("").config.router,
        configured("").config.nodes,
        configured("").config.state_dir,
    )


def test_a_relative_state_folder_belongs_to_the_file(configured, tmp_path: Path):
    """The folder does not depend on where the command is started."""
    assert configured("state_dir: here/there").config.state_dir == str(tmp_path / "here" / "there")


def test_what_a_request_asks_for_by_default(configured):
    """Temperature and seed may be zero; a category of one's own has a limit of its own."""
    text = """
        router:
          categories: {own: [x]}
          max_tokens_by_category: {fast: 256, own: 99}
          temperature: 0
          seed: 0
    """
    router = configured(text).config.router
    assert (router.temperature, router.seed) == (0, 0)
    limits = [router.max_tokens_for(name) for name in ("fast", "own", "coding")]
    assert limits == [256, 99, router.max_tokens]


def test_a_number_out_of_a_variable_is_a_number(configured):
    """What `${NAME}` stands for is text."""
    text = 'router: {temperature: "${HEAT}", seed: "${SEED}", max_tokens_by_category: {fast: "${MANY}"}}'
    router = configured(text, {"HEAT": "0.2", "SEED": "7", "MANY": "64"}).config.router
    assert (router.temperature, router.seed, router.max_tokens_for("fast")) == (0.2, 7, 64)
