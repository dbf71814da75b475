"""Rows 1 to 25 of the table of faults that need a real plug-in: what is refused, and its words."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main

SCENARIO = """schema: 1
name: s
seeds: [0]
datasets: {movies: {use: ml-100k}}
systems: {lumos: {use: lumos, dataset: movies}}
clients: {malicious: {fraction: 0.2}}
attacks: {flip: {use: sign_flip}}
defenses:
  trim: {use: trimmed_mean, trim: 0.2}
  dp: {use: dp_fedavg}
  local: {use: local_dp}
"""


def validated(
    folder: Path, capsys: pytest.CaptureFixture[str], *overrides: str
) -> tuple[int, str, str]:
    """Return the exit code of ``validate``, what it said and what it complained of."""
    path = folder / "s.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    code = main(["validate", str(path), *(part for o in overrides for part in ("-S", o))])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        pytest.param("defense.trim=1", "did you mean 'defenses'?", id="1 unknown key"),
        pytest.param("seeds=[-1]", "greater than or equal to 0, not -1", id="13 negative"),
        pytest.param(f"seeds=[{2**63}]", f"less than {2**63}", id="13 too large"),
        pytest.param(f"seeds=[{2**70}]", f"less than {2**63}", id="13 far too large"),
        pytest.param("seeds=[abc]", "must be an integer, not the text 'abc'", id="13 text"),
        pytest.param("seeds=[1.5]", "must be an integer, not 1.5", id="13 decimal"),
        pytest.param("seeds=[true]", "must be an integer, not true", id="13 boolean"),
        pytest.param("defenses.dp.epsilon=0", "or equal to 0.001, not 0", id="14 zero"),
        pytest.param("defenses.dp.epsilon=-1", "or equal to 0.001, not -1", id="14 negative"),
        pytest.param("defenses.dp.epsilon=.inf", "a finite number, not inf", id="15 infinite"),
        pytest.param("defenses.local.noise_multiplier=.nan", "a finite number", id="17 nan"),
        pytest.param("defenses.local.noise_multiplier=.inf", "a finite number", id="17 infinite"),
        pytest.param("systems.lumos.cohort_fraction=0", "greater than 0", id="19 nobody drawn"),
        pytest.param("systems.lumos.cohort_fraction=1.1", "or equal to 1", id="19 more than all"),
        pytest.param("defenses.trim.trim=0.5", "less than 0.5, not 0.5", id="20 half is cut"),
        pytest.param("systems.lumos.local_epochs=0", "or equal to 1, not 0", id="21 epochs"),
        pytest.param("systems.lumos.max_length=0", "or equal to 2, not 0", id="21 length"),
        pytest.param("evaluation.k=[0]", "not 0", id="21 k"),
        pytest.param("name=" + "''", "name", id="23 no name"),
    ],
)
def test_rows_1_to_23_are_refused_with_key_and_limit(
    override: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validated(tmp_path, capsys)[0] == 0
    code, _, complaint = validated(tmp_path, capsys, override)
    assert code == 2 and words in complaint and "1 problem" in complaint
    # Where it stands: the override, its line and column, and the key.
    assert complaint.startswith(f"-S {override}:1:")
    assert "Traceback" not in complaint


@pytest.mark.parametrize(
    "override",
    [
        pytest.param("systems.lumos.learning_rate=1e-5", id="3 a number, not a text"),
        pytest.param("systems.lumos.rounds=0", id="21 the initial model is evaluated"),
        pytest.param(
            "defenses.dp={use: dp_fedavg, epsilon: null, noise_multiplier: 0}",
            id="15 no noise claims nothing",
        ),
    ],
)
def test_rows_3_15_and_21_are_accepted(
    override: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validated(tmp_path, capsys, override)[0] == 0


def test_row_18_everybody_malicious_is_a_labelled_stress_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, _ = validated(tmp_path, capsys, "clients.malicious.fraction=1.0")
    assert code == 0 and "warning: stress run: 100 % malicious clients" in said


def test_row_20_a_rule_outside_its_theory_is_said_with_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.forecast import DataFacts

    facts = {"movies": DataFacts((50,), (300,))}
    monkeypatch.setattr("harness.forecast.facts_at_hand", lambda datasets: facts)
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    assert main(["plan", str(path), "-S", "defenses.trim.trim=0.1"]) == 0
    assert "trim 0.1 is below the malicious fraction 0.2" in " ".join(
        capsys.readouterr().out.split()
    )
