"""What the ``run:`` block of a YAML file may say. The defaults live here and nowhere else.

The keys are those of LAVIS v1.0.2's ``run:`` block. It mixes the runner's keys with the task's;
``read_run`` parts them: the task's own (task_options.py) end up in ``RunConfig.task_options``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lavis_clone.common.names import suggest
from lavis_clone.common.reading import ConfigError, plain, read
from lavis_clone.common.registry import registry
from lavis_clone.common.task_options import TASK_OPTIONS, NoOptions, below
from lavis_clone.common.training_options import (
    Compile,
    EarlyStop,
    LoggerName,
    Lora,
    OptimizerName,
    broken_training,
    interval,
)

Precision = Literal["fp32", "tf32", "bf16", "fp16"]

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The ``run:`` block."""

    task: str
    """A registered task."""
    runner: str = "runner_base"
    """``runner_base`` counts epochs, ``runner_iter`` optimizer steps."""

    lr_sched: str | None = None
    """A registered schedule; required for training."""
    init_lr: float | None = None
    """The peak learning rate, after warm-up; required for training."""
    min_lr: float = 0.0
    """Where the schedule ends."""
    warmup_lr: float = -1.0
    """Where warm-up starts; -1 for ``init_lr``, that is, no warm-up."""
    warmup_steps: int = 0
    """Steps until ``init_lr``, all within the first epoch."""
    lr_decay_rate: float | None = None
    """Factor per epoch; required by ``linear_warmup_step_lr``."""
    lr_per: Literal["epoch", "step"] = "epoch"
    """Whether the rate changes with each epoch, as in LAVIS, or with each step. Not in LAVIS."""
    optimizer: OptimizerName = "adamw"
    """``adamw``, ``sgd``, ``adafactor`` or ``muon`` (for matrices between layers, AdamW for the
    rest), torch's own. Not in LAVIS."""
    momentum: float | None = None
    """Of ``sgd`` (None for 0.9) and ``muon`` (None for 0.95)."""
    weight_decay: float = 0.05
    beta2: float = 0.999
    """AdamW's second beta; the first is 0.9."""
    grad_clip: float | None = None
    """The largest norm of all gradients together; None for no limit. Not in LAVIS."""
    ema: float | None = None
    """Share of itself that an average of the weights keeps at each step, e.g. 0.9999. It is what is
    evaluated and kept as a checkpoint's ``model``; None for no average. Not in LAVIS."""
    lr_layer_decay: float = 1.0
    """Factor on the learning rate for each layer below the top of an encoder; 1 for none."""
    lr_scale: dict[str, float] = field(default_factory=dict)
    """Factors on the learning rate of the weights whose names start so, the longest prefix wins,
    e.g. ``{visual_encoder: 0.1}``. Not in LAVIS."""
    freeze: list[str] = field(default_factory=list)
    """The weights whose names start so do not learn, e.g. ``[visual_encoder]``. Not in LAVIS."""
    lora: Lora | None = None
    """Train small matrices beside the weights in place of the weights. Not in LAVIS."""

    max_epoch: int | None = None
    """Required for training with ``runner_base``."""
    max_iters: int | None = None
    """Optimizer steps in all; required for training with ``runner_iter``."""
    iters_per_inner_epoch: int | None = None
    """Optimizer steps between validations; required for training with ``runner_iter``."""
    batch_size_train: int
    """Samples per process and step of the split named ``train``."""
    batch_size_eval: int
    """Samples per process and step of all other splits."""
    num_workers: int
    """Processes that load data, for each process that computes; 0 loads in the process itself."""
    accum_grad_iters: int = 1
    """Batches whose gradients make one optimizer step."""
    amp: bool = False
    """LAVIS's word for ``precision: fp16``."""
    precision: Precision = "fp32"
    """``bf16`` and ``fp16`` compute in that type where it is safe, ``tf32`` multiplies faster."""
    compile: bool | Compile = "off"
    """``model`` compiles the model's forward pass, ``step`` the task's whole step up to the
    loss; true is ``model``. Not in LAVIS."""
    limit_train_batches: int | None = None
    """Batches of one pass over the training data; None for all. Not in LAVIS."""
    limit_eval_samples: int | None = None
    """Records of each evaluation split of each data set; None for all. Not in LAVIS."""

    log_freq: int = 50
    """Batches between two lines of the log."""
    save_freq: int = 1
    """Epochs between two checkpoints of a run without validation."""
    val_freq: int = 1
    """Epochs between two validations."""
    val_every: int | None = None
    """Optimizer steps between two validations, in place of ``val_freq``. Not in LAVIS."""
    save_last: bool = True
    """Keep a checkpoint of the last epoch."""
    save_every: int | str | None = None
    """Optimizer steps (``500``) or minutes (``10m``) between two points to go on from, besides
    those at the end of each epoch. Not in LAVIS."""
    keep_last: int | None = None
    """How many points to go on from stay, and how many numbered checkpoints. None: one point until
    the run is done, and all numbered checkpoints. Not in LAVIS."""
    best_metric: str = "agg_metrics"
    """The score of the deciding split that says which weights are the best. Not in LAVIS."""
    best_mode: Literal["max", "min"] | None = None
    """Whether its largest or its smallest value is; None for what the task says of
    ``agg_metrics``, and ``max`` for other scores. Not in LAVIS."""
    early_stop: EarlyStop | None = None
    """Stop when validation brings nothing better. Not in LAVIS."""
    resume: str | None = None
    """``auto``: the newest job of this config that is not done goes on, or a new one starts. A
    job's directory goes on; a checkpoint is where a new job starts from. Not in LAVIS."""
    resume_ckpt_path: str | None = None
    """LAVIS's word for a checkpoint as ``resume``."""
    loggers: list[LoggerName] = field(default_factory=list)
    """``tensorboard`` and ``wandb``, beside the files that are always written. Not in LAVIS."""

    evaluate: bool = False
    """Train nothing: one pass over ``valid_splits``, then ``test_splits``."""
    train_splits: list[str] = field(default_factory=list)
    valid_splits: list[str] = field(default_factory=list)
    test_splits: list[str] = field(default_factory=list)
    use_dist_eval_sampler: bool = True
    """Accepted because LAVIS's files carry it; all processes share an evaluation split, each sample
    being evaluated once."""
    train_dataset_ratios: dict[str, float] | None = None
    """How often each data set is drawn from, by name; None for by size. ``runner_iter`` only."""
    train_dataset_temperature: float | None = None
    """T: draw from data sets of N samples in proportion to ``N ** (1 / T)``; 1 is by size, more is
    more alike. Not in LAVIS."""

    output_dir: Path = Path("output")
    """Where the job's directory is made, relative to the working directory."""
    seed: int = 42
    device: str = "auto"
    """``auto`` (CUDA when there is a GPU), ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``."""
    distributed: bool = True
    """Whether to use the processes that torchrun or SLURM started; if not, each works alone."""
    strategy: Literal["none", "ddp", "fsdp", "fsdp_hybrid"] = "ddp"
    """How several processes share the work: each with all of the model (``ddp``), with a part of
    each weight (``fsdp``), or so within each machine alone (``fsdp_hybrid``). Not in LAVIS."""
    shard_size: int | None = None
    """Processes that share one copy of the model with ``fsdp_hybrid``; None for those of one
    machine. Not in LAVIS."""
    sharded_checkpoints: bool | Literal["async"] = False
    """Each process writes its part of a checkpoint, which is a folder then; with ``async`` while
    training goes on. Not in LAVIS."""
    world_size: int = 1
    """Accepted because LAVIS's files carry it; the launcher decides."""
    dist_url: str = "env://"
    """Where the processes meet."""
    dist_backend: str | None = None
    """``nccl``, ``gloo``; None for what fits the device."""
    gpu: int | None = None
    """Accepted because LAVIS's files may carry it; the launcher decides."""
    rank: int | None = None
    """Accepted because LAVIS's files may carry it; the launcher decides."""

    task_options: Any = None
    """The task's own keys, as the dataclass of ``TASK_OPTIONS``; None for its defaults."""

    def __post_init__(self) -> None:
        if self.task_options is None and self.task in TASK_OPTIONS:
            object.__setattr__(self, "task_options", TASK_OPTIONS[self.task]())
        if self.amp and self.precision == "fp32":
            object.__setattr__(self, "precision", "fp16")
        if isinstance(self.compile, bool):  # YAML reads a bare off as false
            object.__setattr__(self, "compile", "model" if self.compile else "off")
        broken = [*_broken_ranges(self), *_broken_rates(self), *_missing_for_training(self)]
        broken += broken_training(self)
        if broken:
            raise ValueError("\n".join(broken))

    @property
    def num_epochs(self) -> int:
        """Epochs to train; of ``runner_iter`` the inner ones.

        Raises:
            ValueError: the run gives no length.
        """
        if self.runner == "runner_iter" and self.max_iters and self.iters_per_inner_epoch:
            return max(1, self.max_iters // self.iters_per_inner_epoch)
        if self.max_epoch is None:
            raise ValueError("run.max_epoch: required for training, but not given")
        return self.max_epoch

    @property
    def resume_from(self) -> str | None:
        """What to go on from, by whichever word."""
        return self.resume if self.resume_ckpt_path is None else self.resume_ckpt_path

    @property
    def save_interval(self) -> tuple[int | None, float | None]:
        """Optimizer steps and seconds of ``save_every``, of which one or both are None."""
        return interval(self.save_every)


def read_run(raw: Mapping[str, Any] | None, *, where: str = "run") -> RunConfig:
    """Read a ``run:`` block, the task's keys included.

    Raises:
        ConfigError: with all problems of both parts.
    """
    given = dict(plain(raw or {}, where=where))
    given.pop("task_options", None)
    own = {f.name for f in dataclasses.fields(RunConfig)} - {"task_options"}
    try:
        options_class = _options_class(given.get("task"))
    except LookupError as error:
        raise ConfigError(f"{where}.task: {error}") from error
    option_names = {f.name for f in dataclasses.fields(options_class)}
    problems = [
        _unknown(key, given.get("task"), own | option_names, where)
        for key in given
        if key not in own | option_names
    ]
    if given.get("amp") is True and given.get("precision") in ("fp32", "tf32"):
        problems.append(f"{where}.amp: true contradicts precision {given['precision']!r}")
    parts: dict[str, Any] = {}
    for cls, names in ((options_class, option_names), (RunConfig, own)):
        part = {k: v for k, v in given.items() if k in names}
        try:
            parts[cls.__name__] = read(cls, part, where=where)
        except ConfigError as error:
            problems += str(error).splitlines()
    if problems:
        raise ConfigError.of(problems)
    run: RunConfig = parts[RunConfig.__name__]
    return dataclasses.replace(run, task_options=parts[options_class.__name__])


def _options_class(task: Any) -> type:
    """The dataclass of a task's own keys, wherever the task is defined."""
    if not isinstance(task, str):
        return NoOptions  # told as a wrong type or a missing key
    if task in TASK_OPTIONS:
        return TASK_OPTIONS[task]
    options = getattr(registry.get_task_class(task), "Options", NoOptions)
    if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        raise LookupError(f"the Options of task {task!r} must be a dataclass, got {options!r}")
    return options


def _unknown(key: str, task: str | None, known: set[str], where: str) -> str:
    owners = [
        name
        for name, options in TASK_OPTIONS.items()
        if key in {f.name for f in dataclasses.fields(options)}
    ]
    if owners and task:
        return f"{where}.{key}: task {task!r} has no such key (it belongs to {', '.join(owners)})"
    return f"{where}.{key}: unknown key{suggest(str(key), known)}"


def _broken_ranges(run: RunConfig) -> list[str]:
    at_least_one = [
        *("max_epoch", "max_iters", "iters_per_inner_epoch"),
        *("batch_size_train", "batch_size_eval", "accum_grad_iters"),
        *("log_freq", "save_freq", "val_freq", "world_size", "shard_size"),
        *("val_every", "keep_last", "limit_train_batches", "limit_eval_samples"),
    ]
    broken = below([(name, getattr(run, name), 1) for name in at_least_one])
    broken += below([(n, getattr(run, n), 0) for n in ("num_workers", "warmup_steps", "seed")])
    if not DEVICE.fullmatch(run.device):
        broken.append(f"device must be auto, cpu, cuda, cuda:<n> or mps, got {run.device!r}")
    if run.amp and run.precision == "tf32":
        broken.append("amp contradicts precision 'tf32'")
    return broken


def _broken_rates(run: RunConfig) -> list[str]:
    factors = {f"lr_scale.{name}": value for name, value in run.lr_scale.items()}
    ratios = {f"train_dataset_ratios.{n}": v for n, v in (run.train_dataset_ratios or {}).items()}
    named = {n: getattr(run, n) for n in ("init_lr", "min_lr", "weight_decay", "lr_decay_rate")}
    broken = below([(name, value, 0) for name, value in {**named, **factors, **ratios}.items()])
    if run.warmup_lr < 0 and run.warmup_lr != -1:
        broken.append(f"warmup_lr ({run.warmup_lr}) must be at least 0, or -1 for init_lr")
    if run.init_lr is not None and run.min_lr > run.init_lr:
        broken.append(f"min_lr ({run.min_lr}) must not be more than init_lr ({run.init_lr})")
    if run.train_dataset_temperature is not None and run.train_dataset_temperature <= 0:
        told = f"train_dataset_temperature ({run.train_dataset_temperature})"
        broken.append(f"{told} must be more than 0")
    if not 0 <= run.beta2 < 1:
        broken.append(f"beta2 ({run.beta2}) must lie in [0, 1)")
    if run.lr_layer_decay <= 0:
        broken.append(f"lr_layer_decay ({run.lr_layer_decay}) must be more than 0")
    return broken


def _missing_for_training(run: RunConfig) -> list[str]:
    if run.evaluate or not run.train_splits:
        return []
    needed = ["lr_sched", "init_lr"]
    needed += {
        "runner_base": ["max_epoch"],
        "runner_iter": ["max_iters", "iters_per_inner_epoch"],
    }.get(run.runner, [])
    if run.lr_sched == "linear_warmup_step_lr":
        needed.append("lr_decay_rate")
    return [f"{n} is required for training" for n in needed if getattr(run, n) is None]
