"""The built-in agent as a whole, on the real anthropic package, against an endpoint of our own."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import pytest

from swarm import config
from swarm.core import transcript
from swarm.core.adapters import ANTHROPIC, BUILT_IN
from swarm.core.model import Claim, TaskSpec, attempt_branch
from swarm.edge import contract
from swarm.settings import AgentSettings, AnthropicSettings, Settings
from swarm.worker import agents
from swarm.worker.anthropic import attempt
from swarm.worker.anthropic.tools import Stop
from tests.conftest import git, wait_until
from tests.fakes.messages import (
    EDITOR,
    Endpoint,
    Failure,
    Page,
    Reply,
    Request,
    answered,
    results,
    script,
    serving,
)

KEY = "sk-ant-a-key-that-is-seen-nowhere"
QUICK = {
    "retries_max": 1,
    "wait_s_max": 2.0,
    "usd_per_million": {"m": {"input": 1.0, "output": 10.0}},
}


@dataclass
class Place:
    """A repository, the folder of attempts of one task in it, and how the agent is started there."""

    top: Path
    outside: Path
    claims: tuple[Claim, ...] = ()
    strays: str = "reject"
    settings: dict[str, Any] = field(default_factory=dict)
    key: str = KEY

    def folder(self, n: int) -> Path:
        return self.outside / "task" / str(n)

    def assign(
        self, endpoint: Endpoint, n: int, prompt: str, feedback: str
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """Gives the command and the environment of attempt `n`, which works in the checkout itself, as the daemon makes them."""
        folder = self.folder(n)
        folder.mkdir(parents=True)
        (folder / "prompt.md").write_text(prompt)
        (folder / "feedback.md").write_text(feedback)
        models = {ANTHROPIC: AgentSettings(model="m")}
        table = AnthropicSettings.model_validate({**QUICK, **self.settings})
        settings = Settings(strays=self.strays, anthropic=table, agents=models)  # type: ignore[arg-type]
        called = agents.call(
            TaskSpec("task", "Task", agent=ANTHROPIC), config.to_agents(settings), folder, prompt
        )
        key = {"ANTHROPIC_API_KEY": self.key} if self.key else {}
        env = contract.environment(
            {
                **os.environ,
                **key,
                "ANTHROPIC_BASE_URL": endpoint.url,
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            run="r",
            task="task",
            attempt=n,
            worktree=self.top,
            base_commit=git(self.top, "rev-parse", "HEAD"),
            claims=self.claims,
            prompt_file=folder / "prompt.md",
            result_file=folder / "result.json",
            port_base=20000,
            slot=0,
            feedback_file=folder / "feedback.md" if feedback else None,
            keys=called.keys,
        )
        return called.argv, env

    def start(
        self, endpoint: Endpoint, n: int = 1, prompt: str = "do it", feedback: str = ""
    ) -> subprocess.Popen[str]:
        """Starts attempt `n` as a process."""
        argv, env = self.assign(endpoint, n, prompt, feedback)
        return subprocess.Popen(
            argv, cwd=self.top, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(
        self, endpoint: Endpoint, n: int = 1, *, code: int = 0, prompt: str = "do it", feedback: str = ""
    ) -> str:
        """Carries attempt `n` out in this process, where the package is imported once for all tests, and gives what was printed."""
        argv, env = self.assign(endpoint, n, prompt, feedback)
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
            for name, value in env.items():
                if name.startswith("ANTHROPIC_"):  # these the package reads by itself
                    patch.setenv(name, value)
            model, orders = argv[-2:]
            assert attempt.main(model, orders, env, Stop()) == code, printed.getvalue()
        return printed.getvalue()

    def result(self, n: int = 1) -> dict[str, Any]:
        return dict(json.loads((self.folder(n) / "result.json").read_text()))

    def records(self, n: int = 1) -> list[dict[str, Any]]:
        with (self.folder(n) / "transcript.jsonl").open("rb") as file:
            return list(transcript.records(file))

    def end(self, n: int = 1) -> str:
        last = self.records(n)[-1]
        return str(last.get("how")) if last["type"] == "ended" else ""


@pytest.fixture
def place(repo: Path, tmp_path: Path) -> Place:
    return Place(repo, tmp_path / "attempts")


def bash(command: str) -> tuple[str, Mapping[str, Any]]:
    return "bash", {"command": command}


def create(path: str, text: str) -> tuple[str, Mapping[str, Any]]:
    return EDITOR, {"command": "create", "path": path, "file_text": text}


def test_it_works_until_the_model_is_done(place: Place) -> None:
    """Text and tools come and go until an answer asks for none; tokens, cost and the last words are in the result, and the key is
    nowhere. Modules in the worktree are not taken for the program's own."""
    place.claims = (Claim("src/**"), Claim("shown"))
    (place.top / "anthropic.py").write_text("raise SystemExit('this is of the worktree')\n")
    (place.top / "swarm").mkdir()
    (place.top / "swarm" / "__init__.py").write_text("raise SystemExit('this too')\n")
    steps = (
        Reply(
            "I look first.", [bash("env | sort; cat /proc/$PPID/environ"), ("search", {"pattern": "^b = "})]
        ),
        Reply("", [create("src/new.py", "new = 1\n"), create("README.md", "spoilt\n")], cached=1000),
        Reply(
            "",
            [
                (
                    EDITOR,
                    {"command": "str_replace", "path": "src/b.py", "old_str": "b = 1", "new_str": "b = 2"},
                )
            ],
        ),
        Reply("Done: b is 2 now."),
    )
    with serving(script(*steps)) as endpoint:
        child = place.start(endpoint)
        out, _ = child.communicate(timeout=240)
    assert child.returncode == 0, out
    assert (place.top / "src/b.py").read_text() == "b = 2\n"
    assert (place.top / "src/new.py").read_text() == "new = 1\n"
    assert (place.top / "README.md").read_text() == "# A project\n"
    looked, found = results(endpoint.requests[1])
    assert "SWARM_TASK=task" in looked["content"]
    assert found["content"] == "src/b.py:1:b = 1"
    written, refused = results(endpoint.requests[2])
    assert "is_error" not in written
    assert refused["is_error"]
    assert "not claimed by this task" in refused["content"]
    assert place.result() == {
        "summary": "Done: b is 2 now.",
        "tokens_in": 1400,
        "tokens_out": 40,
        "cost_usd": pytest.approx(0.0018),
    }
    assert [
        line for line in out.splitlines() if line.startswith(("> writing", "> editing", "> searching"))
    ] == [
        "> searching . for ^b = ",
        "> writing src/new.py",
        "> writing README.md",
        "> editing src/b.py",
    ]
    assert place.end() == "finished"
    assert endpoint.keys == [KEY] * 4
    left = (
        out
        + json.dumps(endpoint.requests)
        + "".join(path.read_text(errors="replace") for path in place.folder(1).iterdir())
    )
    assert KEY not in left
    assert (
        "[key]" in left
    )  # a command saw it in the environment that the worker was started with, and nobody else does


