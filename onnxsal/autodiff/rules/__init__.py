"""Vjp rules, one file per operator family. Importing this package fills the standard rule book."""

from importlib import import_module
from pkgutil import iter_modules

for _family in iter_modules(__path__):
    import_module(f"{__name__}.{_family.name}")
