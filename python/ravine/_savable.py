"""What an optimizer keeps, taken out and put back: as a dictionary, a list, a copy, a pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Self

import numpy as np

from ravine import _core
from ravine._arrays import AnyArray, Array, copy_to_host
from ravine._averages import Averaging
from ravine._checkpoint import load, save
from ravine._missing_gradients import MissingGradients
from ravine._saved_state import load_state_dict, state_dict, state_of_list
from ravine._variables import Variables

# What `__setstate__` makes anew.
_NOT_COPIED = {
    *("_lock", "_rule", "_options", "_exclusions", "_multipliers", "_loss_scale", "_on_missing"),
    *("_variables", "_state", "_plan", "_device", "_rates_end", "_copied_at", "_kinds"),
    *("_averages_shown", "_hide_averages", "_building", "_set_by_build"),
}


class Savable(Averaging):
    """State of an optimizer, out and in; `Optimizer` documents the whole."""

    def state_dict(self) -> dict[str, Array]:
        """Copy the state into a flat dictionary of arrays, as `numpy.savez` stores them.

        Returns
        -------
        dict
            ``iteration``, ``learning_rate`` if it is a number, and slots, averages and accumulators
            as ``"<kind>/<name of the variable>"``, all NumPy arrays. The variables themselves are
            not part of it.

        Notes
        -----
        On a GPU it waits for the device. The state of a run on a GPU may be loaded on the CPU, and
        the other way round.
        """
        with self._lock:
            self._refuse_capture("The state cannot be copied")
            return state_dict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Write back what `state_dict` returned.

        Parameters
        ----------
        state : mapping of arrays
            Of an optimizer of the same class, built for variables of the same names and shapes;
            NumPy arrays, or arrays on a GPU. A learning rate that is a schedule or a callable stays
            as it is here.

        Raises
        ------
        TypeError
            If it is no mapping.
        ValueError
            If it does not fit, or this optimizer was not built. Nothing has been changed then.

        Notes
        -----
        While it works it holds a copy of the state that was here, to put back what it has written
        if a copy to a GPU fails.
        """
        with self._lock:
            self._refuse_capture("A state cannot be loaded")
            load_state_dict(self, state)

    def get_weights(self) -> list[Array]:
        """Copy the state into a list of NumPy arrays, in the order of `variables`.

        Returns
        -------
        list of arrays

        Raises
        ------
        ValueError
            If this optimizer was not built.

        Examples
        --------
        >>> import numpy as np, ravine
        >>> optimizer = ravine.SGD(learning_rate=0.5, momentum=0.9)
        >>> optimizer.apply([np.ones(2)], [np.zeros(2)])
        >>> optimizer.get_weights()
        [array(1), array(0.5), array([-0.5, -0.5])]
        """
        with self._lock:
            self._refuse_capture("The state cannot be copied")
            self._built_state()
            return [copy_to_host(array) for array in self.variables]

    def set_weights(self, weights: Sequence[AnyArray]) -> None:
        """Write back what `get_weights`, or the `variables` of Keras's optimizer, returned.

        Parameters
        ----------
        weights : sequence of arrays
            As many as `variables` has, of the same shapes; of the same types or narrower ones of
            the same kind, as Keras's counters of 32 bits.

        Raises
        ------
        TypeError
            If it is no sequence.
        ValueError
            If they do not fit, or this optimizer was not built. Nothing has been changed then.

        Notes
        -----
        Unlike `state_dict`, a list has no names: variables are told apart by their order alone. And
        in an accumulation window that has begun, those that have received a gradient are known by
        an accumulator that is not all 0.
        """
        self._set_weights(weights, {})

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Put what `get_weights` returns into a store, under the keys "0", "1", ..., as Keras does.

        Parameters
        ----------
        store : mutable mapping
            A dict, or a group of an HDF5 file.

        Raises
        ------
        ValueError
            If this optimizer was not built.
        """
        for i, array in enumerate(self.get_weights()):
            store[str(i)] = array

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Write back what `save_own_variables`, ours or Keras's, put into a store.

        Parameters
        ----------
        store : mapping
            With the keys "0", "1", ...

        Raises
        ------
        TypeError
            If it is no mapping.
        ValueError
            As `set_weights`; also if a key is missing. Nothing has been changed then.
        """
        if not hasattr(store, "keys"):  # those of Keras are no Mapping
            raise TypeError(
                "load_own_variables() takes a store that save_own_variables() has filled, a "
                f"mapping. Received: {type(store).__name__}. Nothing was loaded."
            )
        missing = sorted({*map(str, range(len(store)))} - {*store.keys()}, key=int)
        if missing:
            raise ValueError(
                f"The store must have the keys '0' to '{len(store) - 1}'. Missing: {missing}. "
                "Nothing was loaded."
            )
        self.set_weights([np.asarray(store[str(i)]) for i in range(len(store))])

    def _set_weights(self, weights: Sequence[AnyArray], scale: Mapping[str, AnyArray]) -> None:
        with self._lock:
            self._refuse_capture("A state cannot be loaded")
            load_state_dict(self, state_of_list(self, weights, scale))

    # --- Checkpoints

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write variables, state and configuration into a file.

        Parameters
        ----------
        path : str or path
            It ends in ``.npz`` or ``.safetensors``: that is the format. A file that is there is
            replaced as a whole: whenever the process or the machine stops, there is the old one or
            the new one.

        Raises
        ------
        TypeError
            If the path is none.
        ValueError
            If the path has another ending, this optimizer was not built, a variable was resized
            after that, or inside a block of `averaged_weights`.
        OSError
            If the file cannot be written. A file that was there is still there then.

        Notes
        -----
        It copies a few MiB at a time, of variables on a GPU one whole array. Where `get_config`
        refuses, as for a function as the learning rate, the file has no configuration.

        Examples
        --------
        >>> import numpy as np, ravine, tempfile
        >>> w = {"kernel": np.array([1.0, 2.0])}
        >>> optimizer = ravine.SGD(learning_rate=0.5, momentum=0.9)
        >>> optimizer.apply({"kernel": np.ones(2)}, w)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     optimizer.save(f"{folder}/last.npz")
        ...     optimizer.apply({"kernel": np.ones(2)})
        ...     optimizer.load(f"{folder}/last.npz")
        >>> w["kernel"], optimizer.iterations
        (array([0.5, 1.5]), 1)
        """
        self._save(path, self)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take up what `save` wrote: the variables are overwritten, and the state.

        Parameters
        ----------
        path : str or path
            Of a checkpoint of an optimizer of the same class, built for variables of the same
            names, shapes and types, with slots of the same kinds. On the CPU or on a GPU. The
            settings stay those of this optimizer, but for a learning rate that is a number.

        Raises
        ------
        TypeError
            If the path is none.
        ValueError
            If the file does not fit, is damaged, or was not written by `save`; if this optimizer
            was not built, a variable was resized after that, or inside a block of
            `averaged_weights`. Nothing has been changed then.
        OSError
            If the file cannot be read.

        Notes
        -----
        While it works it holds what the file has and a copy of what was here. Nothing in a file is
        ever run: it is read without pickles.
        """
        self._load(path, self)

    def _save(self, path: str | os.PathLike[str], described: Savable) -> None:
        with self._lock:
            self._refuse_capture("A checkpoint cannot be saved")
            self._refuse_averages_shown("A checkpoint cannot be saved")
            self._built_variables()
            save(self, path, described._described())

    def _load(self, path: str | os.PathLike[str], described: Savable) -> None:
        with self._lock:
            self._refuse_capture("A checkpoint cannot be loaded")
            self._refuse_averages_shown("A checkpoint cannot be loaded")
            self._built_variables()
            load(self, path, type(described).__name__)

    def _described(self) -> dict[str, Any]:
        """Return class and configuration; None for a configuration that there is not."""
        try:
            config: dict[str, Any] | None = self.get_config()
        except ValueError:  # a function as the learning rate: JSON holds none
            config = None
        return {"class_name": type(self).__name__, "config": config}

    # --- Copies

    def __getstate__(self) -> dict[str, Any]:
        """Return everything, the variables included, for `pickle`, `copy` and `deepcopy`."""
        with self._lock:
            self._refuse_capture("An optimizer cannot be copied")
            self._refuse_averages_shown("An optimizer cannot be copied")
            built = None if self._variables is None else self._built_variables()
            return {
                **self._settings(),
                "variables": None if built is None else built.as_given(),
                "state": None if built is None else state_dict(self),
            }

    def _settings(self) -> dict[str, Any]:
        scale = self._loss_scale
        return {
            "attributes": self._attributes(),
            "rule": {s.name: getattr(self._rule, s.name) for s in self._settings_of("_rule")},
            "options": {
                s.name: getattr(self._options, s.name) for s in self._settings_of("_options")
            },
            "loss_scale": None
            if scale is None
            else (scale.dynamic_scale, scale.step_counter, scale.dynamic_growth_steps),
            "exclusions": self._exclusions.by_name(self._variables),
            "multipliers": self._multipliers.by_name(self._variables),
            "warns": self._on_missing is not None,
            "kinds": self._kinds_made(),
        }

    def _attributes(self) -> dict[str, Any]:
        """Return those that a copy takes over as they are."""
        return {name: value for name, value in vars(self).items() if name not in _NOT_COPIED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become the optimizer that `__getstate__` described, built for its variables."""
        vars(self).update(state["attributes"])
        self._callables = dict(self._callables)  # not shared with the original of a shallow copy
        self._make_natives()
        self._unbind()
        self._kinds = state["kinds"]
        self._averages_shown, self._hide_averages = set(), None
        for holder in ("rule", "options"):
            for name, value in state[holder].items():
                setattr(getattr(self, f"_{holder}"), name, value)
        self._loss_scale = None
        if state["loss_scale"] is not None:
            self._loss_scale = scale = _core.LossScale()
            scale.dynamic_scale, scale.step_counter, scale.dynamic_growth_steps = state[
                "loss_scale"
            ]
        self._exclusions = state["exclusions"]
        self._multipliers = state["multipliers"]
        self._on_missing = MissingGradients(self) if state["warns"] else None
        if state["variables"] is not None:
            self.build(state["variables"])
            if state["state"] is not None:
                load_state_dict(self, state["state"])
            self._copied_at = self._calls

    def _twin(self, values: Variables) -> tuple[Self, list[Any]]:
        """Return an optimizer set like this one, built for copies of values, and the copies."""
        with self._lock:
            variables = self._built_variables().counterparts(values)
            twin = type(self).__new__(type(self))
            twin.__setstate__({**self._settings(), "variables": variables, "state": None})
        return twin, [*variables.values()] if isinstance(variables, Mapping) else [*variables]