def test_requests_are_cached_and_streamed(place: Place) -> None:
    """What was sent before is sent again unchanged up to a mark, so that it is read from the cache, and answers are streamed."""
    with serving(
        script(Reply("", [bash("echo one")]), Reply("", [bash("echo two")]), Reply("Done."))
    ) as endpoint:
        place.run(endpoint)
    first, second, third = endpoint.requests
    assert all(request["stream"] for request in endpoint.requests)
    assert all(
        request["system"][-1]["cache_control"] == {"type": "ephemeral"} for request in endpoint.requests
    )
    for before, after in ((first, second), (second, third)):
        assert before["system"] == after["system"]
        assert before["tools"] == after["tools"]
        assert after["messages"][: len(before["messages"])][-1] == before["messages"][-1]
        assert after["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}


def test_what_passes_is_tried_again(place: Place) -> None:
    """A busy API, a limit that is soon over, and an answer that breaks off are asked again; no part of an answer is used twice."""
    steps = (
        Failure(529, "overloaded_error"),
        Reply("", [bash("echo once >> log")], cut=3),
        Reply("", [bash("echo once >> log")], error="overloaded_error", cut=3),
        Reply("", [bash("echo once >> log")], cut=4, clean=True),
        Reply("", [bash("echo once >> log")]),
        Failure(429, "rate_limit_error", {"retry-after": "0.05"}),
        Reply("Done."),
    )
    place.settings = {"retries_max": 3}
    with serving(script(*steps)) as endpoint:
        out = place.run(endpoint)
    assert (place.top / "log").read_text() == "once\n"
    assert "the API answers 529" in out
    assert "the API answers 429" in out
    assert out.count("asking again") == 3
    assert len(endpoint.requests) == 7
    assert place.result()["tokens_out"] == 20


@pytest.mark.parametrize(
    ("failure", "after_s", "limited"),
    [
        (Failure(429, "rate_limit_error", {"retry-after": "1800"}), 1800.0, True),
        (Failure(529, "overloaded_error", {"retry-after-ms": "10"}), 0.01, True),
        pytest.param(Reply("…", cut=2), None, False, marks=pytest.mark.slow),
    ],
)
def test_what_does_not_pass_puts_the_attempt_off(
    place: Place, failure: Failure | Reply, after_s: float | None, limited: bool
) -> None:
    """A long wait is not sat out, nor what goes on failing: the worker ends with 75 and says when to try again, and whether that is
    a limit."""
    with serving(script(Reply("", [bash("echo half > half")]), *[failure] * 2)) as endpoint:
        place.run(endpoint, code=75)
    result = place.result()
    assert (result["retry_after_s"], result["rate_limited"], result["tokens_out"]) == (after_s, limited, 10)
    assert place.end() == "later"
    assert len(endpoint.requests) == (2 if after_s == 1800.0 else 3)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Failure(401, "authentication_error", text=f"no such key {KEY}"), "401 (authentication_error)"),
        (Page("<html>a proxy's login page</html>", "text/html"), "no Messages API: nothing of a message"),
        (Page('event: message_start\ndata: {"type": "message_start"}\n\n'), "no Messages API"),
        pytest.param(
            Page("event: message_start\ndata: {nonsense\n\n"), "no Messages API", marks=pytest.mark.slow
        ),
    ],
)
def test_what_never_passes_fails(place: Place, failure: Failure | Page, told: str) -> None:
    """A key that is refused, and an answer that is none, fail the attempt with what was answered, and without the key."""
    with serving(lambda _request, _number: failure) as endpoint:
        out = place.run(endpoint, code=1)
    assert told in out
    assert KEY not in out + (place.folder(1) / "transcript.jsonl").read_text()
    assert place.end() == "failed"


