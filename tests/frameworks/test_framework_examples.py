"""The examples inside frameworks run and learn."""

import importlib
import random
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module


def test_keras_fit(example, capsys):
    importlib.import_module("keras_checks")  # or skip
    result = example("keras_fit").main(["--epochs", "3"])
    assert result["ravine"] > 0.9
    assert abs(result["ravine"] - result["Keras"]) < 0.01
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"Nadam of ravine  accuracy {result['ravine']:.4f}"


def test_torch_training(example, capsys):
    pytest.importorskip("torch", reason="needs PyTorch", exc_type=ImportError)
    result = example("torch_training").main(["--epochs", "3", "--device", "cpu"])
    assert min(result.values()) > 0.9
    said = capsys.readouterr().out
    assert f"accuracy of the averages  {result['averages']:.4f}\n" in said


def texts():
    """Return lines of this repository: those of pages are prose, those of sources are code."""
    found = []
    for kind, folder, pattern in (("prose", "docs", "*.md"), ("code", "cpp/src", "**/*.cpp")):
        for path in sorted((ROOT / folder).glob(pattern)):
            lines = [line.strip() for line in path.read_text().splitlines()]
            long = [line for line in lines if len(line.split()) > 4 and not line.startswith("//")]
            found += [(line, kind) for line in long[:30]]
    random.Random(0).shuffle(found)
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_spacy_config(tmp_path):
    spacy = pytest.importorskip("spacy", reason="needs spaCy", exc_type=ImportError)
    fill, tokens, initialize, loop = (
        importlib.import_module(f"spacy.{name}")
        for name in ("cli.init_config", "tokens", "training.initialize", "training.loop")
    )
    blank, lines = spacy.blank("en"), texts()
    paths = {}
    for name, chosen in (("train", lines[200:]), ("dev", lines[:200])):
        docs = []
        for text, kind in chosen:
            doc = blank.make_doc(text)
            doc.cats = {each: float(each == kind) for each in ("prose", "code")}
            docs.append(doc)
        paths[f"paths.{name}"] = str(tmp_path / f"{name}.spacy")
        tokens.DocBin(docs=docs, store_user_data=True).to_disk(paths[f"paths.{name}"])
    filled = tmp_path / "config.cfg"
    fill.fill_config(filled, ROOT / "examples/spacy_config.cfg")
    nlp = initialize.init_nlp(spacy.util.load_config(filled, overrides=paths))
    _, path = loop.train(nlp, tmp_path, use_gpu=-1)
    trained = spacy.load(path)
    hits = [
        max(trained(text).cats, key=trained(text).cats.get) == kind for text, kind in lines[:200]
    ]
    assert sum(hits) > 170
