"""Benchmarks of speed and memory, most of them as ratios of contenders measured in one run."""
