"""Who may import whom: floors, apps, rings, fences, and imports hidden inside functions.

Sources and a table come in; violations leave, one line each, with the place and what is allowed instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from tests.support.house.sources import Source


def longest_prefix(name: str, table: Iterable[str]) -> str | None:
    """Return the longest entry that is `name` or a package above it."""
    fitting = [entry for entry in table if name == entry or name.startswith(entry + ".")]
    return max(fitting, key=len, default=None)


def upward(sources: Sequence[Source], floors: Mapping[str, int], root: str) -> Iterator[str]:
    """Rule 1: a module of `root` imports only from its own floor and those below."""
    modules = {source.name for source in sources}
    for source in sources:
        if source.name.split(".")[0] != root:
            continue
        here = _floor(source.name, floors)
        if here is None:
            yield f"{source.place}: no floor is known for {source.name}; add it to the ground plan"
            continue
        for imported in source.imports:
            if imported.target.split(".")[0] != root:
                continue
            target = _module(imported.target, modules)
            there = _floor(target, floors)
            if there is not None and there > here:
                yield (
                    f"{source.place}:{imported.line}: floor {here} imports {target} of floor {there};"
                    " imports run downwards only"
                )


def out_of_bounds(
    sources: Sequence[Source], allowed: Mapping[str, Sequence[str]], house: Sequence[str]
) -> Iterator[str]:
    """Rules 1 and 3 for the apps: what a package may import of the other packages of the house.

    `allowed` maps a package or module to the modules open to it (with everything below them, except that
    "djqueue" alone opens only the public names in its `__init__`); the longest entry counts.
    """
    modules = {source.name for source in sources}
    for source in sources:
        key = longest_prefix(source.name, allowed)
        if key is None:
            continue
        own = source.name.split(".")[0]
        for imported in source.imports:
            top = imported.target.split(".")[0]
            if top == own or top not in house:
                continue
            target = _module(imported.target, modules)
            if not any(_opens(entry, target) for entry in allowed[key]):
                yield (
                    f"{source.place}:{imported.line}: {key} imports {target};"
                    f" open to it: {', '.join(allowed[key]) or 'nothing'}"
                )


def rings(sources: Sequence[Source]) -> Iterator[str]:
    """Rule 1: no modules that import each other, however long the way round."""
    modules = {source.name for source in sources}
    graph = {
        source.name: {_module(imported.target, modules) for imported in source.imports}
        & modules - {source.name}
        for source in sources
    }
    for component in _strongly_connected(graph):
        if len(component) > 1:
            yield f"a ring of imports: {' <-> '.join(sorted(component))}"


def inside_functions(sources: Sequence[Source], named: Mapping[str, str]) -> Iterator[str]:
    """Rule 2: no import inside a function, except those in `named` ("module:target" → reason)."""
    unused = set(named)
    for source in sources:
        for imported in source.imports:
            if imported.function is None:
                continue
            key = f"{source.name}:{imported.target}"
            unused.discard(key)
            if key not in named:
                yield (
                    f"{source.place}:{imported.line}: {imported.function}() imports {imported.target};"
                    " move it to the top of the file"
                )
    for key in sorted(unused):
        yield f"the exception for {key} is no longer needed: take it off the list"


def over_the_fence(sources: Sequence[Source], fences: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Rule 4: third-party packages are imported only in the places named (patterns with *)."""
    for source in sources:
        for imported in source.imports:
            fence = longest_prefix(imported.target, fences)
            if fence and not any(fnmatchcase(source.place, place) for place in fences[fence]):
                yield (
                    f"{source.place}:{imported.line}: imports {imported.target};"
                    f" {fence} belongs in {', '.join(fences[fence]) or 'no file at all'}"
                )


def _opens(entry: str, target: str) -> bool:
    return target == entry or ("." in entry and target.startswith(entry + "."))


def _module(target: str, modules: set[str]) -> str:
    """Return the module meant by an import of `target`, which may be a name inside a module."""
    return target if target in modules else longest_prefix(target, modules) or target


def _floor(module: str, floors: Mapping[str, int]) -> int | None:
    key = longest_prefix(module, floors)
    # The package itself is the roof: its entry does not vouch for modules nobody has placed.
    return None if key is None or ("." not in key and key != module) else floors[key]


def _strongly_connected(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the strongly connected components (Kosaraju: order of finishing, then backwards)."""
    backwards: dict[str, set[str]] = {node: set() for node in graph}
    for node, targets in graph.items():
        for target in targets:
            backwards[target].add(node)
    seen: set[str] = set()
    order = [node for start in graph for node in _visit(start, graph, seen)]
    seen = set()
    return [set(found) for node in reversed(order) if (found := _visit(node, backwards, seen))]


def _visit(start: str, graph: Mapping[str, set[str]], seen: set[str]) -> list[str]:
    """Return what is newly reached from `start`, in the order of leaving."""
    if start in seen:
        return []
    seen.add(start)
    left = [node for target in sorted(graph[start]) for node in _visit(target, graph, seen)]
    return [*left, start]
