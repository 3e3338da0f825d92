"""Self-supervised learning written as probabilistic inference on the sphere.

The package holds the mathematics and the graphical model of arXiv:2203.11437v1: spherical distributions for PyTorch
and Pyro (`ssl_as_inference.distributions`) and the model/guide pair whose Kullback–Leibler divergence is the loss of
SimSiam, BYOL and VI-SimSiam (`ssl_as_inference.graphical_model`).
"""

from ssl_as_inference import divergences, reparam  # noqa: F401  # they register with torch.distributions
from ssl_as_inference.cross_entropies import cross_entropy, register_cross_entropy

__all__ = ["cross_entropy", "register_cross_entropy"]

__version__ = "0.1.0"
