"""Multinomial logistic regression on soft labels: a strictly convex problem with one optimum, solved to a gradient tolerance.

    minimise  sum_i sum_k m_ik (logsumexp_j z_ij - z_ik) / sum_ik m_ik  +  penalty / 2 * |W|^2,    z_i = W x_i + b

x: features standardised by their weighted mean and deviation; m_ik: share of patch i's area that bears class k. The bias is not
penalised. Solved by L-BFGS (Nocedal & Wright, Numerical Optimization, ch. 7; scipy's implementation) in coordinates in which
the Hessian at W = 0 is the identity: for class k with prior p_k and the covariance's eigenvalue e_j that Hessian is
p_k (1 - p_k) e_j + penalty up to the coupling of classes, so weights are scaled by its inverse root. scikit-learn's
LogisticRegression has the same optimum with C = 1 / (penalty * sum m).

Axes: N patches, D feature, C classes, K classes that the labels show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from tips_bench.features.cache import from_disk

CHUNK_ROWS = 1 << 14
MEMORY = 10  # pairs of steps that L-BFGS keeps


class Patches:
    """Soft-labelled patches in chunks of CHUNK_ROWS, kept in memory where they take at most `resident_bytes`.

    arrays: "features" [N,D] as stored (float32, or the 16 bits of bfloat16), "counts" [N,C] labelled pixels of each class,
    "area" [N] all pixels. rows: which of them, ascending.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], rows: np.ndarray, device: torch.device, resident_bytes: int) -> None:
        self._arrays, self._rows, self.device = arrays, rows, device
        self.dim = arrays["features"].shape[1]
        self._center_D: Tensor | None = None
        self._resident: list[tuple[Tensor, Tensor]] | None = None
        if len(rows) * (self.dim + arrays["counts"].shape[1]) * 4 <= resident_bytes:
            self._resident = list(self.chunks())

    def center(self, mean_D: Tensor) -> None:
        """From now on `chunks` gives features less this mean, in float32: small numbers keep the products exact."""
        self._center_D = mean_D.float()
        for features_ND, _ in self._resident or ():
            features_ND -= self._center_D

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(features_ND, shares_NC) in float32 on the device; shares: part of the patch's area that bears each class."""
        if self._resident is not None:
            yield from self._resident
            return
        for start in range(0, len(self._rows), CHUNK_ROWS):
            rows = self._rows[start : start + CHUNK_ROWS]
            features_ND = from_disk(self._arrays["features"][rows]).to(self.device, torch.float32, copy=True)
            if self._center_D is not None:
                features_ND -= self._center_D
            area_N1 = np.maximum(self._arrays["area"][rows], 1)[:, None]
            shares_NC = (self._arrays["counts"][rows] / area_N1).astype(np.float32)
            yield features_ND, torch.from_numpy(shares_NC).to(self.device)


@dataclass(frozen=True)
class Moments:
    """Weighted moments of the patches. mass_C: area of each class. eigenvalues_D, basis_DD: of the standardised features' covariance_DD."""

    mass_C: Tensor
    mean_D: Tensor
    covariance_DD: Tensor
    deviation_D: Tensor
    eigenvalues_D: Tensor
    basis_DD: Tensor

    @classmethod
    def of(cls, patches: Patches) -> Moments:
        """Two passes, sums in float64. A feature that does not vary gets deviation 1."""
        zero = torch.zeros((), dtype=torch.float64, device=patches.device)
        mass_C = sum((shares_NC.double().sum(0) for _, shares_NC in patches.chunks()), zero)
        total = mass_C.sum()
        mean_D = sum((shares_NC.sum(1).double() @ features_ND.double() for features_ND, shares_NC in patches.chunks()), zero) / total
        covariance_DD = torch.zeros(patches.dim, patches.dim, dtype=torch.float64, device=patches.device)
        for features_ND, shares_NC in patches.chunks():
            weighted_ND = (features_ND - mean_D.float()) * shares_NC.sum(1, keepdim=True).sqrt()
            covariance_DD += (weighted_ND.T @ weighted_ND).double()
        covariance_DD /= total
        deviation_D = covariance_DD.diagonal().clamp_min(0).sqrt()
        floor = torch.finfo(torch.float32).eps * (mean_D.abs() + deviation_D.max())
        deviation_D = torch.where(deviation_D > floor, deviation_D, torch.ones_like(deviation_D))
        eigenvalues_D, basis_DD = torch.linalg.eigh(covariance_DD / (deviation_D[:, None] * deviation_D))
        return cls(mass_C, mean_D, covariance_DD, deviation_D, eigenvalues_D.clamp_min(0), basis_DD)


@dataclass(frozen=True)
class Solution:
    """weight_KD, bias_K: float64, for raw features.

    loss: the objective. gradient: the greatest entry of its gradient in the solver's coordinates.
    """

    weight_KD: Tensor
    bias_K: Tensor
    loss: float
    gradient: float
    iterations: int
    converged: bool


