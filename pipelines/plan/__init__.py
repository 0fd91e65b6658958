"""`python -m pipelines.plan`: the plan from the data to the submission."""
