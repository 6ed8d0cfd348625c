import os
import signal
import subprocess
import sys
import time

import pytest

import isentrope
from isentrope.cli import main


def run(arguments, capsys):
    """The exit code, standard output and standard error of one call."""
    code = 0
    try:
        main(arguments)
    except SystemExit as exit:
        code = exit.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_version(capsys):
    assert run(["--version"], capsys) == (0, f"{isentrope.__version__}\n", "")


def test_help_lists_the_commands(capsys):
    code, out, err = run(["--help"], capsys)
    assert (code, err) == (0, "")
    for command in ("measure", "train", "compare", "papers", "cite", "report"):
        assert command in out


def test_unknown_command_is_one_line(capsys):
    code, out, err = run(["mesure"], capsys)
    assert (code, out) == (2, "")
    assert err.startswith("isentrope: ")
    assert "mesure" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["measure"], "at least one file"),
        (["measure", "x.txt", "--base", "7"], "7"),
        (["measure", "--bass", "2"], "--bass"),
        (["measure", "x.txt", "--axis", "first"], "first"),
        (["measure", "no such file.txt"], "no such file.txt: No such file or directory"),
    ],
)
def test_a_mistake_gives_one_line_and_exit_code_2(arguments, part, capsys):
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert part in err
    assert err.startswith("isentrope: ")
    assert err.count("\n") == 1


def test_traceback_can_be_asked_for(monkeypatch, capsys):
    monkeypatch.setenv("ISENTROPE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="at least one file"):
        main(["measure"])


def test_markup_in_an_error_is_shown_as_it_is(capsys):
    _, _, err = run(["measure", "[red]file[/red].txt"], capsys)
    assert "[red]file[/red].txt" in err


def test_module_and_command_are_the_same():
    command = [sys.executable, "-m", "isentrope", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{isentrope.__version__}\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name to wait on")
def test_interrupt_gives_130(tmp_path):
    # A text that never comes: once the command has opened the pipe, it waits there, where Ctrl-C finds it.
    fifo = tmp_path / "never.txt"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "isentrope", "measure", str(fifo)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        writer = open_once_read(fifo, process, patience=60)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        os.close(writer)
        assert process.returncode == 130
        assert err == "isentrope: interrupted\n"
    finally:
        process.kill()
        process.communicate()


def open_once_read(fifo, process, patience):
    """Open a pipe for writing as soon as the process reads it; until then the system refuses."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
