"""The daemon's own process, as `client.spawning` starts it.

Rules for editing: the collector rests until the daemon has read its journal, for what is loaded until then stays; it would take a
tenth of the time of a start.
"""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """Runs the daemon of the arguments and gives the process's exit code."""
    gc.disable()
    from swarm.daemon import service

    return service.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
