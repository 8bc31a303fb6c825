"""How often a process that runs no tasks itself looks for garbage: seldom, because it makes hardly any.

What the loop holds of each task goes as soon as the task is settled, without the collector. That one goes
through everything alive again and again where many objects come and stay for a moment, as tasks do; Django
and the project's modules are among them, and will be there as long as the process.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: so many more objects than before must be alive before the collector looks at them; Python's default is 700
MORE_ALIVE = 20_000


@contextmanager
def collected_seldom() -> Iterator[None]:
    """Pass over what is alive now, for good, and look less often at what is new while the block runs.

    Whoever has turned the collector off, or makes it look even less often, is left alone.
    """
    first, *others = before = gc.get_threshold()
    gc.freeze()
    if 0 < first < MORE_ALIVE:
        gc.set_threshold(MORE_ALIVE, *others)
    try:
        yield
    finally:
        gc.set_threshold(*before)
