"""The examples run and find what they set out to find."""

import importlib
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from strict_cupy import strict_cupy

import ravine
from ravine.demo.comparison import DIFFERENCE_BOUND

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("name", ["quickstart.py", "own_optimizer.py"])
def test_example_finds_the_line(name):
    found = runpy.run_path(str(EXAMPLES / name))["main"]()
    assert found["slope"] == pytest.approx(3.0, abs=0.05)
    assert found["offset"] == pytest.approx(-0.5, abs=0.05)


@pytest.fixture
def example(monkeypatch):
    """Return what imports an example; some import what is beside them."""
    pytest.importorskip("sklearn", reason="the examples need scikit-learn")
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


@pytest.fixture
def stand_in(monkeypatch):
    """Let NumPy stand in for CuPy: the examples find a GPU."""
    monkeypatch.setitem(sys.modules, "cupy", strict_cupy())


def test_training_gives_the_same_weights_with_either_update(example, capsys):
    result = example("cupy_training").main(["--device", "cpu", "--epochs", "2"])

    assert result["same_bits"] is None
    assert result["difference"] < DIFFERENCE_BOUND
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Nadam on handwritten digits, 2 epochs, NumPy on the CPU"
    for name, line, run in zip(
        ("plain NumPy", "ravine"), lines[2:], (result["plain"], result["ravine"]), strict=False
    ):
        share = run.update_ms / (run.gradient_ms + run.update_ms)
        numbers = f"{run.gradient_ms:.3f} {run.update_ms:.3f} {100 * share:.0f} %"
        assert line.split() == f"{name} {numbers} {run.test_accuracy:.4f}".split()
        assert run.gradient_ms > 0
        assert run.update_ms > 0
        assert run.test_accuracy > 0.9
    assert lines[4].startswith(f"Averaged weights differ by {result['difference']:.1e} at most")


def test_image_fit_learns_and_draws(example, tmp_path, capsys):
    path = tmp_path / "fit.png"
    image_fit = example("image_fit")
    ratios = image_fit.main(["--device", "cpu", "--plot", str(path)])["psnr"]

    # The best picture of one colour has 9.9 dB.
    photograph = image_fit.load_photograph()
    assert image_fit.psnr(photograph.mean(axis=(0, 1)), photograph) < 10
    assert len(ratios) == 20
    assert ratios[-1] == max(ratios) > 27
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "Nadam on 12288 pixels, NumPy on the CPU"
    assert printed[20] == f"epoch  20   PSNR {ratios[-1]:.2f} dB"
    assert printed[21] == f"Drawn: {path}"
    drawn = pytest.importorskip("matplotlib.image").imread(path)
    assert drawn.shape[:2] == (840, 1800)
    assert len(np.unique(drawn.reshape(-1, drawn.shape[2]), axis=0)) > 10_000  # photographs


@pytest.mark.parametrize(("name", "epochs"), [("cupy_training", "1"), ("image_fit", "2")])
def test_example_keeps_arrays_of_gpu_and_cpu_apart(name, epochs, example, stand_in, capsys):
    on_gpu = example(name).main(["--epochs", epochs])
    said = capsys.readouterr().out
    on_cpu = example(name).main(["--device", "cpu", "--epochs", epochs])

    assert on_gpu["same_bits"] is True
    assert "CuPy on a stand-in" in said
    assert said.endswith(
        "Given the gradients of the CPU, weights and state are the same there, bit for bit.\n"
    )
    if name == "image_fit":
        assert on_gpu["psnr"] == on_cpu["psnr"]
    else:
        assert on_gpu["ravine"].test_accuracy == on_cpu["ravine"].test_accuracy
        assert re.search(r"^plain CuPy ", said, re.MULTILINE)


@pytest.mark.parametrize(
    ("other", "same"), [({}, True), ({"learning_rate": 0.1 + 1e-8}, False), ({"name": "b"}, True)]
)
def test_mirrored_optimizer_sees_the_last_bit(other, same, example, stand_in, capsys):
    devices = example("devices")
    settings = {"learning_rate": 0.1, "momentum": 0.9}
    both = devices.Mirrored(
        ravine.SGD(**settings), ravine.SGD(**settings | other), devices.find_gpu()
    )
    w = np.ones(1000, np.float32)
    both.build({"w": w})
    both.apply({"w": np.linspace(-1, 1, 1000, dtype=np.float32)})

    assert both.report_bits() is same
    assert ("NOT the same" in capsys.readouterr().out) is not same
    assert w[0] != 1


def test_example_asked_for_a_gpu_says_what_it_needs(example, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert example("devices").choose(None).name == "NumPy on the CPU"
    with pytest.raises(SystemExit) as stopped:
        example("image_fit").main(["--device", "gpu"])
    assert stopped.value.code == (
        "error: --device gpu needs CuPy, and a GPU with a driver. Found: none."
    )
