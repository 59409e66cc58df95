"""Trains by epochs, validates, keeps the best, tests: the loop, and nothing that it loops over."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from lavis_clone.common.context import RunContext
from lavis_clone.common.files import write_atomic
from lavis_clone.common.optim import build_optimizer, freeze, set_lr
from lavis_clone.common.precision import autocast, grad_scaler
from lavis_clone.common.progress import Progress
from lavis_clone.common.reading import ConfigError
from lavis_clone.common.registry import registry
from lavis_clone.common.schema import RunConfig
from lavis_clone.runners.checkpoints import BEST, load_model_state, save_checkpoint
from lavis_clone.runners.losses import EpochLosses, TrainingFailed
from lavis_clone.tasks.base import AGGREGATE, BaseTask

__all__ = ["RunnerBase", "TrainingFailed", "to_device"]

logger = logging.getLogger(__name__)

Loader = Any
"""Sized iterable of batches with ``dataset`` and ``set_epoch``."""
Scores = dict[str, dict[str, float]]
"""By split and name."""

TRAIN = "train"
"""The one split that data sets make for training."""
DECIDING = "val"
"""The split whose score decides what is best; without it the first of ``run.valid_splits``."""


def to_device(value: Any, device: torch.device) -> Any:
    """Move every tensor inside dicts, lists and tuples; the rest stays as it is."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(item, device) for item in value)
    return value


