"""The demo, as users run it, and the update in plain NumPy that it compares ravine with."""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the demo needs scikit-learn")

from ravine.__main__ import main
from ravine.demo import comparison, plain
from ravine.demo.network import initial_parameters, loss_and_gradients

SHORT = ["--epochs", "1", "--batch-size", "128"]
UNCLIPPED = {"global_clipnorm": 1e9, "ema_momentum": 0.5}

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib"
)


def run_demo(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ravine", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("optimizer", ["nadam", "rmsprop", "sgd"])
def test_demo_agrees_and_prints_json(optimizer):
    demo = run_demo("demo", "--optimizer", optimizer, "--threads", "2", "--json", *SHORT)

    assert demo.returncode == 0, demo.stderr
    result = json.loads(demo.stdout)
    assert result["optimizer"] == optimizer
    assert result["agrees"] is True
    assert result["same_bits"] is True
    assert [training["threads"] for training in result["trainings"]] == [None, 1, 2]
    for training in result["trainings"]:
        assert training["largest_difference"] <= result["difference_bound"] == 1e-5
        assert 0 < training["update_share"] < 1
        assert training["gigabytes_per_second"] > 0
        assert 0.1 < training["averaged_test_accuracy"] <= 1
        assert training["epochs"][-1]["test_accuracy"] == training["test_accuracy"]
    assert "epoch   1   loss" in demo.stderr


def test_demo_is_the_default_and_prints_table():
    demo = run_demo("--threads", "1", *SHORT)

    assert demo.returncode == 0, demo.stderr
    assert "plain NumPy " in demo.stdout
    assert "ravine, 1 thread " in demo.stdout
    assert "share of step" in demo.stdout
    assert "ravine agrees with plain NumPy: a final weight or average may differ by 1e-05" in (
        demo.stdout
    )


@pytest.mark.parametrize("optimizer", ["nadam", "rmsprop", "sgd"])
def test_demo_trains_to_the_accuracy_it_promises(optimizer, capsys):
    assert main(["--optimizer", optimizer, "--threads", "1", "--json"]) == 0

    for training in json.loads(capsys.readouterr().out)["trainings"]:
        assert training["test_accuracy"] > 0.96
        assert training["averaged_test_accuracy"] > 0.96


@needs_matplotlib
def test_demo_draws_plot(tmp_path, capsys):
    path = tmp_path / "curves.png"

    assert main(["--plot", str(path), "--threads", "1", *SHORT]) == 0

    assert path.read_bytes().startswith(b"\x89PNG")
    assert f"Drawn: {path}" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["curves.txt", "no/such/folder/curves.png"])
