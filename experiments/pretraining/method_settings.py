"""The sections of a configuration about what is trained, and by which recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from experiments.pretraining.requirement import require


@dataclass(frozen=True)
class BackboneConfig:
    """The network that is pretrained, always from random weights.

    Attributes:
        name: Any torchvision or timm model, such as resnet18 or vit_tiny_patch16_224, without its classifier
            (torchvision's where both have it; timm/resnet18 asks for timm's); small_convolutional and
            strided_convolutional are networks of four and five convolutions, for images of about 16 and 32 pixels.
        small_image_stem: Give a ResNet a first convolution of 3 by 3 without stride and no max-pooling, which images of
            about 32 pixels need; when not given, where views.size is at most 64.
    """

    name: str = "resnet18"
    small_image_stem: bool | None = None


@dataclass(frozen=True)
class MethodConfig:
    """Model and guide.

    Attributes:
        name: simsiam, byol or vi_simsiam.
        dim: Dimension of the latent space (BYOL's own is 256).
        hidden: Width of the predictor's hidden layer, and of BYOL's projector; when not given, a quarter of dim, and
            for BYOL 4096.
        concentration: The constant concentration κ of SimSiam, of BYOL, and of VI-SimSiam with concentration_map
            constant.
        concentration_map: How VI-SimSiam's κ is made positive. relative predicts κ/(dim − 1), bounded; softplus, of
            the raw output and without a scale, is the literal reading of the paper, which names none. constant
            predicts no κ: Power Spherical experts of the constant method.concentration, a control; with nats per
            dimension a κ of the order of dim − 1 belongs to it.
        concentration_gradient: Where the gradient of VI-SimSiam's κ goes. through the whole network, as in the paper,
            or to the head alone, which is κ's own row of the predictor's last layer: what comes before then learns
            from the mean direction only, with κ as a weight.
        momentum: BYOL's momentum of the moving average.
    """

    name: Literal["simsiam", "byol", "vi_simsiam"] = "vi_simsiam"
    dim: int = 2048
    hidden: int | None = None
    concentration: float = 1.0
    concentration_map: Literal["relative", "softplus", "constant"] = "relative"
    concentration_gradient: Literal["through", "head"] = "through"
    momentum: float = 0.996

    def __post_init__(self) -> None:
        require("method.dim", self.dim, self.dim >= 2, ">= 2")
        require("method.hidden", self.hidden, self.hidden is None or self.hidden >= 1, ">= 1")
        require("method.concentration", self.concentration, 0 < self.concentration < math.inf, "positive and finite")
        require("method.momentum", self.momentum, 0 <= self.momentum <= 1, "in [0, 1]")
        require(
            "method.concentration_gradient",
            self.concentration_gradient,
            self.concentration_gradient == "through" or self.predicts_concentration,
            f"through for {self.name} with a constant κ",
        )

    @property
    def predicts_concentration(self) -> bool:
        """Whether κ depends on the image."""
        return self.name == "vi_simsiam" and self.concentration_map != "constant"


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised, a mean over images.

    Attributes:
        pairs: cross compares each view's expert with the guide over the other views (Algorithm 1); all includes the
            view's own (Eqs. 9 and 12).
        normalized: Whether the product of experts is normalised.
        nats_per: Unit of the loss: nats for an image, as printed, or for a dimension of the sphere (dim − 1 of them):
            κ, and with it the gradient, grows with dim, and with nats per dimension one learning rate serves every dim.
            image leaves the loss undivided, which the weight pull asks for.
        over_views: sum over the views, as in Algorithm 1, or their mean; with SimSiam, κ = 1 and two views the mean is
            SimSiam's published loss up to a constant. With M views the sum is M times the mean, and so is its gradient.
        weight: What each term, a view's expert at another view's representation, is multiplied by, behind a
            stop-gradient. one is the likelihood. pull is 1/κ for SimSiam and BYOL and (1 + cosine)/κ for VI-SimSiam:
            the mean direction then learns as in SimSiam, and κ from weighted likelihoods; the loss is in the unit of
            SimSiam's, not in nats, and nats_per must be image. concentration is (κ/(dim − 1))^−beta.
        beta: Exponent β of the weight concentration, from 0 (the likelihood) to 1 (κ no longer decides how hard a view
            pulls on the mean direction), as in β-NLL (arXiv:2203.09168).
    """

    pairs: Literal["cross", "all"] = "cross"
    normalized: bool = False
    nats_per: Literal["image", "dimension"] = "dimension"
    over_views: Literal["sum", "mean"] = "sum"
    weight: Literal["one", "pull", "concentration"] = "one"
    beta: float = 0.5

    def __post_init__(self) -> None:
        require("objective.beta", self.beta, 0 <= self.beta <= 1, "in [0, 1]")
        require(
            "objective.nats_per",
            self.nats_per,
            not (self.weight == "pull" and self.nats_per == "dimension"),
            "image with objective.weight pull, under which the loss is in no nats and does not grow with dim",
        )
        require(
            "objective.weight",
            self.weight,
            self.weight == "one" or not self.normalized,
            "one with objective.normalized, whose normaliser belongs to all terms of an image together",
        )


@dataclass(frozen=True)
class TrainingConfig:
    """The recipe of Section 6.2: momentum SGD with a cosine schedule.

    Attributes:
        epochs: Passes over the images.
        batch_size: Images of a step, of all devices together: each takes an equal part.
        learning_rate: At the start of the cosine schedule, which ends at zero. It belongs to batch_size and is used as
            it stands: it is not rescaled with the batch or the number of devices.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD, on every parameter.
        warmup_epochs: Epochs over which the rate first rises linearly.
        gradient_clip: Largest norm of the gradient; no clipping when not given. The gradient of a Power Spherical
            expert is unbounded (κ/(1 + cosine)).
        concentration_rate: Factor on the learning rate of κ's own row of VI-SimSiam's last layer, the same as if the
            row were in a parameter group of its own.
        concentration_decay: Weight decay of that row; weight_decay when not given.
    """

    epochs: int = 200
    batch_size: int = 64
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 0.0
    gradient_clip: float | None = 1.0
    concentration_rate: float = 1.0
    concentration_decay: float | None = None

    def __post_init__(self) -> None:
        require("training.epochs", self.epochs, self.epochs >= 1, ">= 1")
        require("training.batch_size", self.batch_size, self.batch_size >= 2, ">= 2 (batch normalisation needs it)")
        for name in ("learning_rate", "gradient_clip", "concentration_rate"):
            value = getattr(self, name)
            require(f"training.{name}", value, value is None or 0 < value < math.inf, "positive and finite")
        require("training.momentum", self.momentum, 0 <= self.momentum < 1, "in [0, 1)")
        for name in ("weight_decay", "concentration_decay"):
            value = getattr(self, name)
            require(f"training.{name}", value, value is None or 0 <= value < math.inf, "finite and >= 0")
        require("training.warmup_epochs", self.warmup_epochs, 0 <= self.warmup_epochs < self.epochs, "in [0, epochs)")
