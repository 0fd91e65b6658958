from pathlib import Path

from retrieval.evaluation.plots import plot_segments


def test_a_label_may_look_like_a_formula(tmp_path: Path) -> None:
    figures = {"two_tower": {"recall@100": 0.5}, "popularity": {"recall@100": 0.4}}
    plot_segments({r"price: $5_$ \frac{$": figures, "price: 5": figures}, "recall@100", tmp_path / "segments.png")
    assert (tmp_path / "segments.png").stat().st_size > 1000
