"""The pages that name CuPy, on a GPU or an emulated one; and the messages of GPUs."""

import sys

import pytest
from gpu_checks import Shown
from pages import PAGES, TROUBLESHOOTING, Program, blocks, messages, needs_gpu

SECTIONS = [section for section in messages() if section.group == "On a GPU"]
NO_CUPY = "Arrays on a GPU need CuPy"
HERE = [s for s in SECTIONS if "no CUDA backend" not in s.message]  # `test_pages` has that


def on_gpu(page):
    return page != TROUBLESHOOTING and any(map(needs_gpu, blocks(page)))


@pytest.mark.parametrize("page", [page for page in PAGES if on_gpu(page)])
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = Program(page)
    for block in blocks(page):
        program.run(block)


def test_messages_are_raised_and_remedies_run(cupy, monkeypatch):
    assert len(HERE) == len(SECTIONS) - 1 == 4
    program = Program(TROUBLESHOOTING)
    program.run(blocks(TROUBLESHOOTING)[0])
    for section in HERE:
        with monkeypatch.context() as patch:
            if section.message.startswith(NO_CUPY):
                program.names["tensor"] = Shown(cupy.ones(3))
                patch.setitem(sys.modules, "cupy", None)
            program.run_section(section)
