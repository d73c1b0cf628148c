"""Where an imagined frame shows the end effector: a linear probe from image features to recorded positions.

A simulator or a robot that records its state lets a rollout be judged in metres. The probe is ridge regression on
recorded frames and their reconstructions (imagined frames look like those); its own error on unseen recorded frames is
the floor below which nothing can be told. Shapes: M frames, F features, 3 position (m).
"""

from dataclasses import dataclass

import numpy as np

PENALTIES = tuple(10.0**power for power in range(-4, 5))  # times the mean squared length of the features


@dataclass(frozen=True)
class PositionProbe:
    """position = features @ weights + offset."""

    weights_F3: np.ndarray
    offset_3: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """[..., F] -> metres [..., 3]."""
        return features @ self.weights_F3 + self.offset_3


def fit_position_probe(features_MF: np.ndarray, position_M3: np.ndarray) -> PositionProbe:
    """Ridge regression; the penalty has the least generalised cross-validation error (Golub et al. 1979)."""
    x, y = np.asarray(features_MF, np.float64), np.asarray(position_M3, np.float64)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean_x, y - mean_y
    gram_MM = x @ x.T
    eigenvalues, vectors = np.linalg.eigh(gram_MM)
    varies = eigenvalues > 1e-10 * eigenvalues[-1]  # centring leaves a direction in which nothing can err
    eigenvalues, vectors = eigenvalues[varies], vectors[:, varies]
    rotated = vectors.T @ y
    scale = max(float(np.trace(gram_MM)) / len(x), np.finfo(np.float64).tiny)

    def score(penalty: float) -> float:
        left_over = penalty / (eigenvalues + penalty)  # residual of each direction
        freedom = left_over.sum()
        return float(((left_over[:, None] * rotated) ** 2).sum() / max(freedom, 1e-9) ** 2)

    penalty = min((scale * factor for factor in PENALTIES), key=score)
    weights_F3 = x.T @ (vectors @ (rotated / (eigenvalues + penalty)[:, None]))
    return PositionProbe(weights_F3, mean_y - mean_x @ weights_F3)
