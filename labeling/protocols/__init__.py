"""How people are asked, and what their answers amount to: one folder per protocol, found by its name.

A folder is a package that holds a ``PROTOCOL`` (see ``base.Protocol``), and ``page/`` with what the annotator's page
shows of it. To add one, add a folder.
"""

from importlib import import_module
from pkgutil import iter_modules

from labeling.protocols.base import Protocol


def _found() -> dict[str, Protocol]:
    packages = sorted(module.name for module in iter_modules(__path__) if module.ispkg)
    return {name: import_module(f"{__name__}.{name}").PROTOCOL for name in packages}


PROTOCOLS: dict[str, Protocol] = _found()


def protocol_choices() -> list[tuple[str, str]]:
    """(name, title) of every protocol; those that ask about classes first."""
    ordered = sorted(PROTOCOLS.values(), key=lambda protocol: (not protocol.needs_taxonomy, protocol.n_pictures))
    return [(protocol.name, protocol.title) for protocol in ordered]
