"""The commands there are: what each is for, where it is written, and the text of `swarm --help`.

Rules for editing: this file imports nothing, so that the help costs nothing; a command's module is loaded when it is given.
"""

from __future__ import annotations

# theme -> (command, module, attribute, what it does)
THEMES: tuple[tuple[str, tuple[tuple[str, str, str, str], ...]], ...] = (
    (
        "Begin",
        (
            ("init", "serving", "init", "Write a commented swarm.toml"),
            ("check", "submitting", "check", "Validate plans without running them"),
            ("simulate", "simulating", "simulate", "Show the schedule a plan would get; runs nothing"),
            ("run", "submitting", "run", "Carry out a plan: start, submit, show progress, wait"),
        ),
    ),
    (
        "From a goal",
        (
            ("scout", "goals", "scout", "Have questions about the project looked into"),
            ("plan", "goals", "plan", "Have a plan written for a goal, and approve of it"),
            ("build", "goals", "build", "Go from a goal to a verified staging branch"),
        ),
    ),
    (
        "Work with the background service",
        (
            ("start", "serving", "start", "Start the service of this repository"),
            ("stop", "serving", "stop", "Stop it; what it knows is kept"),
            ("service", "systemd", "service", "Keep it running, by a systemd user unit"),
            ("submit", "submitting", "submit", "Add a plan's work, or what is new in it"),
            ("add", "submitting", "add", "Add one task"),
            ("wait", "submitting", "wait", "Wait until every task of a run has ended"),
        ),
    ),
    (
        "Look",
        (
            ("status", "watching", "status", "Show runs, workers and what waits for what"),
            ("logs", "logs", "logs", "Show the output of a task's worker and verification"),
            ("show", "watching", "show", "Show everything known of a task"),
            ("diff", "watching", "diff", "Show what a task changed"),
            ("claims", "watching", "claims", "Show who may change what now"),
            ("events", "watching", "events", "Show what happened, from the journal"),
            ("report", "reporting", "report", "Show how a run went: time, critical path, retries, cost"),
            ("lessons", "goals", "lessons", "Show what earlier runs taught; forget it"),
            ("agents", "mending", "agents", "Show which agents can be used here, and why not"),
            ("web", "web.serving", "web", "Show the dashboard in the browser, on this machine only"),
            ("worktrees", "finishing", "worktrees", "Show worktrees; give kept work one again"),
        ),
    ),
    (
        "Steer",
        (
            ("retry", "steering", "retry", "Try failed tasks again"),
            ("first", "steering", "first", "Let finished tasks land before all others"),
            ("cancel", "steering", "cancel", "Give tasks or a run up; their work is kept"),
            ("undo", "steering", "undo", "Take a landed task off staging again"),
            ("pause", "steering", "pause", "Start nothing new, or hold one task"),
            ("resume", "steering", "resume", "Go on after a pause"),
            ("scale", "steering", "scale", "Change how many workers may run"),
            ("tell", "steering", "tell", "Leave a note for the next attempt at a task"),
        ),
    ),
    (
        "Finish",
        (
            ("verify", "quality", "verify", "Run the verification suites on staging now"),
            ("qa", "quality", "qa", "Have staging reviewed, and mended until it is approved"),
            ("finish", "finishing", "finish", "Merge verified work into your branch"),
        ),
    ),
    (
        "Mend",
        (
            ("audit", "mending", "audit", "Check that all that must be true is"),
            ("doctor", "mending", "doctor", "Check machine, git, sandbox, agents, limits"),
            ("recover", "mending", "recover", "Bring worktrees, processes and refs into agreement"),
            ("discard", "mending", "discard", "End a run and remove everything of it"),
            ("chaos", "chaos", "chaos", "Show in a throwaway repository that kills lose nothing"),
        ),
    ),
    (
        "Settings",
        (
            ("config", "serving", "config", "Show the settings in force and where each comes from"),
            ("schema", "serving", "schema", "Print the JSON Schema of plans and settings"),
            ("mcp", "bridge", "mcp", "Serve the tools of the Model Context Protocol"),
            ("completion", "completion", "completion", "Print what makes a shell complete commands"),
        ),
    ),
)

GLOBAL_OPTIONS = (
    ("-C DIR", "Work as if started in DIR."),
    ("--json", "Print a JSON document instead of text."),
    ("-q, --quiet", "Print results and errors only."),
    ("-v, --verbose", "Say more about what is done."),
    ("--version", "Show the version."),
    ("-h, --help", "Show this text; swarm COMMAND --help tells more."),
)


def names() -> list[str]:
    """Lists every command."""
    return [command[0] for _, commands in THEMES for command in commands]


def find(name: str) -> tuple[str, str] | None:
    """Gives the module and the attribute of a command, or None."""
    for _, commands in THEMES:
        for command in commands:
            if command[0] == name:
                return f"swarm.client.{command[1]}", command[2]
    return None


def help_text() -> str:
    """Writes what `swarm --help` prints."""
    lines = [
        "Usage: swarm [OPTIONS] COMMAND [ARGS]...",
        "",
        "  Runs many coding agents on one git repository at once and lands only what",
        "  merges cleanly and passes.",
    ]
    for theme, commands in THEMES:
        lines += ["", f"{theme}:"]
        lines += [f"  {name:<11} {what}" for name, _, _, what in commands]
    lines += ["", "Options:"]
    lines += [f"  {flags:<14} {what}" for flags, what in GLOBAL_OPTIONS]
    lines += ["", "First steps: swarm init, swarm check PLAN, swarm run PLAN"]
    return "\n".join(lines) + "\n"
