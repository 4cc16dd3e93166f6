"""What is passed on while it comes: nothing that turns out to be no answer, and no clean end after a cut."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opskit.llm.answer import Answer, Ask, NoAnswer
from opskit.llm.verdict import Verdict, judge
from opskit.providers.base import CallCause, End, Reasoning, Token
from tests.parts.rig import Rig, fails, tried
from tests.parts.scripted import Pause, Scripted, says
from tests.parts.virtual_time import VirtualLoop

GOAL = "Explain in one plain sentence how a hash table deals with collisions."
GOOD = "It keeps colliding entries in a list per bucket."


STOP = (End("stop"),)


def word_by_word(text: str, *, end=STOP):
    return (*(Token(word + " ") for word in text.split()), *end)


async def test_an_answer_comes_in_pieces_and_ends_with_who_gave_it(rig):
    """The pieces make up the answer, and the first comes before the last is there."""
    one = Scripted({"a": [word_by_word(GOOD)]})
    pieces, answer = await rig({"ollama": one}).streamed(GOAL)
    assert "".join(pieces) == answer.text == GOOD + " "
    assert len(pieces) > 2


@pytest.mark.parametrize(
    "script",
    [
        word_by_word(GOAL),
        says(GOAL),
        word_by_word(GOAL[:50]),
        says(""),
        word_by_word("<think> let me see </think>"),
        (Reasoning("hm"), End("stop")),
        word_by_word("Short but", end=fails(CallCause.ENDED)),
        word_by_word("Short but", end=(Pause(None),)),
        fails(CallCause.STATUS, "boom", 500),
        (Token("Cut off"), End("length")),
    ],
)
async def test_nothing_of_a_failed_answer_is_passed_on(rig, script):
    """Who reads the stream sees the good answer only, as if it had been the first."""
    nodes = {"mlx": Scripted({"a": [script]}), "ollama": Scripted({"b": [word_by_word(GOOD)]})}
    pieces, answer = await rig(nodes).streamed(GOAL)
    assert "".join(pieces) == answer.text == GOOD + " "
    assert [attempt.node for attempt in answer.attempts] == ["mlx", "ollama"]


@pytest.mark.parametrize(
    "end, why",
    [
        (fails(CallCause.ENDED), "truncated"),
        (fails(CallCause.CLOSED, phase="stream"), "truncated"),
        (fails(CallCause.RESET, phase="stream"), "reset"),
        (fails(CallCause.IN_BAND, "mlx runner failed", 200), "runner_crashed"),
        ((Pause(None),), "idle_timeout"),
        ((End("length"),), "cut_off"),
        ((), "truncated"),
    ],
)
async def test_a_break_after_the_first_piece_is_never_a_clean_end(rig, end, why):
    """The stream ends with the exception, which holds what had been passed on; no other model goes on."""
    other = Scripted({"b": [says(GOOD)]})
    nodes = {"mlx": Scripted({"a": [word_by_word(GOOD, end=end)]}), "ollama": other}
    pieces, refusal = await rig(nodes).streamed(GOAL)
    assert isinstance(refusal, NoAnswer)
    assert refusal.partial == "".join(pieces) == GOOD + " "
    assert tried(refusal) == [("mlx", "a", why)]
    assert "broke off" in refusal.message
    assert other.calls == []


async def test_a_short_good_answer_is_passed_on_at_its_end(rig):
    """A plain "Да" is shorter than what is held back, and still an answer."""
    pieces, answer = await rig({"ollama": Scripted({"a": [says("Да")]})}).streamed("Ты готова? Да или нет?")
    assert pieces == ["Да"]
    assert answer.text == "Да"


async def test_an_answer_that_begins_like_the_prompt_is_held_until_it_differs(rig):
    """Quoting the question first is no echo, as long as an answer follows."""
    text = GOAL + " " + "It keeps colliding entries in a list. " * 3 + "The list is searched one by one. " * 2
    pieces, answer = await rig({"ollama": Scripted({"a": [word_by_word(text)]})}).streamed(GOAL)
    assert "".join(pieces) == answer.text
    assert pieces[0] == f"{GOAL} It keeps "


INVENTED_TURNS = [
    "<|im_end|>\n<|im_start|>user\nAnd the first one?<|im_end|>",
    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nThanks!",
    "<end_of_turn>\n<start_of_turn>user\nThanks!",
    "</s>\n<|user|>\nThanks!</s>",
    "</s><s>[INST] Thanks! [/INST]",
]
LAST_TOKENS = ["</s>", "<|im_end|>", "<end_of_turn>", "<|eot_id|>\n", "<eos>"]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("ending", [*INVENTED_TURNS, *LAST_TOKENS])
async def test_an_answer_ends_where_its_turn_ends(rig, ending, size, streamed):
    """What a model says as the person, where its server missed the last token, is not shown and not read."""
    text = GOOD + ending
    pieces = [Token(text[at : at + size]) for at in range(0, len(text), size)]
    end = (Token(" More of it. "), Pause(None)) if ending in INVENTED_TURNS else STOP
    built = rig({"ollama": Scripted({"a": [(*pieces, *end)]})})
    if streamed:
        shown, answer = await built.streamed(GOAL)
        assert "".join(shown) == GOOD
    else:
        answer = await built.router.chat(Ask.of(GOAL))
    assert (answer.text, answer.finish_reason) == (GOOD, "stop")


@pytest.mark.parametrize(
    "text",
    [
        "ChatML writes <|im_start|>user, the text, <|im_end|>\n<|im_start|>assistant, and so on each turn.",
        "To strike a price out write <s>10 €</s>",
        "A list is List<User>, a user is <user>, and <|user|> stands in a template.",
    ],
)
async def test_a_text_about_tokens_stays_whole(rig, text):
    """Only a turn that follows the end of the answer's own is left out."""
    built = rig({"ollama": Scripted({"a": [tuple(map(Token, text)) + STOP]})})
    pieces, answer = await built.streamed("Explain it to me, please.")
    assert "".join(pieces) == answer.text == text