class SoftmaxRegression:
    """The problem for one set of patches; `solve` for any penalty. shown_K: the classes with any area."""

    def __init__(self, patches: Patches) -> None:
        self.patches = patches
        self.moments = Moments.of(patches)
        patches.center(self.moments.mean_D)
        self.shown_K = torch.nonzero(self.moments.mass_C > 0)[:, 0]
        prior_K = self.moments.mass_C[self.shown_K] / self.moments.mass_C.sum()
        self._curvature_K = (prior_K * (1 - prior_K)).clamp_min(1e-8)
        self._prior_K = prior_K

    def solve(
        self,
        penalty: float,
        tolerance: float,
        max_iterations: int,
        start: tuple[Tensor, Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Solution:
        """The optimum. start: (weight_KD, bias_K) for raw features, from another penalty or set of patches with the same classes.

        dtype: of logits and products; float32 stalls at a gradient of about 1e-5, float64 goes on.
        """
        problem = _Problem(self, penalty, dtype)
        with threadpool_limits(1, user_api="blas"):  # scipy's BLAS threads spin after each call, beside those of torch
            result = minimize(
                problem,
                problem.vector(*start) if start is not None else problem.origin(),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": max_iterations, "maxfun": 2 * max_iterations, "maxcor": MEMORY, "gtol": tolerance, "ftol": 0.0},
            )
        gradient = float(np.abs(result.jac).max())
        weight_KD, bias_K = problem.raw(result.x)
        return Solution(weight_KD, bias_K, float(result.fun), gradient, int(result.nit), gradient <= tolerance)


class _Problem:
    """Objective and gradient in the solver's coordinates V: W = (scale * V) basis^T / deviation."""

    def __init__(self, regression: SoftmaxRegression, penalty: float, dtype: torch.dtype) -> None:
        self.regression, self.moments, self.penalty, self.dtype = regression, regression.moments, penalty, dtype
        curvature_K = regression._curvature_K
        self.scale_KD = (curvature_K[:, None] * self.moments.eigenvalues_D + penalty).rsqrt()
        self.scale_K = curvature_K.rsqrt()
        self.total = self.moments.mass_C.sum()

    def origin(self) -> np.ndarray:
        """W = 0 and the bias that gives every class its prior."""
        zero_KD = torch.zeros_like(self.scale_KD)
        return self.vector(zero_KD, self.regression._prior_K.log())

    def vector(self, weight_KD: Tensor, bias_K: Tensor) -> np.ndarray:
        """The point of a raw head."""
        bias_K = bias_K + weight_KD @ self.moments.mean_D
        values_KD = (weight_KD * self.moments.deviation_D) @ self.moments.basis_DD / self.scale_KD
        return torch.cat([values_KD, (bias_K / self.scale_K)[:, None]], 1).cpu().numpy().ravel()

    def _centered(self, vector: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        values = torch.from_numpy(vector).to(self.scale_KD.device).reshape(len(self.scale_K), -1)
        rotated_KD = self.scale_KD * values[:, :-1]
        weight_KD = (rotated_KD @ self.moments.basis_DD.T) / self.moments.deviation_D
        return rotated_KD, weight_KD, self.scale_K * values[:, -1]

    def raw(self, vector: np.ndarray) -> tuple[Tensor, Tensor]:
        """(weight_KD, bias_K) for raw features."""
        _, weight_KD, bias_K = self._centered(vector)
        return weight_KD, bias_K - weight_KD @ self.moments.mean_D

    def __call__(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        rotated_KD, weight_KD, bias_K = self._centered(vector)
        short_weight_KD, short_bias_K = weight_KD.to(self.dtype), bias_K.to(self.dtype)
        loss = torch.zeros((), dtype=torch.float64, device=weight_KD.device)
        weight_gradient_KD, bias_gradient_K = torch.zeros_like(weight_KD), torch.zeros_like(bias_K)
        shown_K = self.regression.shown_K
        for features_ND, shares_NC in self.regression.patches.chunks():
            centered_ND = features_ND.to(self.dtype)
            shares_NK = shares_NC[:, shown_K].to(self.dtype)
            logits_NK = torch.addmm(short_bias_K, centered_ND, short_weight_KD.T)
            log_NK = torch.log_softmax(logits_NK, 1)
            loss -= (shares_NK * log_NK).sum(1).double().sum()
            residual_NK = log_NK.exp_().mul_(shares_NK.sum(1, keepdim=True)).sub_(shares_NK)
            weight_gradient_KD += (residual_NK.T @ centered_ND).double()
            bias_gradient_K += residual_NK.double().sum(0)
        loss = loss / self.total + self.penalty / 2 * rotated_KD.square().sum()
        back_KD = (weight_gradient_KD / self.total / self.moments.deviation_D) @ self.moments.basis_DD + self.penalty * rotated_KD
        gradient = torch.cat([self.scale_KD * back_KD, (self.scale_K * bias_gradient_K / self.total)[:, None]], 1)
        return float(loss), gradient.cpu().numpy().ravel()
