"""GateCTR from Python: train, load and compare click-through-rate models.

>>> import gatectr
>>> run = gatectr.fit("train.csv", {"label": "clicked", "categorical": ["country", "ad"]}, model="gbdt", out="runs/ad")
>>> run.metrics.overall.roc_auc
>>> run.predict(new_rows)

Importing this package imports nothing else; torch and TorchRec are imported, and their versions checked, at the first
use of a name.
"""

import importlib
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatectr.api import compare as compare
    from gatectr.api import ensemble as ensemble
    from gatectr.api import fit as fit
    from gatectr.api import load as load
    from gatectr.api import plan as plan
    from gatectr.api import prepare as prepare
    from gatectr.api import retrieve as retrieve
    from gatectr.classifier import CTRClassifier as CTRClassifier
    from gatectr.run import Run as Run
    from ranking.model_config import DeepModelConfig as DeepModelConfig
    from ranking.own_model import RankingModel as RankingModel
    from recsys.data.split import Prior as Prior
    from recsys.errors import InputError as InputError
    from recsys.evaluation.own_metrics import RankingMetric as RankingMetric
    from recsys.evaluation.verdicts.own import EvaluatedRows as EvaluatedRows
    from recsys.evaluation.verdicts.own import GateFunction as GateFunction
    from recsys.evaluation.verdicts.verdict import Check as Check
    from recsys.training.losses import RankingLoss as RankingLoss

_MODULES = {
    "fit": "gatectr.api",
    "load": "gatectr.api",
    "compare": "gatectr.api",
    "ensemble": "gatectr.api",
    "prepare": "gatectr.api",
    "plan": "gatectr.api",
    "retrieve": "gatectr.api",
    "Run": "gatectr.run",
    "CTRClassifier": "gatectr.classifier",
    "RankingModel": "ranking.own_model",
    "DeepModelConfig": "ranking.model_config",
    "RankingLoss": "recsys.training.losses",
    "RankingMetric": "recsys.evaluation.own_metrics",
    "GateFunction": "recsys.evaluation.verdicts.own",
    "EvaluatedRows": "recsys.evaluation.verdicts.own",
    "Check": "recsys.evaluation.verdicts.verdict",
    "Prior": "recsys.data.split",
    "InputError": "recsys.errors",
}
"""The module of each public name, which is imported at its first use."""
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'gatectr' has no attribute {name!r}")
    if name != "InputError":
        importlib.import_module("recsys.system.threads").wait_passively()
        versions = importlib.import_module("recsys.system.versions")
        versions.check_versions(versions.installed_versions())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # of a library's progress bars in notebooks
        value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
