"""That one compiled program makes the views, whatever their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.images.augmentations.batched import BatchedViews
from experiments.images.augmentations.parameters import draw_parameters, parameters_from_draws
from experiments.images.augmentations.recipe import ViewRecipe


@pytest.fixture
def compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


DEFECTS = {"noise_probability": 0.5, "occlusion_probability": 0.5, "downscale_probability": 0.5}


@pytest.mark.parametrize("defects", [{}, DEFECTS], ids=["published", "with defects"])
@pytest.mark.usefixtures("compiler", "both_ways")
def test_one_compiled_program_without_breaks_serves_all_parameters(
    defects: dict[str, float], make_canvas: Callable[..., Any]
) -> None:
    canvas, recipe = make_canvas(), ViewRecipe(size=16, **defects)  # type: ignore[arg-type]
    make = BatchedViews(recipe)

    def draw_and_make(images: Tensor, sizes: Tensor, draws: Tensor) -> Tensor:
        return make(images, sizes, parameters_from_draws(recipe, sizes, draws))

    compiled = torch.compile(draw_and_make, fullgraph=True, backend="aot_eager")
    generator = torch.Generator().manual_seed(0)
    for step in range(4):
        draws = torch.rand(len(canvas.sizes), 46 if defects else 35, generator=generator)
        with torch.compiler.set_stance("default" if step == 0 else "fail_on_recompile"):
            views = compiled(canvas.images.roll(step, 0), canvas.sizes.roll(step, 0), draws)
        expected = draw_and_make(canvas.images.roll(step, 0), canvas.sizes.roll(step, 0), draws)
        torch.testing.assert_close(views, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler", "matrices")
def test_what_inductor_makes_of_it_gives_the_same_views(make_canvas: Callable[..., Any]) -> None:
    canvas, recipe = make_canvas(), ViewRecipe(size=16, **DEFECTS)  # type: ignore[arg-type]
    make = BatchedViews(recipe)
    compiled = torch.compile(make.__call__, fullgraph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            parameters = draw_parameters(recipe, canvas.sizes, generator)
            expected = make(canvas.images, canvas.sizes, parameters)
            views = compiled(canvas.images, canvas.sizes, parameters)
            torch.testing.assert_close(views, expected, atol=4e-5, rtol=0)
