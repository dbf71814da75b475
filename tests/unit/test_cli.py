"""Commands: exit codes, what is printed where, run folders, locks and progress."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import harness.commands.run
import harness.commands.working
import harness.forecast
import harness.plan
from harness.cli import main
from harness.core.errors import AssetError, RunError, ScenarioError
from harness.forecast import DataFacts
from harness.plan import expand
from harness.progress import Progress, duration
from harness.provenance import manifest
from harness.run_folder import claim, default_folder, run_lock, slug
from harness.scenario import load, scenario_hash

Write = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[object, ...]]:
    """Record calls of the sweep instead of training; works in an empty folder."""
    calls: list[tuple[object, ...]] = []

    def run_scenario(scenario, folder, jobs, keep_going, limit, progress) -> int:  # type: ignore[no-untyped-def]
        calls.append((scenario.name, folder, jobs, keep_going, limit))
        assert (folder / ".lock").exists()
        if scenario.name != "broken":
            (folder / "results.parquet").write_bytes(b"")
        return {"interrupted": 130, "broken": 4}.get(scenario.name, 0)

    stand_in = types.ModuleType("harness.launch")
    stand_in.run_scenario = run_scenario  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "harness.launch", stand_in)
    monkeypatch.setattr(
        harness.commands.working, "write_report", lambda folder: folder / "report.html"
    )
    monkeypatch.chdir(tmp_path)
    return calls


def test_run_passes_its_options_on(
    write: Write, sweep: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write(compute="{jobs: 3}"))
    assert main(["run", path]) == 0
    assert main(["run", path, "-j", "2", "--out", "x", "--limit", "4", "--fail-fast"]) == 0
    assert sweep == [
        ("demo", Path("runs/demo"), 3, True, None),
        ("demo", Path("x"), 2, False, 4),
    ]
    assert capsys.readouterr().out == "report: runs/demo/report.html\nreport: x/report.html\n"
    assert load("x/scenario.yaml") == load(path)
    assert not Path("x/.lock").exists()


def test_exit_codes_of_run(
    write: Write, sweep: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(write(name="broken"))]) == 4
    assert capsys.readouterr().out == ""
    path = str(write(name="interrupted"))
    assert main(["run", path, "-S", "seeds=[0]"]) == 130
    assert "go on with: python -m harness" in capsys.readouterr().err


def test_changed_scenario_does_not_mix_into_a_run_folder(
    write: Write, sweep: list[tuple[object, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write())
    assert main(["run", path]) == 0
    assert main(["run", path, "-S", "compute.jobs=2"]) == 0
    assert main(["run", path, "-S", "systems.fed.lr=0.5"]) == 2
    assert "differs in systems.fed.lr. Give another folder" in capsys.readouterr().err
    assert len(sweep) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["validate", "absent.yaml"], 2, "absent.yaml: No such file"),
        (["validate"], 2, "Missing argument"),
        (["validat"], 2, "No such command"),
        (["run", "a.yaml", "-j", "0"], 2, "Invalid value"),
        (["list", "atacks"], 2, "did you mean 'attacks'?"),
        (["report", "absent"], 3, "no results there"),
    ],
)
def test_usage_errors(
    plugins: None, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_validate_prints_problems_one_a_line(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(defense="{}", seeds="[-1]")
    assert main(["validate", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"{path}:3:9: seeds[0]: must be greater than or equal to 0")
    assert lines[1].startswith(f"{path}:6:1: defense: unknown key 'defense'; did you mean")
    assert lines[2:] == ["2 problems"]
    assert main(["validate", str(write())]) == 0
    assert "valid, 4 cells in 4 trainings" in capsys.readouterr().out


def test_plan_shows_counts_and_theory(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {"movies": DataFacts((50,), (300,))}
    monkeypatch.setattr(harness.forecast, "facts_at_hand", lambda datasets: facts)
    path = write(
        defenses="{c: {use: clip}}",
        attacks="{p: {use: promote}, n: {use: norms}}",
        systems="{text: {use: text, dataset: movies}, fed: {use: fed, dataset: movies}}",
    )
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["plan", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "8 cells in 8 trainings; time: unknown" in shown
    assert "text × n: attack not applicable: n reads model updates" in shown
    assert "warning: c on fed: cohort 5 < 10" in shown
    assert "\x1b" not in shown


def test_large_grid_needs_confirmation(
    write: Write, sweep: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.commands.counting.MAX_CELLS", 3)
    path = str(write())
    assert main(["run", path]) == 2
    assert sweep == []
    assert not Path("runs").exists()
    assert main(["run", path, "--yes"]) == 0


def test_list_json_is_complete(plugins: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "attacks", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found["promote"]["kind"] == "targeted poisoning"
    assert found["norms"]["reads"] == ["ModelUpdate"]
    assert found["norms"]["threat_model"]["words"] == "The server reads the updates."
    assert found["promote"]["parameters"]["boost"]["default"] == 1.0
    assert main(["list", "defenses", "--json"]) == 0
    clip = json.loads(capsys.readouterr().out)[0]
    assert (clip["strength"], clip["paper"], clip["fidelity"]) == ("bound", "ours", "baseline")
    assert clip["parameters"]["bound"]["exclusiveMinimum"] == 0
    for kind in ("systems", "datasets", "metrics"):
        assert main(["list", kind]) == 0
        assert capsys.readouterr().out


def test_errors_of_each_kind_end_without_a_traceback(
    write: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, code in (
        (ScenarioError("wrong"), 2),
        (AssetError("missing"), 3),
        (RunError("failed"), 4),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("a bug"), 4),
    ):

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(harness.plan, "expand", fail)
        assert main(["validate", str(write())]) == code
        shown = capsys.readouterr().err
        assert str(error) in shown
        assert "Traceback" not in shown


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_closed_pipe_is_no_error() -> None:
    shell = f"{sys.executable} -m harness assets | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("0", "")


def test_real_command_and_start_without_heavy_libraries(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("schema: 1\nname: x\nname: y\n")
    done = run_command("validate", str(bad), NO_COLOR="1", COLUMNS="40")
    assert done.returncode == 2
    assert f"{bad}:3:1: duplicate key 'name'; it stands already at 2:1" in done.stderr
    assert "Traceback" not in done.stderr
    code = "import sys, harness.cli; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    heavy = {"torch", "transformers", "sentence_transformers", "peft", "opacus", "sklearn"}
    assert not (heavy | {"matplotlib", "scipy", "pandas"}) & set(done.stdout.split())


@pytest.mark.parametrize(
    "name",
    ["../../etc/x", "/etc/x", "a\0b", "CON", "con", "x" * 300, "🎬", "-rf", "..", ".hidden", "Ä ö"],
)
def test_any_name_is_one_folder_below_the_root(name: str, tmp_path: Path) -> None:
    folder = (tmp_path / slug(name)).resolve()
    assert folder.parent == tmp_path.resolve()
    assert not folder.name.startswith(("-", ".")) and len(folder.name) < 100
    assert folder.name.isascii() and slug(name) != name
    folder.mkdir()


def test_plain_names_stay_and_odd_ones_do_not_collide() -> None:
    assert slug("poison_20pct") == "poison_20pct"
    names = ["a b", "a-b", "A-B", "a/b", "a\tb", "-a-b", "con", "con."]
    assert len({slug(name) for name in names}) == len(names)


def test_lock_refuses_a_second_process_and_says_who(tmp_path: Path) -> None:
    said: list[str] = []
    with run_lock(tmp_path, force=False, say=said.append):
        with (
            pytest.raises(RunError, match=rf"in use by process {os.getpid()} on .*force-unlock"),
            run_lock(tmp_path, force=False, say=said.append),
        ):
            raise AssertionError("entered twice")
        assert said == []
        with run_lock(tmp_path, force=True, say=said.append):
            assert "as told" in said[0]
    assert not (tmp_path / ".lock").exists()


def test_lock_of_a_dead_process_is_taken_over_aloud(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    holder = {"pid": int(child.stdout), "started": 1.0, "host": os.uname().nodename}
    (tmp_path / ".lock").write_text(json.dumps(holder))
    said: list[str] = []
    with run_lock(tmp_path, force=False, say=said.append):
        assert "stale" in said[0]


def test_run_folder_that_cannot_be_written(write: Write, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file"):
        claim(tmp_path / "file" / "run", load(write()))


def test_manifest_is_json_and_holds_no_environment(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hush-hush")
    scenario = load(write())
    facts = manifest(scenario, expand(scenario), "running", jobs=2, data_hashes={"movies": "ab"})
    text = json.dumps(facts, allow_nan=False)
    assert "hush-hush" not in text
    assert facts["scenario"]["sha256"] == scenario_hash(scenario)
    assert facts["plan"]["cells"] == 4
    assert facts["packages"]["torch"].startswith("2.13")
    assert facts["machine"]["cores"] == os.cpu_count()
    assert default_folder(scenario) == Path("runs/demo")


def plain_progress(jobs: int) -> tuple[Progress, io.StringIO, list[float]]:
    stream, now = io.StringIO(), [0.0]
    console = Console(file=stream, force_terminal=False, width=40)
    return Progress(jobs, console, lambda: now[0]), stream, now


def test_progress_off_a_terminal_is_plain_lines_with_time_left() -> None:
    progress, stream, now = plain_progress(jobs=2)
    progress.start(5)
    progress.cell_started("a")
    progress.cell_message("a", "round 1")
    progress.cell_message("a", "round 2")
    assert progress.seconds_left() is None
    now[0] = 10.0
    progress.cell_done("a", 10.0, "ok")
    # Four cells of 10 s, two at once.
    assert progress.seconds_left() == 20.0
    progress.cell_done("b", 0.0, "failed")
    assert progress.seconds_left() == 15.0
    progress.finish()
    lines = [line[9:] for line in stream.getvalue().splitlines()]
    assert lines == [
        "start a",
        "a: round 1",
        "[1/5] ok a in 10 s, 20 s left",
        "[2/5] failed b in 0.0 s, 15 s left",
    ]


def test_progress_on_a_terminal_fits_and_ends_clean() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=40)
    progress = Progress(1, console)
    progress.start(2)
    progress.cell_started("a-rather-long-cell-name-that-does-not-fit-in-forty-columns")
    progress.cell_done("a-rather-long-cell-name-that-does-not-fit-in-forty-columns", 3.0, "ok")
    progress.finish()
    progress.finish()
    assert "[1/2] ok a-rather-long" in stream.getvalue()


def test_progress_takes_in_what_workers_send() -> None:
    import multiprocessing

    progress, stream, _ = plain_progress(jobs=1)
    queue = progress.queue(multiprocessing.get_context("spawn"))
    queue.put(("started", "a"))
    queue.put(("message", "a", "round 3"))
    progress.drain()
    assert [line[9:] for line in stream.getvalue().splitlines()] == ["start a", "a: round 3"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
