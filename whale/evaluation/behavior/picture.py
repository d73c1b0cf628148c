"""t-SNE of z (P Fig. 15): neighbours stay neighbours; distances between clouds, and axes, mean nothing."""

import numpy as np

from whale.common.errors import ConfigError

NEIGHBOURS = 3  # t-SNE looks at so many times the perplexity


def tsne(features_SF: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """float32 [S, 2], from the two main axes of the features on.

    Fitted in one thread: sums of several threads come in any order, and small differences grow. So the same machine
    and packages give the same bytes whatever number of threads is asked for; another processor may give others.
    Raises ConfigError where there are too few segments for the perplexity.
    """
    import sklearn.manifold  # a second, for this stage alone
    from threadpoolctl import threadpool_limits

    if len(features_SF) <= NEIGHBOURS * perplexity:
        raise ConfigError("too few segments for this perplexity", place="perplexity", found=perplexity,
                          expected=f"less than a third of {len(features_SF)} segments")  # fmt: skip
    fit = sklearn.manifold.TSNE(perplexity=perplexity, init="pca", random_state=seed)
    with threadpool_limits(limits=1):
        return fit.fit_transform(features_SF.astype(np.float32)).astype(np.float32)
