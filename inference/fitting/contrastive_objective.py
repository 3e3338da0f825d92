"""InfoNCE, the loss of SimCLR and MoCo, as inference under a prior that the batch estimates."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from inference.fitting.kl_objective import KLObjective


class ContrastiveObjective(KLObjective):
    r"""`KLObjective` with the average of the batch's experts in the place of the uniform prior.

    Bayes' rule, $p(x\mid z) \propto p_\psi(z\mid x)/p(z)$, holds for the prior that the experts average to,
    $p(z) = \mathrm{E}_x\,p_\psi(z\mid x)$. The paper takes it to be uniform, and then nothing keeps the experts from
    collapsing. Here it is estimated by the batch, $\bar p_i(z) = \frac1N\sum_n p_\psi(z\mid x_{i,n})$, and the loss is

    $$-\sum_i \frac1{M-1}\sum_{j\ne i}\sum_n \log\frac{p_\psi(f_{j,n}\mid x_{i,n})}{\bar p_i(f_{j,n})},$$

    the reconstruction term $-\mathrm{E}_q\log p(x\mid z)$ of Eq. (4) up to the evidence of each image. The other term
    of Eq. (4), the divergence of the guide from the prior, is left out. With it the negatives would cancel (C35).

    For von Mises–Fisher experts of constant κ the normalisers cancel, and each term is InfoNCE (arXiv:1807.03748,
    Eq. (4)) at temperature 1/κ with the other images of the batch as negatives, less log N. A collapsed pair has loss
    0. A pair that distinguishes all images has a loss near −N log N for each view, where κ is well above log N. So no
    stop-gradient is needed. Use it with a `FullGradientGuide` and without a predictor (SimCLR), or with the guide of
    BYOL (MoCo without its queue).

    It compares each atom with each image of the batch: memory grows as N² d. There is no log Z to add. The batch is
    one plate of images. A masked image would stay among the negatives of the others: leave it out of the views.

    Raises:
        ValueError: If `normalized` is True, if images are masked or in several plates, and as `KLObjective`.

    Example:
        >>> import torch
        >>> from models.networks import VonMisesFisherHead
        >>> from ssl_as_inference.graphical_model import FullGradientGuide, MultiViewModel
        >>> encoder = torch.nn.Linear(4, 3)
        >>> model = MultiViewModel(encoder, VonMisesFisherHead(torch.nn.Identity(), concentration=5.0))
        >>> loss = ContrastiveObjective()(model, FullGradientGuide(encoder))
        >>> (loss([torch.randn(8, 4), torch.randn(8, 4)]) / 8).backward()
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.normalized:
            raise ValueError("normalized must be False: log Z belongs to the uniform prior, not to the batch's")

    def _mean_over_atoms(self, view: int, site: dict[str, Any]) -> Tensor:
        if isinstance(site["mask"], Tensor):
            raise ValueError(  # noqa: TRY004  # the mask is at fault, not a type
                f"model must not mask single images of view {view + 1}, which would stay among the negatives of the "
                "others: leave them out of the views"
            )
        return super()._mean_over_atoms(view, site)

    def log_likelihood(self, expert: Any, atoms: Tensor) -> Tensor:
        r"""$\log p_\psi(z\mid x_n) - \log\bar p(z)$ for each image n of the batch.

        Args:
            expert: Of one view; batch shape `(images,)`.
            atoms: Shape `(…, images, dim)`.
        """
        if len(expert.batch_shape) != 1:
            raise ValueError(f"model must have one plate, of images, got experts of shape {tuple(expert.batch_shape)}")
        by_expert: Tensor = expert.log_prob(atoms.unsqueeze(-2))  # (…, atom's image, expert's image)
        log_average = by_expert.logsumexp(-1) - math.log(by_expert.size(-1))
        return by_expert.diagonal(dim1=-2, dim2=-1) - log_average
