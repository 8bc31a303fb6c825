"""Running the code on a page of the documentation, as a reader would who types it all in.

A Markdown page comes in. Its Python blocks that begin with a comment naming a file, or follow a line that
names one, become those files of a scratch project; the others run in that project, in order, beside a worker.
Where a line ends in a comment that is a literal, the expression must have that value. `<!-- not run: why -->`
before a block leaves it out.
"""

from __future__ import annotations

import ast
import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
NOT_RUN = re.compile(r"<!-- not run: .+ -->\s*\Z")
FILE = re.compile(r"# (?P<path>[\w/]+\.py)\b")
FILE_BEFORE = re.compile(r"`(?P<path>[\w/]+\.py)`[^`\n]*:\s*\Z")
EXPECTED = re.compile(r"^(?P<expression>[^#]+?)\s+# (?P<value>[^#]+)$")

#: What `django-admin startproject` gives, as far as pages may rely on it.
SETTINGS = """\
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent
SECRET_KEY = "of the scratch project"
USE_TZ = True
ROOT_URLCONF = "urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": BASE_DIR / "db.sqlite3",
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
_FROM_STARTPROJECT = INSTALLED_APPS
"""
#: On pages a list may begin with an ellipsis: what was there before, and the page's own apps.
SETTINGS_END = """
_given = [app for app in INSTALLED_APPS if app is not ...]
INSTALLED_APPS = [*dict.fromkeys([*_FROM_STARTPROJECT, *_given, *{apps!r}])]
"""
URLS = "from django.contrib import admin\nfrom django.urls import path\n\nurlpatterns = []\n"
#: Set-up of the script that runs the other blocks.
SCRIPT = """\
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()
"""


@dataclass
class Page:
    """The Python blocks of one page: files by path, and the rest in order."""

    path: Path
    files: dict[str, str] = field(default_factory=dict)
    loose: list[str] = field(default_factory=list)
    commands: str = ""

    @property
    def needs_worker(self) -> bool:
        """Whether the page tells the reader to run a worker and has code to run beside it."""
        return bool(self.loose) and "runworker" in self.commands

    @property
    def test_runners(self) -> list[list[str]]:
        """The modules, with arguments, that run the page's own tests where it tells the reader to."""
        runners = {"manage.py test": ["django", "test"], "pytest": ["pytest"]}
        return [module for command, module in runners.items() if command in self.commands]


def read_page(path: Path) -> Page:
    """Return the blocks of the page that are to be run."""
    page, text = Page(path), path.read_text()
    for match in BLOCK.finditer(text):
        code, before = textwrap.dedent(match["code"]), text[: match.start()]
        if match["language"] in ("console", "sh", "shell"):
            page.commands += code
        if match["language"] != "python" or NOT_RUN.search(before):
            continue
        named = FILE.match(code) or FILE_BEFORE.search(before)
        if named:
            # The settings of a project called mysite are those of the scratch project.
            name = "settings.py" if named["path"].endswith("settings.py") else named["path"]
            page.files[name] = page.files.get(name, "") + code + "\n"
        else:
            page.loose.append(code)
    return page


def write_project(page: Page, directory: Path) -> Path:
    """Write the scratch project, and return the script that runs what is in no file."""
    files = dict(page.files)
    apps = sorted({path.split("/")[0] for path in files if "/" in path})
    settings = SETTINGS + files.pop("settings.py", "") + SETTINGS_END.format(apps=apps)
    files["settings.py"] = settings
    files["urls.py"] = URLS + files.get("urls.py", "")
    for app in apps:
        files.setdefault(f"{app}/__init__.py", "")
    files["page_script.py"] = SCRIPT + "\n".join(map(with_expectations, page.loose))
    for name, code in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(code)
    return directory / "page_script.py"


def with_expectations(code: str) -> str:
    """Turn `expression  # literal` into a check that fails with both values."""
    return "\n".join(map(_line_with_expectation, code.splitlines())) + "\n"


def _line_with_expectation(line: str) -> str:
    match = EXPECTED.match(line)
    if not match or not _is_expression(match["expression"]) or not _is_literal(match["value"]):
        return line
    expression, value = match["expression"], match["value"]
    message = f"{expression} is %r, not {value}"
    return f"_value = {expression}; assert _value == {value}, {message!r} % (_value,)"


def _is_expression(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return True


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return False
    return True
