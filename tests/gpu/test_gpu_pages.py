"""The pages that name CuPy, on a GPU or an emulated one."""

import pytest
from pages import PAGES, Program, blocks, needs_gpu


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(needs_gpu, blocks(page)))])
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = Program(page)
    for block in blocks(page):
        program.run(block)
