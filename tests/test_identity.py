"""Optimizers by name and as dictionaries; classes of users'; what is refused."""

import copy
import json

import numpy as np
import pytest
from checks import OPTIMIZERS, RULES, assert_same, cases, make, raises
from own_rules import OwnSGD

import ravine
from ravine import schedules

each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def example(name):
    """Return an optimizer whose settings are not the defaults."""
    options = {"weight_decay": 0.5, "clipnorm": 1, "use_ema": True, "name": "mine"}
    if name == "LossScaleOptimizer":
        return ravine.LossScaleOptimizer(ravine.Nadam(0.5, **options), 64, 7, name="scaled")
    return OPTIMIZERS[name](schedules.CosineDecay(0.5, 100), **options)


class Slower(ravine.RMSprop):
    """A user's own."""

    def __init__(self, learning_rate=0.5, factor=2, **options):
        super().__init__(learning_rate, **options)
        self.factor = factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Linear(schedules.LearningRateSchedule):
    def __init__(self, slope):
        self.slope = slope

    def __call__(self, step):
        return self.slope * (step + 1)

    def get_config(self):
        return {"slope": self.slope}


class Plain(ravine.SGD):
    """Its from_config takes nothing but the configuration."""

    @classmethod
    def from_config(cls, config):
        return super().from_config({**config, "momentum": 0.25})


OWN = {"Slower": Slower, "Linear": Linear, "Plain": Plain, "OwnSGD": OwnSGD}

# --- By name


@each_optimizer
@pytest.mark.parametrize("change", [str, str.lower, str.upper, str.swapcase])
def test_get_makes_an_optimizer_by_its_name(name, change):
    if name == "LossScaleOptimizer":
        with pytest.raises(ValueError, match=r"^'inner_optimizer' must be a dict"):
            ravine.get(change(name))
        return
    optimizer = ravine.get(change(name))
    assert type(optimizer) is OPTIMIZERS[name]
    assert optimizer.get_config() == OPTIMIZERS[name]().get_config()


def test_get_returns_none_and_optimizers_as_they_are():
    optimizer = ravine.SGD()
    assert ravine.get(optimizer) is optimizer
    assert ravine.get(None) is None


# --- As dictionaries


@each_optimizer
def test_serialized_optimizer_reads_back(name):
    optimizer = example(name)
    data = ravine.serialize(optimizer)
    assert data == {
        "module": "keras.optimizers",
        "class_name": name,
        "config": optimizer.get_config(),
        "registered_name": None,
    }
    text = json.dumps(data)
    for read in (ravine.deserialize, ravine.get):
        again = read(json.loads(text))
        assert type(again) is type(optimizer)
        assert again.get_config() == optimizer.get_config()
    again = type(optimizer).from_config(json.loads(text)["config"])
    assert again.get_config() == optimizer.get_config()


@each_optimizer
def test_dictionaries_are_not_modified(name):
    data = ravine.serialize(example(name)) | {"class_name": name.upper()}
    before, config = copy.deepcopy(data), data["config"]
    ravine.get(data)
    ravine.deserialize(data, custom_objects={})
    OPTIMIZERS[name].from_config(config)
    assert data == before
    assert data["config"] is config


@pytest.mark.parametrize("rule", RULES)
def test_optimizer_that_was_read_takes_the_same_steps(rule):
    one, two = np.ones(5), np.ones(5)
    optimizer = make(rule, learning_rate=schedules.CosineDecayRestarts(0.5, 2), clipvalue=0.5)
    again = ravine.deserialize(json.loads(json.dumps(ravine.serialize(optimizer))))
    for step in range(5):
        for each, w in ((optimizer, one), (again, two)):
            each.apply([np.full(5, step - 2.5)], [w])
    np.testing.assert_array_equal(one, two)


def test_config_may_be_left_out():
    assert ravine.deserialize({"class_name": "sgd"}).get_config() == ravine.SGD().get_config()
    assert ravine.get({"class_name": "sgd", "config": None}).learning_rate == 0.01


def test_exclusions_are_in_the_dictionary():
    optimizer = ravine.LossScaleOptimizer(ravine.SGD(weight_decay=0.5))
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    again = ravine.get(json.loads(json.dumps(ravine.serialize(optimizer))))
    w = {"kernel": np.ones(1), "bias": np.ones(1)}
    again.learning_rate = 1.0
    again.apply({"kernel": np.zeros(1), "bias": np.zeros(1)}, w)
    assert (w["kernel"][0], w["bias"][0]) == (0.5, 1)


