"""A checkout of the user's, which moves from one commit to another whole, or is put back as it was.

Hides what git leaves when it fails on the way: it looks at everything first, but then writes file by file, and where a filter, a
disk or a mode stops it, what it has written and removed by then stays so, with the index as it was. So what a move is going to
change is copied aside first, and written down. Copies, and not the objects of the old commit: the filter that fails may be needed
for those too. By the same note a move that was killed is put back.

Rules for editing: what was changed there meanwhile is the user's and left as it is. Nothing is written through a link.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
import stat
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from swarm.dataclass import dataclass
from swarm.edge import git, linked, whole

NOTE = "note.json"
_Mark = tuple[int, ...]  # which file it is, and in which state
_SIZE = 3  # where that has its bytes


class _Seen(NamedTuple):
    """A path as it was before a move: its file (None: none, as in a sparse checkout, or a folder), mode and object in the index."""

    path: str
    mark: _Mark | None
    staged: str


@dataclass(frozen=True, slots=True)
class Move:
    """A move of the checkout at `top` from a commit to another; what it needs to be put back is in the folder `aside`."""

    top: Path
    old: str
    new: str
    aside: Path

    @classmethod
    def begun(cls, aside: Path) -> Move | None:
        """Gives the move that a call which was killed had begun, by what lies in `aside`; None where that is nothing."""
        try:
            noted = json.loads((aside / NOTE).read_text("ascii"))
        except (FileNotFoundError, ValueError):  # or a power cut left it empty
            return None
        return cls(Path(noted["top"]), noted["old"], noted["new"], aside)

    def begin(self, paths: Sequence[str]) -> None:
        """Copies aside what the move changes, and writes down that it begins. Raises OSError, GitError: nothing is changed then."""
        linked.remove(self.aside)
        staged = _staged(self.top, paths)
        self.aside.mkdir(parents=True)
        try:
            seen = []
            for number, path in enumerate(paths):
                mark = _mark(self.top, path)
                if mark is not None:
                    shutil.copy2(self.top / path, self.aside / str(number), follow_symlinks=False)
                seen.append(_Seen(path, mark, staged.get(path, "")))
            none_yet = sorted(
                {folder for each in seen if each.mark is None for folder in _missing(self.top, each.path)}
            )
            noted = {
                "top": str(self.top),
                "old": self.old,
                "new": self.new,
                "seen": seen,
                "none_yet": none_yet,
            }
            whole.write(self.aside / NOTE, json.dumps(noted), durable=False)
        except BaseException:
            linked.remove(self.aside)
            raise

    def make(self, moved: Sequence[str], nobodys: Sequence[str] = ()) -> str:
        """Moves index and files, of which those in `moved` are the new ones already; gives what git says where it does not. At
        those in `nobodys` git shows a change that nobody made: they are removed first, since to git a missing file is none."""
        if moved:  # a kill may have left the index behind its files
            told = git.encode("".join(f"{path}\0" for path in moved))
            take_in = ("update-index", "--add", "--remove", "-z", "--stdin")
            done = within(self.top, *take_in, input=told, ok=range(256))
            if done.code:
                return done.err
        for path in nobodys:
            (self.top / path).unlink(missing_ok=True)
        # A file that was only touched, or copied with all, is another for `read-tree`, which looks at no content.
        within(self.top, "update-index", "-q", "--refresh", ok=range(256))
        done = within(self.top, "read-tree", "-m", "-u", self.old, self.new, ok=range(256))
        return "" if done.code == 0 else done.err or f"git read-tree ended with {done.code}"

    def stands(self) -> bool:
        """Tells whether the checkout is still at the commit that the move began from: else what lies there is not ours any more."""
        if not self.top.is_dir():
            return False
        head = within(self.top, "rev-parse", "--verify", "-q", "HEAD", ok=range(256))
        return head.code == 0 and head.text == self.old

    def undo(self, entries: Mapping[str, str]) -> list[str]:
        """Puts back what the move has changed, which goes to `entries`, by mode and object; gives the paths for which that can't be
        done, or that were changed meanwhile. May be done twice; the copies of those stay in `aside`."""
        noted = json.loads((self.aside / NOTE).read_text("ascii"))
        seen = [_Seen(path, mark and tuple(mark), staged) for path, mark, staged in noted["seen"]]
        other = [each.path for each in seen if _mark(self.top, each.path) not in (None, each.mark)]
        ours = self._ours(entries, other)
        left = {each.path for each in seen if each.mark is None and not self._take_away(each.path, ours)}
        for folder in reversed(noted["none_yet"]):
            with contextlib.suppress(OSError):  # one that a person has put something into stays
                if _is_within(self.top, folder):
                    (self.top / folder).rmdir()
        for number, each in enumerate(seen):
            if each.mark is not None and not self._give_back(each, self.aside / str(number), ours):
                left.add(each.path)
        left |= self._put_index_back(seen, entries)
        if not left:
            self.forget()
        else:
            linked.remove(self.aside / NOTE)
        return sorted(left)

    def forget(self) -> None:
        """Removes what was copied aside: the move is made, or was put back."""
        linked.remove(self.aside / NOTE)
        linked.remove(self.aside)

    def _ours(self, entries: Mapping[str, str], paths: Sequence[str]) -> set[str]:
        """Gives those of the paths that hold what the move writes there, or the beginning of it."""
        try:
            ours = set(same(self.top, entries, paths))
        except git.GitError:
            # A filter that takes nothing in: what files should hold is asked of that for the way out.
            ours = set()
        return ours | {path for path in paths if path not in ours and self._is_beginning(path, entries)}

    def _is_beginning(self, path: str, entries: Mapping[str, str]) -> bool:
        file = self.top / path
        if file.is_symlink() or not entries.get(path, "").startswith("100"):
            return False
        asked = within(self.top, "cat-file", "--filters", f"{self.new}:{path}", ok=range(256))
        return asked.code == 0 and asked.out.startswith(file.read_bytes())

    def _take_away(self, path: str, ours: Collection[str]) -> bool:
        """Removes a file that was not there before; False where it is not ours."""
        if _mark(self.top, path) is None:
            return True
        if path not in ours:
            return False
        try:
            (self.top / path).unlink()
        except OSError:
            return False
        return True

    def _give_back(self, each: _Seen, copy: Path, ours: Collection[str]) -> bool:
        """Puts a file back that the move has removed or replaced; False where it is somebody's, or that can't be done."""
        now, file = _mark(self.top, each.path), self.top / each.path
        # Untouched, or put back by a call that was killed then.
        if now == each.mark or not os.path.lexists(copy):
            return True
        if now is not None and each.path not in ours:
            return _are_alike(copy, file)
        if not _is_within(self.top, each.path) or (now is None and os.path.lexists(file)):
            return False
        if each.mark is None or os.lstat(copy).st_size != each.mark[_SIZE]:  # a power cut left it empty
            return False
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _replace(copy, file)
        except OSError:
            return False
        return True

    def _put_index_back(self, seen: Sequence[_Seen], entries: Mapping[str, str]) -> set[str]:
        """Puts the index back where it has what the move staged; gives the paths for which that could not be done."""
        now = _staged(self.top, [each.path for each in seen])
        new = {each.path: " ".join(entries.get(each.path, "").split(" ")[::2]) for each in seen}
        back = [each for each in seen if each.staged != now.get(each.path, "") == new[each.path]]
        if back:
            gone = f"0 {'0' * len(self.old)}"
            told = git.encode("".join(f"{each.staged or gone}\t{each.path}\0" for each in back))
            done = within(self.top, "update-index", "-z", "--index-info", input=told, ok=range(256))
            if done.code:
                return {each.path for each in back}
        within(self.top, "update-index", "-q", "--refresh", ok=range(256))
        return set()


def within(top: Path, *args: str, input: bytes | None = None, ok: Collection[int] = (0,)) -> git.Outcome:
    """Runs git in a checkout of the user's, by their settings; where it fails, it is for them to see to it there."""
    try:
        return git.run(*args, cwd=top, input=input, ok=ok, user_config=True)
    except git.GitError as error:
        error.next_step = error.next_step or f"see what git -C {top} status says, then swarm finish again"
        raise


