"""Packages that only the demo needs, imported when it needs them."""

from importlib import import_module
from types import ModuleType


class MissingPackageError(Exception):
    """A package that the demo needs is not installed; the message says how to install it."""


def import_extra(module: str, package: str, purpose: str) -> ModuleType:
    """Import a module of an optional package.

    Parameters
    ----------
    module : str
        Its full name, such as ``"sklearn.datasets"``.
    package : str
        The name of the package that has it, as its users know it.
    purpose : str
        What the demo does with it, to end the sentence "scikit-learn is needed ...".

    Returns
    -------
    module

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # A module missing further down is a broken installation, which this advice would hide.
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingPackageError(
            f'{package} is needed {purpose}, and is not installed: pip install "ravine[demo]"'
        ) from error
