"""Trains, validates, keeps the best, tests: the loop, and nothing that it loops over."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from lavis_clone.common import dist
from lavis_clone.common.context import RunContext
from lavis_clone.common.progress import Progress
from lavis_clone.common.registry import registry
from lavis_clone.common.schema import RunConfig
from lavis_clone.runners import checkpoints as kept
from lavis_clone.runners.checking import DECIDING, TRAIN, check_run
from lavis_clone.runners.evaluation import Evaluation
from lavis_clone.runners.feed import Fed, Loader, grouped
from lavis_clone.runners.hooks import Signals, Stopped, job_state, progress_bar, readable
from lavis_clone.runners.loggers import LOG, TESTED, JobLog
from lavis_clone.runners.losses import BadLoss, EpochLosses, TrainingFailed
from lavis_clone.runners.session import Session
from lavis_clone.runners.training import to_device
from lavis_clone.tasks.base import BaseTask

__all__ = ["RunnerBase", "Stopped", "TrainingFailed", "to_device"]

logger = logging.getLogger(__name__)

Scores = dict[str, dict[str, float]]
"""By split and name."""


@registry.register_runner("runner_base")
class RunnerBase:
    """Runs a task on a model by epochs.

    Writes into ``context.output_dir``: ``log.txt`` (the config, then a JSON line per trained epoch
    and validated split), ``metrics.jsonl`` (numbers by step), ``evaluate.txt`` (a JSON line per
    tested split), ``result/<split>_epoch<n>.json`` (the rows), ``checkpoint_best.pth``,
    ``checkpoint_<epoch>.pth``, while it trains ``checkpoint_step<n>.pth`` to go on from, and
    ``job.json``, which says how it ended.

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

    by_steps: ClassVar[bool] = False
    """Whether segments are numbers of optimizer steps; else they are passes over the data."""

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
        self.check(run)
        for split in self.splits(run):
            if split not in loaders:
                raise ValueError(f"no data set has a split {split!r} (there are {[*loaders]})")
        task.check(model, run)
        self.run, self.task, self.loaders, self.context = run, task, loaders, context
        self.model = model.to(context.device)
        self.config = dict(config or {})
        self.log = JobLog(context.output_dir, config=self.config, is_main=context.is_main)
        self.evaluation = Evaluation(run, task=task, loaders=loaders, context=context)
        self.signals = Signals()
        self._session: Session | None = None

    @classmethod
    def check(cls, run: RunConfig) -> None:
        """Stop before any work if ``run`` asks for what this runner does not do.

        Raises:
            ConfigError: with a line for each problem.
        """
        check_run(run, by_steps=cls.by_steps)

    @staticmethod
    def splits(run: RunConfig) -> list[str]:
        """The splits that ``run`` works on, each once."""
        trained = [] if run.evaluate else run.train_splits
        return list(dict.fromkeys([*trained, *run.valid_splits, *run.test_splits]))

    @property
    def session(self) -> Session:
        """The training run.

        Raises:
            RuntimeError: none has begun.
        """
        if self._session is None:
            raise RuntimeError("nothing has been trained yet")
        return self._session

    @property
    def best_metric(self) -> float | None:
        """The score of the best weights of this run so far."""
        return None if self._session is None else self._session.place.best_metric

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the best weights of this run so far."""
        return None if self._session is None else self._session.place.best_epoch

    # --- what a segment is: RunnerIter has another idea -------------------------------------------

    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.run.num_epochs * self.steps_per_segment()

    def steps_per_segment(self) -> int:
        """Optimizer steps of a whole segment."""
        return -(-len(self.session.feed) // self.run.accum_grad_iters)

    def batches_in_segment(self) -> int:
        """Batches of the running segment."""
        return len(self.session.feed)

    def groups(self) -> Iterator[list[Fed]]:
        """The batches of each optimizer step that is left of the running segment."""
        return grouped(self.session.feed.one_pass(), self.run.accum_grad_iters)

    def align(self) -> None:
        """Bring the count of steps to where a whole segment has it.

        A pass has fewer batches than it should when all samples of a batch were bad.
        """
        place = self.session.place
        was_validated = place.validated == place.step
        place.step = (place.segment + 1) * self.steps_per_segment()
        if was_validated:
            place.validated = place.step

    def number(self) -> int:
        """What stands in the name of a checkpoint that is kept: the epoch."""
        return self.session.place.segment

    # --- training -------------------------------------------------------------------------------

    def train(self) -> Scores:
        """Train to the end, then evaluate the best weights on the test splits.

        Without validation the weights at the end are evaluated. With ``run.resume`` training goes
        on where another process ended, and comes to what it would have come to.

        Returns:
            The scores of each test split.

        Raises:
            TrainingFailed: the loss became infinite or not a number, a checkpoint cannot be
                written, or that to go on from does not fit.
            Stopped: SIGTERM or SIGINT came; the step was ended and saved first.
        """
        run, context = self.run, self.context
        with Signals() as self.signals, job_state(context.output_dir, is_main=context.is_main):
            session = self._session = Session(
                run,
                task=self.task,
                model=self.model,
                loader=self.loaders[TRAIN],
                log=self.log,
                context=context,
                by_steps=self.by_steps,
            )
            session.resume(steps_per_segment=self.steps_per_segment())
            self.log.begin()
            self.log.open(run.loggers, step=session.place.step)
            try:
                self._train_all()
                last = session.place.segment - 1
                with self.signals.at_once():
                    scores = self.evaluate(
                        run.test_splits, epoch=last if self.best_epoch is None else "best"
                    )
            except BadLoss as error:
                session.note(error)
                raise
            finally:
                self.log.close()
            session.training.strategy.settle()
            if context.is_main:
                kept.finish(context.output_dir, run.keep_last)
        return scores

    def _train_all(self) -> None:
        place, early, total = self.session.place, self.session.early, self.total_steps()
        while place.is_over or (place.step < total and not early.is_over):
            if not place.is_over:
                self._train_segment()
                self._close_segment()
            self._end_segment()

    def _train_segment(self) -> None:
        """The steps that are left of the running segment."""
        session, place = self.session, self.session.place
        schedule = registry.get_lr_scheduler_class(self.run.lr_sched or "")
        per_segment, total = self.steps_per_segment(), self.total_steps()
        if session.is_validation_due:  # the run that goes on ended before it
            self._validate()
        session.training.to_train_mode()
        label, num_batches = f"epoch {place.segment}", self.batches_in_segment()
        with progress_bar(label, total=num_batches, done=session.losses.num_batches) as bar:
            for group in () if session.early.is_over else self.groups():
                progress = Progress(step=place.step, steps_per_epoch=per_segment, total_steps=total)
                place.rate = schedule(progress, self.run)
                count = session.training.step(group, progress, place.rate, session.losses)
                place.step += 1
                session.speed.add(count * self.context.world_size)
                bar.update(len(group))
                if session.losses.num_new >= self.run.log_freq:
                    self._report(bar)
                self._between_steps()
                if session.early.is_over:
                    break

    def _between_steps(self) -> None:
        """Validate, save or stop, if it is time."""
        session = self.session
        steps, seconds = self.run.save_interval
        is_late = seconds is not None and session.seconds_since_save >= seconds
        is_asked = self.signals.caught is not None
        is_asked, is_late = session.training.strategy.any([is_asked, is_late])
        if session.is_validation_due:
            session.save_point()
            self._validate()
            session.training.to_train_mode()
        elif is_asked or is_late or (steps is not None and session.place.step % steps == 0):
            session.save_point()
        if is_asked:
            session.training.strategy.settle()
            self.signals.stop(f"saved as {session.point}; go on with run.resume=auto")

    def _close_segment(self) -> None:
        """Write the segment's line: the last rate, and the mean of each loss."""
        session, place = self.session, self.session.place
        if session.losses.num_new:
            session.losses.look()
        if not session.early.is_over:
            self.align()
        means = dist.means(session.losses.means())
        figures = {"train_lr": place.rate} | {f"train_{k}": v for k, v in means.items()}
        self.log.line(LOG, {**session.count, **figures})
        session.metrics({f"epoch/{name}": value for name, value in means.items()})
        shown = {"lr": place.rate, **means}
        logger.info("epoch %d: %s", place.segment, {k: float(f"{v:.4g}") for k, v in shown.items()})
        place.is_over = True

    def _end_segment(self) -> None:
        """Save, validate if it is time, keep what is to be kept, and begin the next segment."""
        run, session, place = self.run, self.session, self.session.place
        session.save_point()
        is_last = place.step >= self.total_steps() or session.early.is_over
        is_time = run.val_every is None and (place.segment + 1) % run.val_freq == 0
        if run.valid_splits and (is_last or is_time) and place.validated != place.step:
            self._validate()
        is_last = is_last or session.early.is_over
        is_kept = not run.valid_splits and (place.segment + 1) % run.save_freq == 0
        if is_kept or (is_last and run.save_last):
            session.keep_point(f"checkpoint_{self.number()}.pth")
        place.segment, place.is_over = place.segment + 1, False
        session.losses = EpochLosses(place.segment)
        (is_asked,) = session.training.strategy.any([self.signals.caught is not None])
        if is_asked:
            session.training.strategy.settle()
            self.signals.stop(f"saved as {session.point}; go on with run.resume=auto")

    def _report(self, bar: Any) -> None:
        """Say how it goes since the last report."""
        session, place = self.session, self.session.place
        loss = session.losses.look()
        figures = session.speed.read(
            waited=session.feed.waited, steps_left=self.total_steps() - place.step
        )
        left = datetime.timedelta(seconds=round(figures.pop("seconds_left")))
        words = readable(figures)
        bar.set_postfix({"loss": f"{loss:.4f}", "lr": f"{place.rate:.2e}", **words, "left": left})
        logger.info(
            "epoch %d, batch %d of %d: loss %.4f, lr %.3g, %s, %s left",
            place.segment,
            session.losses.num_batches,
            self.batches_in_segment(),
            loss,
            place.rate,
            ", ".join(f"{value} {name}" for name, value in words.items()),
            left,
        )
        session.metrics({"train/loss": loss, "train/lr": place.rate, **figures})

    # --- evaluation -----------------------------------------------------------------------------

    def evaluate(self, splits: Sequence[str], *, epoch: int | str = "best") -> Scores:
        """Answer and score each split.

        Args:
            epoch: For the names of the result files. With ``"best"`` the best weights of this run
                are loaded first, if it has validated any; else the model is evaluated as it is.

        Returns:
            The scores by split.
        """
        self.log.begin()
        if epoch == "best" and self.best_epoch is not None:
            self.session.training.strategy.settle()
            best = kept.load_checkpoint(self.context.output_dir / kept.BEST)
            self.session.training.load_weights(best)
        scores = {}
        for split in dict.fromkeys(splits):
            scores[split] = self._judge(split, f"epoch{epoch}")
            self.log.line(TESTED, {split: scores[split]})
        return scores

    def _judge(self, split: str, label: str) -> dict[str, float]:
        if self._session is None:
            return self.evaluation.split(self.model, split, label=label)
        with self._session.training.evaluated():
            return self.evaluation.split(self._session.training.bare, split, label=label)

    def _validate(self) -> None:
        """Evaluate the valid splits; one of them decides whether these weights are kept.

        There is a point of this very step, so that a signal may end it at once.
        """
        session, place, run = self.session, self.session.place, self.run
        splits = list(dict.fromkeys(run.valid_splits))
        deciding = DECIDING if DECIDING in splits else splits[0]
        by_step = run.val_every is not None
        label = f"step{place.step}" if by_step else f"epoch{place.segment}"
        with self.signals.at_once():
            for split in splits:
                scores = self._judge(split, label)
                if split == deciding and scores:
                    session.decide(scores)
                entry: dict[str, Any] = {f"{split}_{n}": value for n, value in scores.items()}
                entry["best_epoch"] = place.best_epoch
                if by_step:
                    entry = {"step": place.step, **entry, "best_step": place.best_step}
                self.log.line(LOG, {**session.count, **entry})
                figures = {f"{split}/{name}": value for name, value in scores.items()}
                if split == deciding and place.best_metric is not None:
                    figures[f"best/{run.best_metric}"] = place.best_metric
                session.metrics(figures)
        place.validated = place.step