def test_demo_rejects_picture_that_cannot_be_written(path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--plot", path])

    assert stopped.value.code == 2
    assert "--plot" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--epochs", "--batch-size", "--threads"])
def test_demo_rejects_count_of_zero(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([option, "0"])

    assert stopped.value.code == 2
    assert f"argument {option}: must be at least 1. Received: 0." in capsys.readouterr().err


def test_demo_fails_if_results_differ(monkeypatch, capsys):
    monkeypatch.setattr(comparison, "DIFFERENCE_BOUND", 0.0)

    assert main(["--threads", "1", *SHORT]) == 1
    assert "ravine DOES NOT AGREE with plain NumPy" in capsys.readouterr().out


@pytest.mark.parametrize("argument", ["learning_rate", "global_clipnorm", "ema_momentum"])
def test_demo_finds_argument_that_is_off_by_a_hundredth(argument, monkeypatch):
    recipe = comparison.RECIPES["sgd"]

    def make(**arguments):
        return plain.SGD(**arguments | {argument: 0.99 * arguments[argument]})

    monkeypatch.setitem(comparison.RECIPES, "sgd", dataclasses.replace(recipe, plain=make))
    assert main(["--optimizer", "sgd", "--threads", "1", *SHORT]) == 1


def test_result_that_is_not_a_number_does_not_agree():
    result = comparison.Result("ravine, 1 thread", 1, None, float("nan"))
    assert not comparison.Comparison([result], 1, 1e-5).agrees


@pytest.mark.parametrize(
    ("module", "options", "package"),
    [("sklearn", [], "scikit-learn"), ("matplotlib", ["--plot", "curves.png"], "matplotlib")],
)
def test_demo_says_how_to_install_missing_package(
    module, options, package, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Hidden(module), *sys.meta_path])

    assert main(options) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {package} is needed ")
    assert error.endswith('and is not installed: pip install "ravine[demo]"\n')


class Hidden:
    """An import hook under which one package is not installed."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_gradients_are_the_slopes_of_the_loss():
    generator = np.random.default_rng(0)
    parameters = {name: w.astype(np.float64) for name, w in initial_parameters(0).items()}
    images, labels = generator.random((8, 64)), generator.integers(0, 10, 8)
    _, gradients = loss_and_gradients(parameters, images, labels)

    for name, w in parameters.items():
        index = tuple(generator.integers(0, size) for size in w.shape)
        losses = []
        for change in (-1e-5, 2e-5):
            w[index] += change
            losses.append(loss_and_gradients(parameters, images, labels)[0])
        w[index] -= 1e-5
        assert (losses[1] - losses[0]) / 2e-5 == pytest.approx(gradients[name][index], abs=1e-8)


def three_steps(optimizer):
    """Return the weight after each step, from 1 with the gradients 1, 2, -1, and its average."""
    w = np.ones(1, np.float32)
    optimizer.build({"w": w})
    weights = []
    for gradient in (1.0, 2.0, -1.0):
        optimizer.apply({"w": np.full(1, gradient, np.float32)})
        weights.append(w.item())
    optimizer.finalize_variable_values()
    assert w.dtype == np.float32
    return weights, w.item()


def test_plain_sgd_follows_the_formula():
    weights, average = three_steps(plain.SGD(0.1, momentum=0.5, **UNCLIPPED))
    # velocity: -0.1; -0.05 - 0.2 = -0.25; -0.125 + 0.1 = -0.025
    # weight:   1 - 0.05 - 0.1;  - 0.125 - 0.2;  - 0.0125 + 0.1
    assert weights == pytest.approx([0.85, 0.525, 0.6125], rel=1e-6)
    # average:  0.85;  (0.85 + 0.525) / 2 = 0.6875;  (0.6875 + 0.6125) / 2
    assert average == pytest.approx(0.65, rel=1e-6)


def test_plain_rmsprop_follows_the_formula():
    weights, _ = three_steps(plain.RMSprop(0.1, rho=0.5, epsilon=0.0, **UNCLIPPED))
    # velocity: 0.5;  0.25 + 2 = 2.25;  1.125 + 0.5 = 1.625
    first = 1 - 0.1 / 0.5**0.5
    second = first - 0.2 / 1.5
    third = second + 0.1 / 1.625**0.5
    assert weights == pytest.approx([first, second, third], rel=1e-6)


def test_plain_nadam_follows_the_formula():
    weights, _ = three_steps(plain.Nadam(0.1, 0.5, 0.5, epsilon=0.0, **UNCLIPPED))
    # mu(t) = 0.5 - 0.25 * 0.96**t: 0.26, 0.2696, 0.278816, 0.28766336
    # momentum: 0.5, 1.25, 0.125; velocity: 0.5, 2.25, 1.625
    first = 1 - 0.1 * (0.2696 * 0.5 / (1 - 0.26 * 0.2696) + 0.74 / 0.74) / 1.0
    product = 0.26 * 0.2696
    second = (
        first
        - 0.1
        * (0.278816 * 1.25 / (1 - product * 0.278816) + 0.7304 * 2 / (1 - product))
        / (2.25 / 0.75) ** 0.5
    )
    product *= 0.278816
    third = (
        second
        - 0.1
        * (0.28766336 * 0.125 / (1 - product * 0.28766336) - 0.721184 / (1 - product))
        / (1.625 / 0.875) ** 0.5
    )
    assert weights == pytest.approx([first, second, third], rel=1e-6)


def test_plain_update_clips_by_the_norm_of_all_gradients():
    parameters = {"a": np.zeros(1, np.float32), "b": np.zeros(1, np.float32)}
    optimizer = plain.SGD(1.0, momentum=0.0, global_clipnorm=1.0, ema_momentum=0.5)
    optimizer.build(parameters)
    optimizer.apply({"a": np.full(1, 3, np.float32), "b": np.full(1, 4, np.float32)})
    assert parameters["a"].item() == pytest.approx(-0.6)
    assert parameters["b"].item() == pytest.approx(-0.8)
