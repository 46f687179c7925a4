"""The conversation of the built-in agent: what is sent, what an answer comes to, what it costs, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from swarm.worker.anthropic.conversation import (
    CUT_MAX,
    LEFT_OUT,
    TURNS_LEFT_OUT,
    UNKNOWN,
    Answer,
    Call,
    Conversation,
    Next,
    Price,
    Result,
    Terms,
    Usage,
)

TOOLS = ({"name": "bash"},)
NOTHING = Usage()


def conversation(**terms: Any) -> Conversation:
    talk = Conversation(Terms("m", **terms), "you are", TOOLS)
    talk.say("do it")
    return talk


def using(*names: str, stop: str = "tool_use", usage: Usage = NOTHING) -> Answer:
    calls = [{"type": "tool_use", "id": name, "name": "bash", "input": {"command": name}} for name in names]
    return Answer(calls, stop, usage)


def saying(text: str, stop: str = "end_turn") -> Answer:
    return Answer([{"type": "text", "text": text}], stop)


def use(talk: Conversation, name: str, result: str, usage: Usage = NOTHING) -> None:
    turn = talk.take(using(name, usage=usage))
    talk.results([(call, Result(result)) for call in turn.calls])


def check_pairs(messages: list[dict[str, Any]]) -> None:
    """User and assistant take turns, the user first and last, and each call has its result in the message that follows."""
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2) + [
        "user"
    ]
    for asked, answered in zip(messages[1::2], messages[2::2], strict=True):
        calls = [block["id"] for block in asked["content"] if block["type"] == "tool_use"]
        given = [block["tool_use_id"] for block in answered["content"] if block["type"] == "tool_result"]
        assert calls == given


def test_an_answer_says_what_is_next() -> None:
    """Calls are carried out, an answer without any is the end, a refusal is one, and a pause is asked again."""
    assert conversation().take(using("a", "b")).calls == (
        Call("a", "bash", {"command": "a"}),
        Call("b", "bash", {"command": "b"}),
    )
    assert conversation().take(using("a", stop="end_turn")).next is Next.TOOLS
    assert conversation().take(saying("done")).next is Next.FINISHED
    assert conversation().take(saying("no", "refusal")).next is Next.REFUSED
    assert conversation().take(saying("…", "pause_turn")).next is Next.AGAIN
    assert conversation().take(Answer([], "end_turn")).next is Next.FINISHED


@pytest.mark.parametrize("stop", ["max_tokens", "model_context_window_exceeded"])
def test_nothing_of_a_cut_answer_is_carried_out(stop: str) -> None:
    """Of an answer that was cut off no call is carried out, and each is answered so that the conversation can go on."""
    talk = conversation()
    turn = talk.take(using("a", "b", stop=stop))
    assert (turn.next, turn.calls) == (Next.AGAIN, ())
    check_pairs(talk.request()["messages"])
    talk = conversation()
    assert talk.take(saying("half a", stop)).next is Next.AGAIN
    check_pairs(talk.request()["messages"])
    assert conversation().take(Answer([], stop)).next is Next.AGAIN


@pytest.mark.parametrize(
    "cut", [lambda: saying("half a", "max_tokens"), lambda: using("a", stop="max_tokens")]
)
def test_answers_that_are_all_cut_off_come_to_an_end(cut: Callable[[], Answer]) -> None:
    """Each is paid for at its greatest length: so many in a row are a limit that is reached; one that is whole begins anew."""
    talk = conversation()
    for _ in range(CUT_MAX - 1):
        talk.take(cut())
    assert talk.exhausted() == ""
    use(talk, "a", "x")
    for _ in range(CUT_MAX):
        assert talk.exhausted() == ""
        talk.take(cut())
    assert f"{CUT_MAX} answers were all cut off, and anthropic.answer_tokens_max" in talk.exhausted()


def test_each_limit_is_told() -> None:
    """Turns, tokens (cached ones too) and money each end it, and 0 is no limit."""
    spent = Usage(input=10, cache_write=20, cache_read=30, output=40)
    for terms, name in (({"turns_max": 1}, "turns_max"), ({"tokens_max": 100}, "tokens_max")):
        talk = conversation(**terms)
        assert talk.exhausted() == ""
        use(talk, "a", "x", spent)
        assert name in talk.exhausted()
    talk = conversation(budget_usd=0.001, price=Price(input=100.0, output=0.0))
    use(talk, "a", "x", Usage(input=10))
    assert "budget_usd" in talk.exhausted()
    talk = conversation()
    use(talk, "a", "x", Usage(input=10**9, output=10**9))
    assert talk.exhausted() == ""


def test_cost_is_counted_by_kind_of_token() -> None:
    """Each kind of token has its price, what has none of its own costs as input, and without prices nothing is claimed."""
    usage = Usage(input=1_000_000, cache_write=1_000_000, cache_read=1_000_000, output=1_000_000)
    assert usage.cost_usd(Price(1, 10, cache_write=2, cache_read=0.5)) == pytest.approx(13.5)
    assert usage.cost_usd(Price(1, 10)) == pytest.approx(13)
    assert usage.cost_usd(None) is None
    assert (usage + usage).tokens_in == 6_000_000


def test_the_cache_is_marked_where_it_will_be_read_again() -> None:
    """Marks stand at the system prompt and at the last two of the user's messages; nothing of them stays in the conversation."""
    talk = conversation()
    for name in "abc":
        use(talk, name, "x")
    request = talk.request()
    marked = [place for place, m in enumerate(request["messages"]) if "cache_control" in m["content"][-1]]
    assert marked == [4, 6]
    assert "cache_control" in request["system"][-1]
    assert "cache_control" not in json.dumps(talk.messages)


