"""Runners: the loops that train and evaluate."""

from __future__ import annotations

from lavis_clone.common.registry import registry

registry.runners.declare(
    {
        "runner_base": "lavis_clone.runners.base",
        "runner_iter": "lavis_clone.runners.iteration",
    }
)
