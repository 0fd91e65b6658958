"""The checks of training once more, on a GPU: `make test-gpu`. Without one they are skipped.

`join_world` takes the GPU where there is one, so that the same tests are collected here under the mark `gpu`.
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
    test_a_killed_fit_resumes_to_the_same_bits,
    test_a_resumed_fit_goes_on_where_it_was,
)
from tests.recsys.training.test_step import (  # noqa: F401
    test_an_empty_part_of_a_batch_adds_nothing,
    test_bf16_gives_way_to_fp32_where_the_loss_is_not_finite,
    test_checkpointed_layers_see_the_same_mixed_weights,
    test_l2_pulls_on_touched_rows_alone,
    test_micro_batches_give_the_update_of_the_whole_batch,
    test_running_out_of_memory_splits_the_batch_and_changes_nothing,
    test_the_update_is_that_of_plain_pytorch,
)
from tests.recsys.training.test_trainer import (  # noqa: F401
    test_learns_what_can_be_learned,
    test_p_is_unbiased_under_every_loss,
    test_the_same_seed_gives_the_same_model,
)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


def test_the_world_is_on_the_gpu() -> None:
    assert join_world().device.type == "cuda"


def test_fused_adam_learns(small: PreparedDataset, tmp_path: Path) -> None:
    tables = {"*": {"optimizer": "adam"}}
    trainer, report = fit(small, "fold_0", quick(embeddings={"tables": tables, "fused_learning_rate": 0.01}), tmp_path)
    split = small.split("fold_0")
    metrics = evaluate(trainer.predict(split.held_out_rows, "scoring"), split, split.held_out_rows, report.link)
    assert metrics.roc_auc is not None
    assert metrics.roc_auc > 0.75


def test_a_batch_larger_than_the_gpus_memory_is_split(small: PreparedDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real lack of memory: a part of half the batch takes a quarter of the GPU, the whole one more than is left."""
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
