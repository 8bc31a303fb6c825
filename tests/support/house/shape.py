"""What a file may look like: its size, its name, its first docstring, its state, its sleeps.

Sources and a table of named exceptions come in; violations leave, one line each.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence

from tests.support.house.sources import Function, Source

FILE_LINES, FUNCTION_LINES, PUBLIC_METHODS, PARAMETERS = 400, 60, 15, 7
DOCSTRING_LINES = range(3, 9)
FORBIDDEN_NAMES = {"base", "common", "helper", "helpers", "misc", "util", "utils"}
#: Tables that Django or Python want under a name in small letters.
DJANGOS_TABLES = {"__all__", "urlpatterns"}
MUTABLE_MAKERS = {
    "bytearray",
    "Counter",
    "ContextVar",
    "defaultdict",
    "deque",
    "dict",
    "list",
    "Lock",
    "local",
    "OrderedDict",
    "RLock",
    "set",
    "WeakKeyDictionary",
    "WeakSet",
    "WeakValueDictionary",
}
MUTATORS = {
    "add",
    "append",
    "appendleft",
    "clear",
    "discard",
    "extend",
    "insert",
    "pop",
    "popitem",
    "popleft",
    "remove",
    "set",
    "setdefault",
    "update",
}


def sizes(sources: Sequence[Source], named: Mapping[str, int], file_lines: int = FILE_LINES) -> Iterator[str]:
    """Rule 6: files, functions, classes and constructors stay small.

    `named` holds the exceptions with their size ("place" or "place:qualified name" → at most so many). One
    that has shrunk below its entry must be lowered: the list only shrinks.
    """
    for key, size, limit, what in _measured(sources, file_lines):
        allowed = max(named.get(key, limit), limit)
        if size > allowed:
            yield f"{key}: {size} {what}, at most {allowed}"
        elif key in named and size < named[key]:
            yield f"{key}: {size} {what} now, but {named[key]} on the list of exceptions: lower or remove it"
    known = {key for key, *_ in _measured(sources, file_lines)}
    yield from (f"{key} is on the list of exceptions and does not exist" for key in named if key not in known)


def names(sources: Sequence[Source]) -> Iterator[str]:
    """Rule 7: nothing is called utils."""
    for source in sources:
        for part in source.name.split("."):
            if part.strip("_") in FORBIDDEN_NAMES:
                yield f"{source.place}: {part!r} says nothing; name the file after what it does"


def contracts(sources: Sequence[Source]) -> Iterator[str]:
    """Rule 7: the abstract class of a seam lives in contract.py."""
    for source in sources:
        if source.path.name == "contract.py":
            continue
        for klass in source.classes():
            if any(_last_name(parent) in {"ABC", "ABCMeta"} for parent in klass.bases):
                yield f"{source.place}:{klass.lineno}: the abstract {klass.name} belongs in a contract.py"


def docstrings(sources: Sequence[Source], lines: range = DOCSTRING_LINES) -> Iterator[str]:
    """Rule 8: every file that holds anything opens with a docstring of 3 to 8 lines.

    An empty `__init__.py`, or one that holds nothing but a docstring, is no room.
    """
    for source in sources:
        text = ast.get_docstring(source.tree)
        if source.path.name == "__init__.py" and len(source.tree.body) <= (text is not None):
            continue
        count = len(text.splitlines()) if text else 0
        if count not in lines:
            yield (
                f"{source.place}: opens with a docstring of {count} lines;"
                f" {lines.start} to {lines.stop - 1} say what the room does"
            )


def state(sources: Sequence[Source], places: Mapping[str, str], caches: Mapping[str, str]) -> Iterator[str]:
    """Rule 5: no module-level mutable state, except in `places` (module → what it keeps).

    A table in capitals is a constant as long as no function of the file changes it. `caches` names the
    functions ("module:function" → why) whose cached answers can never become wrong.
    """
    for source in sources:
        if source.name in places:
            continue
        names_here = dict(_module_level(source.tree))
        for name, node in names_here.items():
            if not name.isupper() and name not in DJANGOS_TABLES and _is_mutable(node):
                yield f"{source.place}:{node.lineno}: module-level {name} can change; state has five places"
        for qualified, function in source.functions():
            for line, what in _changes(function, set(names_here)):
                yield f"{source.place}:{line}: {qualified}() changes module-level {what}"
            cached = any(_last_name(node) in {"cache", "lru_cache"} for node in function.decorator_list)
            if cached and f"{source.name}:{qualified}" not in caches:
                yield f"{source.place}:{function.lineno}: {qualified}() keeps a cache that nobody resets"


def sleeps(sources: Sequence[Source], named: Mapping[str, str]) -> Iterator[str]:
    """Tests wait for conditions, never for a time."""
    for source in sources:
        if source.place in named:
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and _last_name(node.func) == "sleep":
                yield f"{source.place}:{node.lineno}: sleeps; use tests.support.waiting.wait_until"


def packages(sources: Sequence[Source]) -> Iterator[str]:
    """Every directory with modules is a package, or the wheel would leave it out."""
    for directory in sorted({source.path.parent for source in sources}):
        if not (directory / "__init__.py").exists():
            yield f"{directory.relative_to(sources[0].root)}/ has no __init__.py"


def _measured(sources: Sequence[Source], file_lines: int) -> Iterator[tuple[str, int, int, str]]:
    for source in sources:
        yield source.place, len(source.text.splitlines()), file_lines, "lines"
        for qualified, function in source.functions():
            lines = (function.end_lineno or 0) - function.lineno + 1
            yield f"{source.place}:{qualified}", lines, FUNCTION_LINES, "lines"
            if function.name == "__init__":
                arguments = function.args
                count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs) - 1
                yield f"{source.place}:{qualified} parameters", count, PARAMETERS, "parameters"
        for klass in source.classes():
            public = {
                node.name
                for node in klass.body
                if isinstance(node, Function) and not node.name.startswith("_") and not _is_property(node)
            }
            yield f"{source.place}:{klass.name}", len(public), PUBLIC_METHODS, "public methods"


def _is_property(function: Function) -> bool:
    """Tell whether users see it as an attribute, not as something the object does."""
    names = {_last_name(decorator) for decorator in function.decorator_list}
    return bool(names & {"property", "cached_property", "setter", "deleter"})


def _module_level(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that are given a value at the top of the file, and the value."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            yield node.target.id, node.value


def _is_mutable(node: ast.expr) -> bool:
    if isinstance(node, ast.Call):
        return _last_name(node.func) in MUTABLE_MAKERS
    return isinstance(node, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)


def _changes(function: ast.AST, names_here: set[str]) -> Iterator[tuple[int, str]]:
    """Yield where the function changes one of the names: by global, by item, by a mutating method."""
    for node in ast.walk(function):
        if isinstance(node, ast.Global):
            yield node.lineno, ", ".join(node.names)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            if isinstance(node.value, ast.Name) and node.value.id in names_here:
                yield node.lineno, node.value.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, method = node.func.value, node.func.attr
            if method in MUTATORS and isinstance(owner, ast.Name) and owner.id in names_here:
                yield node.lineno, owner.id


def _last_name(node: ast.expr) -> str:
    """Return the last part of a dotted name, of what is called or subscripted."""
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
