"""One attempt by the built-in agent, from its assignment to its result: ask the model, use the tools it wants, until it is done.

Hides what a worker is given and leaves behind: its transcript, its result file, the lines that `swarm logs` shows, its exit code.
An attempt whose forerunner was only interrupted goes on with that one's conversation, once its changes are in the worktree.

Rules for editing: the loop decides nothing that `conversation` can decide. Whatever leaves this process by a file or by standard
output goes through `Secrets.hidden`. What an answer cost is written down before anything is done about it.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from swarm.core import transcript
from swarm.core.model import Claim, Mode, attempt_branch
from swarm.core.places import AttemptPlaces
from swarm.core.streams import own_end, own_figures
from swarm.dataclass import dataclass
from swarm.edge import git
from swarm.protocol import KEYS
from swarm.worker.anthropic.conversation import (
    UNKNOWN,
    Answer,
    Call,
    Conversation,
    Next,
    Price,
    Result,
    Terms,
    Turn,
)
from swarm.worker.anthropic.tools import TOOLS, Stop, Stopped, Tools

EX_FAILED, EX_TEMPFAIL = 1, 75
SECRET_MIN = 8  # shorter ones would hide half of every text
TRANSCRIPT_BYTES_MAX = 64 << 20

_SYSTEM = """\
You are a software engineer who carries out one task in a git worktree of your own, {worktree}. Nobody answers questions: decide,
and say in the end what you decided. Others work on other tasks of the same project at the same time, each in a worktree of theirs;
your work is merged with theirs when you have finished, and then the project's own checks run.

