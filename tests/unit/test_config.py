"""Settings: what is read from where, what is refused and how it is said, and the pages made from them."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts.reference import PAGES, TOP
from swarm import config
from swarm.core.model import Defaults, Limits
from swarm.errors import EXIT_USAGE
from swarm.protocol import SETTINGS_FILE, WORKER_ENVIRONMENT, settings_given
from swarm.settings import Settings


def written(folder: Path, text: str) -> Path:
    """Makes a folder the top of a repository with these settings."""
    (folder / "swarm.toml").write_text(text, encoding="utf-8")
    return folder


def problems(folder: Path, text: str, environ: dict[str, str] | None = None, **flags: Any) -> dict[str, str]:
    """Gives what is wrong with settings, by place."""
    with pytest.raises(config.SettingsError) as caught:
        config.load(written(folder, text), environ or {}, flags)
    assert caught.value.exit_code == EXIT_USAGE
    return dict(caught.value.problems)


def test_without_a_file_everything_is_the_default(tmp_path: Path) -> None:
    """Nothing written gives the defaults, the machine's own among them, and each says that it is one."""
    settings = config.load(tmp_path, {})
    assert settings == Settings()
    assert config.to_limits(settings) == dataclasses.replace(
        Limits(),
        verify_slots=2,
        follow_share=0.05,
        breaker_failures=3,
        disk_free_inodes_min=10_000,
    )
    assert config.to_defaults(settings) == Defaults()
    assert {source for _, _, source in config.flat(settings)} == {"default"}


def test_the_template_says_the_defaults(tmp_path: Path) -> None:
    """The file of swarm init changes nothing as it is, and with every value uncommented it still says the defaults, all of them."""
    text = config.template()
    assert config.load(written(tmp_path, text), {}) == Settings()
    uncommented = re.sub(r"(?m)^#(?=\w+ = )", "", text)
    settings = config.load(written(tmp_path, uncommented), {})
    assert settings.model_dump() == Settings().model_dump()
    assert all(source == "swarm.toml" for _, _, source in config.flat(settings))
    assert "mycoder" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_example_of_an_agent_in_the_template_is_one(tmp_path: Path) -> None:
    """What the template shows in its examples is read when the # in front goes."""
    examples = re.sub(r"(?m)^#     ", "", config.template())
    settings = config.load(written(tmp_path, examples), {})
    assert settings.agents["mine"].command == ["mycoder", "--message-file", "{prompt_file}"]
    assert settings.hooks["desk"].on == ["TaskFailed", "RunEnded"]
    assert settings.ownership == {"architect": ["docs/architecture/**"]}


def test_file_environment_and_flags_override_in_that_order(tmp_path: Path) -> None:
    """A flag wins over the environment, that over the file, that over the default; each value says where it is from."""
    top = written(tmp_path, "[limits]\nworkers_max = 5\nattempts = 5\ngrace_s = 7\n")
    environ = {"SWARM_LIMITS__WORKERS_MAX": "6", "SWARM_LIMITS__ATTEMPTS": "6", "SWARM_SANDBOX": "off"}
    settings = config.load(top, environ, {"limits.workers_max": 7, "limits.lost_max": None})
    shown = {key: (value, source) for key, value, source in config.flat(settings)}
    assert shown["limits.workers_max"] == (7, "flag")
    assert shown["limits.attempts"] == (6, "environment SWARM_LIMITS__ATTEMPTS")
    assert shown["sandbox"] == ("off", "environment SWARM_SANDBOX")
    assert shown["limits.grace_s"] == (7.0, "swarm.toml")
    assert shown["limits.lost_max"] == (3, "default")
    assert settings.source("limits.workers_max") == "flag"
    nested = config.load(top, environ, {"limits": {"workers_max": 7, "attempts": None}})
    assert config.flat(nested) == config.flat(settings)


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("SWARM_AGENT", "123", "agent", "123"),
        ("SWARM_STRAYS", "warn", "strays", "warn"),
        ("SWARM_LIMITS__CPU_PERCENT_MAX", "101", "limits.cpu_percent_max", 101.0),
        ("SWARM_LIMITS__READINGS_FILE", "/tmp/a = b", "limits.readings_file", "/tmp/a = b"),
        ("SWARM_LIMITS__LADDER", "[[40, 1], [60, 0.5]]", "limits.ladder", [[40.0, 1.0], [60.0, 0.5]]),
        ("SWARM_WORKTREES__KEEP", "yes", "worktrees.keep", True),
        ("SWARM_WORKTREES__COPY", '[".env", "a b"]', "worktrees.copy", [".env", "a b"]),
        ("SWARM_OWNERSHIP__ARCHITECT", '["docs/**"]', "ownership.architect", ["docs/**"]),
        ("SWARM_AGENTS__MINE__COMMAND", '["x"]', "agents.mine.command", ["x"]),
    ],
)
def test_the_environment_is_read_as_the_setting_is_written(
    tmp_path: Path, name: str, text: str, key: str, value: object
) -> None:
    """Text is taken as it stands, everything else as in TOML."""
    shown = {key: (value, source) for key, value, source in config.flat(config.load(tmp_path, {name: text}))}
    assert shown[key] == (value, f"environment {name}")


