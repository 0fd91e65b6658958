"""Scores requests with an exported bundle; imports neither torch nor torchrec nor fbgemm."""
