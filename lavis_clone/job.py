"""From a checked config to a runner, and from a job to a model: where all floors are wired."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import default_collate

from lavis_clone.common import dist
from lavis_clone.common.config import Config, load_config
from lavis_clone.common.config_check import find_builder
from lavis_clone.common.context import RunContext, choose_device
from lavis_clone.common.files import FileError
from lavis_clone.common.launch import Launch, init_distributed
from lavis_clone.common.log import setup_logging
from lavis_clone.common.lora import lora_targets
from lavis_clone.common.optim import build_optimizer, freeze
from lavis_clone.common.reading import ConfigError
from lavis_clone.common.registry import registry
from lavis_clone.common.schema import RunConfig
from lavis_clone.common.seed import seed_everything
from lavis_clone.common.shards import is_sharded
from lavis_clone.datasets.base import ConcatDataset
from lavis_clone.datasets.builders.base import ANSWER_CLASSES
from lavis_clone.datasets.builders.own import check_own_media
from lavis_clone.datasets.loaders import build_loader
from lavis_clone.datasets.mixture import mix_of
from lavis_clone.datasets.skip import SampleError, SkipLog, appender
from lavis_clone.jobs import CONFIG_NAME, job_to_resume, write_facts
from lavis_clone.processors.base import BaseProcessor
from lavis_clone.runners.base import RunnerBase, to_device
from lavis_clone.runners.checkpoints import BEST, numbered, points
from lavis_clone.runners.strategy import Strategy
from lavis_clone.tasks import setup_task
from lavis_clone.tasks.base import BaseTask

logger = logging.getLogger(__name__)

PROCESSOR_KEYS = ("vis_processor", "text_processor")
Datasets = Mapping[str, Mapping[str, Any]]
"""Data sets by the builder's name and split."""


class Parts(NamedTuple):
    """What a script has made itself; None for what the config says."""

    task: BaseTask | None = None
    model: Any = None
    datasets: Datasets | None = None


def build_runner(config: Config, parts: Parts = Parts()) -> RunnerBase:  # noqa: B008  # a tuple
    """Make everything that a job needs: its directory, data sets, model, task and runner.

    What can be wrong is looked at first: names and data before weights, weights before the job's
    directory is made.

    Raises:
        UnknownName, ConfigError, FileError, WeightError, TypeError, ValueError: before any work.
    """
    run = config.run
    launch = join_processes(run)
    runner_class = registry.get_runner_class(run.runner)
    runner_class.check(run)
    check_output_dir(run.output_dir)
    old_folder = job_to_resume(config)
    task = parts.task or setup_task(run)
    model_class = registry.get_model_class(config.model["arch"])
    task.check(model_class, run)
    device = choose_device(run.device, local_rank=launch.local_rank)
    splits = runner_class.splits(run)
    datasets = parts.datasets or build_datasets(config.datasets, splits)
    check_splits(splits, config.datasets, datasets)
    check_processors(datasets)
    check_own_media(config.datasets, datasets)
    mix = mix_of(run, config.datasets, datasets)
    sources = {split: _joined(datasets, split) for split in splits}
    evaluated = list(dict.fromkeys([*run.valid_splits, *run.test_splits]))
    for split in evaluated:
        sources[split] = limited(sources[split], run.limit_eval_samples)
        task.check_data(sources[split])
    seed_everything(run.seed)
    model = parts.model or model_class.from_config(config.model)
    check_picture_size(model, datasets)
    if run.train_splits and not run.evaluate:
        freeze(model, run.freeze)
        if run.lora is not None:
            lora_targets(model, run.lora)
        build_optimizer(model, run)  # says now what it would say in training
    for split in evaluated[:1]:
        rehearse(task, model.to(device), sources[split], device=device)
    if launch.world_size > 1:
        seed_everything(run.seed, launch.rank)  # all have the same weights; chance is their own
    folder = one_directory(old_folder, run.output_dir)
    context = RunContext(folder, device, launch.rank, launch.world_size, seed=run.seed)
    setup_logging(context)
    logger.info("job directory: %s", context.output_dir)
    if context.is_main:
        config.save(context.output_dir / CONFIG_NAME)
        write_facts(context.output_dir)
    skips = SkipLog(on_skip=appender(context.output_dir / "skipped.jsonl"))
    loaders = {
        split: build_loader(
            source,
            batch_size=_batch_size(run, split),
            is_train=_is_trained(run, split),
            num_workers=run.num_workers,
            seed=run.seed,
            context=context,
            skips=skips,
            mix=mix,
        )
        for split, source in sources.items()
    }
    runner: RunnerBase = runner_class(
        run, task=task, model=model, loaders=loaders, context=context, config=config.merged
    )
    return runner


