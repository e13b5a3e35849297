"""How Sphinx makes the pages of this folder. `.ci/docs.sh` calls it, and lets no warning pass."""

import inspect

import numpy

import ravine

project = "ravine"
copyright = "the authors of ravine"
version = release = ravine.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
html_theme = "furo"
html_title = f"ravine {version}"

# The pages are also read where the repository is: plain Markdown, formulas between dollars.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# A name between single backticks must be that of something.
nitpicky = True
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False


def arguments_and_settings():
    """Return what docstrings name that may have no entry of its own."""
    names = set()
    for place in (ravine, ravine.schedules, ravine.ops):
        things = [getattr(place, name) for name in place.__all__]
        for thing in [t for t in things if isinstance(t, type) or inspect.isfunction(t)]:
            methods = [m for _, m in inspect.getmembers(thing, inspect.isfunction)]
            for each in [thing, *methods]:
                names |= set(inspect.signature(each).parameters)
            names |= {name for name in dir(thing) if not name.startswith("_")}
    return names


def setup(app):
    """Let such names pass, and NumPy's, as code without a link."""
    known = arguments_and_settings()

    def say(_app, _environment, node, content):
        target = node["reftarget"]
        of_numpy = target.startswith("numpy.") and hasattr(numpy, target.removeprefix("numpy."))
        return content if of_numpy or target in known else None

    app.connect("missing-reference", say)
