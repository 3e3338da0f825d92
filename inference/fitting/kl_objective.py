r"""The paper's loss as an objective for Pyro: the divergence between guide and model, Eqs. (5), (9) and (12)."""

from __future__ import annotations

import functools
import operator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from inference.fitting.term_weights import TermWeight
from ssl_as_inference.distributions import DeltaMixture, ProductOfExperts, SphericalUniform, stack_experts
from ssl_as_inference.graphical_model import LATENT, SharedEncodings, ViewGivenLatent

Pairs = Literal["cross", "all"]


@dataclass(frozen=True)
class ObjectiveTerms:
    """The terms of the objective, for each image.

    Attributes:
        log_densities: For each view i the mean of log p_i(f_j) over the atoms j that count for it, shape `(images,)`;
            where the objective has weights, of w_ij log p_i(f_j).
        experts: The experts p_i, in the order of the views.
        log_normalizer: log Z of their product, shape `(images,)`, where the objective is normalised.
    """

    log_densities: tuple[Tensor, ...]
    experts: tuple[Any, ...]
    log_normalizer: Tensor | None = None

    def loss(self) -> Tensor:
        """The objective: a scalar, a sum over images."""
        loss = -functools.reduce(operator.add, self.log_densities)
        return (loss if self.log_normalizer is None else loss + self.log_normalizer).sum()


