"""What was measured, as Markdown: one row for each question, medians and spread, and djqueue's ratios.

Figures by contender come in, the first of them djqueue's; text leaves.
"""

from __future__ import annotations

from benchmarks.rounds import Figures

QUESTIONS = {
    "send": ("sending one by one", "tasks/s"),
    "bulk": ("sending in bulk", "tasks/s"),
    "drain": ("draining, with results", "tasks/s"),
    "drain_ignored": ("draining, without results", "tasks/s"),
    "p50": ("round trip, median", "ms"),
    "p99": ("round trip, 99th percentile", "ms"),
    "memory": ("idle worker, whole tree (PSS)", "MB"),
    "first": ("start to first result", "s"),
}


def table(figures: dict[str, Figures]) -> str:
    """Return the results: medians, least and most, and the first contender's ratio to each other one."""
    names = list(figures)
    ours, *peers = names
    lines = [
        "| " + " | ".join(["", *names, *(f"ratio to {peer}" for peer in peers)]) + " |",
        "|---" * (1 + len(names) + len(peers)) + "|",
    ]
    for question, (words, unit) in QUESTIONS.items():
        cells = [f"{words} ({unit})"]
        cells += [_cell(figures[name], question) for name in names]
        for peer in peers:
            mine, theirs = figures[ours].median(question), figures[peer].median(question)
            cells.append(f"{mine / theirs:.2f} ×" if mine and theirs else "–")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(figures: Figures, question: str) -> str:
    values, median = figures.rounds.get(question), figures.median(question)
    if not values or median is None:
        return "–"
    return f"{_number(median)} ({_number(min(values))} – {_number(max(values))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