def test_names_of_workers_and_of_strangers_are_no_settings(tmp_path: Path) -> None:
    """What a worker is given, and what only begins like a setting of ours, changes nothing and is no error."""
    environ = {
        "SWARM_RUN": "x",
        "SWARM_TASK": "y",
        "SWARM_WORKTREE": "/w",
        "SWARM_CLUSTER_HOST": "h",
        "SWARM_TASK_ID": "1",
        "SWARM_MODE": "1",
        "SWARM_" + "_".join(["limits"] * 5000): "1",
        "SWARM_": "1",
        "SWARMING": "1",
    }
    environ |= dict.fromkeys(WORKER_ENVIRONMENT, "1")
    environ |= dict.fromkeys(
        ("SWARM_EVENT", "SWARM_TARGET", "SWARM_COMMIT", "SWARM_CRASH", "SWARM_CRASH_LOG"), "1"
    )
    assert config.load(tmp_path, environ) == Settings()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SWARM_LIMITS_WORKERS_MAX", "SWARM_LIMITS__WORKERS_MAX"),
        ("SWARM_LIMITS___WORKERS_MAX", "SWARM_LIMITS__WORKERS_MAX"),
        ("SWARM_LIMITS_WORKRS_MAX", "SWARM_LIMITS__WORKERS_MAX"),
        ("SWARM_WORKERS_MAX", "SWARM_LIMITS__WORKERS_MAX"),
        ("SWARM_VERIFY_SLOT", "SWARM_VERIFY__SLOTS"),
        ("SWARM_SANDBOX_PATHS_WRITE", "SWARM_SANDBOX_PATHS__WRITE"),
        ("SWARM_SANDBOX__NETWORK", "SWARM_SANDBOX_NETWORK"),
        ("SWARM_AGENTS_MY_CODER_COMMAND", "SWARM_AGENTS__MY_CODER__COMMAND"),
        ("SWARM_OWNERSHIP_ARCHITECT", "SWARM_OWNERSHIP__ARCHITECT"),
        (
            "SWARM_TIMEOUT_S",
            "SWARM_LIMITS__TIMEOUT_S or SWARM_VERIFY__TIMEOUT_S or SWARM_QA__TIMEOUT_S or SWARM_DEPLOY__TIMEOUT_S",
        ),
    ],
)
def test_a_variable_that_looks_like_a_setting_is_an_error(name: str, meant: str, tmp_path: Path) -> None:
    """What has the name of a setting but for its underscores, its section or a slip is told with the right spelling."""
    assert problems(tmp_path, "", {name: "2"}) == {
        f"environment {name}": f"no such setting; did you mean {meant}?"
    }


