"""What the demo says: a line an epoch, a table, JSON."""

from dataclasses import asdict
from typing import Any

from ravine.demo.comparison import Comparison, Result
from ravine.demo.training import Epoch

HEADINGS = (
    "update in",
    "update ms",
    "GB/s",
    "share of step",
    "largest difference",
    "test accuracy",
    "averaged",
)


def progress_line(epoch: Epoch) -> str:
    """Return one line on an epoch."""
    return (
        f"  epoch {epoch.number:3}   loss {epoch.loss:.4f}   "
        f"test accuracy {epoch.test_accuracy:.4f}   "
        f"gradient {epoch.gradient_ms:6.3f} ms   update {epoch.update_ms:6.3f} ms"
    )


def gigabytes_per_second(result: Result, comparison: Comparison) -> float:
    """Return the speed of the update, by the bytes that a single pass moves."""
    return comparison.bytes_per_step / (result.training.update_ms * 1e6)


def table(comparison: Comparison) -> str:
    """Return the results as aligned text, one line a training, with what its columns mean."""
    rows = [HEADINGS]
    for result in comparison.results:
        training = result.training
        rows.append(
            (
                result.name,
                f"{training.update_ms:.3f}",
                f"{gigabytes_per_second(result, comparison):.1f}",
                f"{100 * result.update_share:.0f} %",
                "-" if result.threads is None else f"{result.largest_difference:.1e}",
                f"{training.test_accuracy:.4f}",
                f"{training.averaged_test_accuracy:.4f}",
            )
        )
    name_width = max(len(row[0]) for row in rows)
    lines = [
        "  ".join(
            [row[0].ljust(name_width)]
            + [
                cell.rjust(len(heading))
                for cell, heading in zip(row[1:], HEADINGS[1:], strict=True)
            ]
        )
        for row in rows
    ]
    megabytes = comparison.bytes_per_step / 1e6
    return "\n".join(
        [
            *lines,
            "",
            f"Times are medians. GB/s counts the {megabytes:.1f} MB that one pass has to move.",
            "Averaged: test accuracy with the exponential moving average of the weights.",
            verdict(comparison),
        ]
    )


def verdict(comparison: Comparison) -> str:
    """Say whether `ravine` agrees with plain NumPy, and with itself at more threads."""
    does = "agrees" if comparison.agrees else "DOES NOT AGREE"
    sentence = (
        f"ravine {does} with plain NumPy: a final weight or average may differ by "
        f"{comparison.difference_bound:.0e} at most."
    )
    if len(comparison.results) > 2:
        same = "the same" if comparison.same_bits else "NOT the same"
        sentence += f"\nAt each number of threads its weights are {same}, bit for bit."
    return sentence


def as_json(comparison: Comparison, settings: dict[str, Any]) -> dict[str, Any]:
    """Return all numbers of the comparison, and the settings that gave them.

    Parameters
    ----------
    comparison : Comparison
    settings : dict
        Put in front as they are.

    Returns
    -------
    dict
        Of what JSON knows. Units are in the names; shares are from 0 to 1.
    """
    return {
        **settings,
        "bytes_per_step": comparison.bytes_per_step,
        "difference_bound": comparison.difference_bound,
        "agrees": comparison.agrees,
        "same_bits": comparison.same_bits,
        "trainings": [
            {
                "name": result.name,
                "threads": result.threads,
                "gradient_ms": result.training.gradient_ms,
                "update_ms": result.training.update_ms,
                "gigabytes_per_second": gigabytes_per_second(result, comparison),
                "update_share": result.update_share,
                "largest_difference": result.largest_difference,
                "test_accuracy": result.training.test_accuracy,
                "averaged_test_accuracy": result.training.averaged_test_accuracy,
                "epochs": [asdict(epoch) for epoch in result.training.epochs],
            }
            for result in comparison.results
        ],
    }
