"""`python -P -m swarm.worker.anthropic MODEL SETTINGS`: the worker of the built-in agent; SETTINGS are JSON, without keys."""

import os
import sys

from swarm.worker.anthropic.attempt import main
from swarm.worker.anthropic.tools import Stop

if __name__ == "__main__":
    stop = Stop()
    stop.listen()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1], sys.argv[2], os.environ, stop))
