"""What agent programs print is understood, and nothing that they print can do harm; streams in tests/data/streams follow the
documented formats, and what the real programs printed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from swarm.core import streams
from swarm.core.model import TRY_LATER, WorkerResult
from swarm.core.streams import Said, outcome

DATA = Path(__file__).resolve().parents[1] / "data" / "streams"
TOP = "/srv/tree"
AT = 1_800_000_000.0  # 2027-01-15 08:00 UTC
SESSION = "0b5f1c52-0000-4000-8000-000000000001"
LINES = {path.name: path.read_text("utf-8").splitlines() for path in sorted(DATA.iterdir())}


def heard(name: str, *, until: int | None = None) -> Said:
    """What a stream comes to, of its first lines or of all."""
    said = Said(name.partition("-")[0], TOP)
    for line in LINES[name][:until]:
        said.hear(line, AT)
    return said


def shown(name: str) -> list[str]:
    """What people are shown of a stream."""
    found: list[str] = []
    for line in LINES[name]:
        made = streams.shown(name.partition("-")[0], line, TOP)
        found += [line] if made is None else made
    return found


def test_claude_is_understood() -> None:
    """Turns, tokens (what was cached too), cost, session and last words are the stream's; a limit that only warned is none."""
    said = heard("claude-work.jsonl")
    assert (said.turns, said.tokens_in, said.tokens_out, said.cost_usd) == (4, 620, 28, 0.0725)
    assert (said.session, said.ended, said.failed, said.limit) == (SESSION, True, False, None)
    assert said.final == "Made src/a.py.\n\nIt says x = 2."


def test_what_claude_does_is_told_while_it_does_it() -> None:
    """Each moment says what it does, with paths from the worktree on; a message in several lines counts once."""
    doing = [heard("claude-work.jsonl", until=n).doing for n in range(1, 10)]
    assert doing[2:4] == ["writing src/a.py"] * 2
    assert doing[4] == "running make test"
    assert doing[7] == "waiting 7 s after an error of the service (overloaded)"
    assert doing[8] == "editing src/a.py"
    early = heard("claude-work.jsonl", until=3)
    assert (early.turns, early.tokens_in, early.tokens_out, early.ended) == (1, 155, 7, False)


def test_claude_is_shown_as_people_read_it() -> None:
    """Of events come the words, what was done, what went wrong and how it ended."""
    assert shown("claude-work.jsonl") == [
        f"session {SESSION}, model-a",
        "I write the file.",
        "> writing src/a.py",
        "> running make test",
        "! Exit code 2",
        "! waiting 7 s after an error of the service (overloaded)",
        "> editing src/a.py",
        "Made src/a.py.",
        "",
        "It says x = 2.",
        "ended, 4 turns, 620 tokens in, 28 out, 0.07 USD",
    ]


def test_codex_is_understood() -> None:
    """Commands, edits, tools and searches are told; its warnings do not count as its end."""
    said = heard("codex-work.jsonl")
    assert (said.tokens_in, said.tokens_out, said.cost_usd) == (3000, 60, None)
    assert (said.ended, said.failed, said.final) == (True, False, "Made src/a.py.")
    assert said.session == "01a21576-0000-7000-8000-000000000001"
    assert shown("codex-work.jsonl") == [
        "session 01a21576-0000-7000-8000-000000000001",
        "! Model metadata not found.",
        "> running ls src",
        "! exit code 2",
        "> editing src/a.py, src/b.py",
        "> using docs find",
        "> searching the web for how to add",
        "Made src/a.py.",
        "ended, 3000 tokens in, 60 out",
    ]


def test_gemini_is_understood() -> None:
    """Words that come in pieces are put together; what is no event is shown as it is."""
    said = heard("gemini-work.jsonl")
    assert (said.tokens_in, said.tokens_out, said.final, said.ended) == (50, 200, "All done.", True)
    assert heard("gemini-work.jsonl", until=6).doing == "reading src/a.py"
    assert shown("gemini-work.jsonl")[0] == "Loaded cached credentials."
    assert "! File not found" in shown("gemini-work.jsonl")


def test_aider_is_understood() -> None:
    """Tokens add up, the cost of the session is the last one; its text is shown as it is."""
    said = heard("aider-work.txt")
    assert (said.tokens_in, said.tokens_out, said.cost_usd, said.turns) == (14_100, 1_810, 0.07, 2)
    assert heard("aider-work.txt", until=3).doing == "editing src/a.py"
    assert "Model: model-x" in shown("aider-work.txt")


