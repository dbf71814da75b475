"""What is printed where: no colour, no terminal, forty columns, a closed pipe, completion."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from harness.cli import main
from harness.results import write_results
from harness.run_folder import claim
from harness.scenario import load
from harness.terminal import Terminal, emit
from tests.unit.commands.test_score import sheet

Write = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3]
LISTINGS = [
    ["--help"],
    ["plan", "--help"],
    ["list", "systems"],
    ["list", "attacks"],
    ["list", "defenses"],
    ["list", "datasets"],
    ["list", "metrics"],
    ["list", "metrics", "--json"],
    ["assets"],
    ["assets", "--json"],
    ["plan", "s.yaml"],
    ["plan", "s.yaml", "--json"],
    ["validate", "s.yaml"],
    ["validate", "s.yaml", "--json"],
    ["score", "run"],
    ["score", "run", "--json"],
    ["doctor"],
    ["schema"],
]
TERMINAL = [c for c in LISTINGS if not {"--json", "--help", "schema"} & set(c)]


class Tty(io.StringIO):
    """A terminal in memory."""

    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture
def place(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a scenario ``s.yaml`` and a run ``run`` in it; becomes the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.forecast.facts_at_hand", lambda datasets: {})
    monkeypatch.setattr("harness.doctor.SELF_TEST_STEPS", 2)
    path = write(
        attacks="{a long name of an attack: {use: promote}, n: {use: norms}}",
        defenses="{a long name of a defence: {use: clip}}",
        systems="{text: {use: text, dataset: movies}, fed: {use: fed, dataset: movies}}",
        clients="{malicious: {fraction: 0.2}}",
    )
    claim(tmp_path / "run", load(path))
    done = sheet(0)
    write_results(tmp_path / "run", done.rows, done.samples)
    for name, value in (("HARNESS_CACHE", str(tmp_path)), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return tmp_path


def shown(command: list[str], stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main(command) == 0
    return stream.getvalue()


def test_a_terminal_of_forty_columns_is_never_overrun(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    for command in TERMINAL:
        lines = shown(command, Tty(), monkeypatch).splitlines()
        assert lines, command
        assert [line for line in lines if cell_len(line) > 40] == [], command


def test_narrow_tables_keep_every_word_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, rows = ("name", "heading", "state"), [("alpha", "unknown", "word " * 9), ("b", "", "")]
    for width, stream in ((40, io.StringIO()), (20, io.StringIO())):
        monkeypatch.setenv("COLUMNS", str(width))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            Terminal().table(columns, rows)
        lines = [line.rstrip() for line in stream.getvalue().splitlines()]
        assert all(cell_len(line) <= width for line in lines)
        assert stream.getvalue().split().count("word") == 9
        if width == 40:
            assert lines[0].split() == list(columns)
            assert lines[1].split()[:2] == ["alpha", "unknown"]
        else:
            assert lines[:3] == ["alpha", "  heading: unknown", "  state: word word"]
            assert lines[-3:] == ["b", "  heading:", "  state:"]


def test_colour_on_a_terminal_only_and_never_against_the_wish(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[" in shown(["list", "attacks"], Tty(), monkeypatch)
    for command in LISTINGS:
        assert "\x1b" not in shown(command, io.StringIO(), monkeypatch), command
    monkeypatch.setenv("NO_COLOR", "1")
    for command in TERMINAL:
        assert "\x1b" not in shown(command, Tty(), monkeypatch), command


def test_a_pipe_gets_lines_unbroken(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = shown(["plan", "s.yaml"], io.StringIO(), monkeypatch).splitlines()
    assert any("text × n: attack not applicable: n reads model updates" in line for line in lines)


@pytest.mark.parametrize("command", LISTINGS, ids=" ".join)
def test_a_closed_pipe_is_no_error(
    command: list[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stream)
            try:
                code = main(command)
            except SystemExit as stop:
                code = stop.code
        stream.flush()  # what the interpreter does at its end
    finally:
        stream.close()
    assert (code, capsys.readouterr().err) == (0, "")


def in_bash(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("command", ["--help", "assets", "assets --json", "plan --help"])
def test_head_in_a_real_shell(command: str) -> None:
    python = f"{sys.executable} -m harness {command}"
    done = in_bash(f"{python} | head -1; echo ${{PIPESTATUS[0]}}; {python} | true; "
                   "echo ${PIPESTATUS[0]}")  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.splitlines()[1:] == ["0", "0"]


def test_output_that_was_closed_from_the_start(tmp_path: Path) -> None:
    for command in ("assets", "assets --json"):
        done = in_bash(f"{sys.executable} -m harness {command} >&-; echo code $?")
        assert (done.stdout, done.stderr) == ("code 0\n", "")


def test_a_real_terminal_of_forty_columns() -> None:
    parent, child = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    environment |= {"TERM": "xterm", "HARNESS_CACHE": "/nowhere"}
    code = (
        "import fcntl, struct, sys, termios; "
        "fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 40, 0, 0)); "
        "from harness.cli import main; sys.exit(main(['assets']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdin=child, stdout=child,
        stderr=child, close_fds=True,
    ) as process:  # fmt: skip
        os.close(child)
        written = b""
        while True:
            try:
                part = os.read(parent, 4096)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            written += part
    os.close(parent)
    assert process.returncode == 0, written
    text = written.decode().replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert "\x1b" not in text and "ml-100k" in text
    assert all(cell_len(line) <= 40 for line in text.splitlines())


def test_an_encoding_that_lacks_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    emit({"σ": "é"})
    assert main(["assets"]) == 0
    sys.stdout.flush()
    text = raw.getvalue().decode("ascii")
    assert json.loads(text[: text.index("}") + 1]) == {"σ": "é"}
    assert "ml-100k" in text


def test_completion_works_in_a_real_shell(tmp_path: Path) -> None:
    script = tmp_path / "harness"
    script.write_text(f"#!{sys.executable}\nfrom harness.__main__ import run\nrun()\n")
    script.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    module = in_bash(f"{sys.executable} -m harness --show-completion; true", **path)
    assert module.stderr == "" and "complete -o default -F _harness_completion harness" in (
        module.stdout
    )
    ask = (
        "COMP_WORDS=({words}); COMP_CWORD={at}; _harness_completion harness; "
        'echo "${{COMPREPLY[*]}}"'
    )
    done = in_bash(
        'eval "$(harness --show-completion)"; '
        + "; ".join(
            ask.format(words=words, at=len(words.split()) - 1)
            for words in (
                "harness va",
                "harness list a",
                "harness plan --l",
                "harness init --pack p",
            )
        ),
        **path,
    )
    assert (done.stdout.split(), done.stderr) == (["validate", "attacks", "--like", "poison"], "")
