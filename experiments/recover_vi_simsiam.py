"""VI-SimSiam through its model/guide pair against Algorithm 1 of its paper: the same training, number for number.

Power Spherical experts whose κ is predicted, under the KL objective, and Algorithm 1 of arXiv:2203.11437v1 in plain
PyTorch start from the same weights and see the same views of the same digits. Algorithm 1 is taken with the
normalisation and the positive map for κ that it leaves out; the loss is counted in nats per dimension of the sphere.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.special_cases.methods import vi_simsiam
from experiments.special_cases.report import parse, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parse("recover_vi_simsiam", __doc__, arguments)
    affine_map = "Algorithm 1 = objective, an image; both divided by d - 1"
    return run("recover_vi_simsiam", "VI-SimSiam", affine_map, vi_simsiam, options)


if __name__ == "__main__":
    raise SystemExit(main())