def test_limits_end_the_attempt(place: Place) -> None:
    """Turns, tokens and money each end an attempt that reaches them, before the next request."""
    limits: list[dict[str, Any]] = [{"turns_max": 2}, {"tokens_max": 220}, {"budget_usd": 0.0004}]
    for n, limit in enumerate(limits, 1):
        place.settings = limit
        with serving(lambda _request, _number: Reply("", [bash("true")])) as endpoint:
            out = place.run(endpoint, n, code=1)
        assert next(iter(limit)) in out
        assert place.end(n) == "over_budget"
        assert len(endpoint.requests) == 2


def test_on_a_full_disk_it_leaves_off_to_be_gone_on_with(place: Place) -> None:
    """What can't be written down ends the attempt without a traceback, and without an end: the next one goes on from there."""
    record = attempt.Attempt._record

    def full(self: attempt.Attempt, kind: str, **fields: Any) -> None:
        if kind == "message" and fields["role"] == "assistant":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        record(self, kind, **fields)

    with serving(script(Reply("Done."))) as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt.Attempt, "_record", full)
        out = place.run(endpoint, code=1)
    assert "! what it does can't be written down: No space left on device" in out
    assert place.end() == ""
    with serving(script(Reply("Done."))) as endpoint:
        assert "going on with attempt 1" in place.run(endpoint, 2)


