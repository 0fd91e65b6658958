"""DCN V2 for the candidates of users: what they share is multiplied once per user.

Shapes: U users, n candidates of each user, N dense columns, X width of a row's inputs.
"""

from torch import Tensor, nn

from ranking.dcnv2 import DCNv2
from recsys.schema.resolved import Schema
from serving.export.graphs.shared import Blocks, DenseInputs, Head, SharedLayers, shared_features


class DCNv2Graph(nn.Module):
    """Computes the logits of the candidates of users.

    Args:
        model: a trained model.
        schema: the schema of its split.
    """

    def __init__(self, model: DCNv2, schema: Schema) -> None:
        super().__init__()
        self.dense, self.head = DenseInputs(model.vectors, model.numeric), Head(model.head)
        self.linear_part = model.linear_part
        self.has_embeddings, self.is_parallel = bool(model.embeddings.features), bool(model.branches)
        self.mlp = model.mlp
        embeddings = model.embeddings
        inputs = [
            Blocks(shared_features(embeddings.features, schema), embeddings.embedding_dim),
            *self.dense.blocks(schema, embeddings.embedding_dim, model.d_numeric),
        ]
        mlp = model.mlp if self.is_parallel else None
        self.layers = SharedLayers(model.cross, mlp, inputs if self.has_embeddings else inputs[1:])

    def forward(self, dense_UnN: Tensor, *embeddings: Tensor) -> Tensor:
        """Returns [U * n] logits.

        Args:
            dense_UnN: dense columns.
            embeddings: [U, n, X] of the features, if there are any, and of the linear part, if there is one.
        """
        inputs_UnX, dense_BN = embeddings[: self.has_embeddings], dense_UnN.flatten(0, 1)
        of_rows = [*(x_UnX.flatten(0, 1) for x_UnX in inputs_UnX), *self.dense(dense_BN)]
        of_user = [*(x_UnX[:, 0] for x_UnX in inputs_UnX), *self.dense(dense_UnN[:, 0])]
        cross_BX, mlp_BH = self.layers(of_rows, of_user, dense_UnN.shape[1])
        logits = self.head(cross_BX, mlp_BH) if self.is_parallel else self.head(self.mlp(cross_BX))
        if self.linear_part is None:
            return logits
        return self.linear_part.mixed(logits, embeddings[-1].flatten(0, 1), dense_BN)