@registry.register_runner("runner_base")
class RunnerBase:
    """Runs a task on a model by epochs.

    Writes into ``context.output_dir``: ``log.txt`` (the config, then a JSON line per trained epoch
    and validated split), ``evaluate.txt`` (a JSON line per tested split),
    ``result/<split>_epoch<n>.json`` (the rows), ``checkpoint_best.pth`` and
    ``checkpoint_<epoch>.pth``.

    Args:
        run: The ``run:`` block.
        task: Does one step and judges.
        model: Moved to the context's device.
        loaders: Batches by split.
        context: Facts about this process.
        config: The whole merged config, kept in checkpoints and in the log.

    Raises:
        ConfigError: the run asks for what this runner does not do.
        TypeError: the model lacks what the task asks of it.
        ValueError: a split has no loader.
    """

    def __init__(
        self,
        run: RunConfig,
        *,
        task: BaseTask,
        model: nn.Module,
        loaders: Mapping[str, Loader],
        context: RunContext,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if context.world_size > 1:
            raise TrainingFailed("this runner works in one process; start it without torchrun")
        self.check(run)
        for split in self.splits(run):
            if split not in loaders:
                raise ValueError(f"no data set has a split {split!r} (there are {[*loaders]})")
        task.check(model, run)
        self.run, self.task, self.loaders, self.context = run, task, loaders, context
        self.model = model.to(context.device)
        self.config = dict(config or {})
        self.frozen: list[nn.Module] = []
        self.best_metric: float | None = None
        self.best_epoch: int | None = None

    @classmethod
    def check(cls, run: RunConfig) -> None:
        """Stop before any work if ``run`` asks for what this runner does not do.

        Raises:
            ConfigError: with a line for each problem.
        """
        evaluated = [*run.valid_splits, *run.test_splits]
        told = [
            ("resume_ckpt_path: resuming is not possible yet", run.resume_ckpt_path is not None),
            (
                "train_dataset_ratios: belongs to runner_iter; runner_base goes through all data "
                "sets once in an epoch",
                run.train_dataset_ratios is not None,
            ),
            (
                "max_iters, iters_per_inner_epoch: belong to runner_iter; runner_base counts "
                "epochs, run.max_epoch",
                run.max_iters is not None or run.iters_per_inner_epoch is not None,
            ),
            (
                f"train_splits: must be [{TRAIN}], the only split that data sets make for "
                f"training, got {run.train_splits}",
                run.train_splits not in ([], [TRAIN]),
            ),
            (
                "train_splits: names no split to train on; run.evaluate=True trains nothing",
                not run.train_splits and not run.evaluate,
            ),
            (
                f"valid_splits, test_splits: cannot hold {TRAIN!r}, which is made for training",
                TRAIN in evaluated,
            ),
            (
                "test_splits: names no split to evaluate, and neither does valid_splits",
                run.evaluate and not evaluated,
            ),
        ]
        if problems := [f"run.{line}" for line, holds in told if holds]:
            raise ConfigError.of(problems)

    @staticmethod
    def splits(run: RunConfig) -> list[str]:
        """The splits that ``run`` works on, each once."""
        trained = [] if run.evaluate else run.train_splits
        return list(dict.fromkeys([*trained, *run.valid_splits, *run.test_splits]))

    # --- training ---------------------------------------------------------------------------

    def train(self) -> Scores:
        """Train all epochs, then evaluate the best weights on the test splits.

        Without validation the weights of the last epoch are evaluated.

        Returns:
            The scores of each test split.

        Raises:
            TrainingFailed: The loss became infinite or not a number.
        """
        self._begin_log()
        self.frozen = freeze(self.model, self.run.freeze)
        optimizer = build_optimizer(self.model, self.run)
        scaler = grad_scaler(self.context.device, self.run.precision)
        last = self.run.num_epochs - 1
        for epoch in range(self.run.num_epochs):
            losses = self._train_epoch(epoch, optimizer, scaler)
            self._log("log.txt", {"epoch": epoch, **{f"train_{k}": v for k, v in losses.items()}})
            logger.info("epoch %d: %s", epoch, {k: float(f"{v:.4g}") for k, v in losses.items()})
            if self.run.valid_splits:
                if (epoch + 1) % self.run.val_freq == 0 or epoch == last:
                    self._validate(epoch, optimizer, scaler)
                is_kept = False
            else:
                is_kept = (epoch + 1) % self.run.save_freq == 0
            if is_kept or (epoch == last and self.run.save_last):
                self._save(f"checkpoint_{epoch}.pth", epoch, optimizer, scaler)
        return self.evaluate(
            self.run.test_splits, epoch=last if self.best_epoch is None else "best"
        )

    def _train_epoch(
        self, epoch: int, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> dict[str, float]:
        """One pass over the training split; returns the last lr, and the mean of each loss."""
        loader = self.loaders[TRAIN]
        loader.set_epoch(epoch)
        self.model.train()
        for module in self.frozen:
            module.eval()
        schedule = registry.get_lr_scheduler_class(self.run.lr_sched or "")
        steps = -(-len(loader) // self.run.accum_grad_iters)
        losses = EpochLosses(epoch)
        learning_rate = 0.0
        with self.bar(loader, f"epoch {epoch}") as bar:
            for step, group in enumerate(_groups(bar, self.run.accum_grad_iters)):
                progress = Progress(
                    step=epoch * steps + step,
                    steps_per_epoch=steps,
                    total_steps=steps * self.run.num_epochs,
                )
                learning_rate = schedule(progress, self.run)
                set_lr(optimizer, learning_rate)
                self._step(group, progress, optimizer, scaler, losses)
                if losses.num_new >= self.run.log_freq:
                    self._report(bar, losses, learning_rate)
        if losses.num_new:
            losses.look()
        return {"lr": learning_rate} | losses.means()

    def _step(
        self,
        group: Sequence[Mapping[str, Any]],
        progress: Progress,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        losses: EpochLosses,
    ) -> None:
        """One optimizer step on the mean loss of a group of batches."""
        for samples in group:
            with autocast(self.context.device, self.run.precision):
                output = self.task.train_step(
                    self.model, to_device(samples, self.context.device), progress
                )
            scaler.scale(output["loss"] / len(group)).backward()
            losses.add(output)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def _report(self, bar: Any, losses: EpochLosses, learning_rate: float) -> None:
        loss = losses.look()
        bar.set_postfix({"loss": f"{loss:.4f}", "lr": f"{learning_rate:.2e}"})
        logger.info(
            "epoch %d, batch %d of %d: loss %.4f, lr %.3g",
            losses.epoch,
            losses.num_batches,
            bar.total,
            loss,
            learning_rate,
        )

    # --- evaluation -------------------------------------------------------------------------

    def evaluate(self, splits: Sequence[str], *, epoch: int | str = "best") -> Scores:
        """Answer and score each split.

        Args:
            epoch: For the names of the result files. With ``"best"`` the best weights of this run
                are loaded first, if it has validated any; else the model is evaluated as it is.

        Returns:
            The scores by split.
        """
        self._begin_log()
        if epoch == "best" and self.best_epoch is not None:
            load_model_state(self.context.output_dir / BEST, self.model)
        scores = {}
        for split in dict.fromkeys(splits):
            scores[split] = self._evaluate_split(split, epoch)
            self._log("evaluate.txt", {split: scores[split]})
        return scores

    def _evaluate_split(self, split: str, epoch: int | str) -> dict[str, float]:
        loader = self.loaders[split]
        self.model.eval()
        with torch.no_grad(), autocast(self.context.device, self.run.precision):
            rows = self.task.unique(self.task.evaluation(self.model, _Batches(self, split)))
        path = self.context.output_dir / "result" / f"{split}_epoch{epoch}.json"
        write_atomic(path, json.dumps(rows, ensure_ascii=False, default=str))
        for name, content in self.task.files(rows).items():
            write_atomic(
                self.context.output_dir / name,
                json.dumps(content, ensure_ascii=False, default=str),
            )
        scores = self.task.score(rows, loader.dataset)
        logger.info("%s: %s", split, {k: round(v, 4) for k, v in scores.items()})
        return scores

    def _validate(
        self, epoch: int, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> None:
        """Evaluate the valid splits; one of them decides whether these weights are kept."""
        splits = list(dict.fromkeys(self.run.valid_splits))
        deciding = DECIDING if DECIDING in splits else splits[0]
        for split in splits:
            scores = self._evaluate_split(split, epoch)
            if split == deciding and self._is_best(scores):
                self.best_metric, self.best_epoch = scores[AGGREGATE], epoch
                self._save(BEST, epoch, optimizer, scaler)
            entry = {f"{split}_{name}": value for name, value in scores.items()}
            self._log("log.txt", {"epoch": epoch, **entry, "best_epoch": self.best_epoch})

    def _is_best(self, scores: Mapping[str, float]) -> bool:
        """Whether these scores, which may be none, are the best so far; the first of equals is."""
        if not scores:
            return False
        if AGGREGATE not in scores:
            raise ValueError(f"the task scored no {AGGREGATE!r}, which decides what is best")
        new = scores[AGGREGATE]
        if self.best_metric is None or math.isnan(new):
            return not math.isnan(new)
        return new > self.best_metric if self.task.higher_is_better else new < self.best_metric

    # --- files ------------------------------------------------------------------------------

    def _save(
        self, name: str, epoch: int, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> None:
        save_checkpoint(
            self.context.output_dir / name,
            self.model,
            epoch=epoch,
            optimizer=optimizer,
            scaler=scaler,
            config=self.config,
        )

    def _begin_log(self) -> None:
        path = self.context.output_dir / "log.txt"
        if not path.exists():
            write_atomic(path, json.dumps(self.config, indent=4, default=str) + "\n")

    def _log(self, name: str, entry: Mapping[str, Any]) -> None:
        """Append a JSON line. LAVIS rounds to three digits, which leaves nothing of most rates."""
        with (self.context.output_dir / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    @contextlib.contextmanager
    def bar(self, loader: Loader, label: str) -> Iterator[Any]:
        """The loader, shown as a bar on a terminal; the log's lines go above it."""
        bar = tqdm(loader, desc=label, disable=None, dynamic_ncols=True, leave=False)
        if bar.disable:
            yield bar
            return
        with logging_redirect_tqdm([logging.getLogger("lavis_clone")]), bar:
            yield bar


class _Batches:
    """A split's batches on the runner's device, as often as they are asked for."""

    def __init__(self, runner: RunnerBase, split: str) -> None:
        self._runner, self._split = runner, split
        self.dataset = runner.loaders[split].dataset

    def __iter__(self) -> Iterator[Any]:
        runner = self._runner
        with runner.bar(runner.loaders[self._split], self._split) as bar:
            for samples in bar:
                yield to_device(samples, runner.context.device)


def _groups(batches: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` batches; the last one may be shorter."""
    group: list[Any] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
