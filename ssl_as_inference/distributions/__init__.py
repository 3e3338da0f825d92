"""Probability distributions on the unit sphere, for PyTorch and Pyro."""

from ssl_as_inference.distributions.delta_mixture import DeltaMixture
from ssl_as_inference.distributions.monte_carlo_normalizer import monte_carlo_log_normalizer
from ssl_as_inference.distributions.power_spherical import PowerSpherical
from ssl_as_inference.distributions.product_of_experts import ProductOfExperts, stack_experts
from ssl_as_inference.distributions.rotationally_symmetric import RotationallySymmetric
from ssl_as_inference.distributions.spherical_mixture import SphericalMixture
from ssl_as_inference.distributions.spherical_uniform import SphericalUniform
from ssl_as_inference.distributions.von_mises_fisher import VonMisesFisher

__all__ = [
    "DeltaMixture",
    "PowerSpherical",
    "ProductOfExperts",
    "RotationallySymmetric",
    "SphericalMixture",
    "SphericalUniform",
    "VonMisesFisher",
    "monte_carlo_log_normalizer",
    "stack_experts",
]
