"""What many tests share: arrays, comparing bit for bit, product and reference side by side."""

import json
import re

import numpy as np
import pytest
import reference

import ravine

try:
    import ml_dtypes
except ImportError:  # a wheel is also tested where there is only NumPy
    BFLOAT16 = []
else:
    BFLOAT16 = [ml_dtypes.bfloat16]
DTYPES = [np.float32, np.float64, np.float16, *BFLOAT16]

# Every formula there is: all kernels, and numbers that are not the defaults.
RULES = {
    "sgd": ("SGD", {"learning_rate": 0.1}),
    "sgd_momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    "sgd_nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop": ("RMSprop", {"learning_rate": 0.1}),
    "rmsprop_momentum": ("RMSprop", {"learning_rate": 0.1, "rho": 0.8, "momentum": 0.9}),
    "rmsprop_centered": ("RMSprop", {"learning_rate": 0.1, "centered": True}),
    "rmsprop_centered_momentum": (
        "RMSprop",
        {"learning_rate": 0.1, "momentum": 0.9, "centered": True, "epsilon": 1e-3},
    ),
    "nadam": ("Nadam", {"learning_rate": 0.1}),
    "nadam_betas": (
        "Nadam",
        {"learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3},
    ),
    "adam": ("Adam", {"learning_rate": 0.1}),
    "adam_amsgrad": (
        "Adam",
        {"learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.7, "epsilon": 1e-3, "amsgrad": True},
    ),
    "adamw": ("AdamW", {"learning_rate": 0.1, "beta_2": 0.95}),
    "adamw_amsgrad": ("AdamW", {"learning_rate": 0.1, "weight_decay": 0.5, "amsgrad": True}),
}

# The classes of optimizers that users see, but for their base.
OPTIMIZERS = {
    name: cls
    for name in ravine.__all__
    if isinstance(cls := getattr(ravine, name), type)
    and issubclass(cls, ravine.Optimizer)
    and cls is not ravine.Optimizer
}


def name_of(dtype):
    return np.dtype(dtype).name


each_rule = pytest.mark.parametrize("rule", RULES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
each_gradient_dtype = pytest.mark.parametrize("gradient_dtype", DTYPES, ids=name_of)
ignores_missing = pytest.mark.filterwarnings("ignore:Some variables have no gradient")


def bits(array):
    """Return the bytes of an array in C order, every NaN as the same NaN."""
    copy = np.array(array, order="C")
    if copy.dtype.kind not in "iubUS":
        copy[np.isnan(copy)] = np.nan
    return copy.tobytes()


def assert_same(actual, expected, what="array"):
    """Assert equality of dtype, shape and every bit; which NaN it is does not count."""
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), what
    if bits(actual) != bits(expected):
        np.testing.assert_array_equal(actual, expected, what)
        raise AssertionError(f"{what}: signs of zero differ")


def normal(random, shape, dtype, scale=1.0):
    return np.asarray(random.standard_normal(shape) * scale).astype(dtype)


def make(rule, **options):
    """Return the product's optimizer of a rule of `RULES`."""
    name, arguments = RULES[rule]
    return getattr(ravine, name)(**{**arguments, **options})


_by_slots = sorted(RULES, key=lambda rule: len(make(rule)._rule.slots))
# Of each class the last rule that has the most slots.
with_all_slots = pytest.mark.parametrize(
    "rule", [*{RULES[rule][0]: rule for rule in _by_slots}.values()]
)


def snapshot(optimizer, *arrays):
    """Return all that a step may change, to compare before with after."""
    state = [] if not optimizer.built else optimizer.state_dict().items()
    return (
        optimizer.iterations,
        optimizer.built,
        [bits(array) for array in [*optimizer.variables, *arrays]],
        [(key, bits(array)) for key, array in state],
    )


def config_and(optimizer, *arrays):
    """Return `snapshot` and the configuration: all that a refused call must leave alone."""
    return optimizer.get_config(), snapshot(optimizer, *arrays)


# The options that all optimizers have, as a configuration has them, but for the name and the rate.
DEFAULTS = {
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}


def assert_config(optimizer, **expected):
    """Assert that the configuration is this and the default options, and that it reads back."""
    config = optimizer.get_config()
    assert config == {**DEFAULTS, **expected}
    again = type(optimizer).from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config


def assert_refused(name, setting, value, said):
    """Assert that constructor and attribute refuse a value, and that the old one stays."""
    message = f"{setting} {said}"
    with raises(ValueError, message):
        getattr(ravine, name)(**{setting: value})
    optimizer, w = getattr(ravine, name)(), np.ones(2)
    optimizer.build([w])
    before = config_and(optimizer, w)
    with raises(ValueError, message):
        setattr(optimizer, setting, value)
    assert config_and(optimizer, w) == before


class Pair:
    """Product and reference, with the same arguments and copies of the same variables.

    Parameters
    ----------
    rule : str
        Key of `RULES`.
    variables : list of numpy.ndarray
        The product trains these themselves, the reference copies of them.
    excluded : collection of int
        Positions of the variables that do not decay.
    multipliers : dict
        Pairs of learning rate and weight decay, by the position of the variable.
    **options
        For both.
    """

    def __init__(self, rule, variables, excluded=(), multipliers=None, **options):
        name, arguments = RULES[rule]
        arguments = {**arguments, **options}
        self.variables = list(variables)
        self.copies = [variable.copy("K") for variable in variables]
        self.product = getattr(ravine, name)(**arguments)
        self.product.build(self.variables)
        self.product.exclude_from_weight_decay([self.variables[i] for i in excluded])
        self.set_multipliers(multipliers or {})
        self.reference = getattr(reference, name)(
            **arguments, excluded=excluded, multipliers=multipliers
        )
        self.reference.build(self.copies)

    def set_multipliers(self, multipliers):
        for i, (rate, decay) in multipliers.items():
            chosen = [self.variables[i]]
            self.product.set_multipliers(chosen, learning_rate=rate, weight_decay=decay)

    def apply(self, grads):
        """Make one step on either side."""
        self.product.apply(grads)
        self.reference.apply(grads)

    def assert_equal(self):
        """Compare variables and all state, bit for bit."""
        for i, (actual, expected) in enumerate(zip(self.variables, self.copies, strict=True)):
            assert_same(actual, expected, f"variable {i}")
        state, expected = self.product.state_dict(), self._expected_state()
        assert state.keys() - {"class_name", "learning_rate"} == expected.keys()
        for key, array in expected.items():
            assert_same(state[key], array, key)

    def run(self, steps):
        """Make several steps, and compare after each."""
        for grads in steps:
            self.apply(grads)
            self.assert_equal()

    def _expected_state(self):
        groups = {
            **self.reference.slots,
            "average": self.reference.averages,
            "gradient_accumulator": self.reference.accumulators,
        }
        state = {
            f"{kind}/variable_{i}": array
            for kind, arrays in groups.items()
            for i, array in enumerate(arrays)
        }
        state["iteration"] = np.array(self.reference.iterations, np.int64)
        if hasattr(self.reference, "momentum_product"):
            state["momentum_product"] = np.array(self.reference.momentum_product)
        if self.reference.accumulators:
            state["received"] = np.array(self.reference.received)
            window = self.product.gradient_accumulation_steps
            state["gradient_accumulation_steps"] = np.array(window, np.int64)
        return state


# --- Messages

# How messages name two variables that were given in a list.
NAMES = "['variable_0', 'variable_1']"
DTYPE_MESSAGE = (
    "must have dtype float32, float64, float16 or bfloat16, in native byte order. Received: "
)


class OnGPU:
    __cuda_array_interface__ = {"shape": (2,), "typestr": "<f4", "data": (0, False)}  # noqa: RUF012


def on_gpu_message(which):
    """Return the kind and text of what is said of an `OnGPU`, with and without a GPU."""
    if not ravine._core.has_cuda():
        reason = (
            "This build of ravine has no CUDA backend. Install a wheel with CUDA, build with "
            "RAVINE_CUDA=ON, or pass NumPy arrays."
        )
        return RuntimeError, f"{which} is on a GPU. {reason}"
    try:
        ravine._core.Plan([""], [OnGPU()], [], None, None)
    except RuntimeError:
        reason = (
            "No NVIDIA driver was found. Install one (version 580 or newer), or pass NumPy arrays."
        )
        return RuntimeError, f"{which} is on a GPU. {reason}"
    except ValueError:
        return ValueError, (
            f"{which} says that it is on a GPU, and its memory is not. Pass a NumPy or CuPy array."
        )


def raises(kind, message):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def cases(table):
    """Turn {name: (call, kind, message)} into parameters."""
    return pytest.mark.parametrize(
        ("call", "kind", "message"), [*table.values()], ids=[*table.keys()]
    )
