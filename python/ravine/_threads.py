"""How a step runs on the CPU: the number of threads, and the instruction set."""

from __future__ import annotations

from ravine import _core
from ravine._settings import count as whole_number


def get_num_threads() -> int:
    """Return how many threads a step may use.

    At first the least of the CPUs of the process, the quota of its control groups and
    ``RAVINE_NUM_THREADS``, or else ``OMP_NUM_THREADS``.

    Raises
    ------
    ValueError
        If ``RAVINE_NUM_THREADS`` is no positive whole number.
    """
    return _core.num_threads()


def set_num_threads(count: int) -> None:
    """Set how many threads a step may use, in the whole process.

    Results have the same bits with every number. The threads are started by the first step that
    needs them.

    Parameters
    ----------
    count : int of at least 1

    Raises
    ------
    ValueError
        If it is no whole number, or out of range; as `get_num_threads`.

    Examples
    --------
    >>> import ravine
    >>> before = ravine.get_num_threads()
    >>> ravine.set_num_threads(1)
    >>> ravine.get_num_threads()
    1
    >>> ravine.set_num_threads(before)
    """
    threads = whole_number("The number of threads", count)
    if not 1 <= threads < 1 << 31:
        raise ValueError(
            f"The number of threads must be at least 1 and below 2**31. Received: {count!r}."
        )
    _core.set_num_threads(threads)


def instruction_set() -> str:
    """Return the instruction set in use: "v2", "v3", "v4" or "baseline".

    The widest that this machine and this build have, or that which ``RAVINE_ISA`` names.

    Raises
    ------
    RuntimeError
        If ``RAVINE_ISA`` names one that is not there.
    """
    return _core.instruction_set()
