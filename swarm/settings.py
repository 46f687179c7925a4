"""What may be set in `swarm.toml`: the tables, with each setting's default, limits and what it is for.

Rules for editing: a setting is one field with its default, its limits and one line that says why one would change it; `swarm
config`, the template of `swarm init`, the JSON Schema and the reference page are made from these fields. Names carry their unit.
A setting that nothing obeys is worse than none. How they are read is in `config`.
"""

from __future__ import annotations

import difflib
import os
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    Strict,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from swarm.core.adapters import ANTHROPIC, BUILT_IN, Agent
from swarm.core.claims import normalise
from swarm.core.entries import Policy, Verdict
from swarm.core.messages import FACTS
from swarm.core.model import Defaults
from swarm.core.model import Limits as MachineLimits

Place = tuple[str, ...]
Step = Annotated[tuple[float, float], Strict(False)]  # TOML has arrays only

_MACHINE = MachineLimits()  # the defaults that the machine has by itself are not written twice
_DEFAULTS = Defaults()
_POLICY = Policy()
_ANY_AGENT = Agent()


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class SandboxPaths(_Table):
    """Paths that workers may reach beside their worktree."""

    read: list[str] = Field(
        default=[], description="Absolute paths that workers may read beside the usual ones."
    )
    write: list[str] = Field(
        default=[], description="Absolute paths that workers may write to: caches that are safe to share."
    )


