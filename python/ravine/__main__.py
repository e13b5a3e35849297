"""The command `python -m ravine`, also installed as `ravine`: a demo, unless told otherwise."""

import argparse
import sys
from collections.abc import Sequence

import ravine
from ravine import _info
from ravine.bench import cli as bench
from ravine.demo import cli as demo


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default. The demo is run if they do not begin with a command.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="ravine",
        description="Keras 3 optimizers for NumPy and CuPy arrays.",
        epilog="Without a command: demo, with the options given. ravine COMMAND --help has the "
        "options of each.",
    )
    parser.add_argument("--version", action="version", version=f"ravine {ravine.__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, module, text in (
        ("demo", demo, "train a network on handwritten digits"),
        ("bench", bench, "time steps beside those of others"),
        ("info", _info, "say what is installed and in use"),
    ):
        command = commands.add_parser(name, help=text)
        command.set_defaults(parser=command)
        module.add_arguments(command)

    is_demo = not given or (
        given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")
    )
    options, unknown = parser.parse_known_args(["demo", *given] if is_demo else given)
    if unknown:  # said with the usage of the command, where argparse would give that of all
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