def same(top: Path, entries: Mapping[str, str], paths: Sequence[str]) -> list[str]:
    """Gives those of the paths whose files are what `entries`, by mode and object, say of them."""
    files = {path: top / path for path in paths}
    gone = [path for path, file in files.items() if not os.path.lexists(file) and path not in entries]
    links = {path: os.readlink(file) for path, file in files.items() if file.is_symlink()}
    plain = [
        path for path, file in files.items() if path not in links and file.is_file() and "\n" not in path
    ]
    there = {path: f"120000 blob {_hash(top, '--stdin', os.fsencode(to))}" for path, to in links.items()}
    told = git.encode("".join(f"{path}\n" for path in plain))
    ids = _hash(top, "--stdin-paths", told).split() if plain else []
    for path, oid in zip(plain, ids, strict=True):
        there[path] = f"{'100755' if os.access(files[path], os.X_OK) else '100644'} blob {oid}"
    return [*gone, *(path for path, facts in there.items() if entries.get(path) == facts)]


def unseen(top: Path, paths: Collection[str]) -> dict[str, str]:
    """Gives those of the paths that git was told not to look at in this checkout, each with the option of `update-index` that has
    it look again."""
    wanted, found = set(paths), {}
    for entry in git.decode(within(top, "ls-files", "-v", "-z").out).split("\0"):
        letter, path = entry[:1], entry[2:]
        if path in wanted and letter.upper() == "S":
            found[path] = "--no-skip-worktree"
        elif path in wanted and letter.islower():
            found[path] = "--no-assume-unchanged"
    return found