class LimitSettings(_Table):
    """How much may happen at once, and for how long."""

    workers_max: int = Field(
        default=_MACHINE.workers_max, ge=1, le=1000, description="Most workers at the same time."
    )
    ladder: list[Step] = Field(
        default=list(_MACHINE.ladder),
        description="Steps of (below percent, share of the workers), by the higher of CPU (smoothed) and memory: below 50 % all "
        "of them, below 70 % three quarters, …; above the last step one at a time.",
    )
    cpu_percent_max: float = Field(
        default=_MACHINE.cpu_percent_max,
        ge=0,
        le=1000,
        description="At or above this nothing new starts; of the whole machine, or of the cgroup where there is a limit.",
    )
    memory_percent_max: float = Field(
        default=_MACHINE.memory_percent_max, ge=0, le=1000, description="At or above this nothing new starts."
    )
    memory_percent_suspend: float = Field(
        default=_MACHINE.memory_percent_suspend,
        gt=5,
        le=1000,
        description="At or above this workers are suspended, the youngest first, until 5 points less are used; above 100 none is.",
    )
    memory_stall_percent_suspend: float = Field(
        default=_MACHINE.memory_stall_percent_suspend,
        gt=0,
        le=1000,
        description="The same where so much of the time is spent waiting for memory, by what the kernel tells of pressure.",
    )
    foresee_every_s: float = Field(
        default=30.0,
        ge=0,
        description="Time between two looks whether running workers that share a path, or claim none, would conflict with each "
        "other or with staging; 0: none.",
    )
    suspended_s_max: float = Field(
        default=_MACHINE.suspended_s_max,
        ge=0,
        description="Where memory stays short for so long one that stands still is ended and its task tried again; no attempt "
        "is used up.",
    )
    disk_free_bytes_min: int = Field(
        default=_MACHINE.disk_free_bytes_min,
        ge=0,
        description="With less room than this on the disk nothing new starts.",
    )
    disk_free_inodes_min: int = Field(
        default=10_000,
        ge=0,
        description="With fewer inodes than this free, each of which is a file, nothing new starts; 0: any number will do.",
    )
    readings_file: str = Field(
        default="",
        description="Readings from this JSON file instead of the machine: for containers that know better, and for tests. A"
        " relative path is below the top of the repository.",
    )
    budget_usd: float = Field(
        default=0.0, ge=0, description="With this much spent by a run nothing new of it starts; 0: no limit."
    )
    budget_tokens: int = Field(
        default=0,
        ge=0,
        description="With so many tokens used by a run nothing new of it starts; 0: no limit.",
    )
    task_budget_usd: float = Field(
        default=0.0,
        ge=0,
        description="With this much spent on a task it gets no other attempt; 0: no limit.",
    )
    task_budget_tokens: int = Field(
        default=0,
        ge=0,
        description="With so many tokens used by a task it gets no other attempt; 0: no limit.",
    )
    day_budget_usd: float = Field(
        default=0.0,
        ge=0,
        description="With this much spent on a day, by all runs, nothing starts before the next day (UTC); 0: no limit.",
    )
    day_budget_tokens: int = Field(
        default=0,
        ge=0,
        description="With so many tokens used on a day, by all runs, nothing starts before the next day (UTC); 0: no limit.",
    )
    timeout_s: float = Field(
        default=_DEFAULTS.timeout_s, gt=0, description="Time for one attempt, where the plan says nothing."
    )
    no_output_s: float = Field(
        default=_DEFAULTS.no_output_s,
        ge=0,
        description="Time that a worker may write nothing before it is ended, where the plan says nothing; 0: no limit.",
    )
    output_bytes_max: int = Field(
        default=100_000_000,
        ge=1_000_000,
        description="Room on the disk for the output of one worker, suite or setup: of more, beginning and end are kept.",
    )
    processes_max: int = Field(
        default=4000,
        ge=0,
        description="A worker, suite or setup with more processes than this is ended: a fork bomb; 0: no limit.",
    )
    attempts: int = Field(
        default=_DEFAULTS.attempts,
        ge=1,
        le=100,
        description="Attempts at one task, where the plan says nothing.",
    )
    grace_s: float = Field(
        default=_MACHINE.grace_s, ge=0, le=3600, description="From asking a worker to end until it is killed."
    )
    ramp_per_s: float = Field(
        default=_MACHINE.ramp_per_s,
        gt=0,
        description="How many more workers than before may run for each second passed; replacing one that ended is free.",
    )
    smoothing_s: float = Field(
        default=_MACHINE.smoothing_s, ge=0, description="Time constant by which the CPU reading is smoothed."
    )
    readings_every_s: float = Field(
        default=_MACHINE.readings_every_s,
        gt=0,
        description="Time between two looks at the machine while a ready task waits.",
    )
    try_later_s: float = Field(
        default=_MACHINE.try_later_s,
        ge=0,
        description="Time before a worker that ended with 75 is tried again, unless it says.",
    )
    try_later_max: int = Field(
        default=_MACHINE.try_later_max,
        ge=0,
        description="How often a task may put itself off before it has failed.",
    )
    breaker_failures: int = Field(
        default=3,
        ge=0,
        le=1000,
        description="So many first workers of an agent that all fail alike stop it until swarm resume; 0: never.",
    )
    breaker_within_s: float = Field(
        default=_MACHINE.breaker_within_s,
        gt=0,
        description="A worker that fails within this time counts for breaker_failures.",
    )
    lost_max: int = Field(
        default=_MACHINE.lost_max,
        ge=0,
        description="How often a worker of one task may be lost before the task has failed.",
    )
    infra_max: int = Field(
        default=_MACHINE.infra_max,
        ge=0,
        description="How often a step is tried again after a failure that is not the attempt's.",
    )
    saved_refs_max: int = Field(
        default=1000,
        ge=1,
        description="Most recovery refs of one run. Beyond it nothing is dropped: what would be saved is moved aside instead.",
    )
    follow_every_s: float = Field(
        default=_MACHINE.follow_every_s,
        ge=0,
        description=(
            "Least time between two moves of the staging worktree while a run is at work. Where a move takes long it is twenty"
            " times as long as the last one took, at most 10 s."
        ),
    )

    @field_validator("ladder")
    @classmethod
    def _rises(cls, ladder: list[tuple[float, float]]) -> list[tuple[float, float]]:
        percents = [below for below, _ in ladder]
        if percents != sorted(set(percents)):
            raise ValueError("the percentages must rise from step to step")
        if any(not 0 < share <= 1 for _, share in ladder):
            raise ValueError("a share of the workers lies above 0 and is at most 1")
        return ladder


