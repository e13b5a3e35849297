"""The averages of the variables, in their place: for good, or while they are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ravine._arrays import keep_values
from ravine._buildable import Buildable
from ravine._cuda import current_stream, synchronize
from ravine._learning_rate import LearningRate
from ravine._variables import BuiltVariables, Variables


class Averaging(Buildable):
    """Averages of an optimizer; `Optimizer` documents the whole."""

    def __init__(self, learning_rate: LearningRate, options: Mapping[str, Any]) -> None:
        self._averages_shown: set[object] = set()  # the blocks of `averaged_weights` that are open
        self._hide_averages: Callable[[], None] | None = None  # while the variables hold them
        super().__init__(learning_rate, options)

    def finalize_variable_values(self, trainable_variables: Variables | None = None) -> None:
        """Overwrite variables by their averages, at the end of training.

        Parameters
        ----------
        trainable_variables : list, tuple or dict of arrays, optional
            Some of the variables; all if not given.

        Raises
        ------
        ValueError
            If an array is not one of the variables, or inside a block of `averaged_weights`.

        Notes
        -----
        Does nothing without `use_ema`, and before the first update, when there are no averages. On
        a GPU it is put on CuPy's current stream.
        """
        with self._lock:
            self._refuse_capture("Variables cannot be overwritten by their averages")
            self._refuse_averages_shown("Variables cannot be overwritten by their averages")
            built = self._variables
            if not self.use_ema or self.iterations == 0 or built is None:
                return
            indices = list(range(len(built)))
            if trainable_variables is not None:
                chosen = BuiltVariables(trainable_variables).bound
                indices = [built.index(array) for array in chosen]
            stream = 0 if self._device is None else current_stream(self._device)
            self._built_state().plan.overwrite_with_averages(indices, stream)

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Let the variables hold their averages inside a ``with`` block, to evaluate them.

        When the block ends, in whatever way, they hold again what they held, to the last bit.
        Before the first update there are no averages and they stay as they are. A block within a
        block changes nothing.

        Raises
        ------
        ValueError
            Without `use_ema`. And inside the block from what would be lost when it ends or would
            take the averages for the variables: a step, `finalize_variable_values`, copying.

        Notes
        -----
        On a GPU it waits for the device when the block begins and when it ends, and steps that
        were captured into a CUDA graph must not be replayed in it.

        Examples
        --------
        >>> import numpy as np, ravine
        >>> w = np.array([1.0])
        >>> optimizer = ravine.SGD(learning_rate=1.0, use_ema=True, ema_momentum=0.5)
        >>> optimizer.apply([np.array([1.0])], [w])
        >>> optimizer.apply([np.array([1.0])], [w])
        >>> with optimizer.averaged_weights():
        ...     print(w)
        [-0.5]
        >>> w
        array([-1.])
        """
        block = object()
        try:
            with self._lock:
                self._show_averages(block)
            yield
        finally:
            try:
                self._leave(block)
            except BaseException:  # an interrupt: none comes before this `try`
                self._leave(block)
                raise

    def _show_averages(self, block: object) -> None:
        self._refuse_capture("Averages cannot be shown")
        if not self.use_ema:
            raise ValueError(
                "averaged_weights() needs averages, and this optimizer keeps none. Make it with "
                "use_ema=True."
            )
        if self._hide_averages is None:
            arrays = []
            if self._variables is not None:
                self._variables.check_writable()
                arrays = self._variables.bound
            hide = keep_values(arrays, self._device)
            self._suspend_steps(True)
            try:
                self.finalize_variable_values()
                if self._device is not None:
                    synchronize(self._device)
                self._hide_averages = hide
            except BaseException:
                hide()
                self._suspend_steps(False)
                raise
        self._averages_shown.add(block)

    def _leave(self, block: object) -> None:
        """Close a block, which may not have been opened; with the last one, hide the averages."""
        with self._lock:
            self._averages_shown.discard(block)
            if self._hide_averages is not None and not self._averages_shown:
                self._hide_averages()
                self._hide_averages = None
                self._suspend_steps(False)

    def _bind(self, variables: BuiltVariables) -> None:
        super()._bind(variables)
        self._suspend_steps(self._hide_averages is not None)

    def _suspend_steps(self, suspended: bool) -> None:
        """Let the plan make no steps on its own, so that they are refused here."""
        if self._plan is not None:
            self._plan.suspended = suspended

    def _refuse_averages_shown(self, what: str) -> None:
        """Raise a ValueError inside a block of `averaged_weights`."""
        if self._hide_averages is not None:
            raise ValueError(
                f"{what} inside averaged_weights(), where the variables hold their averages. Do it "
                "after the block."
            )
