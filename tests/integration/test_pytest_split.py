"""A real pytest that is made to run one part of its files: the parts together are everything, once each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.core.suites import Share, does_not_add_up
from swarm.edge import pytest_split
from swarm.edge.pytest_split import swarm_pytest_split as plugin


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Twenty test files of different sizes; each test writes its name into a file of its own."""
    top = tmp_path / "project"
    (top / "sub").mkdir(parents=True)
    (top / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-config --strict-markers\nfilterwarnings = error\n"
    )
    note = "def note(name):\n    open(os.environ['NOTES'] + '/' + name, 'x').close()\n"
    for number in range(20):
        folder = top if number % 2 else top / "sub"
        tests = "".join(f"def test_{n}(): note('{number}-{n}')\n" for n in range(1 + number % 5))
        (folder / f"test_f{number}.py").write_text(f"import os\n{note}{tests}")
    return top


def run(project: Path, part: int, parts: int, *args: str, code: int = 0, **env: str) -> tuple[str, Path]:
    """Runs one part; gives its output and the folder of its reports."""
    reports, notes = project.parent / f"reports-{part}", project.parent / "notes"
    for folder in (reports, notes):
        folder.mkdir(exist_ok=True)
    base = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHONPATH"))
    }
    base |= {"NOTES": str(notes), **env, "SWARM_SHARD": str(part), "SWARM_SHARDS": str(parts)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args],
        cwd=project, env={**base, **pytest_split.environment(base, reports)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, reports


def shares(*reports: Path) -> list[Share]:
    return [share for each in reports for share in pytest_split.shares(each)]


@pytest.mark.parametrize(
    "at_once", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)], ids=["alone", "xdist"]
)
def test_four_parts_are_everything_once(project: Path, at_once: tuple[str, ...]) -> None:
    """Row 86: twenty files in four parts: every test runs, none twice, the parts are of about one size, and the check agrees."""
    reports = [run(project, part, 4, *at_once)[1] for part in (1, 2, 3, 4)]
    assert len(os.listdir(project.parent / "notes")) == 60  # each test refuses to run twice
    found = shares(*reports)
    assert does_not_add_up(found, 4) == ""
    assert {len(share.files) for share in found} == {20}
    loads = {share.part: sum(share.files[name] for name in share.mine) for share in found}
    assert max(loads.values()) - min(loads.values()) <= 5


@pytest.mark.slow
def test_what_is_left_out_by_options_is_shared_out_by_nobody(project: Path) -> None:
    """`-k` and paths hold before the files are shared out; a part that gets none ends with pytest's "no tests"."""
    reports = [
        run(project, part, 3, "-k", "test_4", "sub", code=5 if part == 3 else 0)[1] for part in (1, 2, 3)
    ]
    assert does_not_add_up(shares(*reports), 3) == ""
    assert {frozenset(share.files) for share in shares(*reports)} == {
        frozenset({"sub/test_f4.py", "sub/test_f14.py"})
    }


@pytest.mark.slow
def test_a_pytest_that_a_test_starts_sees_nothing_of_it(project: Path) -> None:
    """Tests that run pytest themselves get all of what they ask for, and an environment as if nothing had been split."""
    inner = project / "inner"
    inner.mkdir()
    for name in ("test_a.py", "test_b.py"):
        (inner / name).write_text("def test_it(): pass\n")
    (project / "test_outer.py").write_text(
        "import os, subprocess, sys\n"
        "def test_outer():\n"
        "    assert os.environ['PYTEST_ADDOPTS'] == '-p no:doctest'\n"
        "    assert os.environ.get('PYTHONPATH', '') == os.environ['WANTED']\n"
        f"    asked = [sys.executable, '-m', 'pytest', '-q', {str(inner)!r}]\n"
        "    assert '2 passed' in subprocess.run(asked, capture_output=True, text=True, check=True).stdout\n"
    )

    def said(part: int) -> str:
        files, path = ("test_outer.py", "test_f1.py"), str(inner)
        return run(project, part, 2, *files, PYTEST_ADDOPTS="-p no:doctest", PYTHONPATH=path, WANTED=path)[0]

    parts = [said(part) for part in (1, 2)]
    assert sorted("1 passed" in part for part in parts) == [False, True]


def test_the_plugin_and_its_owner_use_the_same_names() -> None:
    """The plugin imports nothing of swarm, so its two names stand twice."""
    assert (plugin.NAME, plugin.REPORTS) == (pytest_split.NAME, pytest_split.REPORTS)
    assert Path(plugin.__file__).stem == pytest_split.NAME


def test_a_torn_report_is_told(tmp_path: Path) -> None:
    """A report that a kill cut short is no share of anything."""
    (tmp_path / "1.json").write_text('{"part": 1, "fil')
    with pytest.raises(ValueError, match="can't be read"):
        list(pytest_split.shares(tmp_path))
