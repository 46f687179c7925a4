"""The only place where the git program is run: clean environment, time limit, outcomes as values.

Rules for editing: nothing outside this folder starts git (GitPython in `edge/history` reads only). Every call is a list of
arguments, never a shell string; it inherits no `GIT_*` variable, runs no hook, no fsmonitor, no automatic gc, asks nothing on a
terminal, and is killed with all its children when its time is up. *Sealed* calls see no settings but the repository's own;
`user_config=True` lets the user's global settings count as well, which filters and identity in their worktrees need. Paths
are bytes in git: they are decoded as UTF-8 with surrogateescape. An exit status that was not expected is a `GitError`, and
never "a conflict".
"""

from swarm.edge.git.call import (
    GitEnded,
    GitError,
    GitTimedOut,
    Outcome,
    Reader,
    decode,
    encode,
    end_readers,
    last_line,
    of_filter,
    pipe,
    run,
)
from swarm.edge.git.objects import (
    Change,
    CommitFacts,
    Found,
    Objects,
    Signature,
    alternates,
    files_of,
    has_loose,
    is_object_id,
    lines_of,
    missing,
    object_id,
    parse_commit,
    read_loose,
    write_commit,
    write_loose,
)
from swarm.edge.git.refs import (
    ZERO,
    RefChange,
    RefMoved,
    Refs,
    branches_with,
    contains,
    is_on_a_branch,
    is_tree_of_a_branch,
    reached_by_none,
    read_ref,
    refs_below,
)
from swarm.edge.git.repository import Repository, probe
from swarm.edge.git.standing import Helper
from swarm.edge.git.trees import GITLINK_MODE, TREE_MODE, TreeEntry

__all__ = [
    "GITLINK_MODE",
    "TREE_MODE",
    "ZERO",
    "Change",
    "CommitFacts",
    "Found",
    "GitEnded",
    "GitError",
    "GitTimedOut",
    "Helper",
    "Objects",
    "Outcome",
    "Reader",
    "RefChange",
    "RefMoved",
    "Refs",
    "Repository",
    "Signature",
    "TreeEntry",
    "alternates",
    "branches_with",
    "contains",
    "decode",
    "encode",
    "end_readers",
    "files_of",
    "has_loose",
    "is_object_id",
    "is_on_a_branch",
    "is_tree_of_a_branch",
    "last_line",
    "lines_of",
    "missing",
    "object_id",
    "of_filter",
    "parse_commit",
    "pipe",
    "probe",
    "reached_by_none",
    "read_loose",
    "read_ref",
    "refs_below",
    "run",
    "write_commit",
    "write_loose",
]
