"""Pictures of what was timed; Matplotlib draws them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ravine.bench.cases import SINGLY
from ravine.bench.own import ALONE, DIVIDER, LIMIT, RAVINE, STREAM
from ravine.bench.suites import Row
from ravine.bench.workloads import WORKLOADS


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw each picture for which there are figures.

    Parameters
    ----------
    rows : list of dict
    folder : path
        Made if it is not there.

    Returns
    -------
    list of path
        The files, SVG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pyplot = import_module("matplotlib.pyplot")
    import_module("matplotlib").rcParams["svg.hashsalt"] = "ravine"  # the same bytes again
    pictures: dict[str, tuple[str, Callable[[Any, list[Row]], None]]] = {
        "roofline.svg": ("sizes", _roofline),
        "peers.svg": ("peers", _bars),
        "options.svg": ("options", _options),
        "fixed_cost.svg": ("counts", _fixed_cost),
    }
    drawn = []
    for name, (suite, picture) in pictures.items():
        of_suite = [row for row in rows if row["suite"] == suite]
        if not of_suite:
            continue
        figure, axis = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
        picture(axis, of_suite)
        figure.savefig(folder / name, metadata={"Date": None})
        pyplot.close(figure)
        drawn.append(folder / name)
    return drawn


def _size(row: Row) -> int:
    ((size,),) = WORKLOADS[row["workload"]]
    return int(size)


def _rate(row: Row) -> float:
    return float(row["bytes"] / row["seconds"] / 1e9)


def _roofline(axis: Any, rows: list[Row]) -> None:
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    for color, rule in enumerate(rules):
        for name, style in ((ALONE, "o-"), (LIMIT, ":")):
            own = [row for row in rows if row["rule"] == rule and row["name"] == name]
            label = rule if name == ALONE else f"{rule}, limit"
            axis.plot(
                [*map(_size, own)], [*map(_rate, own)], style, color=f"C{color}", label=label, ms=3
            )
    axis.set_xscale("log", base=2)
    axis.set_xlabel("elements, float32")
    axis.set_ylabel("GB/s, read and written")
    axis.set_ylim(bottom=0)
    axis.legend(fontsize=8)


def _bars(axis: Any, rows: list[Row]) -> None:
    left_out = (LIMIT, STREAM, DIVIDER, ALONE)
    names = [n for n in dict.fromkeys(row["name"] for row in rows) if n not in left_out]
    keys = list(dict.fromkeys(map(_label, rows)))
    colors = import_module("matplotlib").colormaps["tab20"]  # there are more than ten peers
    for k, name in enumerate(names):
        found = {_label(row): row["to_limit"][1] for row in rows if row["name"] == name}
        places = [i + 0.8 * k / len(names) for i, key in enumerate(keys) if key in found]
        heights = [found[key] for key in keys if key in found]
        color = "black" if name == RAVINE else colors(k % 20)
        axis.bar(places, heights, 0.8 / len(names), label=name, color=color)
    axis.axhline(1, color="gray", lw=0.8)
    axis.set_yscale("log")
    axis.set_xticks([i + 0.4 for i in range(len(keys))], keys, rotation=30, ha="right", fontsize=7)
    axis.set_ylabel("time of a step, limit = 1")
    axis.legend(fontsize=7, ncols=2)


def _label(row: Row) -> str:
    parts = [row["workload"], row["rule"]]
    parts += ["+ options"] * (row["option"] == "together")
    parts += [row["dtype"]] * (row["dtype"] != "float32")
    return " ".join(parts)


def _options(axis: Any, rows: list[Row]) -> None:
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    options = [option for option in SINGLY if option != "plain"]
    for k, rule in enumerate(rules):
        seconds = {
            row["option"]: row["seconds"]
            for row in rows
            if row["rule"] == rule and row["name"] == ALONE
        }
        places = [i + 0.8 * k / len(rules) for i in range(len(options))]
        heights = [seconds[option] / seconds["plain"] for option in options]
        axis.bar(places, heights, 0.8 / len(rules), label=rule)
    axis.axhline(1, color="gray", lw=0.8)
    axis.set_xticks([i + 0.4 for i in range(len(options))], options, rotation=20)
    axis.set_ylabel("time of a step of ResNet-50, plain = 1")
    axis.legend(fontsize=8)


def _fixed_cost(axis: Any, rows: list[Row]) -> None:
    for name in (RAVINE, ALONE, LIMIT):
        own = [row for row in rows if row["name"] == name]
        axis.plot(
            [row["arrays"] for row in own], [row["seconds"] * 1e6 for row in own], "o-", label=name
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("arrays of 64 elements, Nadam")
    axis.set_ylabel("microseconds a step")
    axis.legend(fontsize=8)