def build_datasets(
    blocks: Mapping[str, Mapping[str, Any]], splits: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Build the data sets of a ``datasets:`` block: name -> split -> data set.

    Args:
        splits: The only ones that are needed; the annotations of others are not even looked for.
    """
    built: dict[str, dict[str, Any]] = {}
    for name, block in blocks.items():
        builder_class = find_builder(name, block)
        listed = _annotations(block)
        wanted = {s: a for s, a in listed.items() if splits is None or s in splits}
        if listed and not wanted:
            continue
        if ANSWER_CLASSES in listed:  # no split, but what all of them need
            wanted[ANSWER_CLASSES] = listed[ANSWER_CLASSES]
        info = {"build_info": {**block["build_info"], "annotations": wanted}} if listed else {}
        builder = builder_class({**block, **info})
        builder.name, builder.only_splits = builder.name or name, splits
        built[name] = builder.build_datasets()
    return built


def new_job_directory(output_dir: Path) -> Path:
    """Make a directory named after the present second, which no other job has.

    Raises:
        FileError: it cannot be made.
    """
    stamp = datetime.datetime.now().strftime("%Y%m%d%H%M%S")
    for number in range(10_000):
        path = Path(output_dir) / (f"{stamp}_{number}" if number else stamp)
        try:
            Path(output_dir).mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError:
            if path.exists():
                continue
            raise FileError(f"run.output_dir: {output_dir} is a file") from None
        except OSError as error:
            raise FileError(f"run.output_dir: cannot make {path}: {error.strerror}") from error
        return path
    raise FileError(f"{output_dir} holds ten thousand jobs of this second")


def one_directory(old: Path | None, output_dir: Path) -> Path:
    """The job's directory, the same in all processes: ``old``, or a new one.

    Raises:
        FileError: it cannot be made.
    """
    found = (old or new_job_directory(output_dir)) if dist.rank() == 0 else output_dir
    return dist.broadcast(found)


def export_checkpoint(source: str | Path, folder: str | Path, *, half: bool = False) -> Path:
    """Turn a job's checkpoint into a folder that ``load_model_and_preprocess`` takes.

    The processors are those of the job's first data set, over the model type's own. Momentum copies
    and queues, which only training needs, are left out.

    Args:
        source: A job's directory, whose best checkpoint is meant or else its last, or one of its
            checkpoints.
        half: Store the weights in fp16, at half the size.

    Raises:
        FileError: there is no such job or checkpoint, or ``folder`` is a file.
        WeightError: the checkpoint does not fit the job's model.
    """
    checkpoint = _find_checkpoint(Path(source).expanduser())
    if Path(folder).is_file():
        raise FileError(f"{folder} is a file, not a folder to export to")
    config = load_config(checkpoint.parent / CONFIG_NAME)
    block = {**config.model, "load_finetuned": False, "load_pretrained": False}
    block.pop("text_weights", None)
    if isinstance(block.get("vit"), Mapping):  # nor the weights that the vision tower began with
        block["vit"] = {k: v for k, v in block["vit"].items() if k != "weights"}
    model = registry.get_model_class(config.model["arch"]).from_config(block)
    model.load_checkpoint(str(checkpoint))
    preprocess = {key: dict(config.preprocess.get(key) or {}) for key in PROCESSOR_KEYS}
    for key in PROCESSOR_KEYS:
        named = [found[key] for found in config.datasets.values() if found.get(key)]
        preprocess[key] |= named[0] if named else {}
    dtype = torch.float16 if half else None
    exported: Path = model.save_pretrained(
        folder, preprocess=preprocess, dtype=dtype, training_state=False
    )
    return exported


def join_processes(run: RunConfig) -> Launch:
    """Join the processes that torchrun or srun started, unless ``run`` wants none but this one.

    Raises:
        LaunchError: the environment is incomplete, or there are more processes than GPUs.
        ConfigError: several processes cannot do what ``run`` says.
    """
    if not run.distributed:
        return Launch(0, 1, 0)
    launch = init_distributed(device=run.device, backend=run.dist_backend, url=run.dist_url)
    if problems := Strategy.problems(run, launch.world_size):
        raise ConfigError.of([f"run.{problem}" for problem in problems])
    return launch


def check_output_dir(output_dir: Path) -> None:
    """Refuse a place where no job's directory can be made.

    Raises:
        FileError: naming what is in the way.
    """
    place = Path(output_dir).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise FileError(f"run.output_dir: {place} is a file, not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise FileError(f"run.output_dir: {place} cannot be written to")


def check_splits(splits: Sequence[str], blocks: Datasets, datasets: Datasets) -> None:
    """Refuse splits that no data set has.

    Raises:
        ConfigError: with a line for each.
    """
    built = {split for found in datasets.values() for split in found}
    listed_splits = built.union(*(_annotations(block) for block in blocks.values()))
    known = sorted(listed_splits - {ANSWER_CLASSES})
    if missing := [split for split in splits if split not in built]:
        listed = ", ".join(known) or "none"
        raise ConfigError.of(
            [f"run: no data set has a split {split!r}; there are {listed}" for split in missing]
        )


def check_processors(datasets: Datasets) -> None:
    """Refuse data sets that would give PIL pictures, of which no batch can be made.

    Raises:
        ConfigError: with a line for each.
    """
    problems = [
        f"datasets.{name}.vis_processor.{'train' if split == 'train' else 'eval'}: required, "
        "but not given"
        for name, found in datasets.items()
        for split, dataset in found.items()
        if type(getattr(dataset, "vis_processor", None)) is BaseProcessor
    ]
    if problems:
        raise ConfigError.of(list(dict.fromkeys(problems)))


def check_picture_size(model: Any, datasets: Datasets) -> None:
    """Refuse processors that make pictures of another size than the model takes.

    Raises:
        ConfigError: with both sizes.
    """
    wanted = getattr(model, "image_size", None)
    for name, found in datasets.items():
        for split, dataset in found.items():
            made = getattr(getattr(dataset, "vis_processor", None), "image_size", None)
            if None not in (wanted, made) and made != wanted:
                phase = "train" if split == "train" else "eval"
                raise ConfigError(
                    f"datasets.{name}.vis_processor.{phase}.image_size: is {made}, but the model "
                    f"takes pictures of {wanted} pixels (model.image_size)"
                )


def rehearse(task: BaseTask, model: Any, dataset: Any, *, device: torch.device) -> None:
    """Evaluate one sample, so that what evaluation refuses is not told after an epoch of training.

    Raises:
        SampleError: the first samples are all bad.
    """
    num_tries = min(len(dataset), SkipLog().limit + 1)
    for index in range(num_tries):
        try:
            sample = dataset[index]
        except SampleError as error:
            if index == num_tries - 1:
                raise SampleError(f"{num_tries} bad samples in a row; the last: {error}") from error
            continue
        batch = getattr(dataset, "collater", default_collate)([sample])
        model.eval()
        with torch.no_grad():
            task.rehearse(model, to_device(batch, device))
        return


def _find_checkpoint(source: Path) -> Path:
    if not source.exists():
        raise FileError(f"no such job or checkpoint: {source}")
    if not source.is_dir() or is_sharded(source):
        return source
    if (source / BEST).exists():
        return source / BEST
    for path in [*numbered(source), *points(source)]:
        return path
    raise FileError(f"{source} holds no checkpoint")


def _annotations(block: Mapping[str, Any]) -> dict[str, Any]:
    """The splits that a data set's block lists, but for those that an override has taken out."""
    listed = (block.get("build_info") or {}).get("annotations") or {}
    return {split: entry for split, entry in listed.items() if entry is not None}


def _joined(datasets: Datasets, split: str) -> Any:
    """One data set of all that have ``split``."""
    parts = [found[split] for found in datasets.values() if split in found]
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def limited(dataset: Any, count: int | None) -> Any:
    """A data set of the first ``count`` records of each of its parts; None for all.

    Raises:
        ConfigError: it is of a kind that cannot be cut short.
    """
    if count is None:
        return dataset
    if isinstance(dataset, ConcatDataset):
        return ConcatDataset([limited(part, count) for part in dataset.datasets])
    if not hasattr(dataset, "limited"):
        raise ConfigError(f"run.limit_eval_samples: {type(dataset).__name__} cannot be cut short")
    return dataset.limited(count)


def _is_trained(run: RunConfig, split: str) -> bool:
    return split in run.train_splits and not run.evaluate


def _batch_size(run: RunConfig, split: str) -> int:
    return run.batch_size_train if _is_trained(run, split) else run.batch_size_eval
