"""The pages: their Python blocks run, and their links lead on.

Blocks that name CuPy run where there is a GPU, or an emulated one: `gpu/test_gpu_pages.py`.
"""

import importlib
import re
from fnmatch import fnmatchcase

import pytest
from pages import PAGES, ROOT, Program, blocks, needs_gpu, read

import ravine

NEEDS_KERAS = {"docs/coming-from-keras.md"}


def on_cpu(page):
    return [block for block in blocks(page) if not needs_gpu(block)]


@pytest.mark.parametrize("page", [p for p in PAGES if on_cpu(p)])
# NumPy's warning is about what Keras's own variables do.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_page_runs(page, tmp_path, monkeypatch):
    if page in NEEDS_KERAS:
        importlib.import_module("keras_oracle")  # or skip
    monkeypatch.chdir(tmp_path)
    program = Program(page)
    for block in on_cpu(page):
        program.run(block)


# --- Links


def slug(heading):
    """Return the anchor of a heading, as forges and Sphinx make it."""
    text = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "]", heading).lower())
    return text.strip().replace(" ", "-")


def anchors(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


def links(page):
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))
    return [link for link in found if not re.match(r"https?://", link)]


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), link
        if anchor and target.name == "contributing.md":
            target = ROOT / "CONTRIBUTING.md"  # which it includes
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [*PAGES, "CONTRIBUTING.md"])
def test_files_that_are_named_exist(page):
    """Paths in backticks, or in commands, from one of the folders of the repository."""
    folders = "|".join(
        ("benchmarks", "cpp", "cuda", "docs", "examples", "python", "tests", r"\.ci")
    )
    named = re.findall(rf"(?<![\w/.])(?:{folders})/[\w./-]*\w(?![\w<*])", read(page))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_page_is_in_the_index_once():
    trees = re.findall(r"```{toctree}(.*?)```", read("docs/index.md"), re.DOTALL)
    listed = re.findall(r"^[^:\s]+$", "".join(trees), re.MULTILINE)
    pages = {page.removeprefix("docs/").removesuffix(".md") for page in PAGES[1:]} - {"index"}
    found = [page for pattern in listed for page in pages if fnmatchcase(page, pattern)]
    assert sorted(found) == sorted(pages)


def test_reference_has_every_public_name():
    text = read("docs/reference.md")
    entries = set(re.findall(r"^\.\. (?:auto)?(?:class|function|data):: (\w+)", text, re.MULTILINE))
    assert entries - {"cast"} == {*ravine.__all__} - {"ops", "schedules"}
    assert "automodule:: ravine.schedules\n   :members:" in text
    assert {*ravine.ops.__all__} <= entries | set(re.findall(r"`(\w+)`", text))