{claims}
Look before you change anything, keep to the style that you find, and check your work: run what tests it. You need not commit: what
is in the worktree when you finish is taken as it is, so leave nothing in it that does not belong to the change. Never switch
branches, and touch no other worktree. When you have finished, answer without using a tool, and say in a few sentences what you did.
"""
_CLAIMED = {
    "reject": "You may change only these paths; anything else is refused: {paths}.\n",
    "extend": "These paths are yours: {paths}. Leave others alone unless there is no other way: somebody may be at work there.\n",
    "warn": "These paths are yours: {paths}. Leave others alone unless there is no other way.\n",
}


@dataclass(frozen=True, slots=True)
class Orders:
    """What the daemon hands over: the model, `[anthropic]` of swarm.toml, and what is done about strays."""

    model: str
    settings: Mapping[str, Any]

    def terms(self, model: str) -> Terms:
        """Gives what one attempt may take; `model` is of the attempt that it goes on with, if any."""
        found, model = self.settings, model or self.model
        price = found["usd_per_million"].get(model)
        names = ("answer_tokens_max", "context_tokens_max", "turns_max", "tokens_max", "budget_usd")
        return Terms(model, **{name: found[name] for name in names}, price=Price(**price) if price else None)

    @property
    def policy(self) -> str:
        """What is done about strays: extend, reject or warn."""
        return str(self.settings["strays"])


@dataclass(frozen=True, slots=True)
class Secrets:
    """Keys, which are shown nowhere."""

    values: tuple[str, ...]

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Secrets:
        """Finds the keys in an environment, also those in headers of the user's own."""
        headers = [
            line.partition(":")[2].strip()
            for line in environ.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines()
        ]
        found = {
            value
            for value in (*(environ.get(name, "") for name in KEYS), *headers)
            if len(value) >= SECRET_MIN
        }
        return cls(tuple(sorted(found, key=len, reverse=True)))

    def hidden(self, text: str) -> str:
        """Gives a text in which no key stands."""
        for value in self.values:
            text = text.replace(value, "[key]")
        return text


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is given in its environment (INTERFACE, section 6)."""

    run: str
    task: str
    n: int
    worktree: Path
    base: str
    claims: tuple[Claim, ...]
    prompt: str
    feedback: str
    attempts: Path  # where the folders of all attempts at the task are
    result: Path
    answer: Path | None = None  # where one is asked for in place of a change

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Assignment:
        """Reads it."""
        claims = json.loads(environ["SWARM_CLAIMS"])
        feedback = environ.get("SWARM_FEEDBACK_FILE")
        return cls(
            run=environ["SWARM_RUN"],
            task=environ["SWARM_TASK"],
            n=int(environ["SWARM_ATTEMPT"]),
            worktree=Path(environ["SWARM_WORKTREE"]),
            base=environ["SWARM_BASE"],
            claims=tuple(Claim(each["path"], Mode(each["mode"])) for each in claims),
            prompt=Path(environ["SWARM_PROMPT_FILE"]).read_text("utf-8", "replace"),
            feedback=Path(feedback).read_text("utf-8", "replace") if feedback else "",
            attempts=Path(environ["SWARM_PROMPT_FILE"]).parents[1],
            result=Path(environ["SWARM_RESULT_FILE"]),
            answer=Path(environ["SWARM_ANSWER_FILE"]) if "SWARM_ANSWER_FILE" in environ else None,
        )

    def system(self, policy: str) -> str:
        """Says to the model where it is, and what is its to change."""
        paths = ", ".join(claim.path for claim in self.claims)
        claims = _CLAIMED[policy].format(paths=paths) if paths else ""
        return _SYSTEM.format(worktree=self.worktree, claims=claims)


class Asks(Protocol):
    """Whoever answers requests; `Service` does."""

    def ask(self, request: Mapping[str, Any]) -> Answer:
        """Gives the answer. Raises what `Service.ask` does."""


# --- what came before -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Beginning:
    """How an attempt begins: with which messages of which earlier attempt, if it goes on with one, and what it is told then."""

    text: str
    messages: tuple[dict[str, Any], ...] = ()
    continues: int | None = None
    model: str = ""


def begin(given: Assignment) -> Beginning:
    """Finds out how to begin, and puts into the worktree what an interrupted attempt had done."""
    found = _last_transcript(given)
    n = found[0] if found else given.n - 1
    work = _work_of(given, n)
    if found is None or not found[1].interrupted:
        shown = f"The work of attempt {n} is commit {work}: git show {work} shows it, and it is not in your worktree."
        return Beginning("\n\n".join([given.prompt, *([shown] if work else [])]))
    earlier, messages = found[1], _whole(given, *found)
    if not messages or (work and not _put_back(given, earlier.base, work)):
        shown = (
            f"An earlier attempt was interrupted. Its work is commit {work}, made on {earlier.base}, and is not in your worktree: "
            f"git diff {earlier.base} {work} shows it. Use what is good of it."
        )
        return Beginning("\n\n".join([given.prompt, *([shown] if work else [])]))
    state = "and has what you had changed" if work else "and nothing of it was changed before"
    told = [
        f"You were interrupted. Go on where you stopped: your worktree is a fresh one now, {state}.",
        given.feedback,
    ]
    return Beginning("\n\n".join(filter(None, told)), messages, n, earlier.model)


def _last_transcript(given: Assignment) -> tuple[int, transcript.Told] | None:
    """Finds the transcript of the attempt before; one that was ended before it had any is passed over."""
    for n in range(given.n - 1, 0, -1):
        found = _read(given, n)
        if found is not None:
            return n, found
    return None


def _read(given: Assignment, n: int) -> transcript.Told | None:
    path = AttemptPlaces(given.attempts / str(n)).transcript
    try:
        if path.stat().st_size > TRANSCRIPT_BYTES_MAX:
            return None
        with path.open("rb") as file:
            return transcript.read(transcript.records(file))
    except OSError:
        return None


def _whole(given: Assignment, n: int, last: transcript.Told) -> tuple[dict[str, Any], ...]:
    """Gives the messages of an attempt after those of the one that it went on with, and so on."""
    messages, told = last.messages, last
    while told.continues is not None and told.continues < n:
        n = told.continues
        before = _read(given, n)
        if before is None:
            return ()
        messages, told = (*before.messages, *messages), before
    return messages


def _work_of(given: Assignment, n: int) -> str:
    """Gives the commit with the work of an attempt; "" where it left none."""
    if n < 1:
        return ""
    ref = f"refs/heads/{attempt_branch(given.run, given.task, n)}^{{commit}}"
    return git.run("rev-parse", "--verify", "--quiet", ref, cwd=given.worktree, ok=(0, 1, 128)).text


def _put_back(given: Assignment, base: str, work: str) -> bool:
    """Makes the changes from `base` to `work` in the worktree, all or none; False where they do not fit."""
    asked = ("diff-tree", "-p", "--binary", "--full-index", "--no-textconv", "--no-ext-diff", base, work)
    changed = git.run(*asked, cwd=given.worktree, ok=(0, 128))
    if changed.code or not changed.out:
        return not changed.code
    applied = git.run(
        "apply",
        "--whitespace=nowarn",
        "-",
        input=changed.out,
        cwd=given.worktree,
        ok=(0, 1, 128),
        user_config=True,
    )
    return applied.code == 0


# --- the loop ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended. `how` is as in the transcript."""

    how: str
    text: str = ""
    after_s: float | None = None
    limited: bool = False

    @property
    def code(self) -> int:
        """The worker's exit code."""
        return {"finished": 0, "later": EX_TEMPFAIL, "stopped": EX_TEMPFAIL}.get(self.how, EX_FAILED)