class PolicySettings(_Table):
    """What may come in with the work of an attempt; only what it changed itself is judged."""

    links: Verdict = Field(
        default=_POLICY.links,
        description="Links that lead out of the tree, to an absolute place or into git's own folder: reject hands the work back, "
        "warn tells of them.",
    )
    twins: Verdict = Field(
        default=_POLICY.twins,
        description="Names that differ in case alone from another beside them: on some machines they are one file.",
    )
    attributes: Verdict = Field(
        default=_POLICY.attributes, description="Changes of .gitattributes, which say how git treats files."
    )
    submodules: Verdict = Field(
        default=_POLICY.submodules,
        description="Changes of .gitmodules, which say where other repositories come from.",
    )
    settings: Verdict = Field(
        default=_POLICY.settings, description="Changes of swarm.toml, which holds commands that run as you."
    )
    file_bytes_max: int = Field(
        default=_POLICY.file_bytes_max, ge=0, description="Largest file that may come in; 0: any size."
    )
    added_bytes_max: int = Field(
        default=_POLICY.added_bytes_max,
        ge=0,
        description="Most that one attempt may add, all its files together; 0: no limit.",
    )


class WorktreeSettings(_Table):
    """Where workers work, and what a fresh worktree needs before work can begin."""

    root: str = Field(
        default=".worktrees",
        min_length=1,
        description="Folder of the worktrees, from the top of the repository, or with a leading `~` from your home; not in `.git`.",
    )
    setup: str = Field(
        default="", description='Shell command that makes a fresh worktree ready, for example "npm ci".'
    )
    copied: list[str] = Field(
        default=[],
        alias="copy",
        description='Untracked files copied from the checkout, for example [".env"].',
    )
    share: list[str] = Field(
        default=[],
        description='Ignored folders that all worktrees share with the checkout, for example ["node_modules"].',
    )
    keep: bool = Field(
        default=_MACHINE.keep_worktrees,
        description="Keep the worktree of an attempt that did not land instead of using it again.",
    )
    spare: int = Field(
        default=1,
        ge=0,
        le=64,
        description="How many worktrees more than workers the pool may grow to, so that a start need not wait for the last one's "
        "to be cleaned.",
    )
    disk_budget_bytes: int = Field(
        default=0,
        ge=0,
        description="Room for what idle worktrees hold and can be made again: of more, the oldest goes; 0: no limit.",
    )
    regenerable: list[str] = Field(
        default=[".gradle", ".next", ".nox", ".tox", ".venv", "node_modules", "target", "venv"],
        description="Names of folders that can be made again; of those, only what git ignores is ever removed.",
    )

    @field_validator("root")
    @classmethod
    def _at_home(cls, root: str) -> str:
        found = os.path.expanduser(root)
        if found.startswith("~"):
            raise ValueError(f"{root!r} begins with a home folder that nobody has; write out where it is")
        return found

    @field_validator("regenerable")
    @classmethod
    def _names(cls, names: list[str]) -> list[str]:
        for name in names:
            if name in ("", ".", "..", ".git") or "/" in name:
                raise ValueError(f"{name!r} is not the name of a folder that can be made again")
        return names

    @field_validator("copied", "share")
    @classmethod
    def _inside(cls, paths: list[str]) -> list[str]:
        for path in paths:
            parts = PurePosixPath(path).parts
            if not parts or os.path.isabs(path) or ".." in parts or ".git" in parts:
                raise ValueError(f"{path!r} is not a path inside the repository")
        return paths


class VerifySettings(_Table):
    """How candidates are verified."""

    slots: int = Field(
        default=2,
        ge=1,
        le=100,
        description="Most candidates verified at the same time; the first of each run never waits.",
    )
    mode: Literal["strict", "batch"] = Field(
        default="strict",
        description="strict: every commit of staging has passed by itself; batch: several land at once where little is red, "
        "and only the last of them has passed.",
    )
    timeout_s: float = Field(
        default=_DEFAULTS.suite_timeout_s,
        gt=0,
        description="Time for one suite, where the plan says nothing.",
    )
    remember_s: float = Field(
        default=3600.0,
        ge=0,
        description="How long a suite that passed does not run again on the same tree, by the same command, in the same "
        "environment; 0: it always runs.",
    )
    suites_max: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="Most suites, or parts of suites, that run at once, of all candidates together.",
    )


