"""Runs many coding agents on one git repository at once and lands only what merges cleanly and passes.

`Swarm` and `AsyncSwarm` are the Python API; they are loaded when they are asked for, so that the command line starts without them.
"""

TYPE_CHECKING = False  # importing typing would cost every command start-up time
if TYPE_CHECKING:
    from swarm.client.library import AsyncSwarm, Swarm

__version__ = "0.1.0"
__all__ = ["AsyncSwarm", "Swarm"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from swarm.client import library

    found: object = getattr(library, name)
    return found
