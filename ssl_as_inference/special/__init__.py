"""Normalisers and moments of the spherical distributions, as functions of the dimension and the concentration."""

from ssl_as_inference.special.gamma_differences import lgamma_difference, polygamma_difference
from ssl_as_inference.special.log_bessel_difference import von_mises_fisher_peak_difference
from ssl_as_inference.special.mean_log_height import (
    power_spherical_cross_log_height,
    power_spherical_log_height_deficit,
    von_mises_fisher_cross_log_height,
)
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
from ssl_as_inference.special.power_spherical_difference import power_spherical_peak_difference
from ssl_as_inference.special.power_spherical_product import power_spherical_pair_log_normalizer
from ssl_as_inference.special.squared_concentration import von_mises_fisher_log_normalizer_of_square
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
    "power_spherical_cross_log_height",
    "power_spherical_entropy",
    "power_spherical_kl_to_uniform",
    "power_spherical_log_height_deficit",
    "power_spherical_log_normalizer",
    "power_spherical_log_normalizer_plus_peak",
    "power_spherical_mean_log_height",
    "power_spherical_mean_resultant_length",
    "power_spherical_pair_log_normalizer",
    "power_spherical_peak_difference",
    "von_mises_fisher_concentration",
    "von_mises_fisher_cross_log_height",
    "von_mises_fisher_entropy",
    "von_mises_fisher_gap_derivative",
    "von_mises_fisher_gap_quantile",
    "von_mises_fisher_kl_to_uniform",
    "von_mises_fisher_log_gap_tail",
    "von_mises_fisher_log_normalizer",
    "von_mises_fisher_log_normalizer_of_square",
    "von_mises_fisher_log_normalizer_plus_concentration",
    "von_mises_fisher_mean_resultant_complement",
    "von_mises_fisher_mean_resultant_length",
    "von_mises_fisher_peak_difference",
    "von_mises_fisher_resultant_slope",
    "von_mises_fisher_tangent_variance",
]
