"""`python -m pipelines.plan`: runs a plan of steps and gates, from the data to the submission."""
