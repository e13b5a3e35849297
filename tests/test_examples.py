"""The examples run and find what they set out to find."""

import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from strict_cupy import strict_cupy

import ravine
from ravine.demo.comparison import DIFFERENCE_BOUND

EXAMPLES = Path(__file__).parent.parent / "examples"
DOCS = EXAMPLES.parent / "docs"


def test_page_lists_every_example():
    listed = re.findall(r"`(?:python )?examples/(\w+\.py)\b", (DOCS / "examples.md").read_text())
    assert sorted(listed) == sorted(path.name for path in EXAMPLES.glob("*.py"))


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


def test_plain_training_learns(example, capsys):
    found = example("numpy_training").main([])
    assert found["accuracy"] > 0.97
    assert found["averaged"] > 0.97
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    assert re.fullmatch(
        r"epoch  20   loss 0\.0\d{3}   test accuracy 0\.9\d{3}, of the averaged weights 0\.9\d{3}",
        lines[-1],
    )


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_plain_training_goes_on_where_it_stopped(ending, example, tmp_path, capsys):
    training = example("numpy_training")
    training.main(["--epochs", "3"])
    whole = capsys.readouterr().out.splitlines()

    path = tmp_path / f"last.{ending}"
    training.main(["--epochs", "3", "--stop", "2", "--checkpoint", str(path)])
    first = capsys.readouterr().out.splitlines()
    training.main(["--epochs", "3", "--checkpoint", str(path)])
    second = capsys.readouterr().out.splitlines()
    assert second[0] == f"Going on from {path}, step 46"
    assert [*first, *second[1:]] == whole


def test_autograd_gives_the_gradients(example, capsys):
    pytest.importorskip("autograd", reason="the example needs autograd")
    found = example("autograd_gradients").main([])
    assert found["loss"] < 1e-3
    assert found["accuracy"] > 0.96
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["50", "100", "150", "200"]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does")
def test_training_in_files_needs_less_memory_than_its_arrays(tmp_path):
    pytest.importorskip("sklearn", reason="the example needs scikit-learn")
    sizes = ["--width", "2048", "--memory", "16", "--epochs", "1", "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / "memmap_offload.py"), *sizes],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        "Parameters 17 MiB, gradients as much, slots twice as much",
        "Memory may grow by 16 MiB",
    ]
    # Which array is the first that finds no room depends on what the heap had left.
    assert lines[2].startswith("In memory: Unable to allocate ")
    assert lines[3] == "In files:"
    assert float(re.fullmatch(r"epoch   1   loss 0\.\d+   test accuracy (.+)", lines[4])[1]) > 0.9
    assert lines[5] == "66 MiB were trained in files, beside 16 MiB of memory"
    assert list(tmp_path.iterdir()) == []


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
