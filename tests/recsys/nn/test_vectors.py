import pytest
import torch

from recsys.nn.vectors import VectorProjections, groups_of_numbers
from recsys.schema.features import VectorFeature
from recsys.schema.resolved import Schema


def schema(**vectors: int) -> Schema:
    features = tuple(VectorFeature(name=name, size=size) for name, size in vectors.items())
    components = tuple(column for feature in features for column in feature.columns)
    numeric = ("price", *components)
    return Schema.model_validate(
        dict.fromkeys(("label", "id", "day", "split", "target_item"))
        | dict.fromkeys(("categorical", "token_sequences", "column_sequences"), ())
        | {"towers": {}, "segments": {}, "side_tables": {}, "numeric": numeric, "vectors": features}
        | {"dense": (*numeric, "isnull(price)")}
    )


def test_each_vector_is_projected_by_a_map_of_its_own() -> None:
    vectors = VectorProjections(schema(image=2, text=1), dim=2)
    with torch.no_grad():
        for name, weight, bias in (("image", [[1.0, 2], [3, 4]], [10.0, 0]), ("text", [[5.0], [-1]], [0.0, 1])):
            vectors.maps[name].weight.copy_(torch.tensor(weight))
            vectors.maps[name].bias.copy_(torch.tensor(bias))
    dense = torch.tensor([[7.0, 1, 2, 3, 1], [8, 0, 0, 0, 0]])
    image, text = vectors(dense)
    torch.testing.assert_close(image, torch.tensor([[15.0, 11], [10, 0]]))  # 1 + 4 + 10, 3 + 8; a missing one is b
    torch.testing.assert_close(text, torch.tensor([[15.0, -2], [0, 1]]))
    torch.testing.assert_close(vectors.without(dense), torch.tensor([[7.0, 1], [8, 0]]))
    assert vectors.names == ("image", "text")
    assert vectors.others == ("price", "isnull(price)")


def test_only_the_named_vectors_are_projected() -> None:
    vectors = VectorProjections(schema(image=2, text=1), dim=2, names={"text"})
    assert vectors.names == ("text",)
    assert [x.shape for x in vectors(torch.zeros(3, 5))] == [(3, 2)]
    assert vectors.without(torch.zeros(3, 5)).shape == (3, 2)


def test_without_vectors_nothing_is_added() -> None:
    vectors, dense = VectorProjections(schema(), dim=2), torch.zeros(3, 2)
    assert vectors(dense) == []
    assert vectors.without(dense) is dense
    assert vectors.others == ("price", "isnull(price)")
    assert not vectors.state_dict()


@pytest.mark.parametrize("size", [4, 1024])
def test_embeddings_start_equally_large_whatever_the_size(size: int) -> None:
    torch.manual_seed(0)
    vectors = VectorProjections(schema(image=size), dim=64)
    with torch.no_grad():
        vectors.maps["image"].bias.zero_()
        (x,) = vectors(torch.randn(500, size + 2))
    assert x.std().item() == pytest.approx((3 * 64) ** -0.5, rel=0.1)


def test_the_numbers_of_each_vector_are_a_group() -> None:
    assert groups_of_numbers(schema(image=2, text=1)).tolist() == [0, 1, 1, 2, 0]
    assert groups_of_numbers(schema()).tolist() == [0, 0]
