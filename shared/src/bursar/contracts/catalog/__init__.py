"""Everything that is said on the wire, as data: see `bursar.contracts.catalog.base`.

One module per service, and others for parts of one, which have no ``CATALOG``. They are found by their place, so that a
catalogue is loaded only when somebody asks for it (an agent never does).
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

from bursar.contracts.catalog.base import Event, Kind, Operation, ServiceCatalog, Telling, Word

__all__ = ["Event", "Kind", "Operation", "ServiceCatalog", "Telling", "Word", "catalogues"]

_NOT_SERVICES = frozenset({"base", "common"})


def catalogues() -> tuple[ServiceCatalog, ...]:
    """The catalogue of every service, by name."""
    modules = [found.name for found in pkgutil.iter_modules([str(Path(__file__).parent)])]
    loaded = [import_module(f"{__name__}.{name}") for name in modules if name not in _NOT_SERVICES]
    found = [module.CATALOG for module in loaded if hasattr(module, "CATALOG")]
    return tuple(sorted(found, key=lambda catalog: catalog.name))
