"""What must be done to its end, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable


def surely(finish: Callable[[], None]) -> None:
    """Call a function that may be called twice; once more if an interrupt has stopped it."""
    try:
        finish()
    except Exception:
        raise
    except BaseException:
        finish()
        raise
