"""The audit: what must be true of a repository and its journal, looked at from outside, without changing anything.

Each file looks at one thing: the journal (`folding`), the staging lines (`line`), what must be kept (`keeping`), worktrees and
locks (`surroundings`), processes (`processes`); `again` runs suites once more; `inspection` makes one consistent view of it all.
What each invariant means and what can't be seen from outside is in docs/explanation/invariants.md.

Rules for editing: nothing is written, no lock of the daemon's is taken, and nothing may raise because something is broken: that
is what is to be told. What the journal says is under way is not broken.
"""