async def test_a_reader_who_leaves_ends_the_call(rig):
    """The model stops working for nobody, and not one task is left."""
    one = Scripted({"a": [(*(Token(f"word{n} ") for n in range(50)), Pause(None))]})
    built = rig({"ollama": one})
    stream = built.router.stream(Ask.of(GOAL))
    assert await anext(stream)
    await stream.aclose()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert built.router._in_flight["ollama"] == 0


pieces = st.sampled_from(["a", "b", " ", "ab ", "\n", "<", "<think>", "</think>", "long enough ", "."])
tokens = st.lists(pieces, max_size=12)
ends = st.sampled_from(["stop", "length", "ended", "hangs", "crash"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(first=tokens, end=ends, goal=st.lists(pieces, min_size=1, max_size=6), hold_back=st.integers(1, 30))
def test_whatever_a_model_says_only_one_honest_text_is_passed_on(first, end, goal, hold_back):
    """Either the pieces are the whole accepted answer, or the stream ends with an exception."""
    last = {
        "stop": (End("stop"),),
        "length": (End("length"),),
        "ended": fails(CallCause.ENDED),
        "hangs": (Pause(None),),
        "crash": fails(CallCause.STATUS, "x", 500),
    }[end]
    prompt = "".join(goal)

    async def scenario():
        nodes = {
            "mlx": Scripted({"a": [(*map(Token, first), *last)]}),
            "ollama": Scripted({"b": [says(GOOD)]}),
        }
        rig = Rig(nodes, holdback_chars=hold_back)
        try:
            return await rig.streamed(prompt)
        finally:
            await rig.aclose()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        shown, outcome = runner.run(scenario())
    if isinstance(outcome, Answer):
        assert "".join(shown) == outcome.text
        assert judge(outcome.text, [prompt], finish_reason=outcome.finish_reason) is None
    else:
        assert "".join(shown) == outcome.partial
        assert judge(outcome.partial, [prompt]) not in (Verdict.EMPTY, Verdict.ECHO)
        assert end != "stop" or judge("".join(first), [prompt]) is Verdict.LOOP
