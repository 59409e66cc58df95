"""Runners that are built and called with LAVIS's arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lavis_clone.common.registry import registry
from lavis_clone.job import Parts, build_runner
from lavis_clone.runners import base

Scores = dict[str, dict[str, float]]


class LavisRunner:
    """A runner of ours with LAVIS's methods; what else it has is ours.

    Args:
        own: The runner that does the work.
    """

    def __init__(self, own: base.RunnerBase) -> None:
        self.own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def train(self) -> Scores:
        """Train and test; with ``run.evaluate``, evaluate all splits.

        Returns:
            The scores of each split.
        """
        run = self.own.run
        if not run.evaluate:
            return self.own.train()
        return self.own.evaluate([*run.valid_splits, *run.test_splits])

    def evaluate(self, cur_epoch: int | str = "best", skip_reload: bool = False) -> Scores:
        """Evaluate the test splits.

        Args:
            cur_epoch: For the names of the result files; ``"best"`` loads the best weights of this
                run first, if there are any,
            skip_reload: but not with this.
        """
        epoch = "last" if skip_reload and cur_epoch == "best" else cur_epoch
        return self.own.evaluate(self.own.run.test_splits, epoch=epoch)


def with_lavis_arguments(runner_class: type[base.RunnerBase]) -> Callable[..., LavisRunner]:
    """A runner of ours, to be called with ``cfg``, ``task``, ``model``, ``datasets``, ``job_id``.

    The job's directory is named after the second, whatever ``job_id`` says: it must be a new one.
    """

    def build(cfg: Any, task: Any, model: Any, datasets: Any, job_id: str = "") -> LavisRunner:  # noqa: ARG001  # LAVIS's
        if registry.get_runner_class(cfg.own.run.runner) is not runner_class:
            raise ValueError(
                f"run.runner is {cfg.own.run.runner!r}, which is not {runner_class.__name__}"
            )
        return LavisRunner(build_runner(cfg.own, Parts(task, model, datasets)))

    return build


def RunnerBase(*arguments: Any, **options: Any) -> LavisRunner:  # noqa: N802  # LAVIS's name
    """The runner by epochs."""
    return with_lavis_arguments(registry.get_runner_class("runner_base"))(*arguments, **options)


def RunnerIter(*arguments: Any, **options: Any) -> LavisRunner:  # noqa: N802  # LAVIS's name
    """The runner by steps."""
    return with_lavis_arguments(registry.get_runner_class("runner_iter"))(*arguments, **options)