@pytest.mark.parametrize(
    ("name", "wait_s"),
    [
        ("claude-limit.jsonl", 3600.0),
        ("codex-limit.jsonl", 3 * 3600 + 6 * 60),
        ("gemini-limit.jsonl", 3 * 3600 + 45 * 60 + 12),
        ("aider-limit.txt", 20.0),
    ],
)
def test_a_limit_asks_for_later(name: str, wait_s: float) -> None:
    """A program that ended because of a limit asks to be tried again when it is over, whatever exit code it has."""
    for code in (0, 1, 143):
        ended, result = outcome(heard(name), code, WorkerResult(), AT)
        assert ended == TRY_LATER, code
        assert result.retry_after_s == pytest.approx(wait_s), code
        assert result.rate_limited
    assert outcome(heard(name), None, WorkerResult(), AT)[0] is None


def test_a_limit_that_was_got_over_is_none() -> None:
    """Whoever went on working after a limit did not end because of it."""
    said = heard("aider-limit.txt")
    said.hear("Applied edit to src/a.py", AT)
    assert outcome(said, 0, WorkerResult(), AT)[0] == 0


def test_what_a_model_writes_of_limits_is_no_limit() -> None:
    """Words of a model and output of a tool are not an error of the program's, though they speak of limits."""
    said = Said("claude")
    text = {"type": "text", "text": "API Error: 429 rate limit reached, try again in 5 hours"}
    said.hear(json.dumps({"type": "assistant", "message": {"id": "m", "content": [text]}}), AT)
    said.hear(
        json.dumps({"type": "result", "subtype": "success", "is_error": False, "result": text["text"]}), AT
    )
    assert outcome(said, 1, WorkerResult(), AT) == (1, WorkerResult(summary=text["text"]))


@pytest.mark.parametrize(("code", "means"), [(0, 0), (1, 1), (143, 0), (137, 0), (None, None)])
def test_the_final_result_counts_for_one_that_stayed(code: int | None, means: int | None) -> None:
    """Ended by a signal after a good final result is well; an exit code of its own and a lost one are what they are."""
    assert outcome(heard("claude-work.jsonl"), code, WorkerResult(), AT)[0] == means


@pytest.mark.parametrize("code", [0, 1, 143])
def test_a_final_result_that_is_a_failure_is_never_success(code: int) -> None:
    """Out of turns is a failure by its last words, which tell why."""
    ended, result = outcome(heard("claude-max-turns.jsonl"), code, WorkerResult(), AT)
    assert (ended, result.summary) == (1, "error max turns")
    assert result.failure == "error max turns"


def test_why_it_failed_is_one_short_line() -> None:
    """Of long last words their beginning; where it gave none, that is told."""
    for told, line in (
        ("boom\n\n at a.py", "boom at a.py"),
        ("x" * 1000, "x" * streams.FAILURE_MAX),
        ("", "no reason given"),
    ):
        said = streams.Said("claude", final=told, ended=True, failed=True)
        assert outcome(said, 0, WorkerResult(), AT)[1].failure == line
    assert outcome(said, 3, WorkerResult(), AT) == (
        3,
        WorkerResult(),
    )  # the exit code tells more than that nothing was said


@pytest.mark.parametrize(
    ("parser", "event"),
    [
        (
            "claude",
            {"type": "result", "subtype": "error_during_execution", "is_error": True, "errors": ["boom", 3]},
        ),
        ("codex", {"type": "turn.failed", "error": "boom"}),
        ("gemini", {"type": "result", "status": "error", "error": "boom"}),
    ],
)
def test_why_it_failed_is_told_in_its_own_words(parser: str, event: dict[str, object]) -> None:
    """They stand where that kind of end has them, and a limit is seen there too."""
    said = Said(parser)
    said.hear(json.dumps(event), AT)
    assert outcome(said, 0, WorkerResult(), AT) == (1, WorkerResult(summary="boom", failure="boom"))
    said.hear(json.dumps(event).replace("boom", "usage limit reached, try again in 5 minutes"), AT)
    assert outcome(said, 0, WorkerResult(), AT)[1].retry_after_s == 300.0


def test_one_that_did_not_find_its_conversation_is_tried_again_at_once() -> None:
    """It could do nothing, so no attempt is used up; no other worker of the agent is held for that."""
    ended, result = outcome(heard("claude-lost.jsonl"), 1, WorkerResult(), AT)
    assert (ended, result.retry_after_s, result.rate_limited) == (TRY_LATER, 0.0, False)


