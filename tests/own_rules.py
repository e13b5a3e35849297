"""Optimizers of a user's own: those that are native too, so that the two can be compared."""

from checks import RULES, assert_same

import ravine
from ravine import ops


class OwnSGD(ravine.Optimizer):
    """The example of Keras's documentation, with what it forgets: a rate, and `nesterov`."""

    def __init__(self, learning_rate=0.01, momentum=0.9, nesterov=False, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.momentum = momentum
        self.nesterov = nesterov

    def build(self, variables):
        super().build(variables)
        self.momentums = []
        for variable in variables:
            self.momentums.append(
                self.add_variable_from_reference(reference_variable=variable, name="momentum")
            )

    def update_step(self, gradient, variable, learning_rate):
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        momentum = ops.cast(self.momentum, variable.dtype)
        m = self.momentums[self._get_variable_index(variable)]
        descent = ops.multiply(gradient, learning_rate)
        self.assign(m, ops.subtract(ops.multiply(m, momentum), descent))
        if self.nesterov:
            self.assign_add(variable, ops.subtract(ops.multiply(m, momentum), descent))
        else:
            self.assign_add(variable, m)

    def get_config(self):
        config = super().get_config()
        config.update({"momentum": self.momentum, "nesterov": self.nesterov})
        return config


class OwnRMSprop(ravine.Optimizer):
    """RMSprop with momentum, centered or not, written with operators."""

    def __init__(
        self, learning_rate=0.001, rho=0.9, momentum=0.9, epsilon=1e-7, centered=False, **kwargs
    ):
        super().__init__(learning_rate, **kwargs)
        self.rho, self.momentum, self.epsilon = rho, momentum, epsilon
        self.centered = centered

    def build(self, variables):
        super().build(variables)
        names = ["velocity", "momentum", "average_gradient"][: 2 + self.centered]
        self.slots = self.add_optimizer_variables(variables, names)

    def update_step(self, gradient, variable, learning_rate):
        kind = variable.dtype.type
        velocity, momentum, *average = (
            slots[self._get_variable_index(variable)] for slots in self.slots
        )
        rho, rest = kind(self.rho), kind(1 - self.rho)
        self.assign(velocity, rho * velocity + rest * (gradient * gradient))
        divisor = velocity
        if self.centered:
            self.assign(average[0], rho * average[0] + rest * gradient)
            variance = velocity - average[0] * average[0]
            divisor = ops.where(variance < 0, ops.zeros_like(variance), variance)
        divisor = divisor + kind(self.epsilon)
        increment = kind(learning_rate) * gradient / ops.sqrt(divisor)
        self.assign(momentum, kind(self.momentum) * momentum + increment)
        self.assign_sub(variable, momentum)


# Name of the native class, its arguments, the class in Python.
OWN_RULES = {
    "sgd_momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.9}, OwnSGD),
    "sgd_nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}, OwnSGD),
    "rmsprop": ("RMSprop", {"learning_rate": 0.01, "momentum": 0.9}, OwnRMSprop),
    "rmsprop_centered": (
        "RMSprop",
        {"learning_rate": 0.01, "rho": 0.8, "momentum": 0.5, "centered": True},
        OwnRMSprop,
    ),
}


def native_and_own(rule, dynamic_scale=None, **options):
    """Return an optimizer of each kind, inside a `LossScaleOptimizer` if there is such a scale."""
    name, arguments, own = OWN_RULES[rule]
    pair = [kind(**arguments, **options) for kind in (getattr(ravine, name), own)]
    if dynamic_scale is None:
        return pair
    return [ravine.LossScaleOptimizer(each, dynamic_scale, 2) for each in pair]


def state_of(optimizer):
    """Return its state without the name of its class, which is another on purpose."""
    return {key: value for key, value in optimizer.state_dict().items() if key != "class_name"}


def wrapped(rule, factor=1.0, **options):
    """Return a native optimizer, and a subclass that gives its rule gradients times a factor."""
    name, arguments = RULES[rule]
    native = getattr(ravine, name)

    class Own(native):
        fails = False

        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient * factor, variable, learning_rate)
            if self.fails and self._get_variable_index(variable) == 1:
                raise RuntimeError("not this one")

    return [cls(**{**arguments, **options}) for cls in (native, Own)]


def assert_equal(own, variables, native, copies):
    """Compare variables, given as dicts, and all state, bit for bit."""
    for name, w in variables.items():
        assert_same(w, copies[name], name)
    actual, expected = state_of(own), state_of(native)
    assert actual.keys() == expected.keys()
    for key, array in expected.items():
        assert_same(actual[key], array, key)
