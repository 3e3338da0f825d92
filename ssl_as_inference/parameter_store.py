"""The entries of models and guides in Pyro's global parameter store: none, unless `pyro.infer.SVI` uses them."""

from __future__ import annotations

import itertools

import pyro
import torch
from pyro.params.param_store import ParamStoreDict
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

_NAMES: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""The names of the parameters that entered the store from here, and not from a file that was loaded into it."""


def announce_parameters(network: nn.Module, role: str) -> None:
    """Make a `pyro.param` site of each trainable parameter, unless Pyro's setting `module_local_params` is on.

    `pyro.infer.SVI` optimises the parameters whose sites it sees, and Pyro keeps every parameter with a site in its
    global store. There the parameters of the first network of a role are named `encoder.…`, those of the second one
    `encoder_2.…`, and so on in the order of their first use: no two networks share an entry. A network takes over what
    `pyro.get_param_store().load(file)` has put under its names. A torch loop needs no sites: `KLObjective` runs it with
    `module_local_params` on, and the store stays as it is.

    The store holds trainable parameters only. Buffers, such as the statistics of batch normalisation, and frozen
    parameters are in `network.state_dict()`. Save that.

    Args:
        network: Whose parameters.
        role: First part of the names, such as `encoder`.

    Raises:
        ValueError: If an entry that was loaded into the store has another shape than the parameter of its name.

    Example:
        >>> pyro.clear_param_store()
        >>> for network in nn.Linear(2, 1, bias=False), nn.Linear(3, 1, bias=False):
        ...     announce_parameters(network, "encoder")
        >>> [(name, tuple(value.shape)) for name, value in pyro.get_param_store().items()]
        [('encoder.weight', (1, 2)), ('encoder_2.weight', (1, 3))]
        >>> pyro.clear_param_store()
    """
    if pyro.settings.get("module_local_params"):
        return
    store = pyro.get_param_store()
    trainable = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    sites = {parameter: _NAMES.get(parameter) for parameter in trainable.values()}
    if any(site is None or _is_anothers(store, site, parameter) for parameter, site in sites.items()):
        sites = _new_names(store, trainable, role)
    for parameter, site in sites.items():
        _take_over(store, site, parameter)
        _NAMES[parameter] = site
        pyro.param(site, parameter)


def _new_names(store: ParamStoreDict, parameters: dict[str, nn.Parameter], role: str) -> dict[nn.Parameter, str]:
    """Names with the first number under which the store holds nothing of another network."""
    for number in itertools.count(1):
        prefix = role if number == 1 else f"{role}_{number}"
        sites = {parameter: f"{prefix}.{name}" for name, parameter in parameters.items()}
        if not any(_is_anothers(store, site, parameter) for parameter, site in sites.items()):
            break
    return sites


def _is_anothers(store: ParamStoreDict, site: str, parameter: nn.Parameter) -> bool:
    entry = _entry(store, site)
    return entry is not None and entry is not parameter and entry in _NAMES


def _take_over(store: ParamStoreDict, site: str, parameter: nn.Parameter) -> None:
    """Give the parameter the value that the store holds for it, and its place there."""
    entry = _entry(store, site)
    if entry is None or entry is parameter:
        return
    if entry.shape != parameter.shape:
        raise ValueError(
            f"Pyro's parameter store holds {site} with shape {tuple(entry.shape)}, expected {tuple(parameter.shape)}, "
            "that of the network: load the store of the same network, or call pyro.clear_param_store()"
        )
    with torch.no_grad():
        parameter.copy_(entry)
    del store[site]


def _entry(store: ParamStoreDict, site: str) -> torch.Tensor | None:
    return store[site].unconstrained() if site in store else None  # type: ignore[attr-defined]  # Pyro's own attribute