def test_what_is_left_out_fits_and_stays_a_conversation() -> None:
    """However long it gets, a request stays within the limit as the API counts it, is well formed, keeps the first message and the
    last ones whole, and changes what was sent before only now and then."""
    talk = conversation(context_tokens_max=10_000)
    before: list[list[dict[str, Any]]] = []
    changed = 0
    for number in range(150):
        request = talk.request()
        tokens = len(json.dumps(request)) // 2
        assert tokens < 16_000
        check_pairs(request["messages"])
        assert request["messages"][0]["content"][0]["text"] == "do it"
        shown = [[_plain(block) for block in message["content"]] for message in request["messages"]]
        changed += shown[: len(before)] != before
        before = shown
        use(talk, str(number), f"{number} " * 300, Usage(input=tokens))
        assert talk.messages[-1]["content"][0]["content"].startswith(f"{number} ")
    assert len(talk.messages) == 301
    assert TURNS_LEFT_OUT in json.dumps(talk.request()["messages"][0])
    assert LEFT_OUT in json.dumps(talk.request()["messages"])
    assert 1 <= changed <= 30


def _plain(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name != "cache_control"}


def test_one_turn_can_not_fill_the_context() -> None:
    """What many calls of one answer give is cut so that all together they take a part of the context, their ends kept."""
    talk = conversation(context_tokens_max=100_000)
    turn = talk.take(using(*(str(n) for n in range(20))))
    talk.results([(call, Result("begin" + "x" * 500_000 + "end")) for call in turn.calls])
    assert len(json.dumps(talk.messages)) < 100_000
    for block in talk.messages[-1]["content"]:
        assert block["content"].startswith("begin")
        assert block["content"].endswith("end")


def test_an_interrupted_conversation_goes_on() -> None:
    """Calls without results are told to be uncertain, messages of one speaker are one, and there is room for a new word."""
    told: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "do it"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "I pause"}]},
        {"role": "assistant", "content": list(using("a", "b").content)},
        {"role": "user", "content": [{"type": "text", "text": "go on"}]},
        {"role": "user", "content": [{"type": "text", "text": "go on again"}]},
        {"role": "assistant", "content": list(using("c").content)},
    ]
    talk = Conversation(Terms("m"), "you are", TOOLS, told)
    talk.say("once more")
    check_pairs(talk.messages)
    contents = [
        [block.get("content") or block["text"] for block in m["content"]] for m in talk.messages[2::2]
    ]
    assert contents == [[UNKNOWN, UNKNOWN, "go on", "go on again"], [UNKNOWN, "once more"]]


def test_the_last_turns_are_announced() -> None:
    """Shortly before its turns are over the model is told so, once."""
    talk = conversation(turns_max=5)
    for name in "abcde":
        use(talk, name, "x")
    assert json.dumps(talk.messages).count("turns left") == 1
    assert "3 turns left" in json.dumps(talk.messages[4])
