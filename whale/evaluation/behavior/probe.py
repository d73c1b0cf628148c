"""A linear probe: what can be read off features by a hyperplane, tried on episodes that it was not fitted on.

Multinomial logistic regression on standardised features, fitted in one thread. Shapes: S segments, F features.
"""

import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np

FEWEST_EPISODES = 2  # of a class: one to fit, one to try
MOST_ITERATIONS = 500


@dataclass(frozen=True)
class Question:
    """Which class is a segment of, among those of its group? `kept` [S]: segments that are asked about.

    An episode is of one class and one group. Classes of one episode are left out, and groups of one class.
    """

    labels: np.ndarray  # text [S]
    group: np.ndarray  # text [S]
    episode: np.ndarray  # int64 [S]
    kept: np.ndarray  # bool [S]

    @classmethod
    def of(cls, labels: np.ndarray, group: np.ndarray | None, episode: np.ndarray) -> Self:
        """`group` None: all segments are of one."""
        group = np.zeros(len(labels), "U1") if group is None else group
        kept = np.zeros(len(labels), bool)
        for name in np.unique(group):
            classes = [(group == name) & (labels == label) for label in np.unique(labels[group == name])]
            classes = [mask for mask in classes if len(np.unique(episode[mask])) >= FEWEST_EPISODES]
            if len(classes) > 1:
                kept |= np.any(classes, axis=0)
        return cls(labels, group, episode, kept)

    @property
    def groups(self) -> list[str]:
        """With something to ask about."""
        return np.unique(self.group[self.kept]).tolist()

    def chance(self, name: str | None = None) -> float:
        """Share of the largest class of each group: what one gets who looks at nothing. `name`: of one group alone."""
        masks = [self.kept & (self.group == each) for each in ([name] if name is not None else self.groups)]
        largest = [np.unique(self.labels[mask], return_counts=True)[1].max() for mask in masks]
        return float(sum(largest) / sum(map(np.count_nonzero, masks)))

    def shuffled(self, rng: np.random.Generator) -> "Question":
        """The labels of a group's episodes in another order: whatever is found now is no behavior."""
        labels = self.labels.copy()
        for name in self.groups:
            inside = np.flatnonzero(self.kept & (self.group == name))
            episodes, first, at = np.unique(self.episode[inside], return_index=True, return_inverse=True)
            labels[inside] = self.labels[inside][first][rng.permutation(len(episodes))][at]
        return Question(labels, self.group, self.episode, self.kept)

    def folds(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """int64 [S]: all segments of an episode lie in one fold; the episodes of a class are dealt out in turn."""
        fold = np.full(len(self.labels), -1)
        dealt = 0
        for name in self.groups:
            inside = self.kept & (self.group == name)
            for label in np.unique(self.labels[inside]):
                episodes = rng.permutation(np.unique(self.episode[inside & (self.labels == label)]))
                for place, episode in enumerate(episodes):
                    fold[inside & (self.episode == episode)] = (dealt + place) % count
                dealt += len(episodes)
        return fold


@dataclass(frozen=True)
class Answers:
    """`correct` float64 [S]: 1 or 0, NaN where nothing was asked; `unconverged`: fits that were cut off."""

    correct: np.ndarray
    unconverged: int


def answer(features_SF: np.ndarray, question: Question, fold_S: np.ndarray, inverse_penalty: float) -> Answers:
    """Each segment's class, by the probe that was fitted on the other folds of its group."""
    import sklearn.linear_model  # a second, for this stage alone
    from threadpoolctl import threadpool_limits

    correct, unconverged = np.full(len(features_SF), np.nan), 0
    with threadpool_limits(limits=1), warnings.catch_warnings():  # one thread: sums in one order, equal bytes
        warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)  # counted
        for name in question.groups:
            inside = question.kept & (question.group == name)
            for fold in np.unique(fold_S[inside]):
                fit, tried = inside & (fold_S != fold), inside & (fold_S == fold)
                mean, spread = features_SF[fit].mean(axis=0), features_SF[fit].std(axis=0)
                scaled = (features_SF - mean) / np.where(spread > 0, spread, 1.0)
                model = sklearn.linear_model.LogisticRegression(C=inverse_penalty, max_iter=MOST_ITERATIONS)
                model.fit(scaled[fit], question.labels[fit])
                correct[tried] = model.predict(scaled[tried]) == question.labels[tried]
                unconverged += int(model.n_iter_.max() >= MOST_ITERATIONS)
    return Answers(correct, unconverged)
