"""What the demo draws: loss and accuracy over the epochs. Needs matplotlib."""

from pathlib import Path

from ravine.demo.comparison import Comparison
from ravine.demo.extras import import_extra

FORMATS = (".png", ".pdf", ".svg")


def require_matplotlib() -> None:
    """Raise MissingPackageError if `draw` could not draw."""
    import_extra("matplotlib", "matplotlib", "to draw the plot")


def draw(comparison: Comparison, title: str, path: Path) -> None:
    """Draw the loss and the test accuracy, those of plain NumPy underneath.

    Parameters
    ----------
    comparison : Comparison
    title : str
    path : Path
        Is written; its suffix, one of `FORMATS`, chooses the format.

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    OSError
        If the file cannot be written.
    """
    # Without pyplot no window is opened and no display needed: matplotlib falls back on Agg.
    figures = import_extra("matplotlib.figure", "matplotlib", "to draw the plot")
    figure = figures.Figure(figsize=(10, 4.2), layout="constrained")
    figure.suptitle(title)
    loss_axes, accuracy_axes = figure.subplots(1, 2)

    reference, *others = comparison.results
    wide = {"color": "#f4b860", "linewidth": 8, "solid_capstyle": "round"}
    thin = {"color": "#14375e", "linewidth": 1.5, "marker": "o", "markersize": 3.5}
    for result, style in ((reference, wide), (others[-1], thin)):
        epochs = result.training.epochs
        numbers = [epoch.number for epoch in epochs]
        loss_axes.plot(numbers, [epoch.loss for epoch in epochs], label=result.name, **style)
        accuracies = [100 * epoch.test_accuracy for epoch in epochs]
        accuracy_axes.plot(numbers, accuracies, label=result.name, **style)

    loss_axes.set(ylabel="training loss (cross-entropy, nats)", yscale="log")
    accuracy_axes.set(ylabel="test accuracy (%)")
    for axes in (loss_axes, accuracy_axes):
        axes.set_xlabel("epoch (passes over the training images)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.legend()
    figure.savefig(path, dpi=150)
