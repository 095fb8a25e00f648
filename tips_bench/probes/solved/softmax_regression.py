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

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from tips_bench.probes.solved.patches import Patches

MEMORY = 10  # pairs of steps that L-BFGS keeps


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
        dim = patches.dim

        def first_X(features_ND: Tensor, shares_NC: Tensor) -> Tensor:
            return torch.cat([shares_NC.double().sum(0), shares_NC.sum(1).double() @ features_ND.double()])

        mass_C, mean_D = patches.sums(patches.classes + dim, first_X).split([patches.classes, dim])
        total = mass_C.sum()
        mean_D = mean_D / total

        def products_X(features_ND: Tensor, shares_NC: Tensor) -> Tensor:
            weighted_ND = (features_ND - mean_D.float()) * shares_NC.sum(1, keepdim=True).sqrt()
            return (weighted_ND.T @ weighted_ND).double().flatten()

        covariance_DD = patches.sums(dim * dim, products_X).reshape(dim, dim) / total
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
        sums = _Sums(self, dtype)
        if self.patches.world.is_first:
            problem = _Problem(self, penalty, sums)
            with threadpool_limits(1, user_api="blas"):  # scipy's BLAS threads spin after each call, beside those of torch
                result = minimize(
                    problem,
                    problem.vector(*start) if start is not None else problem.origin(),
                    jac=True,
                    method="L-BFGS-B",
                    options={"maxiter": max_iterations, "maxfun": 2 * max_iterations, "maxcor": MEMORY, "gtol": tolerance, "ftol": 0.0},
                )
            sums.end(*problem.raw(result.x), float(result.fun), float(np.abs(result.jac).max()), int(result.nit))
        else:
            sums.help()
        return sums.solution(tolerance)


class _Sums:
    """Sums over the patches of all ranks. Rank 0, which alone looks for the optimum, tells the others each point and at last the solution.

    told: weight_KD and bias_K for centered or, of the solution, for raw features; loss, gradient and iterations of the solution; whether
    to go on.
    """

    def __init__(self, regression: SoftmaxRegression, dtype: torch.dtype) -> None:
        self.patches, self.shown_K, self.dtype = regression.patches, regression.shown_K, dtype
        self._sizes = [len(self.shown_K) * self.patches.dim, len(self.shown_K), 4]
        self._told = torch.zeros(sum(self._sizes), dtype=torch.float64, device=self.patches.device)

    def at(self, weight_KD: Tensor, bias_K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, gradient_KD, gradient_K) of a head for centered features. For rank 0, while the others `help`."""
        self._tell(weight_KD, bias_K, 0, 0, 0, 1)
        return self._add()

    def help(self) -> None:
        """Make this rank's part of the sums until rank 0 ends."""
        while self.patches.world.from_first(self._told)[-1]:
            self._add()

    def end(self, weight_KD: Tensor, bias_K: Tensor, loss: float, gradient: float, iterations: int) -> None:
        """Tell the solution. For rank 0."""
        self._tell(weight_KD, bias_K, loss, gradient, iterations, 0)

    def solution(self, tolerance: float) -> Solution:
        """What rank 0 told."""
        weight, bias_K, rest = self._told.split(self._sizes)
        loss, gradient, iterations, _ = rest.tolist()
        return Solution(weight.reshape(len(bias_K), -1), bias_K, loss, gradient, int(iterations), gradient <= tolerance)

    def _tell(self, weight_KD: Tensor, bias_K: Tensor, *rest: float) -> None:
        numbers = torch.tensor(rest, dtype=torch.float64, device=self._told.device)
        self._told = self.patches.world.from_first(torch.cat([weight_KD.flatten(), bias_K, numbers]))

    def _add(self) -> tuple[Tensor, Tensor, Tensor]:
        weight, bias_K, _ = self._told.to(self.dtype).split(self._sizes)
        weight_KD = weight.reshape(len(bias_K), -1)

        def loss_and_gradient_X(features_ND: Tensor, shares_NC: Tensor) -> Tensor:
            centered_ND = features_ND.to(self.dtype)
            shares_NK = shares_NC[:, self.shown_K].to(self.dtype)
            log_NK = torch.log_softmax(torch.addmm(bias_K, centered_ND, weight_KD.T), 1)
            loss = -(shares_NK * log_NK).sum(1).double().sum()
            residual_NK = log_NK.exp_().mul_(shares_NK.sum(1, keepdim=True)).sub_(shares_NK)
            return torch.cat([(residual_NK.T @ centered_ND).double().flatten(), residual_NK.double().sum(0), loss[None]])

        found = self.patches.sums(weight_KD.numel() + len(bias_K) + 1, loss_and_gradient_X)
        gradient, gradient_K, loss = found.split([*self._sizes[:2], 1])
        return loss[0], gradient.reshape(weight_KD.shape), gradient_K


class _Problem:
    """Objective and gradient in the solver's coordinates V: W = (scale * V) basis^T / deviation."""

    def __init__(self, regression: SoftmaxRegression, penalty: float, sums: _Sums) -> None:
        self.regression, self.moments, self.penalty, self.sums = regression, regression.moments, penalty, sums
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
        loss, weight_gradient_KD, bias_gradient_K = self.sums.at(weight_KD, bias_K)
        loss = loss / self.total + self.penalty / 2 * rotated_KD.square().sum()
        back_KD = (weight_gradient_KD / self.total / self.moments.deviation_D) @ self.moments.basis_DD + self.penalty * rotated_KD
        gradient = torch.cat([self.scale_KD * back_KD, (self.scale_K * bias_gradient_K / self.total)[:, None]], 1)
        return float(loss), gradient.cpu().numpy().ravel()
