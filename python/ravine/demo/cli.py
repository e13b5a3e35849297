"""The command line of the demo."""

import argparse
import json
import sys
from pathlib import Path

import ravine
from ravine._arguments import natural, new_file, positive
from ravine.demo import picture, report
from ravine.demo.comparison import compare
from ravine.demo.data import load_digits
from ravine.demo.extras import MissingPackageError
from ravine.demo.recipes import EMA_MOMENTUM, GLOBAL_CLIPNORM, RECIPES
from ravine.demo.training import Epoch

DESCRIPTION = """\
Train a 64-512-512-10 network in plain NumPy on scikit-learn's handwritten digits, with the update
in plain NumPy and in ravine, with clipping by the global norm and averaging of the weights.
Exit status: 0 if the final weights agree, 1 if not, 2 if the demo could not run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the demo to a parser, and `run` as what it runs."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "--optimizer", choices=sorted(RECIPES), default="nadam", help="default: %(default)s"
    )
    numbers = (
        ("--epochs", positive, 15, "passes over the training images"),
        ("--batch-size", positive, 32, "images a step; the learning rate follows it"),
        ("--seed", natural, 0, "of first weights and order of the images"),
    )
    for name, kind, default, text in numbers:
        parser.add_argument(
            name, type=kind, default=default, metavar="N", help=f"{text}; default: %(default)s"
        )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="of ravine, compared with one thread; default: all that it would use",
    )
    parser.add_argument(
        "--plot",
        type=picture_path,
        metavar="FILE",
        help=f"draw loss and accuracy ({', '.join(picture.FORMATS)})",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object; progress goes to stderr"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo with parsed options; return the exit status."""
    text = sys.stderr if options.json else sys.stdout

    def say(line: str) -> None:
        print(line, file=text, flush=True)

    def say_epoch(epoch: Epoch) -> None:
        say(report.progress_line(epoch))

    try:
        digits = load_digits()
        if options.plot:
            picture.require_matplotlib()

        rate = RECIPES[options.optimizer].learning_rate_for(options.batch_size)
        title = f"{options.optimizer} on handwritten digits, seed {options.seed}"
        say(
            f"{title}: learning_rate {rate:g}, global_clipnorm {GLOBAL_CLIPNORM:g}, "
            f"ema_momentum {EMA_MOMENTUM:g}, batches of {options.batch_size}; "
            f"ravine {ravine.__version__}, {ravine.instruction_set()}"
        )
        comparison = compare(
            options.optimizer,
            digits,
            epochs=options.epochs,
            batch_size=options.batch_size,
            seed=options.seed,
            threads=options.threads or ravine.get_num_threads(),
            on_start=say,
            on_epoch=say_epoch,
        )
        say("\n" + report.table(comparison))
        if options.plot:
            picture.draw(comparison, title, options.plot)
            say(f"Drawn: {options.plot}")
    except (MissingPackageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    if options.json:
        settings = {
            "optimizer": options.optimizer,
            "learning_rate": rate,
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "seed": options.seed,
            "version": ravine.__version__,
            "instruction_set": ravine.instruction_set(),
        }
        print(json.dumps(report.as_json(comparison, settings), indent=2))
    return 0 if comparison.agrees else 1


def picture_path(text: str) -> Path:
    """Read the path of a picture that can be written."""
    path = Path(text)
    if path.suffix not in picture.FORMATS:
        raise argparse.ArgumentTypeError(
            f"must end in {', '.join(picture.FORMATS)}. Received: {text!r}."
        )
    return new_file(text)
