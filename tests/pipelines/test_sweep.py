import json
from pathlib import Path

import pytest
import torch

import pipelines.sweep
from pipelines.parts.search_space import Grid, Range, parse_space
from recsys.errors import InputError
from recsys.system.world import World
from tests.helpers.commands import Run

SWEEP = ("sweep", "--model", "dcnv2", "--config", "config.yaml", "--data", "raw", "--folds", "0", "--out", "swept")
SHORT = ("trainer.epochs=1",)
GRID = ("model.embedding_dim=4,8", "model.cross_depth=1,2", *SHORT)


def test_settings_by_hand() -> None:
    space = parse_space(["a=1,2", "b=[4,2],[8]", "c=1..5", "d=1e-4..1e-2:log", "e=[3,4]", "f={x: 1, y: 2}", "g=.5"])
    assert space.searched == {
        "a": Grid(("1", "2")),
        "b": Grid(("[4,2]", "[8]")),
        "c": Range(1, 5, is_whole=True, is_log=False),
        "d": Range(1e-4, 1e-2, is_whole=False, is_log=True),
    }
    assert space.fixed == ("e=[3,4]", "f={x: 1, y: 2}", "g=.5")
    assert not space.is_grid
    assert [point["b"] for point in space.grid()] == ["[4,2]", "[8]"] * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["a=1"], "nothing to search"),
        (["a"], "'a' must be KEY=VALUE"),
        (["a=1,2", "a=3,4"], "a is given twice"),
        (["a=5..1"], "a=5..1 is not a range"),
        (["a=0..1:log"], "a=0..1:log is not a range"),
        (["a=x..y"], "a=x..y is not a range"),
        (["a=0..inf"], "a=0..inf is not a range"),
        (["a=nan..1"], "a=nan..1 is not a range"),
    ],
)
def test_wrong_settings_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_space(settings)


def test_grid_is_complete_and_an_interrupted_sweep_resumes(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, started = pipelines.sweep.execute, []

    def cut_in_the_third(*args: object) -> None:
        started.append(args[0])
        if len(started) == 3:
            raise KeyboardInterrupt
        execute(*args)

    monkeypatch.setattr(pipelines.sweep, "execute", cut_in_the_third)
    assert run(*SWEEP, *GRID).code == 130
    outcome = run(*SWEEP, *GRID)
    assert outcome.code == 0, outcome.err
    assert len(started) == 5  # two before the interruption, the third twice, the fourth
    swept = json.loads(Path("swept/sweep.json").read_text())
    points = [trial["point"] for trial in swept["trials"]]
    assert sorted((p["model.embedding_dim"], p["model.cross_depth"]) for p in points) == [
        ("4", "1"),
        ("4", "2"),
        ("8", "1"),
        ("8", "2"),
    ]
    losses = [trial["metrics"]["logloss"] for trial in swept["trials"]]
    assert losses == sorted(losses)
    assert "optimistic: it was chosen among 4 on the rows that it is reported for (fold_0)" in outcome.out
    best = Path(swept["trials"][0]["run"])
    assert json.loads((best / "metrics.json").read_text())["overall"]["logloss"] == losses[0]
    assert Path("swept/sweep.png").stat().st_size > 1000
    assert run(*SWEEP, *GRID).code == 0
    assert len(started) == 5
    assert "holds another sweep" in run(*SWEEP, "model.embedding_dim=4,8").err


def test_a_choice_on_the_tuning_part_is_not_said_to_flatter() -> None:
    assert "optimistic" not in pipelines.parts.sweep_choice.note_on_choice(["tuning"], 9, "ap")
    assert "chosen among 9 on the rows" in pipelines.parts.sweep_choice.note_on_choice(["fold_0", "fold_1"], 9, "ap")


def test_ranges_are_searched_and_poor_trials_pruned(project: Path, run: Run) -> None:
    settings = ("trainer.learning_rate=1e-7..1e-1:log", "model.dropout=0..0.5", "trainer.epochs=2")
    outcome = run(*SWEEP, "--trials", "6", "--metric", "wll", "--prune", *settings)
    assert outcome.code == 0, outcome.err
    trials = json.loads(Path("swept/sweep.json").read_text())["trials"]
    assert len(trials) == 6
    finished = [trial["metrics"]["wll"] for trial in trials if trial["state"] == "complete"]
    assert finished == sorted(finished)
    assert len({trial["point"]["trainer.learning_rate"] for trial in trials}) == 6
    assert any(trial["state"] == "pruned" for trial in trials)


def test_invalid_combination_is_named_before_any_training(project: Path, run: Run) -> None:
    outcome = run(*SWEEP, "model.embedding_dim=4,0")
    assert outcome.code == 2
    assert "model.embedding_dim" in outcome.err
    assert not Path("swept").exists()


def test_resumed_search_draws_the_points_of_an_uninterrupted_one(
    project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("trainer.learning_rate=1e-4..1e-1:log", "model.embedding_dim=2..9", *SHORT)

    def points(out: str, *trials: str) -> list[str]:
        for n in trials:
            run(*SWEEP[:-1], out, "--trials", n, *settings)
        swept = json.loads(Path(out, "sweep.json").read_text())
        return sorted(json.dumps(trial["point"]) for trial in swept["trials"])

    whole = points("whole", "5")
    assert len(set(whole)) == 5
    execute, started = pipelines.sweep.execute, []

    def cut_in_the_fourth(*args: object) -> None:
        started.append(args[0])
        if len(started) == 4:
            raise KeyboardInterrupt
        execute(*args)

    monkeypatch.setattr(pipelines.sweep, "execute", cut_in_the_fourth)
    assert points("cut", "2", "5", "5") == whole
    assert len(started) == 6


def test_torchrun_is_refused_before_any_training(project: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.sweep, "join_world", lambda: World(0, 2, torch.device("cpu")))
    assert "a sweep runs in one process: start it without torchrun" in run(*SWEEP, *GRID).err
    assert not Path("swept").exists()


def test_a_trial_that_diverges_does_not_end_the_sweep(project: Path, run: Run) -> None:
    shared = ("trainer.batch_size=4096", *SHORT)
    outcome = run(*SWEEP, "trainer.learning_rate=0.1,1e12", *shared)
    assert outcome.code == 0, outcome.err
    assert "trial 2  pruned: a score is not finite after the last step" in outcome.out
    assert outcome.err == ""
    states = [trial["state"] for trial in json.loads(Path("swept/sweep.json").read_text())["trials"]]
    assert states == ["complete", "pruned"]
    none = run(*SWEEP[:-1], "none", "trainer.learning_rate=1e12,1e13", *shared)
    assert none.code == 2
    assert none.err == "error: none: every trial was pruned: search other values, with another --out\n"