def test_every_error_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    """One reading names every mistake in file, environment and flags, where it is, and the name that was meant."""
    text = """agnt = "x"
sandbox = "maybe"
[limits]
worker_max = 3
attempts = "four"
ladder = [[50, 1.0], [40, 0.5]]
[agents.a]
prompt = "file"
[worktrees]
copy = ["../outside"]
"""
    environ = {
        "SWARM_LIMITS__WORKRS_MAX": "2",
        "SWARM_SANDBX": "off",
        "SWARM_LIMITS": "3",
        "SWARM_VERIFY__SLOTS": "many",
    }
    found = problems(tmp_path, text, environ, **{"limits.workers_max": 0})
    assert found == {
        "swarm.toml:1: agnt": "no such setting; did you mean agent?",
        "swarm.toml:2: sandbox": "should be 'auto', 'required' or 'off', not 'maybe'",
        "swarm.toml:4: limits.worker_max": "no such setting; did you mean workers_max?",
        "swarm.toml:5: limits.attempts": "should be a valid integer, not 'four'",
        "swarm.toml:6: limits.ladder": "the percentages must rise from step to step",
        "swarm.toml:7: agents.a.command": "is needed and missing",
        "swarm.toml:10: worktrees.copy": "'../outside' is not a path inside the repository",
        "environment SWARM_LIMITS": "is a section: name a key of it, such as SWARM_LIMITS__KEY",
        "environment SWARM_LIMITS__WORKRS_MAX": "no such setting; did you mean SWARM_LIMITS__WORKERS_MAX?",
        "environment SWARM_SANDBX": "no such setting; did you mean SWARM_SANDBOX?",
        "environment SWARM_VERIFY__SLOTS": "should be a valid integer, not 'many'",
        "flag for limits.workers_max": "should be greater than or equal to 1, not 0",
    }


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("a = 1\nb = [\n", "swarm.toml", "not TOML"),
        ("a = 1\na = 2\n", "swarm.toml:2:6", "not TOML: Cannot overwrite a value"),
        ("limits = 3\n", "swarm.toml:1: limits", "should be a valid table"),
        ("[limits]\nbudget_usd = nan\n", "swarm.toml:2: limits.budget_usd", "finite"),
        ("[limits]\nworkers_max = true\n", "swarm.toml:2: limits.workers_max", "integer"),
        ("[limits]\nladder = [[50, 0.0]]\n", "swarm.toml:2: limits.ladder", "share"),
        ('[limits]\nladder = [["x", 1.0]]\n', "swarm.toml:2: limits.ladder.0.0", "number"),
        ("limits.workers_max = 0\n", "swarm.toml:1: limits.workers_max", "greater than or equal to 1"),
        (
            '[hooks.a]\ncommand = "true"\non = ["TaskLandet"]\n',
            "swarm.toml:3: hooks.a.on",
            "did you mean TaskLanded",
        ),
        ('[hooks.a]\ncommand = "true"\nurl = "http://b"\n', "swarm.toml:1: hooks.a", "one of the two"),
        ("[hooks.a]\n", "swarm.toml:1: hooks.a", "one of the two"),
        ('[hooks.a]\nurl = "file:///etc/passwd"\n', "swarm.toml:1: hooks.a", "begins with http"),
        ('[worktrees]\nshare = ["/etc"]\n', "swarm.toml:2: worktrees.share", "inside the repository"),
        ("limits.workers_max = 7\nports = {base = 65000, step = 100}\n", "settings", "ports up to 65699"),
        ("[anthropic]\nbudget_usd = 1\n[agents.anthropic]\nmodel = 'x'\n", "settings", "the prices of x"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, text: str, place: str, said: str) -> None:
    """A file that is no TOML, a wrong type and a value out of its limits are named with their line."""
    found = problems(tmp_path, text)
    assert list(found) == [place]
    assert said in found[place]


