import pickle
import resource
from pathlib import Path

import pytest
import torch

from recsys.data.dataset import PreparedDataset
from recsys.errors import InputError
from recsys.system.seal import DONE
from recsys.system.world import join_world
from recsys.training import checkpoint
from recsys.training.checkpoint import ResumePoint, load_tensors, save_tensors, tensor_names
from tests.helpers.small import prepare_small, small_table
from tests.helpers.training import Killed, assert_same, kill_at, quick, trainer_of, weights_of

ALL_FUSED = {"tables": {"*": {"optimizer": "rowwise_adagrad"}}}


@pytest.mark.parametrize("killed_at", [3, 14, 15, 40])
@pytest.mark.parametrize("embeddings", [{}, ALL_FUSED], ids=["adamw", "fused"])
def test_killed_fit_resumes_to_identical_weights(
    small: PreparedDataset, tmp_path: Path, killed_at: int, embeddings: object
) -> None:
    """An epoch has 15 steps; dropout, mixout, averaging and early stopping are on."""
    config = quick(checkpoint_every_s=1e-9, mixout=0.1, weight_average=0.9, embeddings=embeddings)
    whole = trainer_of(small, "fold_0", config, tmp_path / "whole")
    expected = whole.fit()

    killed = trainer_of(small, "fold_0", config, tmp_path / "killed")
    kill_at(killed, killed_at)
    with pytest.raises(Killed):
        killed.fit()
    torch.manual_seed(99)  # a new process has another random state
    again = trainer_of(small, "fold_0", config, tmp_path / "killed")
    report = again.fit()

    assert report.progress.step == expected.progress.step
    assert [(e.loss, e.monitored) for e in report.progress.epochs] == [
        (e.loss, e.monitored) for e in expected.progress.epochs
    ]
    assert_same(weights_of(whole), weights_of(again))
    again.clean_up()
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["weights"]


def test_resumed_fit_starts_at_the_last_checkpoint(
    small: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(checkpoint_every_s=1e-9)
    killed = trainer_of(small, "fold_0", config, tmp_path)
    killed._report_every = 10
    kill_at(killed, 44)
    with pytest.raises(Killed):
        killed.fit()
    again = trainer_of(small, "fold_0", config, tmp_path)
    steps = []
    run = again._updater.pipeline.run
    monkeypatch.setattr(again._updater.pipeline, "run", lambda *given: (steps.append(1), run(*given))[1])
    report = again.fit()
    assert report.progress.step - len(steps) == 40  # the last reported step


def test_kill_during_a_checkpoint_write_leaves_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point, world = ResumePoint(tmp_path / "fit", join_world()), join_world()
    point.save({"x": torch.tensor([1.0])}, {"step": 1})

    def dies(*given: object, **named: object) -> None:
        raise Killed

    for target, name in ((checkpoint.dcp, "save"), (checkpoint, "write_json")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, dies)
            with pytest.raises(Killed):
                point.save({"x": torch.tensor([2.0])}, {"step": 2})
        found = ResumePoint(tmp_path / "fit", world).find()
        assert found is not None
        assert found[1] == {"step": 1}
    point.save({"x": torch.tensor([3.0])}, {"step": 3})
    x = torch.zeros(1)
    found = point.find()
    assert found is not None
    load_tensors(found[0], {"x": x})
    assert x.item() == 3.0


def test_saved_tensors_are_loaded_unchanged(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 2), "b": {"c": torch.arange(5)}}
    save_tensors(tmp_path / "w", tensors, join_world())
    assert tensor_names(tmp_path / "w") == {"a", "b.c"}
    found = {"a": torch.zeros(3, 2), "b": {"c": torch.zeros(5, dtype=torch.int64)}}
    load_tensors(tmp_path / "w", found)
    assert torch.equal(found["a"], tensors["a"])
    assert torch.equal(found["b"]["c"], tensors["b"]["c"])


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "w", {"a": torch.zeros(3)}, join_world())
    with pytest.raises(InputError, match="w is a checkpoint of another model .*b"):
        load_tensors(tmp_path / "w", {"b": torch.zeros(3)})
    with pytest.raises(InputError, match="w is a checkpoint of another model"):
        load_tensors(tmp_path / "w", {"a": torch.zeros(4)})


def test_an_unfinished_checkpoint_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "w", {"a": torch.zeros(3)}, join_world())
    (tmp_path / "w" / DONE).unlink()
    with pytest.raises(InputError, match="w has no DONE file"):
        load_tensors(tmp_path / "w", {"a": torch.zeros(3)})


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code of a checkpoint was run')",))


def test_loading_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    """Neither from its index nor from a data entry that the format would unpickle."""
    folder = tmp_path / "w"
    save_tensors(folder, {"a": torch.zeros(3)}, join_world())
    whole = (folder / ".metadata").read_bytes()
    (folder / ".metadata").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(InputError, match="builtins.exec is not allowed in a checkpoint's index"):
        load_tensors(folder, {"a": torch.zeros(3)})
    for broken in (b"", whole[: len(whole) // 2], b"\x80"):
        (folder / ".metadata").write_bytes(broken)
        with pytest.raises(InputError, match="is not the index of a checkpoint"):
            load_tensors(folder, {"a": torch.zeros(3)})

    save_tensors(tmp_path / "object", {"a": Malicious()}, join_world())
    with pytest.raises(InputError, match="BytesStorageMetadata is not allowed in a checkpoint's index"):
        load_tensors(tmp_path / "object", {"a": torch.zeros(3)})


def test_changed_data_has_another_fingerprint(tmp_path: Path) -> None:
    """The fingerprint of the data is part of the run folder, which has the resume point."""
    a = prepare_small(small_table(), tmp_path / "raw", tmp_path / "a")
    b = prepare_small(small_table(seed=1), tmp_path / "other", tmp_path / "b")
    assert a.manifest.fingerprint != b.manifest.fingerprint


@pytest.mark.parametrize("n_bytes", [100, 5000, 50_000])
def test_full_disk_raises_an_os_error(tmp_path: Path, n_bytes: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))  # writes fail as on a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            save_tensors(tmp_path / "w", {"a": torch.zeros(100_000)}, join_world())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "w").exists()
    save_tensors(tmp_path / "w", {"a": torch.ones(100_000)}, join_world())
    found = torch.zeros(100_000)
    load_tensors(tmp_path / "w", {"a": found})
    assert found.all()
