"""What every processor is: a callable that is built from a config block."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

from lavis_clone.common.reading import ConfigError, read
from lavis_clone.common.registry import registry

P = TypeVar("P", bound="BaseProcessor")


@registry.register_processor("base_processor")
class BaseProcessor:
    """Returns what it is given. Base of all processors.

    A subclass is a dataclass whose fields are its config and overrides ``transform``. A class in
    LAVIS's style, with its own ``__init__`` and ``from_config``, works too.
    """

    def __call__(self, item: Any) -> Any:
        return self.transform(item)

    def transform(self, item: Any) -> Any:
        """The work itself, on an item whose type has been settled."""
        return item

    @classmethod
    def from_config(cls: type[P], cfg: Mapping[str, Any] | None = None) -> P:
        """Build from a config block; its ``name``, which chose this class, is left out.

        Raises:
            ConfigError: with a line for each key or value that does not fit.
        """
        block = dict(cfg or {})
        where = str(block.pop("name", None) or cls.__name__)
        if "__dataclass_fields__" in vars(cls):
            return read(cls, block, where=where)
        try:
            inspect.signature(cls).bind(**block)
        except TypeError as error:
            raise ConfigError(f"{where}: {error}") from error
        return cls(**block)

    @classmethod
    def build(cls: type[P], **kwargs: Any) -> P:
        """``from_config`` with the block given as keywords."""
        return cls.from_config(kwargs)
