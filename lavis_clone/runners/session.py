"""All that a training run carries from step to step, and how it is kept and taken up again."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lavis_clone.common import dist
from lavis_clone.common.context import RunContext
from lavis_clone.common.files import write_atomic
from lavis_clone.common.schema import RunConfig
from lavis_clone.common.seed import seed_everything
from lavis_clone.runners import checkpoints as kept
from lavis_clone.runners.feed import Feed, Loader, random_state, set_random_state
from lavis_clone.runners.hooks import EarlyStopping, Speed, is_better
from lavis_clone.runners.loggers import JobLog
from lavis_clone.runners.losses import BadLoss, EpochLosses
from lavis_clone.runners.place import Place
from lavis_clone.runners.training import Training
from lavis_clone.tasks.base import AGGREGATE, BaseTask

logger = logging.getLogger(__name__)

BAD_BATCH = "bad_batch.json"


class Session:
    """One training run of one process.

    Args:
        loader: Of the training split.
        log: Where its lines go.
        by_steps: Whether its segments are numbers of steps (``runner_iter``) or epochs.
    """

    def __init__(
        self,
        run: RunConfig,
        *,
        task: BaseTask,
        model: nn.Module,
        loader: Loader,
        log: JobLog,
        context: RunContext,
        by_steps: bool,
    ) -> None:
        self.run, self.log, self.context, self._by_steps = run, log, context, by_steps
        self.place = Place()
        self.losses = EpochLosses(0)
        self.higher_is_better = _higher_is_better(run, task)
        self.early = EarlyStopping(run.early_stop, higher_is_better=self.higher_is_better)
        self.feed = Feed(loader, limit=run.limit_train_batches)
        self.training = Training(run, task=task, model=model, context=context)
        self.speed = Speed(context.device)
        self._last_save = time.monotonic()

    @property
    def count(self) -> dict[str, int]:
        """What a line of the log and a checkpoint say of the running segment."""
        steps = {"iters": self.place.step} if self._by_steps else {}
        return {"epoch": self.place.segment, **steps}

    def metrics(self, values: Mapping[str, float]) -> None:
        """Write numbers of the present step by name."""
        self.log.metrics(values, step=self.place.step, epoch=self.place.segment)

    # --- when -----------------------------------------------------------------------------------

    @property
    def seconds_since_save(self) -> float:
        """Since the last point, or since the run began."""
        return time.monotonic() - self._last_save

    @property
    def is_validation_due(self) -> bool:
        """Whether ``run.val_every`` wants one at the present step, which has had none."""
        every, step = self.run.val_every, self.place.step
        return every is not None and 0 < step != self.place.validated and step % every == 0

    # --- what is kept ---------------------------------------------------------------------------

    @property
    def point(self) -> Path:
        """The file of all that the present step needs to be gone on from."""
        return self.log.folder / f"checkpoint_step{self.place.step}.pth"

    def save_point(self) -> None:
        """Write ``point``. Every process must call it.

        Raises:
            TrainingFailed: a loss was not a number, or the file cannot be written.
        """
        self.losses.check()
        state = self.training.state_dict()
        content = {
            **{key: state.pop(key) for key in ("model", "optimizer", "scaler")},
            "config": self.log.config,
            **self.count,
            "resume": {
                **state,
                "place": self.place.state_dict(),
                "losses": self.losses.state_dict(),
                "early": self.early.state_dict(),
                "feed": self.feed.state_dict(),
                "random": dist.all_gather_objects(random_state()),
                "files": self.log.sizes(),
            },
        }
        self.training.strategy.save(self.point, content)
        if self.context.is_main:
            kept.keep_newest(self.log.folder, self.run.keep_last)
        self._last_save = time.monotonic()

    def keep_point(self, name: str) -> None:
        """Let the present point stay under another name. Every process must call it."""
        self.training.strategy.settle()
        if self.context.is_main:
            kept.link_checkpoint(self.point, self.log.folder / name)
            kept.keep_newest(self.log.folder, self.run.keep_last)

    def decide(self, scores: Mapping[str, float]) -> None:
        """Keep the point if its score is the best so far; the first of equals is.

        Raises:
            ValueError: the score that decides is not among them.
        """
        place, name = self.place, self.run.best_metric
        if name not in scores:
            raise ValueError(
                f"the task scored no {name!r}, which decides what is best (run.best_metric); "
                f"it scored {', '.join(scores)}"
            )
        if is_better(scores[name], place.best_metric, higher=self.higher_is_better):
            place.best_metric = scores[name]
            place.best_epoch, place.best_step = place.segment, place.step
            self.keep_point(kept.BEST)
        self.early.look(scores[name])

    def note(self, error: BadLoss) -> None:
        """Write down the batch whose loss was no number, for whoever looks for the reason."""
        note = {
            "epoch": self.place.segment,
            "step": self.place.step,
            "batch": error.batch,
            "loss": str(error.value),
            "samples": [list(key) for key in error.keys],
        }
        if self.context.is_main:
            write_atomic(self.log.folder / BAD_BATCH, json.dumps(note, indent=2) + "\n")

    # --- taking up ------------------------------------------------------------------------------

    def resume(self, *, steps_per_segment: int) -> None:
        """Go on where ``run.resume`` says, if there is anything.

        Raises:
            TrainingFailed: what it names cannot be read, or does not fit.
        """
        with dist.main_first():  # it removes what is left over
            found = kept.find_start(self.run.resume_from, self.log.folder)
        if found is None:
            if self.run.resume_from is not None:
                self.log.cut({})  # of a run that ended before there was anything to go on from
            return
        path, content = found
        state = content.get("resume")
        if state is None:
            self._take_foreign(content, steps_per_segment)
        else:
            self.training.load_state_dict(content)
            self.place.load_state_dict(state["place"])
            self.losses.load_state_dict(state["losses"], self.context.device)
            self.early.load_state_dict(state["early"])
            self.feed.load_state_dict(state["feed"])
            self._take_random(state["random"], steps_per_segment)
            if path.parent.resolve() == self.log.folder.resolve():
                self.log.cut(state["files"])
            else:
                self._bring_best(path.parent / kept.BEST)
        logger.info("going on from %s, step %d", path, self.place.step)

    def _take_random(self, states: Sequence[Mapping[str, Any]], steps_per_segment: int) -> None:
        """Each process goes on with its own generators, if there are as many as there were.

        Other processes share the data in another way, so that a pass that was begun begins again.
        """
        if len(states) == self.context.world_size:
            set_random_state(states[self.context.rank])
            return
        logger.warning(
            "%d processes go on with what %d have begun, from the start of the pass",
            self.context.world_size,
            len(states),
        )
        self.feed.load_state_dict({"passes": self.feed.passes, "taken": 0, "loader": None})
        if not self._by_steps:
            self.place.step = (self.place.segment + self.place.is_over) * steps_per_segment
        if not self.place.is_over:
            self.losses = EpochLosses(self.place.segment)
        seed_everything(self.context.seed + self.place.step, self.context.rank)

    def _take_foreign(self, content: Mapping[str, Any], steps_per_segment: int) -> None:
        """A checkpoint of LAVIS ends a segment; it knows nothing of the best, nor of chance."""
        self.training.load_foreign(content)
        if "epoch" in content:
            self.place.segment = int(content["epoch"]) + 1
            self.place.step = self.place.segment * steps_per_segment
        else:
            self.place.step = int(content.get("iters", 0))
            self.place.segment = self.place.step // steps_per_segment
        self.feed.passes = self.place.segment
        self.losses = EpochLosses(self.place.segment)

    def _bring_best(self, path: Path) -> None:
        """Have the best weights of the job that goes on in a new directory, or forget them."""
        if path.exists() and self.context.is_main:
            kept.link_checkpoint(path, self.log.folder / kept.BEST)
        elif not path.exists():
            self.place.best_metric = self.place.best_epoch = self.place.best_step = None


def _higher_is_better(run: RunConfig, task: BaseTask) -> bool:
    if run.best_mode is not None:
        return run.best_mode == "max"
    return task.higher_is_better if run.best_metric == AGGREGATE else True