# --- Classes of one's own


@pytest.mark.parametrize(
    "optimizer",
    [
        Slower(factor=3),
        Slower(Linear(0.25)),
        ravine.SGD(Linear(0.25)),
        ravine.LossScaleOptimizer(Slower(Linear(0.25), factor=4)),
        OwnSGD(Linear(0.25), momentum=0.5, nesterov=True, use_ema=True),
    ],
    ids=["optimizer", "both", "schedule", "inside", "own_rule"],
)
def test_own_classes_read_back(optimizer):
    data = json.loads(json.dumps(ravine.serialize(optimizer)))
    before = copy.deepcopy(data)
    again = ravine.deserialize(data, custom_objects=OWN)
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    assert again.learning_rate == optimizer.learning_rate
    assert data == before
    with pytest.raises(ValueError, match=r"^Unknown (optimizer|learning rate schedule) '"):
        ravine.deserialize(data)


def test_own_class_says_where_it_is():
    data = ravine.serialize(Slower())
    assert (data["module"], data["registered_name"]) == (__name__, "Slower")
    data = ravine.serialize(type("Slower", (Slower,), {"__module__": "__main__"})())
    assert (data["module"], data["registered_name"]) == (None, "Slower")


def test_own_from_config_may_take_the_configuration_only():
    data = ravine.serialize(Plain(Linear(0.5)))
    with pytest.raises(ValueError, match=r"^Unknown learning rate schedule 'Linear'"):
        ravine.deserialize(data, custom_objects=OWN)
    data["config"]["learning_rate"] = 0.5
    assert ravine.deserialize(data, custom_objects=OWN).momentum == 0.25


def own_sgd():
    class SGD(ravine.SGD):
        pass

    return SGD


def test_own_class_does_not_take_the_place_of_one_of_the_same_name():
    mine = own_sgd()
    assert type(ravine.get("sgd")) is ravine.SGD
    both = {"SGD": mine}
    assert type(ravine.deserialize(ravine.serialize(ravine.SGD()), both)) is ravine.SGD
    assert type(ravine.deserialize(ravine.serialize(mine()), both)) is mine
    assert type(ravine.deserialize({"class_name": "SGD"}, both)) is mine
    assert type(ravine.deserialize({"class_name": "sgd"}, both)) is ravine.SGD
    with raises(ValueError, UNKNOWN.format(f"'SGD' of module '{__name__}'", sorted(OPTIMIZERS))):
        ravine.deserialize(ravine.serialize(mine()))


def test_own_class_serves_for_one_of_keras_that_is_not_here():
    data = {"module": "keras.optimizers", "class_name": "Lion", "config": {"factor": 3}}
    assert ravine.deserialize(data, {"Lion": Slower}).factor == 3
    data = {"class_name": "Slow", "registered_name": "mine>Slow", "config": {"factor": 3}}
    assert ravine.deserialize(data, {"mine>Slow": Slower}).factor == 3


def test_inner_optimizer_may_be_one_of_keras_with_own_classes_around():
    inner = {"class_name": "Slower", "config": {"learning_rate": {"class_name": "Linear"}}}
    inner["config"]["learning_rate"]["config"] = {"slope": 2}
    config = {"inner_optimizer": inner, "initial_scale": 8}
    optimizer = ravine.LossScaleOptimizer.from_config(config, custom_objects=OWN)
    assert (type(optimizer.inner_optimizer), optimizer.learning_rate) == (Slower, 2)
    assert config["inner_optimizer"] is inner


def test_own_rule_inside_a_loss_scale_takes_the_same_steps():
    optimizer = ravine.LossScaleOptimizer(OwnSGD(Linear(0.25), momentum=0.5, clipnorm=1.0), 8.0, 2)
    config = json.loads(json.dumps(optimizer.get_config()))
    with pytest.raises(ValueError, match=r"^Unknown optimizer 'OwnSGD'"):
        ravine.LossScaleOptimizer.from_config(config)
    again = ravine.LossScaleOptimizer.from_config(config, custom_objects=OWN)
    assert again.get_config() == config
    one, two = np.ones(5), np.ones(5)
    for step in range(5):
        for each, w in ((optimizer, one), (again, two)):
            each.apply([np.full(5, np.inf if step == 2 else step - 2.5)], [w])
    assert_same(one, two)
    assert one[0] != 1
    assert (again.iterations, again.dynamic_scale) == (4, optimizer.dynamic_scale)


