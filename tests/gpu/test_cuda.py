"""Training tests on a GPU: `make test-gpu`; skipped without a GPU.

`join_world` uses the GPU if there is one; the imported tests run on it under the mark `gpu`.
"""

from pathlib import Path

import pytest
import torch

from ranking.dcnv2 import DCNv2
from recsys.data.batch import Batch
from recsys.data.dataset import PreparedDataset
from recsys.system.world import join_world
from recsys.training.predict import evaluate
from tests.helpers.step import N_ROWS, Setup
from tests.helpers.training import fit, quick
from tests.recsys.training.test_checkpoint import (  # noqa: F401
    test_killed_fit_resumes_to_identical_weights,
    test_resumed_fit_starts_at_the_last_checkpoint,
)
from tests.recsys.training.test_step import (  # noqa: F401
    test_checkpointed_layers_use_the_same_mixed_weights,
    test_empty_micro_batch_adds_nothing,
    test_l2_applies_only_to_looked_up_rows,
    test_micro_batches_give_the_update_of_the_whole_batch,
    test_non_finite_loss_switches_from_bf16_to_fp32,
    test_out_of_memory_splits_the_batch_and_keeps_the_result,
    test_update_agrees_with_plain_pytorch,
)
from tests.recsys.training.test_trainer import (  # noqa: F401
    test_p_is_unbiased_under_every_loss,
    test_the_same_seed_gives_the_same_model,
    test_training_learns_the_signal,
)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


def test_join_world_uses_the_gpu() -> None:
    assert join_world().device.type == "cuda"


def test_fused_adam_learns(small: PreparedDataset, tmp_path: Path) -> None:
    tables = {"*": {"optimizer": "adam"}}
    trainer, report = fit(small, "fold_0", quick(embeddings={"tables": tables, "fused_learning_rate": 0.01}), tmp_path)
    split = small.split("fold_0")
    metrics = evaluate(trainer.predict(split.held_out_rows, "scoring"), split, split.held_out_rows, report.link)
    assert metrics.roc_auc is not None
    assert metrics.roc_auc > 0.75


def test_a_batch_larger_than_the_gpus_memory_is_split(small: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the batch takes a quarter of the GPU's memory; the whole batch takes more than the limit."""
    expected = Setup(small, "dcnv2", precision="fp32").run()
    setup, forward = Setup(small, "dcnv2", precision="fp32"), DCNv2.forward
    row = torch.cuda.get_device_properties(0).total_memory // (2 * N_ROWS)

    def hungry(model: DCNv2, batch: Batch) -> torch.Tensor:
        torch.empty(len(batch) * row, dtype=torch.uint8, device="cuda")
        return forward(model, batch)

    monkeypatch.setattr(DCNv2, "forward", hungry)
    torch.cuda.set_per_process_memory_fraction(0.4)
    try:
        found = setup.run()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert setup.step.micro_batches == 2
    for name, value in expected.items():
        assert torch.allclose(value, found[name], atol=1e-5), name
