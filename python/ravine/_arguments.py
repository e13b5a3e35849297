"""Numbers and paths on the command line, refused before anything runs and not after it."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path


def positive(text: str) -> int:
    """Read an int of at least 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received: {text}.")
    return value


def natural(text: str) -> int:
    """Read an int of at least 0."""
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0. Received: {text}.")
    return value


def duration(text: str) -> float:
    """Read seconds, at least 0."""
    if not 0 <= (value := float(text)) < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number, at least 0. Received: {text}.")
    return value


def new_file(text: str) -> Path:
    """Read the path of a file that can be written."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file. {text!r} is a folder.")
    if not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write into the folder of {text!r}.")
    return path


def folder(text: str) -> Path:
    """Read the path of a folder that is there or can be made."""
    path = Path(text)
    nearest = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write into the folder {text!r}.")
    return path