class QaSettings(_Table):
    """Who reviews what stands on staging before it is finished, and who mends what is objected to (`swarm qa`)."""

    reviewer: str = Field(
        default="",
        description='What the reviewer does: a shell command where its agent is "command", else what its prompt says besides. It '
        "writes its verdict to SWARM_RESULT_FILE.",
    )
    reviewer_agent: str = Field(
        default="", description="Agent of the reviewer; the default agent where empty."
    )
    fixer: str = Field(
        default="",
        description='What the fixer does: a shell command where its agent is "command", else what its prompt says besides. The '
        "issues are in SWARM_FEEDBACK_FILE and in the prompt.",
    )
    fixer_agent: str = Field(default="", description="Agent of the fixer; the default agent where empty.")
    rounds_max: int = Field(
        default=5,
        ge=0,
        le=100,
        description="Most reviews until QA gives up; 0: swarm build has nothing reviewed, and swarm qa once.",
    )
    timeout_s: float = Field(default=_DEFAULTS.timeout_s, gt=0, description="Time for one review or repair.")
    required: Literal["auto"] | bool = Field(
        default="auto",
        description="Whether swarm finish refuses what the reviewer has not approved of; auto: as soon as reviewer or "
        "reviewer_agent names one; false: it says that nobody approved, and merges.",
    )

    @field_validator("required", mode="before")
    @classmethod
    def _one_of_three(cls, value: object) -> object:
        if value != "auto" and not isinstance(value, bool):  # pydantic would make a sentence of each type
            raise ValueError(f"should be 'auto', true or false, not {value!r:.60}")
        return value

    @property
    def names_reviewer(self) -> bool:
        """Whether these settings say who reviews; the default agent, which swarm build asks where they don't, is not meant."""
        return bool(self.reviewer) or self.reviewer_agent not in ("", "command")

    @property
    def needs_approval(self) -> bool:
        """Whether a finish is refused without an approval."""
        return self.names_reviewer if self.required == "auto" else self.required


class DeploySettings(_Table):
    """What follows once `swarm finish` has moved the target."""

    command: str = Field(
        default="",
        description="Shell command that runs after a finish, once for each commit, at the top of the checkout of its target; "
        "SWARM_RUN, SWARM_TARGET and SWARM_COMMIT say what it is about.",
    )
    timeout_s: float = Field(default=3600.0, gt=0, description="Time for it.")


class PortSettings(_Table):
    """Ports that workers may use: each live worker of the machine has its own range."""

    base: int = Field(
        default=20000,
        ge=1024,
        le=65000,
        description="First port of the first slot; where others' workers have it, another range above.",
    )
    step: int = Field(default=20, ge=1, le=1000, description="Ports for each worker.")


class AgentSettings(_Table):
    """A program of the user's own that carries out tasks, or what is changed of one that is built in."""

    command: list[str] = Field(
        default=[],
        description='Program and arguments, for example ["mycoder", "--message-file", "{prompt_file}"]; needed where the agent is '
        "not built in.",
    )
    command_in_sandbox: list[str] = Field(
        default=[],
        description="The same where swarm's sandbox holds it, if it must be another: without a sandbox of its own.",
    )
    prompt: Literal["file", "stdin", "argument"] = Field(
        default="file",
        description="How the prompt reaches it: by {prompt_file}, on standard input, or as the last argument.",
    )
    env: dict[str, str] = Field(default={}, description="Variables added to its environment.")
    model: str = Field(
        default="", description="Model, by the name that the program knows; its own choice where empty."
    )
    retry_model: str = Field(
        default="", description="Model from the second attempt at a task on: a stronger one, or a cheaper."
    )
    model_flags: list[str] = Field(
        default=list(_ANY_AGENT.model_flags), description="Arguments that name the model, where one is set."
    )
    resume: list[str] = Field(
        default=[],
        description="Arguments with {session} that go on with the conversation of an attempt that was interrupted; none: each "
        "attempt begins anew.",
    )
    parser: Literal["", "aider", "anthropic", "claude", "codex", "gemini"] = Field(
        default="",
        description="Format of what it prints, so that progress, tokens, cost and limits are seen in it.",
    )
    keys: list[str] = Field(
        default=[],
        description="Variables of which one must be set, or one of `logins` be there; both empty: it needs none.",
    )
    logins: list[str] = Field(default=[], description="Files of which one is enough instead of a key.")
    writable: list[str] = Field(
        default=[], description="Folders that it writes to besides its worktree: for the sandbox."
    )


