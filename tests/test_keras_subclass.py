"""The optimizer that Keras's documentation writes, as it stands there, in Keras and in ravine."""

import re
import textwrap

import numpy as np
import pytest
from keras_oracle import keras

import ravine


def example_of_the_documentation(library, ops):
    """Return the class that Keras's documentation shows, from the copy that Keras brings along."""
    (code,) = re.findall(r"```python\n(.*?)```", keras.optimizers.Optimizer.__doc__, re.DOTALL)
    names = {"Optimizer": library.Optimizer, "ops": ops}
    exec(textwrap.dedent(code), names)
    return names["SGD"]


def test_subclass_of_the_documentation_runs_as_it_is_written():
    start = np.array([1.0, 2.0], np.float32)
    variable, w = keras.Variable(start), start.copy()
    theirs = example_of_the_documentation(keras.optimizers, keras.ops)(learning_rate=0.1)
    ours = example_of_the_documentation(ravine, ravine.ops)(learning_rate=0.1)
    for _ in range(3):
        theirs.apply_gradients([(start, variable)])
        ours.apply_gradients([(start, w)])
    np.testing.assert_array_equal(w, np.asarray(variable.value), strict=True)
    assert [*map("{:.3f}".format, w)] == ["0.439", "0.878"]
    assert len(ours.variables) == len(theirs.variables) == 3
    for own, oracle in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(own, np.asarray(oracle.value), rtol=1e-7)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_subclass_of_the_documentation_where_it_fails_in_keras():
    theirs = example_of_the_documentation(keras.optimizers, keras.ops)
    ours = example_of_the_documentation(ravine, ravine.ops)
    with pytest.raises(TypeError, match="learning_rate"):
        theirs()
    assert ours().learning_rate == 0.01
    # The example itself forgets to set `nesterov`.
    for cls in (theirs, ours):
        with pytest.raises(AttributeError, match="nesterov"):
            cls(learning_rate=0.1).get_config()
    ours.nesterov = False
    assert ours().get_config()["nesterov"] is False
    # Building twice makes everything twice in Keras.
    for cls, variable, count in ((theirs, keras.Variable(1.0), 4), (ours, np.array(1.0), 3)):
        optimizer = cls(learning_rate=0.1)
        optimizer.build([variable])
        optimizer.build([variable])
        assert len(optimizer.variables) == count


def test_assign_takes_a_number_for_an_array():
    with pytest.raises(ValueError, match="shape"):
        keras.optimizers.SGD(0.1).assign(keras.Variable([1.0, 2.0]), 0.5)
    w = np.array([1.0, 2.0])
    ravine.SGD(0.1).assign(w, 0.5)
    assert w.tolist() == [0.5, 0.5]