class KLObjective(ELBO):
    r"""The paper's divergence between guide and model, up to the constant entropy of q: a sum over the guide's atoms.

    With the views' experts $p_i = p_\psi(z\mid x_i)$ and the guide's atoms $f_j$:

    - `pairs="all"`: $-\frac1M\sum_i\sum_j \log p_i(f_j)$. This is Eq. (9) for von Mises–Fisher experts and Eq. (12)
      for Power Spherical ones, with the 1/M of Eq. (8) and the sign of Eq. (12)'s second term corrected
      (C12). It equals Pyro's `TraceEnum_ELBO` plus log M for each image (C29).
    - `pairs="cross"` (default): $-\sum_i \frac1{M-1}\sum_{j\ne i}\log p_i(f_j)$, Algorithm 1 for M = 2 and what the
      paper trains. It is a sum of M divergences, one for each expert: from the guide over the *other* views (C13).

    Neither is the divergence of q from the model's posterior, because the product of the experts is not normalised; its
    integral is $Z(\mathbb{X})$. `normalized=True` adds $\log Z(\mathbb{X})$ (C4, C16); under `"all"` the result is then
    $\mathrm{KL}(q_\phi\,\|\,p_\psi)$ of Eq. (5) itself, up to the entropy of q. The difference is not small: on
    encoders trained on digits the two pull a mean direction 26° (SimSiam) and 43° (VI-SimSiam) apart (C39), and the
    normaliser weakens the pull between views that disagree (C16).

    `weight` multiplies each $\log p_i(f_j)$ by a number $w_{ij}$ behind a stop-gradient, such as those of
    `inference.fitting.term_weights`. The objective is then not a divergence, and its values cannot be compared; its
    gradient is the weighted sum of the terms' gradients.

    As everywhere in Pyro the loss is a sum over the plate of images; divide by their number for a mean. No step waits
    for the device. Densities are evaluated with autocast off, on the float32 (or better) vectors of model and guide.
    `poutine.scale` and `poutine.mask` count around the model; around the guide, whose entropy is left out, they do not.
    `KLObjective()(model, guide)` is an `nn.Module`; `SVI(model, guide, optim, loss=KLObjective())` works as well.

    Args:
        pairs: Which (expert, atom) pairs count: `"cross"` or `"all"`.
        normalized: Whether the product of experts is normalised.
        weight: Expert of a view and the atoms that count for it to the terms' weights; `None` for 1.
        max_plate_nesting: Number of nested plates around the latent, 1 for the plate of images.

    Raises:
        ValueError: At construction for an argument out of its range, or for a weight with `normalized`; when called, if
            model, guide or weight do not fit the objective, such as a model with another site that it would not count.

    Example:
        >>> from ssl_as_inference.distributions import VonMisesFisher
        >>> from ssl_as_inference.graphical_model import MultiViewGuide, MultiViewModel
        >>> class Predictor(nn.Module):
        ...     def forward(self, projection):
        ...         return VonMisesFisher(nn.functional.normalize(projection, dim=-1), torch.tensor(5.0))
        >>> encoder = nn.Linear(4, 3)
        >>> loss = KLObjective()(MultiViewModel(encoder, Predictor()), MultiViewGuide(encoder))
        >>> views = [torch.randn(8, 4), torch.randn(8, 4)]
        >>> mean_loss = loss(views) / 8
        >>> mean_loss.backward()
    """

    def __init__(
        self,
        pairs: Pairs = "cross",
        *,
        normalized: bool = False,
        weight: TermWeight | None = None,
        max_plate_nesting: int = 1,
    ) -> None:
        if pairs not in get_args(Pairs):
            raise ValueError(f'pairs must be "cross" or "all", got {pairs!r}')
        if not isinstance(max_plate_nesting, int) or max_plate_nesting < 1:
            raise ValueError(f"max_plate_nesting must be an integer >= 1, got {max_plate_nesting}")
        if normalized and weight is not None:
            raise ValueError(
                "weight must be None where normalized is True, because log Z belongs to all terms of an image, "
                f"got {weight!r}"
            )
        super().__init__(max_plate_nesting=max_plate_nesting)  # type: ignore[no-untyped-call]
        self.pairs = pairs
        self.normalized = normalized
        self.weight = weight

    def differentiable_loss(self, model: nn.Module, guide: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """The loss as a scalar tensor, a sum over images; `args` go to model and guide."""
        return _in_full_precision(self.evaluate(model, guide, *args, **kwargs))

    def evaluate(self, model: nn.Module, guide: nn.Module, *args: Any, **kwargs: Any) -> ObjectiveTerms:
        """The terms of the loss, with their gradient; `args` go to model and guide."""
        with pyro.settings.context(module_local_params=True):  # Pyro's global store of parameters stays as it is
            return self._evaluate(model, guide, args, kwargs)

    def _evaluate(self, model: nn.Module, guide: nn.Module, args: Any, kwargs: Any) -> ObjectiveTerms:
        model_trace, guide_trace = self._get_trace(model, guide, args, kwargs)
        atoms = self._atoms(guide_trace)
        sites = self._observed_views(model_trace)
        _refuse_what_is_left_out(model_trace, "model")
        _refuse_what_is_left_out(guide_trace, "guide")
        if self.pairs == "cross" and min(len(sites), len(atoms)) < 2:
            raise ValueError(
                f'pairs="cross" compares different views and needs at least 2 of them, got {len(sites)} view(s) and '
                f'{len(atoms)} atom(s); pairs="all" works with one'
            )
        experts = tuple(site["fn"].posterior for site in sites)
        with full_precision(atoms):
            log_densities = tuple(map(self._mean_over_atoms, range(len(sites)), sites))
            log_normalizer = None
            if self.normalized:
                first, *others = sites
                for kind in ("scale", "mask"):
                    if not all(_same(first[kind], site[kind]) for site in others):
                        raise ValueError(
                            f"model must have one {kind} for all views of an image where normalized is True, got "
                            "several: log Z belongs to all experts; leave views out of the list instead"
                        )
                log_normalizer = _scaled(ProductOfExperts(stack_experts(experts)).log_normalizer(), first)
        return ObjectiveTerms(log_densities, experts, log_normalizer)

    def _mean_over_atoms(self, view: int, site: dict[str, Any]) -> Tensor:
        """Mean of log p_i(f_j) over the atoms j that count for view i, shape `(*plates,)`."""
        likelihood: ViewGivenLatent = site["fn"]
        expert, atoms = likelihood.posterior, likelihood.latent
        if self.pairs == "cross":
            # Atom j belongs to view j; views beyond the atoms (a guide over fewer views) keep every atom. The atom is
            # left out before its density is evaluated: where that is −∞, even a discarded value has NaN as gradient.
            atoms = _without(view, atoms)
        single = len(atoms) == 1 and self.weight is None
        if single:  # no mean to be taken: without their dimension the atom's density and its derivatives take less
            atoms = atoms[0]
        log_density = _scaled(self.log_likelihood(expert, atoms), site)
        if self.weight is not None:
            log_density = log_density * self._weight_like(log_density, self.weight, expert, atoms)
        return log_density if single else log_density.mean(0)

    def log_likelihood(self, expert: Any, atoms: Tensor) -> Tensor:
        r"""$\log p(x_i\mid z)$ up to a constant in z: under a uniform prior, the expert's log density."""
        log_prob: Tensor = expert.log_prob(atoms)
        return log_prob

    @staticmethod
    def _weight_like(log_density: Tensor, weight: TermWeight, expert: Any, atoms: Tensor) -> Tensor:
        with torch.no_grad():  # the stop-gradient: a weight says how much a term counts, and is not to be minimised
            weights = weight(expert, atoms)
        fits = len(weights.shape) <= log_density.dim() and all(
            one in {1, other} for one, other in zip(weights.shape[::-1], log_density.shape[::-1], strict=False)
        )
        if not fits:
            raise ValueError(
                f"weight must return a shape that broadcasts with {tuple(log_density.shape)}, got "
                f"{tuple(weights.shape)}"
            )
        return weights

    @staticmethod
    def _observed_views(model_trace: poutine.Trace) -> list[dict[str, Any]]:
        _latent_site(model_trace, "model")
        sites: list[Any] = [site for site in model_trace.nodes.values() if isinstance(site.get("fn"), ViewGivenLatent)]
        if not sites:
            raise ValueError("model must observe views (sites with a ViewGivenLatent distribution), got none")
        return sites

    @staticmethod
    def _atoms(guide_trace: poutine.Trace) -> Tensor:
        site = _latent_site(guide_trace, "guide")
        if not isinstance(site["fn"], DeltaMixture) or site["infer"].get("enumerate") != "parallel":
            raise ValueError(
                f"guide must draw {LATENT!r} from a DeltaMixture with infer={{'enumerate': 'parallel'}}, "
                f"got {type(site['fn']).__name__}: its atoms are what the expectation sums over"
            )
        atoms: Tensor = site["value"]
        return atoms

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[poutine.Trace, poutine.Trace]:
        """Traces of model and guide with the guide's atoms enumerated in a new leftmost dimension."""
        outermost = -1 - int(self.max_plate_nesting)
        with SharedEncodings():
            # As contexts: wrapped around the functions instead, the handlers would take twice their time.
            with poutine.enum(first_available_dim=outermost), poutine.trace() as guide_sites:
                guide(*args, **kwargs)
            _latent_site(guide_sites.trace, "guide")
            with poutine.trace() as model_sites, poutine.replay(trace=guide_sites.trace):
                model(*args, **kwargs)
        return model_sites.trace, guide_sites.trace

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """The loss as a number: what `pyro.infer.SVI` calls to evaluate."""
        with torch.no_grad():
            return float(self._loss_for_svi(model, guide, args, kwargs))

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """The loss as a number, its gradient accumulated into the parameters: what `pyro.infer.SVI` calls."""
        loss = self._loss_for_svi(model, guide, args, kwargs)
        loss.backward()
        return float(loss.detach())

    def _loss_for_svi(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Tensor:
        # SVI optimises what Pyro's global store knows (ssl_as_inference.parameter_store).
        with pyro.settings.context(module_local_params=False):
            return _in_full_precision(self._evaluate(model, guide, args, kwargs))


def _in_full_precision(terms: ObjectiveTerms) -> Tensor:
    with full_precision(terms.log_densities[0]):
        return terms.loss()


def full_precision(like: Tensor) -> AbstractContextManager[None]:
    """Autocast off for computations on this tensor's device; asking whether it is on costs less than to switch it."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def _without(atom: int, atoms: Tensor) -> Tensor:
    """All atoms but one, as a view where possible: a copy of many long vectors would make the step slower."""
    if atom >= len(atoms):
        return atoms
    if atom == 0:
        return atoms[1:]
    if atom == len(atoms) - 1:
        return atoms[:-1]
    return torch.cat([atoms[:atom], atoms[atom + 1 :]])


def _scaled(log_prob: Tensor, site: dict[str, Any]) -> Tensor:
    """Apply the scale of a subsampled plate and the mask of the handlers around a site, as Pyro does."""
    scaled: Tensor = scale_and_mask(log_prob, site["scale"], site["mask"])
    return scaled


def _same(first: Any, other: Any) -> bool:
    """Whether two scales or masks are one; those of one handler are one object, and nothing is compared."""
    if first is other or first is None or other is None:
        return first is other
    return bool((torch.as_tensor(first) == torch.as_tensor(other)).all())


def _refuse_what_is_left_out(trace: poutine.Trace, role: str) -> None:
    """The objective has terms for the views alone: a site beside them, or a prior of z, would be dropped silently."""
    known = SphericalUniform if role == "model" else DeltaMixture
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or site_is_subsample(site) or site["mask"] is False:
            continue
        if isinstance(site["fn"], ViewGivenLatent) or (site["infer"] or {}).get("_deterministic"):
            continue
        if name != LATENT or not isinstance(site["fn"], known):
            what = f"a prior of {LATENT!r} that is not uniform" if name == LATENT else f"the site {name!r}"
            raise ValueError(
                f"{role} must have no sites but {LATENT!r} and the views, or the objective would leave them out, got "
                f"{what}: mask it (pyro.poutine.mask), or use pyro.infer.TraceEnum_ELBO"
            )


def _latent_site(trace: poutine.Trace, role: str) -> dict[str, Any]:
    if LATENT not in trace.nodes:
        raise ValueError(f"{role} must sample a site named {LATENT!r}, got sites {_sample_sites(trace)}")
    site: Any = trace.nodes[LATENT]
    if site["is_observed"]:
        raise ValueError(
            f"{role} must sample {LATENT!r}, got one that is conditioned on a value of {LATENT!r}: the objective sums "
            "over the guide's atoms"
        )
    return site  # type: ignore[no-any-return]


def _sample_sites(trace: poutine.Trace) -> list[str]:
    """Names of the sample sites, without those that Pyro makes for its plates."""
    return [name for name, site in trace.nodes.items() if site["type"] == "sample" and not site_is_subsample(site)]
