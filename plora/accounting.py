"""Accounting: what (epsilon, delta) a Gaussian noise keeps, exactly.

Looking n times at something that one record can move by 1 in length, each time under fresh noise of standard deviation
s, is worth one look with mu = sqrt(n) / s: the composition of Gaussian mechanisms is a Gaussian mechanism, adaptive or
not (Dong, Roth & Su 2022). It keeps (epsilon, delta) where

    delta >= Phi(mu/2 - epsilon/mu) - exp(epsilon) Phi(-mu/2 - epsilon/mu)

and for no less (Balle & Wang 2018). Squares of mu add up over releases, so that is what is kept of them.
"""

import math

MOST_EPSILON = 100.0
"""Beyond it exp(epsilon) is no number to promise anything by."""

HALVINGS = 200


def delta_of(mu: float, epsilon: float) -> float:
    """The least delta that `mu` keeps at `epsilon`."""
    if mu <= 0:
        return 0.0
    near, far = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
    tail = _phi(far)
    scaled = math.exp(min(epsilon + math.log(tail), 0.0)) if tail > 0 else 0.0
    return max(0.0, _phi(near) - scaled)


def mu_of(epsilon: float, delta: float) -> float:
    """The greatest mu that keeps (epsilon, delta); the noise is 1 / mu for each unit of a record's reach."""
    low, high = 0.0, 1.0
    while delta_of(high, epsilon) <= delta:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(middle, epsilon) > delta else (middle, high)
    return low


def epsilon_of(mu: float, delta: float) -> float:
    """The least epsilon that `mu` keeps with `delta`; infinite where that is over MOST_EPSILON."""
    if delta_of(mu, 0.0) <= delta:
        return 0.0
    if delta_of(mu, MOST_EPSILON) > delta:
        return math.inf
    low, high = 0.0, MOST_EPSILON
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_of(mu, middle) > delta else (low, middle)
    return high


def _phi(x: float) -> float:
    """The normal distribution function."""
    return 0.5 * math.erfc(-x / math.sqrt(2))
