"""Normalisers and moments of the spherical distributions, as functions of the dimension and the concentration."""

from ssl_as_inference.special.gamma_differences import lgamma_difference, polygamma_difference
from ssl_as_inference.special.power_spherical import (
    power_spherical_entropy,
    power_spherical_kl_to_uniform,
    power_spherical_log_normalizer,
    power_spherical_log_normalizer_plus_peak,
    power_spherical_mean_log_height,
    power_spherical_mean_resultant_length,
)
from ssl_as_inference.special.power_spherical_cosine import (
    power_spherical_cosine_cdf,
    power_spherical_cosine_icdf,
)
from ssl_as_inference.special.von_mises_fisher import (
    von_mises_fisher_entropy,
    von_mises_fisher_kl_to_uniform,
    von_mises_fisher_log_normalizer,
    von_mises_fisher_log_normalizer_plus_concentration,
    von_mises_fisher_mean_resultant_complement,
    von_mises_fisher_mean_resultant_length,
    von_mises_fisher_resultant_slope,
    von_mises_fisher_tangent_variance,
)
from ssl_as_inference.special.von_mises_fisher_concentration import von_mises_fisher_concentration
from ssl_as_inference.special.von_mises_fisher_gap import (
    von_mises_fisher_gap_derivative,
    von_mises_fisher_gap_quantile,
    von_mises_fisher_log_gap_tail,
)

__all__ = [
    "lgamma_difference",
    "polygamma_difference",
    "power_spherical_cosine_cdf",
    "power_spherical_cosine_icdf",
    "power_spherical_entropy",
    "power_spherical_kl_to_uniform",
    "power_spherical_log_normalizer",
    "power_spherical_log_normalizer_plus_peak",
    "power_spherical_mean_log_height",
    "power_spherical_mean_resultant_length",
    "von_mises_fisher_concentration",
    "von_mises_fisher_entropy",
    "von_mises_fisher_gap_derivative",
    "von_mises_fisher_gap_quantile",
    "von_mises_fisher_kl_to_uniform",
    "von_mises_fisher_log_gap_tail",
    "von_mises_fisher_log_normalizer",
    "von_mises_fisher_log_normalizer_plus_concentration",
    "von_mises_fisher_mean_resultant_complement",
    "von_mises_fisher_mean_resultant_length",
    "von_mises_fisher_resultant_slope",
    "von_mises_fisher_tangent_variance",
]
