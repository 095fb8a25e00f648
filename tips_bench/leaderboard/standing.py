"""The order of models over boards, though not all stand on the same ones: mean ranks, how sure they are, and who has none.

Two models meet on each board on which both stand. From who wins there, `bradley_terry` says at which rank each model would stand if all
stood on one board.

Axes: R resamples, B boards, M models, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tips_bench.files import digest
from tips_bench.leaderboard.bradley_terry import mean_ranks, strengths, undecided
from tips_bench.leaderboard.ranking import Board, Interval
from tips_bench.wording import counted

TASKS_NEEDED = 5  # a bootstrap over fewer tasks gives intervals that are too narrow; where there are fewer, a place needs them all
DIGITS = 3  # of a mean rank; beyond them, machines differ, and the prior shows
AT_ONCE = 2_000_000  # numbers in an array of pairs of models


@dataclass(frozen=True)
class Rank:
    """Mean rank of a model among those that have a place, 1 is best, with 95 % intervals.

    interval: over test samples. over_tasks: over tasks and test samples; None with fewer than `TASKS_NEEDED` tasks. places: the best
    and the worst place in the order of mean ranks that the wider of the two leaves open. boards, tasks: what it rests on. undecided:
    with how many models nothing tells which is better; both orders are in the intervals and the places.
    """

    label: str
    model: str
    value: float
    interval: Interval
    places: tuple[int, int]
    over_tasks: Interval | None = None
    boards: int = 0
    tasks: int = 0
    undecided: int = 0


@dataclass(frozen=True)
class Standing:
    """boards: those on which ranked models meet. ranks: the best first. unplaced: label -> why it has no place."""

    boards: list[Board]
    ranks: list[Rank]
    unplaced: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Meetings:
    """stands_BM: 1 where a model stands on a board. wins_BM, wins_BRM: how many of the others it beats there, a tie is a half."""

    stands_BM: np.ndarray
    wins_BM: np.ndarray
    wins_BRM: np.ndarray


def standing(found: Sequence[Board]) -> Standing:
    """Mean ranks of all models that share boards of enough tasks with the others; what was not scored loses to what was.

    Resample r ranks all models on the same drawn samples of each board. Over tasks, it also gives the tasks random weights: boards of one
    task hold the same images and are not independent.
    """
    labels, unplaced = _placed(found)
    kept = _shared(found, set(labels))
    if not labels:
        return Standing(kept, [], unplaced)
    meetings = _meetings(kept, labels)
    open_MM = undecided(_beat(meetings))
    ones_RB = np.ones((meetings.wins_BRM.shape[1], len(kept)))
    found_1M = strengths(meetings.wins_BM.sum(axis=0)[None], _met(meetings.stands_BM, ones_RB[:1]))
    mean_M = mean_ranks(found_1M, open_MM)[0].round(DIGITS)
    tasks_M = np.array([len({board.task for board in kept if label in board.by_label}) for label in labels])
    sampled_RM = _drawn(meetings, ones_RB, found_1M[0], open_MM)
    times_RB = _weights([board.task for board in kept], len(ones_RB))
    wider_RM = None
    if times_RB is not None:
        off_RM = _drawn(meetings, times_RB, found_1M[0], open_MM) - mean_M
        wider_RM = mean_M + _for_few(tasks_M, len({board.task for board in kept})) * off_RM
    places = _places(sampled_RM if wider_RM is None else wider_RM, open_MM)
    over_tasks = [None] * len(labels) if wider_RM is None else _ends(wider_RM, open_MM)
    counts = zip(meetings.stands_BM.sum(axis=0).astype(int).tolist(), tasks_M.tolist(), open_MM.sum(axis=1).tolist(), strict=True)
    models = [_model(kept, label) for label in labels]
    columns = zip(labels, models, mean_M.tolist(), _ends(sampled_RM, open_MM), places, over_tasks, counts, strict=True)
    rows = [Rank(*values, *numbers) for *values, numbers in columns]
    return Standing(kept, sorted(rows, key=lambda row: (row.value, row.label)), unplaced)


def _model(boards: Sequence[Board], label: str) -> str:
    return next(board.by_label[label].model for board in boards if label in board.by_label)


def _shared(found: Sequence[Board], labels: set[str]) -> list[Board]:
    """The boards on which at least two of the models meet."""
    return [board for board in found if len(labels & board.by_label.keys()) > 1]


def _placed(found: Sequence[Board]) -> tuple[list[str], dict[str, str]]:
    """(labels of the models that get a place, label of any other -> why not)."""
    labels = {label for board in found for label in board.by_label}
    needed = max(1, min(TASKS_NEEDED, len({board.task for board in _shared(found, labels)})))
    unplaced: dict[str, str] = {}
    while True:
        kept = _shared(found, labels)
        tasks = {label: len({board.task for board in kept if label in board.by_label}) for label in labels}
        few = {label: number for label, number in tasks.items() if number < needed}
        if not few:
            break
        for label, number in few.items():
            met = f"it meets others on {counted(number, 'task')}" if number else "it meets no other model"
            unplaced[label] = f"{met}; a place needs {counted(needed, 'task')}"
        labels -= few.keys()
    group = _largest_group(kept, sorted(labels))
    apart = dict.fromkeys(labels - set(group), "it shares no board with the models that have a place")
    return group, dict(sorted((unplaced | apart).items()))


def _largest_group(boards: Sequence[Board], labels: list[str]) -> list[str]:
    """The models that boards link, directly or by way of others; of several such groups that with the most models, then boards."""
    from scipy.sparse.csgraph import connected_components

    if not labels:
        return []
    stands_BM = _stands(boards, labels)
    _, group_M = connected_components(stands_BM.T @ stands_BM, directed=False)
    groups = [np.flatnonzero(group_M == number) for number in range(group_M.max() + 1)]
    best = max(groups, key=lambda members: (len(members), stands_BM[:, members].any(axis=1).sum(), -members[0]))
    return [labels[index] for index in best]


def _stands(boards: Sequence[Board], labels: Sequence[str]) -> np.ndarray:
    return np.array([[label in board.by_label for label in labels] for board in boards], dtype=np.float64)


def _meetings(boards: Sequence[Board], labels: list[str]) -> _Meetings:
    stands_BM = _stands(boards, labels)
    pairs = [_wins(board, [label for label in labels if label in board.by_label]) for board in boards]
    wins_BM = np.zeros(stands_BM.shape)
    wins_BRM = np.zeros((len(boards), len(pairs[0][1]), len(labels)))
    for index, (wins_m, wins_Rm) in enumerate(pairs):
        members_M = stands_BM[index] > 0
        wins_BM[index, members_M] = wins_m
        wins_BRM[index][:, members_M] = wins_Rm
    return _Meetings(stands_BM, wins_BM, wins_BRM)


def _wins(board: Board, labels: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """How many of `labels` each of them beats: by the scores, shape (m,), and in each resample, shape (R, m)."""
    from scipy.stats import rankdata

    entries = [board.by_label[label] for label in labels]
    values_m = np.array([entry.metric.value for entry in entries])
    values_Rm = np.stack([entry.drawn_R for entry in entries], axis=1)
    gain = board.metric.spec.gain
    gains = [np.nan_to_num(gain(one, np.zeros(())), nan=-np.inf, posinf=np.inf, neginf=-np.inf) for one in (values_m, values_Rm)]
    return rankdata(gains[0]) - 1, rankdata(gains[1], axis=1) - 1


def _beat(meetings: _Meetings) -> np.ndarray:
    """Whether i beats or ties j on a board, shape (M, M)."""
    both_BMM = (meetings.stands_BM[:, :, None] * meetings.stands_BM[:, None, :]) > 0
    beat_MM: np.ndarray = (both_BMM & (meetings.wins_BM[:, :, None] >= meetings.wins_BM[:, None, :])).any(axis=0)
    return beat_MM


def _met(stands_BM: np.ndarray, times_RB: np.ndarray) -> np.ndarray:
    """How often two models meet, shape (R, M, M), if each board counts so many times."""
    met_RMM: np.ndarray = stands_BM.T @ (times_RB[..., None] * stands_BM)
    diagonal_M = np.arange(stands_BM.shape[1])
    met_RMM[:, diagonal_M, diagonal_M] = 0
    return met_RMM


def _drawn(meetings: _Meetings, times_RB: np.ndarray, begin_M: np.ndarray, undecided_MM: np.ndarray) -> np.ndarray:
    """The mean ranks of each resample, shape (R, M), if each board counts so many times in it."""
    _, resamples, models = meetings.wins_BRM.shape
    drawn_RM = np.empty((resamples, models))
    size = max(1, AT_ONCE // models**2)
    for start in range(0, resamples, size):
        part = slice(start, start + size)
        wins_RM = np.einsum("rb,brm->rm", times_RB[part], meetings.wins_BRM[:, part])
        found_RM = strengths(wins_RM, _met(meetings.stands_BM, times_RB[part]), begin_M)
        drawn_RM[part] = mean_ranks(found_RM, undecided_MM)
    return drawn_RM.round(DIGITS)


def _weights(tasks: Sequence[str], resamples: int) -> np.ndarray | None:
    """How often each board counts in each resample, shape (R, B); None where there are too few tasks. tasks: of each board.

    The weights of the T tasks have the mean and the covariances that they have if T tasks are drawn with replacement. But none is zero:
    a model that stands on few boards would lose them all in some of such draws.
    """
    names = sorted(set(tasks))
    if len(names) < TASKS_NEEDED:
        return None
    rng = np.random.default_rng(int(digest(*names)[:8], 16))
    times_RT = len(names) * rng.dirichlet(np.full(len(names), 1 - 1 / len(names)), resamples)
    times_RB: np.ndarray = times_RT[:, [names.index(task) for task in tasks]]
    return times_RB


def _for_few(counts_M: np.ndarray, tasks: int) -> np.ndarray:
    """How much wider than its resamples an interval is, for a model that stands on so many of the tasks.

    Resamples of n values vary as if the n were all that there is, by (n - 1) / n too little, and more so where `_weights` of T tasks fall
    on n of them. And the spread of few values is itself unsure: the interval of a mean is one of Student's t.
    """
    from scipy.stats import norm, t

    spread_M = np.sqrt((counts_M * (1 - 1 / tasks) + 1) / (counts_M - 1))
    widened_M: np.ndarray = spread_M * t.ppf(0.975, counts_M - 1) / norm.ppf(0.975)
    return widened_M


def _ends(values_RM: np.ndarray, undecided_MM: np.ndarray) -> list[Interval]:
    """The 95 % interval of each model. Each of the undecided counts as 1/2 in its values, and may be 0 or 1."""
    half_M = 0.5 * undecided_MM.sum(axis=1)
    low_M, high_M = np.quantile(values_RM, [0.025, 0.975], axis=0)
    ends_2M = np.stack([low_M - half_M, high_M + half_M]).clip(1, len(half_M)).round(DIGITS)
    return list(zip(*ends_2M.tolist(), strict=True))


def _places(values_RM: np.ndarray, undecided_MM: np.ndarray) -> list[tuple[int, int]]:
    """The 95 % interval of each model's place: 1 + the number of models with a smaller mean rank, and any number of the undecided ones."""
    from scipy.stats import rankdata

    best_RM = rankdata(values_RM, method="min", axis=1).astype(int)
    for index in np.flatnonzero(undecided_MM.any(axis=1)):
        best_RM[:, index] -= (values_RM[:, undecided_MM[index]] < values_RM[:, [index]]).sum(axis=1)
    worst_RM = best_RM + undecided_MM.sum(axis=1)
    low_M = np.quantile(best_RM, 0.025, axis=0, method="inverted_cdf").tolist()
    high_M = np.quantile(worst_RM, 0.975, axis=0, method="inverted_cdf").tolist()
    return list(zip(low_M, high_M, strict=True))