@pytest.mark.parametrize(
    "address", ["", "api.example.org", "ftp://api.example.org", "http://:80", "http://a:port"]
)
def test_an_address_at_which_nothing_can_answer_fails_the_attempt(place: Place, address: str) -> None:
    """It is not waited for, since it never gets well, and told with the variable that it comes from."""
    out = place.run(Endpoint(address), code=1)
    assert "ANTHROPIC_BASE_URL" in out
    assert place.end() == "failed"


def test_a_call_that_is_no_json_is_told_as_that(place: Place) -> None:
    """In an answer that came to its end it is the model's doing, and asked for again."""
    odd = Reply("", [bash("true")], raw_input='{"command": nonsense}')
    with serving(script(odd, Reply("Done."))) as endpoint:
        out = place.run(endpoint)
    assert "the model called a tool with what is no JSON" in out
    assert "no Messages API" not in out
    assert len(endpoint.requests) == 2


def test_what_was_cut_off_is_never_carried_out(place: Place) -> None:
    """A call at the end of an answer that was too long is not carried out, whatever it seems to say."""
    cut = Reply("", [bash("rm -rf src/a")], stop="max_tokens", raw_input='{"command": "rm -rf src')
    with serving(script(cut, Reply("Done."))) as endpoint:
        place.run(endpoint)
    assert (place.top / "src" / "a.py").exists()
    (result,) = results(endpoint.requests[1])
    assert result["is_error"]
    assert "cut off" in result["content"]


@pytest.mark.slow
def test_asked_to_end_it_ends_between_turns(place: Place) -> None:
    """Asked to end while a command runs or the API is silent, it ends that, says so in its transcript, and exits with 75."""
    for n, running in ((1, True), (2, False)):
        with serving(script(Reply("", [bash("echo here > here; sleep 1000")]), Reply("…"))) as endpoint:
            if not running:
                endpoint.hold.clear()
            child = place.start(endpoint, n)
            reached = (
                (lambda: (place.top / "here").exists()) if running else (lambda: len(endpoint.requests) == 1)
            )
            wait_until(reached)
            child.send_signal(signal.SIGTERM)
            out, _ = child.communicate(timeout=240)
        assert child.returncode == 75, out
        assert place.end(n) == "stopped"
        assert place.result(n)["rate_limited"] is False


def test_the_next_attempt_goes_on(place: Place) -> None:
    """After an attempt that was killed in the middle of a turn the next one has its conversation and its work, on the new base;
    where the work no longer fits it begins afresh and is told where that is."""
    pid = place.folder(1) / "pid"
    long = bash(f"echo $$ > {pid}; exec sleep 1000")
    with serving(script(Reply("First half.", [create("half.txt", "half\n")]), Reply("", [long]))) as endpoint:
        child = place.start(endpoint, 1, "a long task")
        wait_until(lambda: len(endpoint.requests) == 2 and len(place.records(1)) == 5)
        wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=240)
    os.kill(int(pid.read_text()), signal.SIGKILL)  # as the daemon ends all that a worker has started
    _collect(place, 1)
    git(place.top, "commit", "-q", "--allow-empty", "-m", "somebody else landed")
    with serving(script(Failure(429, "rate_limit_error", {"retry-after": "900"}))) as endpoint:
        place.run(endpoint, 2, code=75, prompt="a long task", feedback="the worker is gone")
    (request,) = endpoint.requests
    assert (place.top / "half.txt").read_text() == "half\n"
    assert [message["role"] for message in request["messages"]] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    unknown, told = request["messages"][-1]["content"]
    assert unknown["is_error"]
    assert "not known" in unknown["content"]
    assert "You were interrupted" in told["text"]
    assert "the worker is gone" in told["text"]
    _collect(place, 2)
    with serving(script(Reply("Second half."))) as endpoint:
        place.run(endpoint, 3, prompt="a long task", feedback="it was put off")
    (request,) = endpoint.requests
    first, answer, *_, last = (json.dumps(message) for message in request["messages"])
    assert "a long task" in first
    assert "First half." in answer
    assert "it was put off" in last
    assert len(request["messages"]) == 5
    (place.top / "half.txt").write_text("another's\n")
    _commit(place.top, "in the way")
    with serving(script(Reply("Afresh."))) as endpoint:
        (place.folder(3) / "transcript.jsonl").unlink()
        place.run(endpoint, 4, prompt="a long task", feedback="put off again")
    (request,) = endpoint.requests
    assert len(request["messages"]) == 1
    assert git(place.top, "rev-parse", attempt_branch("r", "task", 2)) in json.dumps(request["messages"])


