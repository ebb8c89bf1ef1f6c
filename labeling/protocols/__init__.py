"""How people are asked, and what their answers amount to: one module per protocol, in one table.

A protocol is a module with the functions of ``verify``: ``shown_order``, ``present``, ``actions``, ``clean_value``,
``clean_classes``, ``matches`` and ``decide``.
"""

from types import ModuleType

from labeling.protocols import verify

PROTOCOLS: dict[str, ModuleType] = {"verify": verify}
