"""The pages: their Python blocks run, their messages are those of the library, their links lead on.

Blocks that name CuPy run where there is a GPU, or an emulated one: `gpu/test_gpu_pages.py`.
"""

import importlib
import re
import sys
from fnmatch import fnmatchcase
from types import SimpleNamespace

import pytest
from checks import OPTIMIZERS, OnGPU
from pages import (
    FRAMEWORKS,
    PAGES,
    ROOT,
    TROUBLESHOOTING,
    Program,
    blocks,
    messages,
    needs_gpu,
    read,
)

import ravine

NEEDS_KERAS = {"docs/coming-from-keras.md"}
ON_A_GPU = "On a GPU"
NO_CUDA = "Variable 0 ('kernel') is on a GPU. This build of ravine has no CUDA backend."


def on_cpu(page):
    return [block for block in blocks(page) if not needs_gpu(block)]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if on_cpu(p) and p not in (TROUBLESHOOTING, FRAMEWORKS)]
)
# NumPy's warning is about what Keras's own variables do.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_page_runs(page, tmp_path, monkeypatch):
    if page in NEEDS_KERAS:
        importlib.import_module("keras_oracle")  # or skip
    monkeypatch.chdir(tmp_path)
    program = Program(page)
    for block in on_cpu(page):
        program.run(block)


@pytest.mark.parametrize("page", PAGES)
def test_no_python_is_overlooked(page):
    fences = re.findall(r"^[ >]*(```+|~~~+)(.*)$", read(page), re.MULTILINE)
    assert {mark for mark, _ in fences} <= {"```"}
    languages = [language for _, language in fences[::2]]
    assert not [name for name in languages if "py" in name and name != "python"]
    assert languages.count("python") == len(blocks(page))


# --- Messages


def test_messages_are_raised_and_remedies_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = Program(TROUBLESHOOTING)
    program.run(blocks(TROUBLESHOOTING)[0])
    sections = [section for section in messages() if section.group != ON_A_GPU]
    assert len(sections) > 20
    for section in sections:
        program.run_section(section)


@pytest.mark.skipif(ravine._core.has_cuda(), reason="this build has a CUDA backend")
def test_message_of_a_build_without_cuda_is_raised(monkeypatch):
    cuda = SimpleNamespace(is_available=lambda: False)
    cupy = SimpleNamespace(ones=lambda shape: OnGPU(), cuda=cuda)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    program = Program(TROUBLESHOOTING)
    program.run(blocks(TROUBLESHOOTING)[0])
    (section,) = [each for each in messages() if each.message.startswith(NO_CUDA)]
    program.run_section(section)


def test_every_block_of_the_messages_is_in_a_section():
    in_sections = [block for section in messages() for block in section.blocks]
    assert blocks(TROUBLESHOOTING)[1:] == in_sections
    assert all(section.blocks for section in messages())


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


def test_every_optimizer_has_its_formula():
    headings = re.findall(r"^## (.*)$", read("docs/optimizers.md"), re.MULTILINE)
    assert {*OPTIMIZERS} - {"LossScaleOptimizer"} <= {*headings}
