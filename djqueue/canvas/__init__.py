"""Composing calls: signatures, and chains of them.

Pure data until it is sent. What a message asks to follow a task is found here as well.
"""

from __future__ import annotations

from djqueue.canvas.chain import chain
from djqueue.canvas.signature import Signature, maybe_signature, signature

__all__ = ["Signature", "chain", "maybe_signature", "signature"]
