"""What the commands refuse, before they run anything, and how they say so."""

import pytest

from ravine.__main__ import main


def refused(arguments, capsys):
    """Return usage and error of a command that does not run."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    usage, _, error = output.err.rpartition("ravine ")
    return usage.split("[")[0].strip(), error.strip()


@pytest.mark.parametrize("command", ["demo", "bench", "info"])
def test_unknown_arguments_are_told_with_the_usage_of_the_command(command, capsys):
    usage, error = refused([command, "--sizes", "3"], capsys)
    assert usage == f"usage: ravine {command}"
    assert error == f"{command}: error: unrecognized arguments: --sizes 3"


@pytest.mark.parametrize("command", ["demo", "bench", "info"])
def test_help_is_that_of_the_command(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: ravine {command} ")


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf"])
def test_bench_refuses_seconds_that_never_end(seconds, capsys):
    _, error = refused(["bench", "--seconds", seconds], capsys)
    assert error == (
        "bench: error: argument --seconds: must be a finite number, at least 0. Received: "
        f"{seconds}."
    )


def test_bench_refuses_a_file_that_cannot_be_written(capsys, tmp_path):
    path = str(tmp_path / "no" / "figures.json")
    _, error = refused(["bench", "--json", path], capsys)
    assert error == f"bench: error: argument --json: cannot write into the folder of {path!r}."
    _, error = refused(["bench", "--json", str(tmp_path)], capsys)
    assert error == (
        f"bench: error: argument --json: must be a file. {str(tmp_path)!r} is a folder."
    )


def test_bench_refuses_pictures_that_cannot_be_drawn(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("ravine.bench.cli.find_spec", lambda name: object())
    (tmp_path / "file").touch()
    path = str(tmp_path / "file" / "pictures")
    _, error = refused(["bench", "--plot", path], capsys)
    assert error == f"bench: error: argument --plot: cannot write into the folder {path!r}."

    monkeypatch.setattr("ravine.bench.cli.find_spec", lambda name: None)
    _, error = refused(["bench", "--plot", str(tmp_path)], capsys)
    assert error == (
        "bench: error: argument --plot: matplotlib is needed to draw, and is not installed: pip "
        'install "ravine[plot]"'
    )
