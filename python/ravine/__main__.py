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
        prog="ravine", epilog="Without a command: demo, with the options given."
    )
    parser.add_argument("--version", action="version", version=f"ravine {ravine.__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    demo.add_arguments(commands.add_parser("demo", help="train a network on handwritten digits"))
    bench.add_arguments(commands.add_parser("bench", help="time steps beside those of others"))
    _info.add_arguments(commands.add_parser("info", help="say what is installed and in use"))

    is_demo = not given or (
        given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")
    )
    options = parser.parse_args(["demo", *given] if is_demo else given)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
