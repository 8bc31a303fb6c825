"""Composing calls: signatures, chains, groups, chords, maps, and the stamps on them.

Pure data until it is sent. What a message asks to follow a task is found here as well.
"""

from __future__ import annotations

from djqueue.canvas.chain import chain
from djqueue.canvas.chord import chord
from djqueue.canvas.contract import StampingVisitor
from djqueue.canvas.group import group
from djqueue.canvas.maps import chunks, xmap, xstarmap
from djqueue.canvas.signature import Signature, maybe_signature, signature, subtask

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
