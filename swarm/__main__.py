"""The program `swarm`: hands the command line to the client and ends with its exit code.

Rules for editing: `swarm --help`, `--version` and a plain `swarm status` are answered without click, which alone costs three times
the start of Python; prompts and scripts ask for the status in loops. Everything else, and whatever is not understood here, goes to
`client.cli`.
"""

from __future__ import annotations

import gc
import os
import sys

COLLECT_EVERY = 100_000  # new objects: what is loaded to begin with stays, and few commands make as many


def main() -> int:
    """Runs the command line of this process and gives its exit code."""
    _speak_utf8()
    from swarm.client import failure

    _prepare_output()
    gc.set_threshold(COLLECT_EVERY)
    try:
        return _run(sys.argv[1:])
    except BaseException as error:  # every way out has its own exit code, and none shows a traceback
        return failure.exit_code(error, sys.argv[1:])
    finally:
        gc.freeze()  # what is left goes with the process: nobody need look through it once more


def _speak_utf8() -> None:
    """Begins anew where the locale has another encoding: what a plan says and git's names are UTF-8, and so they go out to workers,
    suites and files. Python takes its locale's word for that, and only when it starts."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


def _prepare_output() -> None:
    """Has characters that a stream's encoding lacks written as escapes, and a stream that was closed swallow what it is given."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (for as long as the program runs)
        else:
            stream.reconfigure(errors="backslashreplace")


def _run(arguments: list[str]) -> int:
    if arguments in (["--help"], ["-h"]):
        from swarm.client.commands import help_text
        from swarm.client.session import Session

        Session().out(help_text())
        return 0
    if arguments == ["--version"]:
        from swarm import __version__
        from swarm.client.session import Session

        Session().line(f"swarm {__version__}")
        return 0
    if "status" in arguments[:3]:
        from swarm.client import status

        asked = status.plain_request(arguments)
        if asked is not None:
            gc.disable()  # it would look through millions of objects again and again, half of the time with 100,000 tasks
            status.show(*asked)
            return 0
    from swarm.client import cli

    return cli.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