@pytest.mark.parametrize(
    ("root", "said"),
    [
        (".git/wt", "is in the git folder, which is hidden from a worker in the sandbox"),
        ("sub/../.git", "is in the git folder"),
        ("sub/.git/wt", "is in the git folder"),
        ("link/wt", "is in the git folder"),
        ("file", "file is a file"),
        ("file/wt", "file is a file"),
        (".", "is the checkout itself"),
        ("sub/..", "is the checkout itself"),
        ("..", "in which the checkout itself lies"),
        ("sub/../..", "in which the checkout itself lies"),
        ("/", "in which the checkout itself lies"),
        ("~nobody-of-this-name/wt", "begins with a home folder that nobody has"),
        (".git-worktrees", ""),
        ("new/folder", ""),
        ("../beside", ""),
        ("sub", ""),
    ],
)
@pytest.mark.parametrize("git_folder", ["folder", "named in a file"])
def test_where_worktrees_can_not_lie_is_refused(
    tmp_path: Path, git_folder: str, root: str, said: str
) -> None:
    """A root in the git folder, wherever that is and whatever leads there, the checkout itself, what it lies in and a file are
    named with their line and what is wrong with them; any other place is taken."""
    top, folder = tmp_path / "top", tmp_path / "elsewhere.git"
    top.mkdir()
    (top / "sub").mkdir()
    (top / "file").touch()
    if git_folder == "folder":
        folder = top / ".git"
    else:
        (top / ".git").write_text("gitdir: ../elsewhere.git\n")
    folder.mkdir()
    (top / "link").symlink_to(folder)
    (top / "swarm.toml").write_text(f'[worktrees]\nroot = "{root}"\n')
    if not said:
        assert config.load(top, {}).worktrees.root == root
        return
    with pytest.raises(config.SettingsError) as refused:
        config.load(top, {})
    ((place, text),) = refused.value.problems
    assert place == "swarm.toml:2: worktrees.root"
    assert said in text


def test_a_table_is_wrong_where_it_is_given(tmp_path: Path) -> None:
    """What is wrong with a whole table is told of the file where the file has anything of it, else of who gives it."""
    environ = {"SWARM_HOOKS__DESK__ON": '["RunEnded"]', "SWARM_LIMITS__ATTEMPTS": "3"}
    wrong = "a hook has a command or a url, one of the two"
    assert problems(tmp_path, '[hooks.chat]\nurl = "http://x/"\n', environ) == {
        "environment SWARM_HOOKS__DESK__ON": wrong
    }
    assert problems(tmp_path, "[hooks.desk]\ntimeout_s = 3\n", environ) == {"swarm.toml:1: hooks.desk": wrong}


def test_a_default_that_can_not_be_is_refused_too(tmp_path: Path) -> None:
    """Where a file has the name of the folder for worktrees, no daemon comes up to find that out at every start of a task."""
    (tmp_path / ".worktrees").touch()
    assert "is a file" in problems(tmp_path, "")["swarm.toml: worktrees.root"]
    found = problems(tmp_path, "", {"SWARM_WORKTREES__ROOT": ".git/wt"})
    assert list(found) == ["environment SWARM_WORKTREES__ROOT"]


def test_a_root_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leading `~` is the user's home, as in the settings of git."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "swarm.toml").write_text('[worktrees]\nroot = "~/wt"\n')
    assert config.load(tmp_path, {}).worktrees.root == str(tmp_path / "home" / "wt")


