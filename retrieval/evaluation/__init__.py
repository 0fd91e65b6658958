"""How well rankings of a catalog retrieve what was clicked."""
