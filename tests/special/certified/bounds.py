"""The constants c of the certified bounds: what the tests hold the code to and the page of results quotes.

`search.py` says what a bound is. A constant is some quarter more than the largest ratio that a search has found,
rounded up; a test sees to it that a quarter of it would be violated.
"""

from __future__ import annotations

import torch

from tests.special.certified.families import PRIMES, Target
from tests.special.certified.search import DIMENSION, ONE, RELATIVE, Key

# What float64 gives is rounded to float32 once, whatever the scale; the chord of two directions is taken in float32.
SINGLE, SINGLE_CHORD = 0.501, 4.0
_Bounds = dict[str, float]


def _jet(quantity: str, *bounds: _Bounds) -> dict[Target, _Bounds]:
    return {Target(quantity, prime): bound for prime, bound in zip(PRIMES, bounds, strict=True)}


_A, _A1, _A2 = {ONE: 8.0, RELATIVE: 8.0}, {ONE: 1.5, RELATIVE: 12.0}, {ONE: 1.0, RELATIVE: 300.0}
_COMPLEMENT, _KL1, _KL2 = {ONE: 2.0, RELATIVE: 18.0}, {ONE: 3.0, RELATIVE: 18.0}, {ONE: 5.0}
_HEIGHT, _HEIGHT1 = {ONE: 5.0}, {RELATIVE: 5.0}
_DIVERGENCE1, _DIVERGENCE2 = {RELATIVE: 5.0}, {RELATIVE: 15.0}

DOUBLE: dict[str, dict[Target, _Bounds]] = {
    "vMF": {
        **_jet("log C", {ONE: 12.0}, _A, _A1),
        **_jet("log C + κ", {ONE: 25.0}, _COMPLEMENT, _A1),
        **_jet("A", _A, _A1, _A2),
        **_jet("1 − A", _COMPLEMENT, _A1, _A2),
        **_jet("A/κ", {RELATIVE: 8.0}, {ONE: 0.8}, {ONE: 0.8}),
        **_jet("A′", _A1, _A2, {ONE: 1.6}),
        **_jet("entropy", {ONE: 20.0}, _KL1, _KL2),
        **_jet("KL to uniform", {RELATIVE: 20.0}, _KL1, _KL2),
    },
    "PS": {
        **_jet("log C", {ONE: 22.0}, _HEIGHT, _HEIGHT1),
        **_jet("log C + κ log 2", {ONE: 22.0}, {RELATIVE: 4.0}, _HEIGHT1),
        **_jet("E log(1 + t)", _HEIGHT, _HEIGHT1, {RELATIVE: 6.0}),
        **_jet("E t", {RELATIVE: 1.4}, {RELATIVE: 3.0}, {RELATIVE: 4.0}),
        **_jet("entropy", {ONE: 30.0}, _DIVERGENCE1, _DIVERGENCE2),
        **_jet("KL to uniform", {RELATIVE: 12.0}, _DIVERGENCE1, _DIVERGENCE2),
    },
    "vMF to vMF": {
        Target("KL(vMF‖vMF)"): {ONE: 20.0, RELATIVE: 70.0},
        Target("KL(vMF‖vMF)", "∂₁"): {ONE: 9.0, RELATIVE: 18.0},
        Target("KL(vMF‖vMF)", "∂₁²"): {ONE: 300.0},
        Target("KL(vMF‖vMF)", "∂₂"): {ONE: 7.0},
        Target("KL(vMF‖vMF)", "∂₂²"): {ONE: 1.6, RELATIVE: 60.0},
        Target("CE(vMF, vMF)"): {ONE: 25.0},
    },
    "PS to vMF": {
        Target("KL(PS‖vMF)"): {DIMENSION: 30.0},
        Target("KL(PS‖vMF)", "∂₁"): {ONE: 4.0},
        Target("KL(PS‖vMF)", "∂₁²"): {ONE: 5.0, RELATIVE: 16.0},
        Target("KL(PS‖vMF)", "∂₂"): {ONE: 4.0},
        Target("KL(PS‖vMF)", "∂₂²"): {ONE: 1.6, RELATIVE: 8.0},
        Target("CE(PS, vMF)"): {ONE: 22.0},
    },
    "PS to PS": {
        Target("KL(PS‖PS)"): {RELATIVE: 64.0},
        Target("KL(PS‖PS)", "∂₂"): {ONE: 5.0},
        Target("KL(PS‖PS)", "∂₂²"): {RELATIVE: 5.0},
        Target("CE(PS, PS)"): {ONE: 25.0},
    },
    "vMF to PS": {
        Target("KL(vMF‖PS)"): {DIMENSION: 12.0},
        Target("KL(vMF‖PS)", "∂₂"): {ONE: 7.0},
        Target("KL(vMF‖PS)", "∂₂²"): {RELATIVE: 6.0},
        Target("CE(vMF, PS)"): {ONE: 25.0},
    },
    "vMF, turned": {Target("E log h"): {ONE: 5.0, RELATIVE: 6.0}},
    "PS, turned": {
        Target("E log h"): {ONE: 5.0, RELATIVE: 6.0},
        Target("E log h at c = 1, less E log h"): {ONE: 5.0, RELATIVE: 8.0},
    },
    "product of two PS": {Target("log Z"): {DIMENSION: 100.0}},
}


def floors(family: str, target: Target) -> tuple[str, ...]:
    """Floors of the bounds that are certified for a target."""
    return tuple(DOUBLE[family][target])


def constant(family: str, key: Key, dtype: torch.dtype) -> float:
    """The constant c of a bound."""
    target, floor = key
    if dtype == torch.float64:
        return DOUBLE[family][target][floor]
    return SINGLE_CHORD if " to " in family else SINGLE
