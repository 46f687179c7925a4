"""What is said between the agent and its model: the next request, what an answer asks for, what it cost, and what is left out.

Hides the form of messages and how they are kept within the context: when they grow over the limit, the results of old calls are
left out until half of it is free, and only then whole old turns. That is done rarely and much at once, because each time the cached
beginning of the conversation has to be paid for again.

Rules for editing: pure, no clock, no file, nothing of the anthropic package. What is left out is left out of requests only:
`messages` stays whole, as the transcript has it. User and assistant take turns, and every call has its result, or the API refuses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any

from swarm.dataclass import dataclass

Message = dict[str, Any]

CHARACTERS_PER_TOKEN = 3.0  # until the first answer tells how many there are
KEPT_WHOLE = 5  # of the last messages nothing is left out
RESULT_SHARE = 8  # what one turn's results take at most of the context: an eighth
RESULT_MIN = 2_000  # characters of one result that are never cut
TURNS_LEFT_TOLD = 3
MILLION = 1_000_000

LEFT_OUT = "(This result was left out to keep the conversation short. Ask again if you need it.)"
TURNS_LEFT_OUT = "(Turns that followed here were left out to keep the conversation short. What they changed is in the worktree.)"
CUT_CALL = "Not done: your answer was cut off at its greatest length, and this call may be incomplete. Do it in smaller steps."
CUT_TEXT = "Your answer was cut off at its greatest length. Go on from there."
CUT_MAX = 5  # answers in a row that were cut off: each was paid for at its greatest length, and one more would be cut off as well
UNKNOWN = "You were interrupted here: whether this was done is not known. Look before you go on."


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in USD; what has no price of its own counts as plain input."""

    input: float
    output: float
    cache_write: float | None = None
    cache_read: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer or of many: plain input, input written to the cache and read from it, and output."""

    input: int = 0
    cache_write: int = 0
    cache_read: int = 0
    output: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.cache_write + other.cache_write,
            self.cache_read + other.cache_read,
            self.output + other.output,
        )

    @property
    def tokens_in(self) -> int:
        """All input, cached or not."""
        return self.input + self.cache_write + self.cache_read

    def cost_usd(self, price: Price | None) -> float | None:
        """What this costs; None where no price is known."""
        if price is None:
            return None
        write = price.input if price.cache_write is None else price.cache_write
        read = price.input if price.cache_read is None else price.cache_read
        total = self.input * price.input + self.output * price.output
        return (total + self.cache_write * write + self.cache_read * read) / MILLION


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings allow one attempt; 0 is no limit for `tokens_max` and `budget_usd`."""

    model: str
    answer_tokens_max: int = 16_000
    context_tokens_max: int = 150_000
    turns_max: int = 200
    tokens_max: int = 0
    budget_usd: float = 0.0
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model answered: content blocks as the API takes them back, and why it stopped."""

    content: Sequence[Mapping[str, Any]]
    stop_reason: str
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that the model wants used; `input` is whatever it gave."""

    id: str
    name: str
    input: Any


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gave."""

    text: str
    is_error: bool = False


class Next(StrEnum):
    """What follows an answer."""

    TOOLS = "tools"
    AGAIN = "again"
    FINISHED = "finished"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Turn:
    """What an answer comes to: what is next, what it said, which tools it wants used."""

    next: Next
    text: str
    calls: tuple[Call, ...] = ()


@dataclass(slots=True)
class Conversation:
    """One conversation. It begins with what a user says (`say`); `messages` may be those of an earlier attempt."""

    terms: Terms
    system: str
    tools: Sequence[Mapping[str, Any]]
    messages: list[Message] = field(default_factory=list)
    turns: int = 0
    usage: Usage = Usage()
    _cut: int = 0  # answers in a row that were cut off, the last one among them
    _emptied: int = 0  # before this message, results are left out
    _gone: int = 1  # of the messages after the first, those before this one are left out; always a user's turn that is odd
    _density: float = CHARACTERS_PER_TOKEN
    _sent: int = 0  # characters of the last request

    def __post_init__(self) -> None:
        self.messages = _mended(self.messages)

    # --- what is sent

    def say(self, text: str) -> None:
        """Adds what the user says; behind results of tools it stands in the same message."""
        _say(self.messages, {"type": "text", "text": text})

    def request(self) -> dict[str, Any]:
        """Gives what to send next, with marks for the cache at the end of what will be sent again."""
        if self._tokens() > self.terms.context_tokens_max:
            self.trim()
        shown = self._shown()
        self._sent = _size(shown) + len(self.system)
        users = [place for place, message in enumerate(shown) if message["role"] == "user"]
        for place in users[-2:]:
            shown[place] = _marked(shown[place])
        return {
            "model": self.terms.model,
            "max_tokens": self.terms.answer_tokens_max,
            "system": [{"type": "text", "text": self.system, "cache_control": {"type": "ephemeral"}}],
            "tools": [dict(tool) for tool in self.tools],
            "messages": shown,
        }

    def exhausted(self) -> str:
        """Says which limit is reached; "" while there is none."""
        terms, spent = self.terms, self.usage.cost_usd(self.terms.price)
        tokens = self.usage.tokens_in + self.usage.output
        if self.turns >= terms.turns_max:
            return f"it has taken {self.turns} turns, and anthropic.turns_max is {terms.turns_max}"
        if terms.tokens_max and tokens >= terms.tokens_max:
            return f"it has used {tokens} tokens, and anthropic.tokens_max is {terms.tokens_max}"
        if terms.budget_usd and spent is not None and spent >= terms.budget_usd:
            return f"it has cost {spent:.2f} USD, and anthropic.budget_usd is {terms.budget_usd:g}"
        if self._cut >= CUT_MAX:
            most = terms.answer_tokens_max
            return f"its last {self._cut} answers were all cut off, and anthropic.answer_tokens_max is {most}"
        return ""

    # --- what comes back

    def take(self, answer: Answer) -> Turn:
        """Takes an answer in and says what is next. No call of an answer that was cut off is to be carried out: what is missing at
        its end may change all that it means."""
        self.turns += 1
        self.usage += answer.usage
        if answer.usage.tokens_in and self._sent:
            self._density = max(0.5, self._sent / answer.usage.tokens_in)
        if answer.content:
            _say(self.messages, *(dict(block) for block in answer.content), role="assistant")
        text = "\n".join(block["text"] for block in answer.content if block["type"] == "text").strip()
        calls = _calls(answer.content)
        if answer.stop_reason == "refusal":
            return Turn(Next.REFUSED, text)
        if answer.stop_reason in ("max_tokens", "model_context_window_exceeded"):
            self._cut += 1
            self._was_cut(answer, calls)
            return Turn(Next.AGAIN, text)
        self._cut = 0
        if calls:
            return Turn(Next.TOOLS, text, calls)
        return Turn(Next.AGAIN if answer.stop_reason == "pause_turn" else Next.FINISHED, text)

    def _was_cut(self, answer: Answer, calls: Sequence[Call]) -> None:
        if answer.stop_reason == "model_context_window_exceeded":
            self.trim()
        if calls:
            self.results([(call, Result(CUT_CALL, is_error=True)) for call in calls])
        else:
            self.say(CUT_TEXT)

    def results(self, given: Sequence[tuple[Call, Result]]) -> None:
        """Adds what the tools gave, one result for each call of the last answer, each cut to its share of the context."""
        most = int(self.terms.context_tokens_max * CHARACTERS_PER_TOKEN / RESULT_SHARE / max(1, len(given)))
        blocks = [_result_block(call, result, max(RESULT_MIN, most)) for call, result in given]
        self.messages.append({"role": "user", "content": blocks})
        left = self.terms.turns_max - self.turns
        if left == TURNS_LEFT_TOLD:
            self.say(f"You have {left} turns left. Bring what you have to a good end.")

    # --- what is left out

    def trim(self) -> bool:
        """Leaves old results out until half of the context is free, then old turns; False where nothing was left out."""
        before, goal = (self._emptied, self._gone), self.terms.context_tokens_max / 2
        last = max(0, len(self.messages) - KEPT_WHOLE)
        while self._tokens() > goal and self._emptied < last:
            self._emptied += 1
        while self._tokens() > goal and self._gone + 2 <= last:
            self._gone += 2
        return (self._emptied, self._gone) != before

    def _tokens(self) -> float:
        return (_size(self._shown()) + len(self.system)) / self._density

    def _shown(self) -> list[Message]:
        shown = [
            _without_results(message) if place < self._emptied else message
            for place, message in enumerate(self.messages)
        ]
        if self._gone > 1:
            first = {**shown[0], "content": [*shown[0]["content"], {"type": "text", "text": TURNS_LEFT_OUT}]}
            shown = [first, *shown[self._gone :]]
        return shown


def short(text: str, most: int) -> str:
    """Gives a text whose middle is left out where it is longer than `most` characters."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def _calls(content: Sequence[Mapping[str, Any]]) -> tuple[Call, ...]:
    return tuple(Call(b["id"], b["name"], b["input"]) for b in content if b["type"] == "tool_use")


