"""What a worker left in its worktree becomes one commit: everything it wrote, whatever state it left git in.

Hides unfinished merges, repositories within the repository, and files that were only lent to the worker. No ref, no file and no
index of the worktree is changed, and the same worktree gives the same commit, so collecting may be done twice. Rules for editing: a
state that can't be submitted is a sentence in `problem`, never an error, and the files are in the commit all the same; the common
case costs one git process, `add`. The index of a worker is where this begins, because it holds what the worker meant (an ignored
file that is tracked no more, one added although ignored), but in a copy: what was only staged is nowhere else until it has a ref,
and whoever collects again must find it. Marks in it that hide changes are taken off first. A file that lies there and is not
ignored is work, whatever the index or a commit says of it: who takes one out with git and puts it back wants it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from swarm.crashpoints import crash_at
from swarm.dataclass import dataclass
from swarm.edge import git, submodules, whole
from swarm.edge.difference import only_in_form
from swarm.edge.indexfile import find, read_flags
from swarm.edge.linked import (
    NAMED_BY,
    TIMEOUT_S,
    UNFINISHED,
    LinkedTree,
    copy_index,
    give_rights_back,
    is_beyond_a_link,
    is_file,
    one_line,
    open_up,
    remove,
    size_of,
)

OURS = ("swarm", "swarm@localhost")
LINEAR_MAX = 64  # commits that are counted one by one before git is asked
NAMED_MAX = 5  # paths named in a sentence
SOON_S = (
    30.0  # within which nearly all that workers leave is read; what takes longer is looked at by size first
)
COMPLAINT_MAX = 200  # characters of git's complaint: the path in it may have thousands
TOLD_MAX = 10  # paths for each of which the index is searched
_PLAIN, _EXECUTABLE = "100644", "100755"  # modes of files, as git has them
_NOTHING = "000000"
_TOLD = re.compile(rb"(?:add|remove) '(.+)'")
# Git's dir.c: passed over, and no failure.
_UNOPENED = re.compile(r"^warning: could not open directory ", re.MULTILINE)
_REFUSED = re.compile(r"error: |warning: (?=could not open directory )")


@dataclass(frozen=True, slots=True)
class Work:
    """All that a worktree holds: the commit it stands at, the tree of its files, that of its index where it is
    another than both ("" else), and commits that only an unfinished merge or rebase names."""

    head: str
    tree: str
    staged: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Collected:
    """What a worker did: `head` holds it (the base when it made no commit either), `commits` more than the base.

    `problem` says why it can't be submitted, or "". `work` is all that there was, None where the worktree was gone; `unread` tells
    that not every file of it could be read. `besides` is the branch that keeps commits which `head` does not come from: of a stash,
    another branch, a tag. `staged` is the branch that keeps what was staged, where it is only that and not what lay there.
    """

    head: str
    commits: int
    touched: tuple[str, ...]
    problem: str = ""
    work: Work | None = None
    unread: bool = False
    besides: str = ""
    staged: str = ""


@dataclass(frozen=True, slots=True)
class Lent:
    """Top-relative paths that were copied or linked into a worktree and are never part of its work."""

    paths: tuple[str, ...] = ()

    def within(self, top: Path) -> Lent:
        """Gives those of them that can lie in a worktree at `top`: git refuses to be asked of what is beyond a link, also to leave
        it out."""
        return Lent(tuple(path for path in self.paths if not is_beyond_a_link(top, path)))

    def among(self, touched: Sequence[str]) -> list[str]:
        """Lists the lent paths that some touched path is, or lies below."""
        return [path for path in self.paths if any(t == path or t.startswith(path + "/") for t in touched)]

    def pathspecs(self, among: Sequence[str] = (), but: Sequence[str] = ()) -> list[str]:
        """Gives what keeps them, and `but` what is named there, out of what git is asked, and confines git to `among`, if that is
        given."""
        if not (self.paths or among or but):
            return []
        wanted = [f":(top,literal){path}" for path in among] or [":/"]
        return ["--", *wanted, *(f":(top,exclude,literal){path}" for path in (*self.paths, *but))]


@dataclass(frozen=True, slots=True)
class Collector:
    """Collects one worktree. `trusted` is our copy of its index at `base`, `index` becomes the one in which everything is added,
    `aside` is a free folder name beside them. Of all that changed no more than `bytes_max` is added (0: any size), so that a file
    that was made in a moment is not read for hours. Where its `reader` is ended, what was not committed is not taken in."""

    tree: LinkedTree
    objects: git.Objects
    base: str
    trusted: Path
    index: Path
    aside: Path
    bytes_max: int
    lent: Lent
    message: str
    identity: tuple[str, str] | None
    at: float
    reader: git.Reader

    def collect(self) -> Collected:
        """Commits what is there. The worker's processes must be gone. Raises GitError and OSError."""
        give_rights_back(os.fsencode(self.tree.path))
        self._restore_nested()
        self.tree.break_locks()
        if not is_file(self.tree.admin / "index"):  # a pipe would be waited for
            remove(self.tree.admin / "index")
        self._take_index()
        parent, problems = self._parent()
        problems += self._unfinished()
        staged, named = self._staged(), self._named(parent)
        self._mend_index(parent, problems)
        try:
            head, unread = self._read(parent, staged, problems)
        except git.GitEnded as ended:
            problems.append(f"{ended.cause} What was not committed is left where it is.")
            head, unread = parent, True
        touched, _ = self._touched(head)
        crash_at("collect.committed")
        commits = self._count(head, problems)
        tree = self.objects.tree_of(head)
        if staged in (tree, self.objects.tree_of(parent)):
            staged = ""
        work = Work(parent, tree, staged, named)
        if not (touched or commits):
            return Collected(self.base, 0, (), " ".join(problems), work, unread)
        return Collected(head, commits, touched, " ".join(problems), work, unread)

    def _read(self, parent: str, staged: str, problems: list[str]) -> tuple[str, bool]:
        """Commits all files; tells, too, whether one is left out. `staged` is the tree that the worker left in the index."""
        told: list[bytes] = []
        links, moved = self._submodules_there(parent, staged)
        nested, unread = self._add(problems, told, links)
        crash_at("collect.added")
        head = self._commit(parent, self._tree_of(told) if parent == self.base and not moved else None)
        touched, nested_too = self._touched(head)
        nested = sorted({*nested, *nested_too, *self._links_committed(parent)})
        lent = self.lent.among(touched)
        if nested:
            problems.append(_nested_sentence(nested))
        if nested or lent:
            head, unread_too = self._commit_without(parent, lent, nested, problems, links)
            unread = unread or unread_too
        head = self._commit_as_it_was(parent, head, staged)
        inside = self._in_submodules(head, links, nested)
        problems += inside
        return head, unread or bool(inside)

    @property
    def _there(self) -> Lent:
        return self.lent.within(self.tree.path)

    def _take_index(self) -> None:
        remove(Path(f"{self.index}.lock"))  # of a git that was killed
        try:
            copy_index(self.tree.admin / "index", self.index)
        except FileNotFoundError:
            remove(self.index)

    def _git(
        self,
        *args: str,
        ok: Collection[int] = (0,),
        input: bytes | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> git.Outcome:
        reader = self.reader if args[0] == "add" else None
        return self.tree.git(*args, index=self.index, ok=ok, input=input, timeout_s=timeout_s, reader=reader)

    def _staged(self) -> str:
        """Gives the tree of the index as the worker left it, "" where it is none: untouched, unmerged, broken, gone."""
        if _same_file(self.tree.admin / "index", self.trusted):
            return ""
        if not self.index.exists():
            return ""
        asked = self._git("write-tree", ok=(0, 128))
        # Once more: what fails but once says nothing of the index, and what is staged is nowhere else.
        if asked.code:
            asked = self._git("write-tree", ok=(0, 128))
        return "" if asked.code else asked.text

    def _named(self, head: str) -> tuple[str, ...]:
        named: list[str] = []
        for name in NAMED_BY:
            words = (one_line(f"{self.tree.admin}/{name}") or "").split()
            named += [word for word in words if git.is_object_id(word) and word not in (head, self.base)]
        named = list(dict.fromkeys(named))
        kinds = self.objects.kinds(named)
        return tuple(oid for oid, kind in zip(named, kinds, strict=True) if kind and kind[0] == "commit")

    def _parent(self) -> tuple[str, list[str]]:
        head = self.tree.head()
        if head is not None and self.objects.kind(head) == "commit":
            return head, []
        self.tree.mend_head(self.base)
        return self.base, ["HEAD of the worktree names no commit; what was there is on top of its base."]

    def _unfinished(self) -> list[str]:
        kinds = {kind for name, kind in UNFINISHED.items() if os.path.lexists(f"{self.tree.admin}/{name}")}
        return [f"A {kind} was left unfinished in the worktree." for kind in sorted(kinds)]

    def _mend_index(self, parent: str, problems: list[str]) -> None:
        """Makes the worker's index one that shows every change, if it is not."""
        if _same_file(self.index, self.trusted):
            return
        try:
            facts = read_flags(self.index.read_bytes(), oid_bytes=len(self.base) // 2)
        except (OSError, ValueError):
            self._replace_index(parent)
            return
        if facts.hides and not self._show_hidden():
            self._replace_index(parent)
            return
        if facts.unmerged:
            problems.append("Some paths were left unmerged; they are kept as they lie in the worktree.")

    def _replace_index(self, parent: str) -> None:
        remove(self.index)
        if parent == self.base and self.trusted.exists():
            copy_index(self.trusted, self.index)
        else:
            self._git("read-tree", parent)

    def _show_hidden(self) -> bool:
        """Takes assume-unchanged off everywhere, and skip-worktree where the file is there; tells whether git can read the index:
        of a split one the file may be gone that has its entries."""
        asked = self._git("ls-files", "-v", "-z", ok=(0, 128))
        if asked.code:
            return False
        listed = git.decode(asked.out).split("\0")
        names = [(line[0], line[2:]) for line in listed if line and (line[0].islower() or line[0] == "S")]
        valid = [name for tag, name in names if tag.islower()]
        skipped = [n for tag, n in names if tag in "Ss" and os.path.lexists(self.tree.path / n)]
        for option, chosen in (("--no-assume-unchanged", valid), ("--no-skip-worktree", skipped)):
            if chosen:
                paths = git.encode("".join(name + "\0" for name in chosen))
                self._git("update-index", option, "-z", "--stdin", input=paths)
        return True

    def _add(self, problems: list[str], told: list[bytes], links: Collection[str]) -> tuple[list[str], bool]:
        """Takes every file into the index; gives the nested repositories that kept git from it, and whether some
        file could not be read. What git says of each path that changed is `told` where nothing kept it from any."""
        large: list[str] = []
        there = submodules.standing(self.tree.path, links)
        try:
            but = self._there.pathspecs(but=there)
            asked = self._git("add", "-A", "-v", *but, ok=(0, 1, 128), timeout_s=SOON_S)
        except git.GitTimedOut:  # asking for sizes first would cost every attempt another look at every file
            remove(Path(f"{self.index}.lock"))
            large = self._too_large()
            asked = self._git("add", "-A", *self._there.pathspecs(but=[*large, *there]), ok=(0, 1, 128))
        if asked.code in (0, 1) and not (large or _UNOPENED.search(asked.err)):
            told += asked.out.splitlines()
            return [], False  # 1 tells that a lent path is ignored as well; all else was added
        if asked.code == 128 and "index" in git.last_line(asked.err) and "lock" not in asked.err:
            self._replace_index(self.tree.head() or self.base)
        known = self._submodules()
        nested = [path for path in open_up(self.tree.path) if path not in known]
        return nested, self._add_what_can_be(nested, problems, links)

    def _add_what_can_be(self, nested: Sequence[str], problems: list[str], links: Collection[str]) -> bool:
        """Takes every file into the index that git takes, those of nested repositories too; tells whether one is left out."""
        with self._without_git(nested):
            self._forget(nested)
            large = self._too_large()
            but = self._there.pathspecs(but=[*large, *submodules.standing(self.tree.path, links)])
            again = self._git("add", "-A", "--ignore-errors", *but, ok=(0, 1))
        refused = [line for line in again.err.splitlines() if _REFUSED.match(line)]
        if refused:
            problems.append(f"Not everything could be read: {_REFUSED.sub('', refused[-1])[:COMPLAINT_MAX]}.")
        if large:
            problems.append(
                f"It is too large to be taken in: {_some(large)}, with what else it changed, is more than"
                f" {self.bytes_max} bytes (policy.added_bytes_max)."
            )
        return bool(refused or large)

    def _too_large(self) -> list[str]:
        """Lists, by what the file system says of them, the largest files that changed, as many as have to be left out."""
        if not self.bytes_max:
            return []
        asked = self._git("ls-files", "-z", "-o", "-m", "--exclude-standard", *self.lent.pathspecs())
        return too_large(self.tree.path, asked.out, self.bytes_max)

    def _tree_of(self, told: Sequence[bytes]) -> str | None:
        """Writes the tree of the index by what git told that it added to an index that the worker had left as it was given: a few
        objects, where `write-tree` is a process that writes the whole index again. None where that is not sure."""
        if not 0 < len(told) <= TOLD_MAX or not _same_file(self.tree.admin / "index", self.trusted):
            return None
        paths = {named[1] for line in told if (named := _TOLD.fullmatch(line))}
        index, base = self.index.read_bytes(), self.objects.tree_of(self.base)
        try:
            found = {path: find(index, path, oid_bytes=len(base) // 2) for path in paths}
        except ValueError:
            return None
        tree = self.objects.changed_tree(base, found)
        # Of a name with a line end git tells what looks like two; but then one of them did not change, or is told twice.
        changed = {git.encode(path) for path in git.files_of(self.objects.diff(base, tree))}
        return tree if len(paths) == len(told) and changed == paths else None

    def _commit(self, parent: str, tree: str | None = None) -> str:
        tree = tree or self._git("write-tree").text
        if tree == self.objects.tree_of(parent):
            return parent
        who = git.Signature(*(self.identity or OURS), self.at)
        return git.write_commit(self.tree.common, tree, [parent], self.message, who, who)

    def _commit_without(
        self,
        parent: str,
        lent: Sequence[str],
        nested: Sequence[str],
        problems: list[str],
        links: Collection[str],
    ) -> tuple[str, bool]:
        """Commits again, with lent paths as they are in the base and nested repositories as plain files; tells, too, whether a
        file is left out."""
        told: list[str] = []
        unread = self._add_what_can_be(nested, told, links) if nested else False
        problems += [text for text in told if text not in problems]
        if lent:
            lent_paths = [f":(top,literal){path}" for path in lent]
            self._git("reset", "-q", self.base, "--", *lent_paths, ok=(0, 1))
        return self._commit(parent), unread

    def _commit_as_it_was(self, parent: str, head: str, staged: str) -> str:
        """Commits again without what only `add` has changed: in files that are as in the parent, and in those that are as in the
        base. What the worker itself staged it meant: so line ends are made anew."""
        tree_of, diff = self.objects.tree_of, self.objects.diff
        if head == parent and staged in ("", tree_of(head)):
            return head
        told_git = diff(tree_of(parent), staged or tree_of(parent))
        meant = {each.path for each in told_git if each.new_mode != _NOTHING}
        changes = [each for each in diff(tree_of(parent), tree_of(head)) if each.path not in meant]
        new = {each.path for each in changes if each.old_mode == _NOTHING}
        if new and parent != self.base:  # some may have been taken out by the worker's commits, and put back
            changes += [each for each in diff(tree_of(self.base), tree_of(head)) if each.path in new]
        told = [
            (each.old_mode, each.old, each.path)
            for each in only_in_form(self.tree.path, changes, self.objects)
        ]
        if staged or parent != self.base:
            told += self._taken_back(staged or tree_of(parent), tree_of(head))
        if not told:
            return head
        listed = "".join(f"{mode} {oid}\t{path}\0" for mode, oid, path in told)
        self._git("update-index", "-z", "--index-info", input=git.encode(listed))
        return self._commit(parent)

    def _taken_back(self, meant: str, tree: str) -> list[tuple[str, str, str]]:
        """Lists, as (mode, object, path), what git was told that no file shows, and `add` has taken back by the file that is there:
        that it is executable or is not, by `--chmod`, where its own mode is the base's or that of any new file; that it is
        tracked no more, by `rm --cached`, where git ignores it."""
        if not (changes := self.objects.diff(meant, tree)):
            return []
        were = {each.path: each.old_mode for each in self.objects.diff(self.objects.tree_of(self.base), tree)}
        found = []
        again = {}
        for each in changes:
            if each.new_mode == git.TREE_MODE:
                continue
            if each.old_mode == _NOTHING and were.get(each.path) != _NOTHING:
                again[each.path] = (each.old_mode, each.old, each.path)
            elif {each.old_mode, each.new_mode} == {_PLAIN, _EXECUTABLE}:
                was = were.get(each.path, each.new_mode)
                if each.new_mode == (_PLAIN if was == _NOTHING else was):
                    found.append((each.old_mode, each.new, each.path))
        return [*found, *(again[path] for path in self._ignored(again))]

    def _ignored(self, paths: Collection[str]) -> list[str]:
        """Gives those of these paths that git ignores where they are not tracked."""
        # Not beyond a link, of which git is not to be asked; and with "./", since a path may begin like a pathspec.
        asked = "".join(f"./{path}\0" for path in paths if not is_beyond_a_link(self.tree.path, path))
        if not asked:
            return []
        found = self._git("check-ignore", "--no-index", "--stdin", "-z", ok=(0, 1), input=git.encode(asked))
        return [path.removeprefix("./") for path in git.decode(found.out).split("\0") if path]

    def _forget(self, paths: Sequence[str]) -> None:
        if paths:
            listed = git.encode("".join(path + "\0" for path in paths))
            self._git("update-index", "--force-remove", "-z", "--stdin", input=listed)

    def _touched(self, head: str) -> tuple[tuple[str, ...], list[str]]:
        """Lists the paths that differ from the base, and those of them that are repositories nobody else
        knows."""
        if head == self.base:
            return (), []
        changes = self.objects.diff(self.objects.tree_of(self.base), self.objects.tree_of(head))
        touched = git.files_of(changes)
        return touched, self._nested_among(changes, touched)

    def _count(self, head: str, problems: list[str]) -> int:
        """Counts the commits from base to head, and says so when head does not come from the base."""
        commit, count = head, 0
        while commit != self.base and count < LINEAR_MAX:
            parents = self.objects.commit(commit).parents
            if len(parents) != 1:
                break
            commit, count = parents[0], count + 1
        if commit == self.base:
            return count
        asked = self.tree.git("rev-list", "--left-right", "--count", f"{self.base}...{head}").text.split()
        if asked[0] != "0":
            problems.append(f"The worker's commits do not start from its base {self.base[:12]}.")
        return int(asked[1])

    # --- repositories within the repository -----------------------------------------------------------------

    def _nested_among(self, changes: Sequence[git.Change], touched: Sequence[str]) -> list[str]:
        """Lists links that no .gitmodules names, and folders of touched files that are repositories."""
        found = {change.path for change in changes if change.new_mode == git.GITLINK_MODE}
        folders = {os.path.dirname(path) for path in touched}
        while folders - {""}:
            found |= {
                folder for folder in folders - {""} if os.path.lexists(self.tree.path / folder / ".git")
            }
            folders = {os.path.dirname(folder) for folder in folders}
        return sorted(found - self._submodules()) if found else []

    def _links_committed(self, parent: str) -> set[str]:
        """Lists links that the worker committed, no .gitmodules names, and whose folder is there; the index may have lost them
        to an earlier collecting."""
        if parent == self.base:
            return set()
        changes = self.objects.diff(self.objects.tree_of(self.base), self.objects.tree_of(parent))
        links = {change.path for change in changes if change.new_mode == git.GITLINK_MODE}
        there = {path for path in links if os.path.isdir(self.tree.path / path)}
        return there - self._submodules() if there else set()

    def _submodules_there(self, parent: str, staged: str) -> tuple[dict[str, str], bool]:
        """Gives the links of the index, brought to where those stand that are set up, and whether one was moved: `add` would look
        into them by settings that a worker may have made. With them go those that the worker untracked and that stand there: into
        the index again, where a .gitmodules still names them."""
        try:
            links = submodules.links(self.tree, self.index, self.base)
        except git.GitError as error:
            if error.code != 128:
                raise
            self._replace_index(parent)  # it is broken
            links = submodules.links(self.tree, self.index, self.base)
        links = {path: oid for path, oid in links.items() if not self.lent.among((path,))}
        out = self._links_untracked(staged or self.objects.tree_of(parent), links)
        back = set(out) & self._submodules() if out else set()
        here = links | dict.fromkeys(sorted(back), "")
        moved = {
            path: at
            for path in submodules.standing(self.tree.path, here)
            if (at := submodules.head(self.tree, path)) not in ("", here[path])
        }
        if moved:
            told = git.encode("".join(f"160000 {at}\t{path}\0" for path, at in moved.items()))
            self._git("update-index", "-z", "--index-info", input=told)
        return links | out | moved, bool(moved)

    def _links_untracked(self, meant: str, links: Collection[str]) -> dict[str, str]:
        """Gives the submodules of the base that neither the tree `meant` nor `links`, those of the index, have and that are set up
        all the same, each with the commit that it is at."""
        changes = self.objects.diff(self.objects.tree_of(self.base), meant)
        gone = {each.path: each.old for each in changes if each.old_mode == git.GITLINK_MODE}
        gone = {path: oid for path, oid in gone.items() if path not in links}
        there = submodules.standing(self.tree.path, gone) if gone else []
        return {path: submodules.head(self.tree, path) or gone[path] for path in there}

    def _in_submodules(self, head: str, links: dict[str, str], nested: Collection[str]) -> list[str]:
        """Says what of the submodules can't land."""
        changes = (
            self.objects.diff(self.objects.tree_of(self.base), self.objects.tree_of(head))
            if head != self.base
            else []
        )
        was = {change.path: change.old for change in changes if change.old_mode == git.GITLINK_MODE}
        new = {change.path: change.new for change in changes if change.new_mode == git.GITLINK_MODE}
        links = {path: oid for path, oid in (links | new).items() if path not in nested}
        known = {*was.values(), *(oid for path, oid in links.items() if path not in new | was)}
        if not (links or was or submodules.left(self.tree)):
            return []
        draft = self.aside.with_suffix(".module")
        told = submodules.Look(self.tree, draft, known, self.reader).work(links)
        return [f"The submodule {path} holds work that can't land with it: {what}." for path, what in told]

    def _submodules(self) -> set[str]:
        try:
            text = (self.tree.path / ".gitmodules").read_text("utf-8", "surrogateescape")
        except OSError:
            return set()
        return set(re.findall(r"^\s*path\s*=\s*(.*?)\s*$", text, re.MULTILINE))

    @contextmanager
    def _without_git(self, nested: Sequence[str]) -> Iterator[None]:
        """Puts the `.git` of nested repositories aside for a moment, so that their files count as files."""
        for number, path in enumerate(nested):
            if not os.path.lexists(self.tree.path / path / ".git"):
                continue  # a link to a commit of a repository that is not here
            self.aside.mkdir(exist_ok=True, mode=0o700)
            whole.write(self.aside / f"{number}.path", path, durable=False)
            os.rename(self.tree.path / path / ".git", self.aside / str(number))
        try:
            yield
        finally:
            self._restore_nested()

    def _restore_nested(self) -> None:
        """Puts back what `_without_git` took, also for a call that was killed."""
        if not self.aside.is_dir():
            return
        for note in self.aside.glob("*.path"):
            home = self.tree.path / note.read_text("utf-8", "surrogateescape") / ".git"
            if os.path.lexists(note.with_suffix("")) and not os.path.lexists(home):
                os.rename(note.with_suffix(""), home)
        remove(self.aside)


def too_large(top: Path, listed: bytes, bytes_max: int) -> list[str]:
    """Lists, by what the file system says of them, the largest of the files that git `listed`, as many as have to be left out for
    the others to have `bytes_max` bytes. What lies beyond a link that a worker put there is not in the worktree."""
    sizes = {path: size_of(top / path) for path in git.decode(listed).split("\0") if path}
    total, large = sum(sizes.values()), []
    for path in sorted(sizes, key=lambda path: (-sizes[path], path)):
        if total <= bytes_max:
            break
        total -= sizes[path]
        if not is_beyond_a_link(top, path):
            large.append(path)
    return large


def _same_file(one: Path, other: Path) -> bool:
    """Tells by size and time whether the worker's index is still the copy that it was given."""
    try:
        a, b = os.stat(one), os.stat(other)
    except OSError:
        return False
    return (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns)


def _nested_sentence(nested: Sequence[str]) -> str:
    return f"There is a git repository of its own in {_some(nested)}; its files are kept, its history is not."


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:NAMED_MAX]) + (" and others" if len(paths) > NAMED_MAX else "")