class PriceSettings(_Table):
    """What a million tokens of a model cost, in USD."""

    input: float = Field(ge=0, description="Input.")
    output: float = Field(ge=0, description="Output.")
    cache_write: float | None = Field(
        default=None, ge=0, description="Input that is written to the cache; as input where not given."
    )
    cache_read: float | None = Field(
        default=None, ge=0, description="Input that is read from the cache; as input where not given."
    )


class AnthropicSettings(_Table):
    """The built-in agent, `agent = "anthropic"`, on the Messages API."""

    answer_tokens_max: int = Field(
        default=16_000, ge=256, description="Longest answer; what is cut off is asked for in smaller steps."
    )
    context_tokens_max: int = Field(
        default=150_000,
        ge=10_000,
        description="Above this the results of old calls are left out of what is sent, until half of it is free.",
    )
    turns_max: int = Field(default=200, ge=1, description="Most answers in one attempt.")
    tokens_max: int = Field(
        default=0, ge=0, description="Most tokens of one attempt, cached ones included; 0: no limit."
    )
    budget_usd: float = Field(
        default=0.0,
        ge=0,
        description="Most money for one attempt, which the last answer may pass; needs the prices of the model. 0: no limit.",
    )
    retries_max: int = Field(
        default=4,
        ge=0,
        le=100,
        description="How often a request is sent again after a passing failure, before the attempt is put off.",
    )
    wait_s_max: float = Field(
        default=60.0,
        ge=0,
        description="Longest wait that the API may ask for while the worker stays; for a longer one the attempt is put off.",
    )
    silence_s: float = Field(
        default=300.0, gt=0, description="A request of which nothing was heard for this long has failed."
    )
    bash_timeout_s: float = Field(
        default=600.0, gt=0, description="Time for one shell command of the model's."
    )
    usd_per_million: dict[str, PriceSettings] = Field(
        default={},
        description="Prices by model, as in [anthropic.usd_per_million.MODEL]; without them cost is not known.",
    )


class HookSettings(_Table):
    """Somebody who is told of what happens: a command, or an address on the web."""

    on: list[str] = Field(
        default=[
            "TaskFailed",
            "AgentHeld",
            "PlanDrafted:approval",
            "QaRejected",
            "StagingAstray",
            "RunEnded",
            "RunFinished",
        ],
        min_length=1,
        description="What it is told of: types of event as swarm events shows them, or only those with a code, such as "
        '"TaskHandedBack:conflict".',
    )
    command: str = Field(
        default="",
        description="Shell command, run at the top of the checkout; the event is on its standard input, as a line of JSON.",
    )
    url: str = Field(default="", description="Address that the event is posted to, as JSON.")
    timeout_s: float = Field(default=30.0, gt=0, le=3600, description="Time for one try.")

    @field_validator("on")
    @classmethod
    def _happens(cls, wanted: list[str]) -> list[str]:
        for each in wanted:
            name = each.partition(":")[0]
            if name not in FACTS:
                near = difflib.get_close_matches(name, FACTS, n=1)
                raise ValueError(f"{name!r} never happens" + (f"; did you mean {near[0]}?" if near else ""))
        return wanted

    @model_validator(mode="after")
    def _is_one(self) -> HookSettings:
        if bool(self.command) == bool(self.url):
            raise ValueError("a hook has a command or a url, one of the two")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError("the url of a hook begins with http:// or https://")
        return self


class RoleSettings(_Table):
    """What holds for tasks of a role, besides the paths that they own."""

    max: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Most tasks of this role from start to landing at once, in all runs; 0: any number.",
    )
    read_only: bool = Field(
        default=False, description="Whether its tasks may change nothing: no change is then a good end."
    )
    agent: str = Field(
        default="",
        description="Who does the work of scout, architect and builder in swarm scout, plan and build; the default agent where "
        "empty.",
    )
    run: str = Field(
        default="",
        description="Shell command that is the scout or the architect, instead of an agent. It finds what is asked in "
        "SWARM_PROMPT_FILE and writes its answer to SWARM_ANSWER_FILE.",
    )
    prompt: str = Field(default="", description="What the prompt of scout or architect says besides.")