def _result_block(call: Call, result: Result, most: int) -> Message:
    block: Message = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": short(result.text, most) or "(nothing)",
    }
    return {**block, "is_error": True} if result.is_error else block


def _say(messages: list[Message], *blocks: Message, role: str = "user") -> None:
    if messages and messages[-1]["role"] == role:
        messages[-1] = {**messages[-1], "content": [*messages[-1]["content"], *blocks]}
    else:
        messages.append({"role": role, "content": list(blocks)})


def _mended(told: Sequence[Message]) -> list[Message]:
    """Makes a conversation of what was told, where it was interrupted any number of times: who speaks on has one message, and each
    call has a result."""
    messages: list[Message] = []
    for message in told:
        _say(messages, *message["content"], role=message["role"])
    for place, message in enumerate([*messages]):
        if message["role"] == "assistant" and (calls := _calls(message["content"])):
            after = messages[place + 1]["content"] if place + 1 < len(messages) else []
            given = {block.get("tool_use_id") for block in after}
            unknown = Result(UNKNOWN, is_error=True)
            blocks = [_result_block(call, unknown, RESULT_MIN) for call in calls if call.id not in given]
            messages[place + 1 : place + 2] = [{"role": "user", "content": [*blocks, *after]}]
    return messages


def _without_results(message: Message) -> Message:
    if message["role"] != "user":
        return message
    blocks = [
        {**block, "content": LEFT_OUT}
        if block["type"] == "tool_result" and len(block["content"]) > len(LEFT_OUT)
        else block
        for block in message["content"]
    ]
    return {**message, "content": blocks}


def _marked(message: Message) -> Message:
    *before, last = message["content"]
    return {**message, "content": [*before, {**last, "cache_control": {"type": "ephemeral"}}]}


def _size(messages: Sequence[Message]) -> int:
    return sum(len(json.dumps(message["content"], ensure_ascii=False)) for message in messages)
