"""Entry point of `python -m pipelines.plan`."""

from pipelines.common.cli import run_pipeline
from pipelines.plan.command import plan

if __name__ == "__main__":
    run_pipeline(plan)
