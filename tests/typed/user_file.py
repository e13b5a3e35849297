"""A user's program with all of the public API in it: `test_typing` checks its types and runs it.

It is written for the types that a user sees: what it assigns to is annotated.
"""

import copy
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ravine
from ravine import ops, schedules

Array = NDArray[Any]


class OnGPU:
    """An array of another library."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": (2,), "typestr": "<f4", "data": (0, False), "version": 3}


class Linear(schedules.LearningRateSchedule):
    def __init__(self, slope: float = 0.1) -> None:
        self.slope = slope

    def __call__(self, step: int) -> float:
        return self.slope * step

    def get_config(self) -> dict[str, Any]:
        return {"slope": self.slope}


class Momentum(ravine.Optimizer):
    def build(self, variables: Any) -> None:
        super().build(variables)
        slots = self.add_optimizer_variables(variables, ["momentum", "other"])
        self.momentums: list[Array] = list(slots[0])
        self.mean: Array = self.add_variable_from_reference(variables[0], "mean", initializer=1)
        self.calls: Array = self.add_variable((), "zeros", "int64", name="calls")

    def update_step(self, gradient: Any, variable: Any, learning_rate: float) -> None:
        m = self.momentums[self._get_variable_index(variable)]
        self.assign(m, 0.9 * m - ops.cast(learning_rate, m.dtype) * gradient)
        self.assign_add(variable, m)
        self.assign_sub(self.mean, 0.5)
        self.assign_add(self.calls, 1)


def variables() -> dict[str, Array]:
    return {"kernel": np.ones((3, 2), np.float32), "bias": np.zeros(2)}


def make() -> Sequence[ravine.Optimizer]:
    rate: float = 0.1
    return [
        ravine.SGD(rate, momentum=0.9, nesterov=True, weight_decay=0.1, name="sgd"),
        ravine.RMSprop(np.float32(0.1), rho=0.9, momentum=0.0, epsilon=1e-7, centered=True),
        ravine.Nadam(lambda: 0.1, beta_1=lambda: 0.9, beta_2=np.float64(0.99), epsilon=1e-7),
        ravine.Adam(np.array(0.1), beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=True),
        ravine.AdamW(schedules.CosineDecay(0.1, 100), weight_decay=0.01, global_clipnorm=1.0),
        Momentum(Linear(), clipnorm=1.0),
        ravine.LossScaleOptimizer(ravine.SGD(0.1), initial_scale=8.0, dynamic_growth_steps=10),
    ]


def set_options(optimizer: ravine.Optimizer) -> None:
    optimizer.weight_decay = 0.1
    optimizer.clipnorm = None
    optimizer.clipvalue = None
    optimizer.global_clipnorm = 1.0
    optimizer.use_ema = True
    optimizer.ema_momentum = 0.9
    optimizer.ema_overwrite_frequency = None
    optimizer.loss_scale_factor = 2.0
    optimizer.gradient_accumulation_steps = None
    optimizer.learning_rate = schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True)
    optimizer.learning_rate = lambda: 0.5
    optimizer.learning_rate = np.array(0.5)
    optimizer.learning_rate = np.float32(0.5)


def step(optimizer: ravine.Optimizer, w: dict[str, Array]) -> None:
    assert not optimizer.built
    set_options(optimizer)
    optimizer.build(w)
    optimizer.exclude_from_weight_decay(var_list=[w["bias"]], var_names=["bias"])
    optimizer.set_multipliers([w["bias"]], ["bias"], learning_rate=0.5, weight_decay=None)
    factors: list[float] = [each.learning_rate for each in optimizer.multipliers.values()]
    grads = {"kernel": np.ones((3, 2)), "bias": np.ones(2)}
    optimizer.apply(grads, stream=None)
    optimizer.apply(list(grads.values()), list(w.values()))
    steps: int = optimizer.apply_gradients([(g, w[name]) for name, g in grads.items()])
    loss: float = optimizer.minimize(lambda: (1.0, grads), w)
    loss = optimizer.minimize(variables=w, value_and_grad=lambda w: (loss, grads))
    scaled: float = optimizer.scale_loss(loss)
    rate: float = optimizer.learning_rate
    with optimizer.averaged_weights():
        pass
    optimizer.finalize_variable_values()
    optimizer.finalize_variable_values([w["bias"]])
    assert factors == [1, 0.5]
    assert steps == 3
    assert optimizer.iterations == 5
    assert scaled == 2
    assert rate == 0.5


def keep(optimizer: ravine.Nadam, w: dict[str, Array], folder: Path) -> None:
    state: Mapping[str, Any] = optimizer.state_dict()
    optimizer.load_state_dict(state)
    weights: list[Array] = optimizer.get_weights()
    optimizer.set_weights(weights)
    store: dict[str, Any] = {}
    optimizer.save_own_variables(store)
    optimizer.load_own_variables(store)
    optimizer.save(str(folder / "last.npz"))
    optimizer.save(folder / "last.safetensors")
    optimizer.load(folder / "last.npz")
    grads: dict[str, Array | None] = {"kernel": np.ones((3, 2)), "bias": np.ones(2)}
    new_w, new_state = optimizer.stateless_apply(optimizer.variables, grads, w)
    same: ravine.Nadam = copy.deepcopy(optimizer)
    other: ravine.Nadam = ravine.Nadam.from_config(optimizer.get_config())
    again: object = pickle.loads(pickle.dumps(optimizer))
    assert len(new_w) == 2
    assert len(new_state) == len(weights)
    assert isinstance(again, ravine.Nadam)
    assert same.beta_1 == other.beta_1 == 0.9


def names() -> None:
    base: ravine.Optimizer = ravine.SGD(momentum=0.9)
    config: dict[str, Any] = ravine.serialize(base)
    again: ravine.Optimizer = ravine.deserialize(config)
    own: ravine.Optimizer = ravine.deserialize(
        {"class_name": "Momentum"}, custom_objects={"Momentum": Momentum, "Linear": Linear}
    )
    named: ravine.Optimizer | None = ravine.get("sgd")
    none: ravine.Optimizer | None = ravine.get(None)
    assert isinstance(again, ravine.SGD)
    assert isinstance(own, Momentum)
    assert isinstance(named, ravine.SGD)
    assert none is None


def schedule() -> None:
    every: list[schedules.LearningRateSchedule] = [
        schedules.ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5, staircase=True),
        schedules.InverseTimeDecay(np.float32(0.1), 10, 0.5, name=None),
        schedules.PolynomialDecay(0.1, 10, end_learning_rate=0.01, power=2, cycle=True),
        schedules.PiecewiseConstantDecay([10, 20], [0.3, 0.2, 0.1]),
        schedules.CosineDecay(0.1, 100, alpha=0.1, warmup_target=0.2, warmup_steps=10),
        schedules.CosineDecayRestarts(0.1, 100, t_mul=1.1, m_mul=0.9, alpha=0.0),
    ]
    for each in every:
        rate: object = each(3)
        config: dict[str, Any] = schedules.serialize(each)
        again: schedules.LearningRateSchedule = schedules.deserialize(config)
        assert again(3) == rate
    value: float = schedules.CosineDecay(1, 100)(np.int64(0))
    assert value == 1
    assert Linear.from_config(Linear(0.5).get_config())(2) == 1


def scale(w: dict[str, Array]) -> None:
    optimizer = ravine.LossScaleOptimizer(ravine.SGD(0.1), 8.0, dynamic_growth_steps=10)
    optimizer.build(w)
    loss: float = optimizer.scale_loss(0.5)
    factor: float = optimizer.dynamic_scale
    steps: int = optimizer.step_counter
    assert loss == 4
    assert (factor, steps, optimizer.dynamic_growth_steps) == (8, 0, 10)
    inner: ravine.Optimizer = optimizer.inner_optimizer
    assert inner.built


def compute(x: Array) -> None:
    y: Array = ops.add(ops.multiply(x, x), ops.subtract(ops.square(x), ops.divide(x, 2.0)))
    y = ops.maximum(ops.abs(y), ops.minimum(ops.negative(y), ops.power(x, 2)))
    y = ops.where(ops.sign(y) > 0, ops.sqrt(y), ops.zeros_like(y) + ops.ones_like(y))
    assert y.shape == x.shape


def on_gpu(optimizer: ravine.Optimizer, stream: object) -> None:
    optimizer.apply([OnGPU()], [OnGPU()], stream=stream)


def machine() -> None:
    version: str = ravine.__version__
    isa: str = ravine.instruction_set()
    threads: int = ravine.get_num_threads()
    ravine.set_num_threads(threads)
    assert version
    assert isa


def main(folder: Path) -> None:
    for optimizer in make():
        optimizer.apply([np.ones(2)], [np.ones(2)])
    trained = ravine.Nadam()
    w = variables()
    step(trained, w)
    keep(trained, w, folder)
    names()
    schedule()
    scale(variables())
    compute(np.ones(3))
    machine()


if __name__ == "__main__":
    main(Path.cwd())