def test_class_that_is_not_exported_has_no_name():
    class Hidden(ravine.SGD):
        __module__ = "ravine.sgd"

    with raises(ValueError, UNKNOWN.format("'Hidden'", sorted(OPTIMIZERS))):
        ravine.get("Hidden")


# --- What is refused

UNKNOWN = "Unknown optimizer {}. Known: {}. Pass a class of your own in custom_objects."
GET = (
    f"An optimizer must be given as an Optimizer, as one of the names {sorted(OPTIMIZERS)}, as a "
    "dict that serialize() returned, or as None. Received: {!r}."
)
DICT = (
    "The configuration of the optimizer must be a dict with 'class_name', a string, and 'config', "
    "a dict. Received: {!r}."
)
REFUSED = {
    "get_unknown": (
        lambda: ravine.get("sdg"),
        ValueError,
        UNKNOWN.format("'sdg'", sorted(OPTIMIZERS)),
    ),
    "get_empty": (lambda: ravine.get(""), ValueError, UNKNOWN.format("''", sorted(OPTIMIZERS))),
    "get_base": (
        lambda: ravine.get("Optimizer"),
        ValueError,
        UNKNOWN.format("'Optimizer'", sorted(OPTIMIZERS)),
    ),
    "get_class": (lambda: ravine.get(ravine.SGD), ValueError, GET.format(ravine.SGD)),
    "get_number": (lambda: ravine.get(0.1), ValueError, GET.format(0.1)),
    "get_list": (lambda: ravine.get(["sgd"]), ValueError, GET.format(["sgd"])),
    "get_without_class": (
        lambda: ravine.get({"config": {}}),
        ValueError,
        DICT.format({"config": {}}),
    ),
    "class_name_no_string": (
        lambda: ravine.deserialize({"class_name": ravine.SGD}),
        ValueError,
        DICT.format({"class_name": ravine.SGD}),
    ),
    "config_no_dict": (
        lambda: ravine.deserialize({"class_name": "SGD", "config": [1]}),
        ValueError,
        DICT.format({"class_name": "SGD", "config": [1]}),
    ),
    "deserialize_string": (lambda: ravine.deserialize("sgd"), ValueError, DICT.format("sgd")),
    "of_another_module": (
        lambda: ravine.deserialize({"module": "torch.optim", "class_name": "SGD", "config": {}}),
        ValueError,
        UNKNOWN.format("'SGD' of module 'torch.optim'", sorted(OPTIMIZERS)),
    ),
    "not_here": (
        lambda: ravine.deserialize({"module": "keras.optimizers", "class_name": "Lion"}, OWN),
        ValueError,
        UNKNOWN.format("'Lion' of module 'keras.optimizers'", sorted([*OPTIMIZERS, *OWN])),
    ),
    "custom_object_of_another_kind": (
        lambda: ravine.deserialize({"class_name": "Linear", "config": {"slope": 1}}, OWN),
        ValueError,
        f"custom_objects['Linear'] must be a subclass of Optimizer. Received: {Linear!r}.",
    ),
    "custom_object_no_class": (
        lambda: schedules.deserialize({"class_name": "f", "config": {}}, {"f": len}),
        ValueError,
        "custom_objects['f'] must be a subclass of LearningRateSchedule. Received: <built-in "
        "function len>.",
    ),
    "serialize_class": (
        lambda: ravine.serialize(ravine.SGD),
        ValueError,
        f"Only an Optimizer can be serialized. Received: {ravine.SGD!r}.",
    ),
    "serialize_function_as_rate": (
        lambda: ravine.serialize(ravine.SGD(lambda: 0.1)),
        ValueError,
        "A function given as learning_rate cannot be stored in a configuration. Use a "
        "LearningRateSchedule with get_config().",
    ),
    "serialize_function_as_beta": (
        lambda: ravine.serialize(ravine.LossScaleOptimizer(ravine.Nadam(beta_2=lambda: 0.5))),
        ValueError,
        "A function given as beta_2 cannot be stored in a configuration. Use a number, which may "
        "be set before each step.",
    ),
}


@cases(REFUSED)
def test_refused(call, kind, message):
    with raises(kind, message):
        call()
