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
    "group_sent": ("sending a group of 1,000", "s"),
    "group": ("a group of 1,000, until its results are read", "s"),
    "chord_sent": ("sending a chord of 1,000", "s"),
    "chord": ("a chord of 1,000, until its body's result is read", "s"),
    "chain_sent": ("sending a chain of 200", "s"),
    "chain": ("a chain of 200, until its result is read", "s"),
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
    return f"{number(median)} ({number(min(values))} – {number(max(values))})"


def number(value: float) -> str:
    """Return the number with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
