"""The examples on a GPU: they train there, and the same gradients give the bits of the CPU."""

import importlib
from pathlib import Path

import pytest

from ravine.demo.comparison import DIFFERENCE_BOUND

pytest.importorskip("sklearn", reason="the examples need scikit-learn")
pytest.importorskip("PIL", reason="scikit-learn needs Pillow to read its photograph")
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    """Return what imports an example."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


@pytest.fixture
def _matrices(cupy):
    """Skip tests where CuPy multiplies no matrices."""
    if not hasattr(cupy, "matmul"):
        pytest.skip("an emulated GPU multiplies no matrices")
    try:
        cupy.ones((2, 2)) @ cupy.ones((2, 2))
    except ImportError as error:
        pytest.skip(f"CuPy finds no cuBLAS: {error}")


def test_training_gives_the_same_bits_on_a_gpu(cupy, example, capsys):
    devices, training = example("devices"), example("cupy_training")
    images, labels = training.load_digits()[0]
    both = devices.Mirrored(training.nadam(), training.nadam(), devices.Device("a GPU", cupy))
    training.train(both, training.Digits(images[:160], labels[:160]), devices.CPU, epochs=2)

    assert both.optimizer.iterations == 10
    assert both.report_bits() is True
    assert "are the same there, bit for bit" in capsys.readouterr().out


def test_image_fit_gives_the_same_bits_on_a_gpu(cupy, example):
    devices, image_fit = example("devices"), example("image_fit")
    nadam = image_fit.nadam(600, epochs=3)
    both = devices.Mirrored(nadam, nadam.from_config(nadam.get_config()), devices.Device("", cupy))
    image_fit.fit(both, image_fit.load_photograph()[40:60, 40:70], devices.CPU, epochs=3)

    assert both.optimizer.iterations == 6
    assert both.report_bits() is True


# CuPy warns of what it would rather find installed.
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("_matrices")
def test_training_runs_on_a_gpu(example, capsys):
    result = example("cupy_training").main(["--device", "gpu", "--epochs", "2"])

    assert result["same_bits"] is True
    assert result["difference"] < DIFFERENCE_BOUND
    assert "plain CuPy" in capsys.readouterr().out
    for run in (result["plain"], result["ravine"]):
        assert run.test_accuracy > 0.9
        assert 0 < run.update_share < 1


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("_matrices")
def test_image_fit_learns_on_a_gpu(example):
    result = example("image_fit").main(["--device", "gpu", "--epochs", "6"])

    assert result["same_bits"] is True
    assert result["psnr"][-1] == max(result["psnr"]) > 22
