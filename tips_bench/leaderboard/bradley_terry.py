"""Bradley-Terry strengths of models from the pairs of them that met on a board, and the mean ranks that they imply.

Model i beats model j with probability P(i, j) = 1 / (1 + exp(s(j) - s(i))). The strengths s are those of the greatest likelihood, in which
a board of m models counts as its m (m - 1) / 2 pairs, and a tie as half a win for each. Bradley and Terry, Rank analysis of incomplete
block designs, Biometrika 39, 1952.

The mean rank of i is 1 + the sum of P(j, i) over all other models j: its rank on a board on which all would stand. Where all do stand on
all boards, this is the mean of its ranks there, because at the greatest likelihood the expected number of wins is the number found.

Two models are undecided if neither has beaten the other, nor a model that beat (a model that beat ...) the other: no finite difference of
their strengths is the most likely, and no order either. Each is then counted as beaten by the other with probability 1/2.

A model that won, or lost, all of its comparisons has no finite strength, though a mean rank. A weak normal prior, PRIOR / 2 times the sum
of the squares, keeps strengths finite. It moves a mean rank by PRIOR s / B where all models stand on B boards.

Axes: M models, R resamples.
"""

from __future__ import annotations

import numpy as np

PRIOR = 1e-5  # inverse variance of a strength
STEPS, LONGEST, SMALL = 500, 2.0, 1e-8  # of Newton's method: most steps, the longest in a strength, the slope that counts as zero


def strengths(wins_RM: np.ndarray, met_RMM: np.ndarray, begin_M: np.ndarray | None = None) -> np.ndarray:
    """s, shape (R, M), by Newton's method. wins_RM: how often each model won. met_RMM: how often two models met, 0 on the diagonal.

    begin_M: where the search begins. Errors: ArithmeticError if it does not end; no counts of wins are known to cause this.
    """
    found_RM = np.tile(np.zeros(wins_RM.shape[1]) if begin_M is None else begin_M, (len(wins_RM), 1))
    left_R, diagonal_M = np.arange(len(found_RM)), np.arange(wins_RM.shape[1])
    for _ in range(STEPS):
        now_RM = found_RM[left_R]
        chance_RMM = _chances(now_RM)
        slope_RM = wins_RM[left_R] - (met_RMM[left_R] * chance_RMM).sum(axis=2) - PRIOR * now_RM
        open_R = np.abs(slope_RM).max(axis=1) > SMALL
        if not open_R.any():
            return found_RM
        left_R, now_RM, slope_RM, chance_RMM = left_R[open_R], now_RM[open_R], slope_RM[open_R], chance_RMM[open_R]
        curve_RMM = -met_RMM[left_R] * chance_RMM * (1 - chance_RMM)
        curve_RMM[:, diagonal_M, diagonal_M] = PRIOR - curve_RMM.sum(axis=2)
        step_RM = np.linalg.solve(curve_RMM, slope_RM[..., None])[..., 0]
        found_RM[left_R] = now_RM + step_RM * (LONGEST / np.maximum(np.abs(step_RM).max(axis=1, keepdims=True), LONGEST))
    raise ArithmeticError("the strengths of the models did not converge")


def mean_ranks(strengths_RM: np.ndarray, undecided_MM: np.ndarray) -> np.ndarray:
    """1 = the best, shape (R, M)."""
    beaten_RMM = np.where(undecided_MM, 0.5, _chances(strengths_RM))
    ranks_RM: np.ndarray = 0.5 + beaten_RMM.sum(axis=1)  # of which 1/2 is each model against itself
    return ranks_RM


def undecided(beat_MM: np.ndarray) -> np.ndarray:
    """Whether nothing tells which of two models is better, shape (M, M). beat_MM: whether i beat or tied j on a board."""
    reach_MM = beat_MM | np.eye(len(beat_MM), dtype=bool)
    while True:
        further_MM = reach_MM.astype(np.float32) @ reach_MM.astype(np.float32) > 0
        if (further_MM == reach_MM).all():
            return ~(reach_MM | reach_MM.T)
        reach_MM = further_MM


def _chances(strengths_RM: np.ndarray) -> np.ndarray:
    """P(i, j), shape (R, M, M)."""
    with np.errstate(over="ignore"):  # the exponential of a large number is infinite, and the probability 0
        chance_RMM: np.ndarray = 1 / (1 + np.exp(strengths_RM[:, None, :] - strengths_RM[:, :, None]))
    return chance_RMM
