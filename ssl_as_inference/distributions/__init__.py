"""Probability distributions on the unit sphere, for PyTorch and Pyro."""

from ssl_as_inference.distributions.power_spherical import PowerSpherical
from ssl_as_inference.distributions.rotationally_symmetric import RotationallySymmetric
from ssl_as_inference.distributions.spherical_uniform import SphericalUniform
from ssl_as_inference.distributions.von_mises_fisher import VonMisesFisher

__all__ = ["PowerSpherical", "RotationallySymmetric", "SphericalUniform", "VonMisesFisher"]