class Attempt:
    """Carries one attempt out. `say` writes a line for whoever follows the log."""

    def __init__(
        self,
        given: Assignment,
        orders: Orders,
        secrets: Secrets,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._given, self._secrets, self._clock = given, secrets, clock
        self._tell = say
        start = begin(given)
        terms = orders.terms(start.model)
        self._talk = Conversation(terms, given.system(orders.policy), TOOLS, list(start.messages))
        self._file = AttemptPlaces(given.result.parent).transcript.open("ab", buffering=0)
        self._record(
            "began",
            model=terms.model,
            base=given.base,
            system=self._talk.system,
            continues=start.continues,
            attempt=given.n,
        )
        if start.continues:
            self._say(f"going on with attempt {start.continues}")
        self._hear(start.text)

    def work(self, api: Asks, tools: Tools, stop: Stop) -> End:
        """Works until the model is done, a limit is reached, or the worker is asked to end."""
        while not (why := self._talk.exhausted()):
            if stop.asked:
                raise Stopped
            request = self._talk.request()
            answer = api.ask(request)
            before = len(self._talk.messages)
            turn = self._talk.take(answer)
            self._write_down(answer, before)
            if turn.text:
                self._say(turn.text)
            used = self._talk.usage
            cost = used.cost_usd(self._talk.terms.price)
            self._say(own_figures(self._talk.turns, used.tokens_in, used.output, cost))
            if turn.next is Next.FINISHED:
                return End("finished", turn.text)
            if turn.next is Next.REFUSED:
                return End("failed", f"the model refused to go on{': ' if turn.text else ''}{turn.text}")
            self._use(turn, tools)
        return End("over_budget", why)

    def trim(self) -> bool:
        """Makes the next request shorter, where it may have been too long; False where it can't be."""
        shorter = self._talk.trim()
        if shorter:
            self.note("the request may be too long: old results are left out")
        return shorter

    def _use(self, turn: Turn, tools: Tools) -> None:
        given: list[tuple[Call, Result]] = []
        try:
            for call in turn.calls:
                self._say(f"> {transcript.doing(call.name, call.input)}")
                given.append((call, self._cleaned(tools.use(call))))
        except Stopped:
            unknown = Result(UNKNOWN, is_error=True)
            self._answer(given + [(call, unknown) for call in turn.calls[len(given) :]])
            raise
        if given:
            self._answer(given)

    def _cleaned(self, result: Result) -> Result:
        text = result.text.encode(
            "utf-8", "replace"
        ).decode()  # names of files may be no text; the API takes only that
        return Result(self._secrets.hidden(text), result.is_error)

    def _answer(self, given: list[tuple[Call, Result]]) -> None:
        self._talk.results(given)
        self._record("message", **self._talk.messages[-1])

    def _hear(self, text: str) -> None:
        self._talk.say(text)
        self._record("message", role="user", content=[{"type": "text", "text": text}])

    def _write_down(self, answer: Answer, before: int) -> None:
        """Records an answer, what it cost, and what was said to it at once."""
        usage = {name: getattr(answer.usage, name) for name in type(answer.usage).__slots__}
        if answer.content:
            blocks = [dict(block) for block in answer.content]
            self._record(
                "message", role="assistant", content=blocks, usage=usage, stop_reason=answer.stop_reason
            )
        for message in self._talk.messages[before:]:
            if message["role"] == "user":
                self._record("message", **message)
        self.result()

    # --- what is left behind

    def _say(self, text: str) -> None:
        self._tell(self._secrets.hidden(text))

    def note(self, text: str) -> None:
        """Tells of something that happened between two messages."""
        self._say(f"! {text}")
        self._record("note", text=text)

    def result(self, end: End | None = None) -> None:
        """Writes the result file; what a command of the model's wrote there, such as a verdict, stays."""
        talk = self._talk
        said = _object(self._given.result)
        said |= {"tokens_in": talk.usage.tokens_in, "tokens_out": talk.usage.output}
        said |= {"cost_usd": talk.usage.cost_usd(talk.terms.price)}
        if end is not None:
            said = {"summary": self._secrets.hidden(end.text), **said}
            if end.code == EX_TEMPFAIL:
                said |= {"rate_limited": end.limited, "retry_after_s": end.after_s}
        self._given.result.write_text(json.dumps(said), "utf-8")

    def end(self, end: End) -> None:
        """Writes down how it ended."""
        if end.how != "finished":
            self._say(own_end(end.how, end.text))
        self._record("ended", how=end.how, text=end.text)
        self._file.close()
        self.result(end)
        if end.how == "finished" and self._given.answer is not None:
            self._leave_answer(self._given.answer, end.text)

    def _leave_answer(self, file: Path, text: str) -> None:
        """Has the last words be the answer, whole, where no command of the model's wrote one."""
        with contextlib.suppress(FileExistsError), file.open("x", encoding="utf-8") as answer:
            answer.write(self._secrets.hidden(text))

    def _record(self, kind: str, **fields: Any) -> None:
        line = transcript.line({"at": round(self._clock(), 3), "type": kind, **fields})
        self._file.write(self._secrets.hidden(line.decode()).encode())


def _object(path: Path) -> dict[str, Any]:
    """Reads a result file; what a command put there that is no file goes."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _for_commands(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Gives what commands get of a worker's environment: all but the keys."""
    hidden = {*KEYS, "ANTHROPIC_CUSTOM_HEADERS"}
    return ((name, value) for name, value in environ.items() if name not in hidden)


def main(model: str, orders_json: str, environ: Mapping[str, str], stop: Stop) -> int:
    """Carries out the attempt that the environment describes, and gives the exit code.

    On a full disk it leaves off without an end in its transcript, as if it had been killed: the next attempt goes on from there.
    """
    try:
        return _carry_out(model, orders_json, environ, stop)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        with contextlib.suppress(OSError):  # what it prints goes to a file too
            print(f"! what it does can't be written down: {error.strerror}", flush=True)
        return EX_FAILED


def _carry_out(model: str, orders_json: str, environ: Mapping[str, str], stop: Stop) -> int:
    orders, secrets = Orders(model, json.loads(orders_json)), Secrets.of(environ)
    given = Assignment.read(environ)
    attempt = Attempt(given, orders, secrets, lambda text: print(text, flush=True))
    env = dict(_for_commands(environ))
    tools = Tools(given.worktree, given.claims, orders.policy, env, stop, orders.settings["bash_timeout_s"])
    end = _to_the_end(attempt, orders, tools, stop)
    attempt.end(end)
    return end.code


def _to_the_end(attempt: Attempt, orders: Orders, tools: Tools, stop: Stop) -> End:
    gc.disable()  # what is loaded stays: looked through again and again meanwhile, it would take half as long again
    from swarm.worker.anthropic import service  # a second, in which the transcript has begun already

    gc.freeze()
    gc.enable()
    try:
        names = ("retries_max", "wait_s_max", "silence_s")
        api = service.Service(stop, attempt.note, **{name: orders.settings[name] for name in names})
        while True:
            try:
                return attempt.work(api, tools, stop)
            except service.TooLarge as error:
                if not attempt.trim():
                    return End("failed", str(error))
    except service.Later as later:
        return End("later", str(later), later.after_s, later.limited)
    except service.Refused as refused:
        return End("failed", str(refused))
    except Stopped:
        return End("stopped", "the worker was asked to end")
