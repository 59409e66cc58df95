"""LAVIS's ``Config``: a run's YAML file, as its scripts read it."""

from __future__ import annotations

import logging
from typing import Any

import yaml
from omegaconf import DictConfig

from lavis_clone.common import config
from lavis_clone.migration.adapting import run_block

logger = logging.getLogger(__name__)


class Config:
    """A run's YAML file, merged and checked as ``load_config`` does it.

    Args:
        args: With ``cfg_path``, and ``options``: ``key=value`` pairs or None.

    Raises:
        ConfigError: with a line for each problem.
    """

    def __init__(self, args: Any) -> None:
        self.args = args
        self.own = config.load_config(args.cfg_path, getattr(args, "options", None) or [])
        self.run_cfg = run_block(self.own.run)
        self.model_cfg = DictConfig(self.own.model)
        self.datasets_cfg = DictConfig(self.own.datasets)
        self.config = DictConfig(
            {"run": self.run_cfg, "model": self.model_cfg, "datasets": self.datasets_cfg},
            flags={"allow_objects": True},
        )

    def get_config(self) -> DictConfig:
        """The three blocks in one."""
        return self.config

    def to_dict(self) -> dict[str, Any]:
        """What the run's file says, with all defaults of the model and the data sets."""
        return dict(self.own.merged)

    def pretty_print(self) -> None:
        """Log it."""
        logger.info("\n%s", yaml.safe_dump(self.own.merged, sort_keys=False))
