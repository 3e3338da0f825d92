"""That seeds depend on the whole key, and on nothing else."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from experiments.images.randomness import Stream, derived_generator, derived_seed


def test_the_seed_of_a_key_is_always_the_same() -> None:
    # Fixed numbers: a checkpoint of today has to find the same order and views tomorrow.
    assert derived_seed(0, Stream.ORDER, 3) == 467699349253774394
    assert derived_seed(2**64 - 1) == 8747108213191874899


def test_no_two_keys_share_a_seed_when_one_extends_another_or_splits_its_numbers() -> None:
    keys = [(1,), (1, 0), (1, 0, 0), (0, 1), (1 << 32,), (0, 1, 0), (1 << 32, 0), (2**64 - 1,), (2**32 - 1, 2**32 - 1)]
    keys += list(product(range(6), repeat=4))
    seeds = {derived_seed(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 1 << 63 for seed in seeds)


def test_neighbouring_keys_give_seeds_that_are_uniform_and_uncorrelated() -> None:
    seeds = np.array([derived_seed(7, Stream.VIEWS, step, 0, 0) for step in range(4000)])
    lower = (seeds & 0xFFFFFFFF) / 2**32  # all that PyTorch's generator on the CPU looks at
    assert stats.kstest(lower, "uniform").pvalue > 1e-3
    assert stats.kstest(seeds / 2**63, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(lower[1:], lower[:-1])[0, 1]) < 4 / np.sqrt(len(seeds))
    drawn = torch.cat([torch.rand(1, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds])
    assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-3


def test_drawing_leaves_the_global_generators_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    torch.rand(5, generator=derived_generator(1, 2, 3))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("key", [(), (-1,), (0, 1 << 64)], ids=str)
def test_a_key_that_is_empty_or_out_of_range_is_refused(key: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="key must hold"):
        derived_seed(*key)