class Settings(_Table):
    """Every setting. Made by `load`; the plain class holds the defaults."""

    agent: str = Field(default=_DEFAULTS.agent, min_length=1, description="Agent of tasks that name none.")
    strays: Literal["extend", "reject", "warn"] = Field(
        default="extend",
        description="A changed path outside the claims: extend takes the claim if nobody holds it, reject fails the attempt, "
        "warn only says so.",
    )
    sandbox: Literal["auto", "required", "off"] = Field(
        default="auto",
        description="auto: the strongest the machine offers; required: none, no start; off: none.",
    )
    sandbox_network: bool = Field(
        default=True,
        description="Whether workers that are shut in reach the network; coding agents do need it.",
    )
    sandbox_suites: bool = Field(
        default=True,
        description="Whether suites are shut in as well: they run what workers wrote.",
    )
    sandbox_setup: bool = Field(
        default=True,
        description="The same of worktrees.setup; false for one that changes the repository, such as git submodule update.",
    )
    sandbox_suites_network: bool = Field(
        default=True, description="Whether suites and worktrees.setup that are shut in reach the network."
    )
    sandbox_env: list[str] = Field(
        default=[],
        description="Variables that workers that are shut in get beside the usual ones: names, or patterns such as MYAPP_*.",
    )
    sandbox_paths: SandboxPaths = SandboxPaths()
    limits: LimitSettings = LimitSettings()
    worktrees: WorktreeSettings = WorktreeSettings()
    policy: PolicySettings = PolicySettings()
    verify: VerifySettings = VerifySettings()
    qa: QaSettings = QaSettings()
    deploy: DeploySettings = DeploySettings()
    ports: PortSettings = PortSettings()
    anthropic: AnthropicSettings = AnthropicSettings()
    agents: dict[str, AgentSettings] = Field(
        default={}, description="Agents of your own by name, and changes to those that are built in."
    )
    hooks: dict[str, HookSettings] = Field(default={}, description="Who is told of what happens, by name.")
    ownership: dict[str, list[str]] = Field(
        default={}, description="Paths that only tasks of a role may change: role = [patterns]."
    )
    roles: dict[str, RoleSettings] = Field(
        default={}, description="What else holds for tasks of a role, by name."
    )

    _sources: dict[Place, str] = PrivateAttr(default_factory=dict)

    @field_validator("ownership")
    @classmethod
    def _are_paths(cls, ownership: dict[str, list[str]]) -> dict[str, list[str]]:
        return {role: [normalise(pattern) for pattern in patterns] for role, patterns in ownership.items()}

    @field_validator("agents")
    @classmethod
    def _can_be_called(cls, agents: dict[str, AgentSettings]) -> dict[str, AgentSettings]:
        missing = [name for name, agent in agents.items() if not agent.command and name not in BUILT_IN]
        if missing:
            raise ValidationError.from_exception_data(
                "agents",
                [InitErrorDetails(type="missing", loc=(name, "command"), input={}) for name in missing],
            )
        return agents

    @model_validator(mode="after")
    def _have_ports(self) -> Settings:
        workers, ports = self.limits.workers_max, self.ports
        if (last := ports.base + workers * ports.step - 1) > 65535:
            raise ValueError(
                f"ports.base and ports.step would give {workers} workers (limits.workers_max) ports up to {last}: the last is 65535"
            )
        return self

    @model_validator(mode="after")
    def _can_keep_the_budget(self) -> Settings:
        of, table = self.agents.get(ANTHROPIC, AgentSettings()), self.anthropic
        unknown = {of.model or BUILT_IN[ANTHROPIC].model, of.retry_model} - {"", *table.usd_per_million}
        if table.budget_usd and unknown and not of.command:
            named = " and ".join(sorted(unknown))
            raise ValueError(
                f"anthropic.budget_usd can't be kept without the prices of {named}: give usd_per_million"
            )
        return self

    def source(self, key: str) -> str:
        """Tells where a value such as `limits.workers_max` comes from: default, swarm.toml, environment NAME or flag."""
        return self._source_at(tuple(key.split(".")))

    def _source_at(self, place: Place) -> str:
        while place:
            if place in self._sources:
                return self._sources[place]
            place = place[:-1]
        return "default"