def test_a_verdict_that_a_command_wrote_stays(place: Place) -> None:
    """What a command of the model's writes to the result file, such as a reviewer's verdict, is there in the end."""
    verdict = bash("""printf '{"verdict": "approve", "summary": "good"}' > "$SWARM_RESULT_FILE" """)
    with serving(script(Reply("", [verdict]), Reply("I approve."))) as endpoint:
        place.run(endpoint)
    assert (place.result()["verdict"], place.result()["summary"], place.result()["tokens_in"]) == (
        "approve",
        "good",
        200,
    )


def test_without_a_key_it_says_so(place: Place) -> None:
    """Without any key the attempt fails with a sentence, and nothing is asked."""
    place.key = ""
    with serving(script()) as endpoint:
        out = place.run(endpoint, code=1)
    assert "api_key" in out
    assert endpoint.requests == []


def test_long_conversations_stay_within_the_context(place: Place) -> None:
    """Where an answer says that the request was long, old results are left out; where the API refuses one for its size, it is asked
    again with less."""

    def answers(request: Request, number: int) -> Reply | Failure:
        if number == 8:
            return Failure(400, "invalid_request_error", text="prompt is too long")
        if answered(request) < 10 and number < 12:
            return Reply("", [bash(f"yes {number} | head -c 9000")], tokens_in=len(json.dumps(request)) // 3)
        return Reply("Done.")

    place.settings = {"context_tokens_max": 20_000}
    with serving(answers) as endpoint:
        place.run(endpoint)
    sizes = [len(json.dumps(request)) for request in endpoint.requests]
    assert max(sizes) < 80_000
    assert sizes[9] < sizes[8]
    assert "left out" in json.dumps(endpoint.requests[-1])


def _collect(place: Place, n: int) -> None:
    """Keeps what an attempt left on its branch and cleans up, as the coordinator does."""
    top = place.top
    git(top, "checkout", "-q", "--detach")
    _commit(top, f"attempt {n}")
    git(top, "branch", "-f", attempt_branch("r", "task", n))
    git(top, "checkout", "-q", "-f", "main")
    git(top, "clean", "-fdq")


def _commit(top: Path, message: str) -> None:
    git(top, "add", "-A")
    git(top, "commit", "-q", "--allow-empty", "-m", message)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30.0),
        ({"retry-after": "30", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:20:00 GMT"}, 200.0),
        ({"retry-after": "soon"}, None),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "1970-01-01T00:17:00Z",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "1970-01-01T00:18:20Z",
                "anthropic-ratelimit-input-tokens-remaining": "7",
                "anthropic-ratelimit-input-tokens-reset": "1970-01-01T01:00:00Z",
            },
            100.0,
        ),
        ({"anthropic-ratelimit-tokens-reset": "tomorrow"}, None),
    ],
)
def test_the_wait_is_what_the_api_says(headers: dict[str, str], wait_s: float | None) -> None:
    """A wait is read as it is said: in seconds, milliseconds or as a date, else until the last limit that is used up is reset."""
    from swarm.worker.anthropic.service import wait_of

    assert wait_of(headers, now=1000.0) == wait_s


def test_the_default_model_is_one_that_the_package_knows() -> None:
    """The model by default is in the package's own list, and not among those that it says are going."""
    from anthropic.resources.messages import messages
    from anthropic.types.model_param import ModelParam

    known = {name for each in get_args(ModelParam) for name in get_args(each)}
    assert BUILT_IN[ANTHROPIC].model in known - set(messages.DEPRECATED_MODELS)