def test_one_that_was_killed_before_its_end_has_failed() -> None:
    """A signal before the final result is a failure, with the tokens so far."""
    ended, result = outcome(heard("claude-work.jsonl", until=5), 137, WorkerResult(), AT)
    assert (ended, result.tokens_in, result.tokens_out) == (137, 310, 14)


def test_one_that_goes_on_has_not_ended() -> None:
    """A result after which it works on is not the final one."""
    said = heard("claude-work.jsonl")
    said.hear(LINES["claude-work.jsonl"][4], AT)
    assert (said.ended, said.doing) == (False, "running make test")


def test_what_the_worker_reported_itself_stays() -> None:
    """The result file goes before what is read from the stream."""
    own = WorkerResult(summary="mine", tokens_in=1, tokens_out=2, cost_usd=0.5)
    assert outcome(heard("claude-work.jsonl"), 0, own, AT) == (0, own)


def test_a_summary_is_the_end_of_what_was_said() -> None:
    """Of very long last words an attempt keeps the end; all of them are there for who asks for an answer."""
    said = streams.Said("claude", final=f"{'x' * streams.SUMMARY_MAX}end")
    summary = outcome(said, 0, WorkerResult(), AT)[1].summary
    assert summary is not None
    assert (len(summary), summary[-3:]) == (streams.SUMMARY_MAX, "end")


@pytest.mark.parametrize("name", sorted(LINES))
def test_nothing_that_is_printed_does_harm(name: str) -> None:
    """Whatever a line's values are replaced by, wherever it is cut, nothing raises and all texts can be printed."""
    chance = random.Random(name)
    parser = name.partition("-")[0]
    strange: tuple[object, ...] = (None, 7, -1.5, "x\ud800", [], {}, [None, 3], {"type": 4}, True, 1e999)

    def spoiled(value: object) -> object:
        if chance.random() < 0.15:
            return chance.choice(strange)
        if isinstance(value, dict):
            return {key: spoiled(each) for key, each in value.items()}
        return [spoiled(each) for each in value] if isinstance(value, list) else value

    for _ in range(100):
        said = Said(parser, TOP)
        for line in LINES[name]:
            if line.startswith("{"):
                line = json.dumps(spoiled(json.loads(line)))
            if chance.random() < 0.1:
                line = line[: chance.randrange(len(line))]
            said.hear(line, AT)
            "".join(streams.shown(parser, line, TOP) or ()).encode()
        ended, result = outcome(said, 1, WorkerResult(), AT)
        assert ended in (1, TRY_LATER)
        (result.summary + said.doing).encode()
        assert result.tokens_in is None or result.tokens_in >= 0


@pytest.mark.parametrize(
    "line", ["", "{", "[1]", "{}", "null", "[" * 100_000, '{"type": 3}', '{"a":' * 50_000]
)
def test_what_is_no_event_is_shown_as_it_is(line: str) -> None:
    """A line of another kind is none of the format's."""
    assert all(streams.notes(parser, line) is None for parser in streams.PARSERS)


def test_the_built_in_agent_is_understood() -> None:
    """What it does, what it waits for and what it has used so far are read from its lines, and its model's words are no notes."""
    said = streams.Said("anthropic")
    for line in (
        "I look.",
        "> editing src/a.py",
        streams.own_figures(2, 1000, 50, 0.0125),
        "= turn x",
        "! the API answers 429",
    ):
        said.hear(line, 0.0)
    assert (said.doing, said.turns, said.tokens_in, said.tokens_out) == ("the API answers 429", 2, 1000, 50)
    assert said.cost_usd == 0.0125
    assert streams.shown("anthropic", "> editing src/a.py") == ["> editing src/a.py"]
    assert streams.shown("anthropic", streams.own_figures(1, 2, 3, None)) == []
    assert streams.shown("anthropic", "I look.") is None


@pytest.mark.parametrize(
    ("how", "failure"), [("failed", "429: overloaded"), ("over_budget", "429: overloaded"), ("later", "")]
)
def test_why_the_built_in_agent_ended_is_told(how: str, failure: str) -> None:
    """What it gave up for is why it failed; whether that was a limit it says by its exit code, whatever the words are."""
    said = streams.Said("anthropic")
    line = streams.own_end(how, "429: overloaded")
    said.hear("> editing src/a.py", 0.0)
    said.hear(line, 0.0)
    assert outcome(said, 1, WorkerResult(), AT) == (1, WorkerResult(summary=failure, failure=failure))
    assert streams.shown("anthropic", line) == [line]
    said.hear(streams.own_figures(3, 2000, 60, None), 0.0)  # so it was its model that said that
    assert outcome(said, 0, WorkerResult(), AT)[0] == 0