def _hash(top: Path, how: str, told: bytes) -> str:
    return within(top, "hash-object", how, input=told).text


def _staged(top: Path, paths: Sequence[str]) -> dict[str, str]:
    """Gives mode and object that the index has of those paths, as `update-index --index-info` takes them."""
    wanted = set(paths)
    entries = [
        entry.partition("\t") for entry in git.decode(within(top, "ls-files", "-s", "-z").out).split("\0")
    ]
    return {path: facts.rpartition(" ")[0] for facts, _, path in entries if path in wanted}


def _mark(top: Path, path: str) -> _Mark | None:
    """Tells one state of a file from another; None where there is none, or something that git takes no content of."""
    if not _is_within(top, path):
        return None
    try:
        found = os.lstat(top / path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        return None
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns


def _missing(top: Path, path: str) -> list[str]:
    """Lists the folders that would have to be made for a path."""
    parents = [str(parent) for parent in PurePosixPath(path).parents][:-1]
    return [parent for parent in parents if not (top / parent).is_dir()]


def _is_within(top: Path, path: str) -> bool:
    """Tells whether a path leads through no link: else its file would be another one, which is nobody's business here."""
    folder = str(top)
    for part in path.split("/")[:-1]:
        folder = f"{folder}/{part}"
        if os.path.islink(folder):
            return False
    return True


def _are_alike(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and os.readlink(one) == os.readlink(other)
    return filecmp.cmp(one, other, shallow=False)


def _replace(copy: Path, file: Path) -> None:
    """Puts a copy in the place of a file, in one step also where it lies on another disk."""
    try:
        os.replace(copy, file)
    except OSError:
        beside = file.with_name(f".swarm-{copy.name}")
        shutil.copy2(copy, beside, follow_symlinks=False)
        os.replace(beside, file)
        os.unlink(copy)
