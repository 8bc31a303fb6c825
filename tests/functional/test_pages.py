"""The documentation, tested: its code runs, its links lead somewhere, its generated pages are up to date.

Every Markdown page of the repository comes in; each is typed into a scratch project as a reader would do it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generate import DOCS, PAGES
from tests.support.pages import Page, read_page, with_expectations, write_project
from tests.support.processes import ROOT, Processes

ALL_PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")
FENCED = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


#: Another interpreter may run the pages, one that knows djqueue only as an installed wheel.
PYTHON = os.environ.get("DJQUEUE_TEST_PYTHON", sys.executable)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("path", [p for p in ALL_PAGES if "```python" in p.read_text()], ids=name_of)
def test_the_code_on_the_page_runs(path: Path, tmp_path: Path) -> None:
    page = read_page(path)
    script = write_project(page, tmp_path)
    environment = surroundings()
    run(tmp_path, environment, "-m", "django", "check")
    run(tmp_path, environment, "-m", "django", "migrate", "--verbosity", "0")
    for runner in page.test_runners:
        run(tmp_path, environment, "-m", *runner)
    beside = Processes(tmp_path, environment, directory=tmp_path, python=PYTHON)
    try:
        if page.needs_worker:
            beside.start("runworker", "--beat").wait_for_line("ready")
        run(tmp_path, environment, script.name)
        if page.needs_worker:
            assert beside.commands[0].terminate(within=30) == 0
    finally:
        beside.close()


@pytest.mark.parametrize("path", ALL_PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    links = LINK.findall(FENCED.sub("", path.read_text()))
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_generated_page_is_what_the_code_says(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page](), "run `make docs`"


def surroundings() -> dict[str, str]:
    """Return the environment of the scratch project; the repository is in it only for our interpreter."""
    source = {"PYTHONPATH": str(ROOT)} if sys.executable == PYTHON else {}
    return {**os.environ, **source, "DJANGO_SETTINGS_MODULE": "settings"}


def run(directory: Path, environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [PYTHON, *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}"


# The runner itself

PAGE = """
```python
# shop/tasks.py
def double(x):
    return 2 * x
```
Text.

<!-- not run: there is no such module -->
```python
import nothing_of_the_kind
```

```python
from shop.tasks import double
double(2)     # 4
double(2)     # a remark
```

```console
python manage.py runworker
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Page:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return read_page(path)


def test_blocks_are_told_apart(page: Page) -> None:
    assert list(page.files) == ["shop/tasks.py"]
    assert len(page.loose) == 1
    assert page.needs_worker


def test_a_wrong_value_on_a_page_is_found(page: Page, tmp_path: Path) -> None:
    environment = surroundings()
    script = write_project(page, tmp_path)
    run(tmp_path, environment, script.name)
    script.write_text(script.read_text().replace("== 4", "== 5"))
    with pytest.raises(AssertionError, match=r"double\(2\) is 4, not"):
        run(tmp_path, environment, script.name)


def test_remarks_and_statements_are_left_as_they_are() -> None:
    code = "x = 1  # 1\nf(x)  # what it does\n"
    assert with_expectations(code) == code