def test_a_file_that_is_no_text_is_refused_with_its_line(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are told with their line, and a folder in the file's place is not taken for an empty file."""
    (tmp_path / "swarm.toml").write_bytes(b'agent = "a"\nstrays = "\xff"\n')
    with pytest.raises(config.SettingsError, match=r"swarm\.toml:2: is not UTF-8"):
        config.load(tmp_path, {})
    (tmp_path / "swarm.toml").unlink()
    (tmp_path / "swarm.toml").mkdir()
    with pytest.raises(config.SettingsError, match="can't be read"):
        config.load(tmp_path, {})


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe in the place of swarm.toml is refused, and not waited for until somebody writes into it."""
    os.mkfifo(tmp_path / "swarm.toml")
    with pytest.raises(config.SettingsError, match=r"swarm\.toml: is no file"):
        config.load(tmp_path, {})


def test_an_error_shows_no_terminal_commands(tmp_path: Path) -> None:
    """What stands in the file reaches the terminal only as visible text."""
    with pytest.raises(config.SettingsError) as caught:
        config.load(written(tmp_path, '"\\u001b[31m" = 1\n'), {})
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "needed"),
    [
        ("", False),
        ('reviewer = "./look"', True),
        ('reviewer_agent = "claude"', True),
        ('reviewer_agent = "command"', False),
        ("required = true", True),
        ('reviewer = "./look"\nrequired = false', False),
    ],
)
def test_who_names_a_reviewer_wants_to_hear_them(tmp_path: Path, said: str, needed: bool) -> None:
    """An approval is needed as soon as somebody is named who may give one, unless the settings say otherwise."""
    assert config.load(written(tmp_path, f"[qa]\n{said}\n"), {}).qa.needs_approval is needed


def test_what_is_no_answer_to_whether_an_approval_is_needed_is_told_once(tmp_path: Path) -> None:
    """Neither of the two types of the value makes a sentence of its own; the environment may say it as of every switch."""
    with pytest.raises(config.SettingsError) as caught:
        config.load(written(tmp_path, '[qa]\nrequired = "maybe"\n'), {})
    assert str(caught.value).count("should be") == 1
    (tmp_path / SETTINGS_FILE).unlink()
    for text, value in (("auto", "auto"), ("yes", True), ("0", False)):
        assert config.load(tmp_path, {"SWARM_QA__REQUIRED": text}).qa.required == value


def test_values_are_written_so_that_they_are_read_again() -> None:
    """What in_toml writes is TOML for the same value."""
    values: list[Any] = ['a"b\\c\n\x1b', 5, 1_000_000_000, 0.75, 90.0, True, [], [["x"], ["y"]], {"a b": 1}]
    for value in values:
        assert tomllib.loads(f"v = {config.in_toml(value)}")["v"] == value


def test_the_schema_knows_every_setting() -> None:
    """The JSON Schema can be written as JSON, allows no unknown key, and describes each setting."""
    schema = json.loads(json.dumps(config.schema()))
    assert schema["additionalProperties"] is False
    text = json.dumps(schema)
    for key, field in config.described():
        assert json.dumps(key.rpartition(".")[2]) in text
        assert field.description
    assert '"copy"' in text


@pytest.mark.parametrize("name", sorted(PAGES))
def test_reference_pages_are_those_of_the_code(name: str) -> None:
    """A page, or the part of it that is made, is what scripts/reference.py makes of the code as it is."""
    assert (TOP / name).read_text(encoding="utf-8") == PAGES[name](), "run: python scripts/reference.py"


def test_settings_that_are_given_alike_are_known_without_reading_them(tmp_path: Path) -> None:
    """The digest changes with the file and with each variable that can say something, and with nothing else."""
    file, environ = tmp_path / "swarm.toml", {"HOME": "/home", "SWARM_LIMITS__ATTEMPTS": "2", "TERM": "a"}
    bare = settings_given(str(tmp_path), environ)
    file.write_text("strays = 'warn'\n")
    given = settings_given(str(tmp_path), environ)
    apart = {
        bare,
        given,
        settings_given(str(tmp_path), {**environ, "SWARM_LIMITS__ATTEMPTS": "3"}),
        settings_given(str(tmp_path), {**environ, "SWARM_STRAYS": "reject"}),
        settings_given(str(tmp_path), {**environ, "HOME": "/elsewhere"}),
    }
    assert len(apart) == 5
    assert settings_given(str(tmp_path), {**environ, "TERM": "b", "SWARM_TASK": "t"}) == given
    file.unlink()
    assert settings_given(str(tmp_path), environ) == bare


def test_of_settings_that_cannot_be_read_nothing_is_known(tmp_path: Path) -> None:
    """No two of them are taken for the same; nobody waits for a pipe."""
    os.mkfifo(tmp_path / "swarm.toml")
    assert settings_given(str(tmp_path), {}) == ""
    (tmp_path / "swarm.toml").unlink()
    (tmp_path / "swarm.toml").mkdir()
    assert settings_given(str(tmp_path), {}) == ""
