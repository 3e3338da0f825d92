"""Pyro's settings while torch's optimisers train a pair."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pyro

_FOR_TRAINING: dict[str, Any] = {
    "validate_distributions_pyro": False,
    "validate_distributions_torch": False,
    "validate_infer": False,
    "validate_poutine": False,
}


def settings_for_training() -> AbstractContextManager[None]:
    """Pyro's checks are off.

    The checks wait for the device at every site, and they would check the outputs of our own networks. If the settings
    are as wanted already, nothing is changed. So enter this context around a whole training: its steps then change
    nothing. Changing the checks of distributions in each step would be slow, because it invalidates Python's caches of
    about a hundred classes.

    Example:
        >>> with settings_for_training():
        ...     pyro.settings.get("validate_infer"), pyro.settings.get("validate_distributions_torch")
        (False, False)
    """
    changed = {name: value for name, value in _FOR_TRAINING.items() if pyro.settings.get(name) is not value}
    return pyro.settings.context(**changed) if changed else nullcontext()
