"""A training script in LAVIS's style, with a task of one's own."""

import argparse
import json
import sys

import lavis.tasks as tasks
import torch
from lavis.common.config import Config
from lavis.common.dist_utils import get_rank, init_distributed_mode, main_process
from lavis.common.logger import setup_logger
from lavis.common.optims import LinearWarmupCosineLRScheduler  # noqa: F401
from lavis.common.registry import registry
from lavis.common.utils import now
from lavis.datasets.builders import *  # noqa: F403
from lavis.processors import *  # noqa: F403
from lavis.runners import *  # noqa: F403
from lavis.tasks.base_task import BaseTask

arguments = sys.argv[1:]
sys.argv[1:] = arguments[-2:]
import own_parts  # noqa: E402, F401  # registers the model, the processors and the data set

CALLS = []


@registry.register_task("naming")
class NamingTask(BaseTask):
    def __init__(self, num_beams, report_metric=True):
        super().__init__()
        self.num_beams = num_beams
        self.report_metric = report_metric

    @classmethod
    def setup_task(cls, cfg):
        run_cfg = cfg.run_cfg
        return cls(num_beams=run_cfg.num_beams, report_metric=run_cfg.get("report_metric", True))

    def train_step(self, model, samples):
        CALLS.append((samples["epoch"], samples["iters"]))
        return super().train_step(model=model, samples=samples)

    def valid_step(self, model, samples):
        rows = []
        for i, instance_id in enumerate(samples["instance_id"]):
            sample = {key: value[i : i + 1] for key, value in samples.items()}
            rows.append({"id": instance_id, "loss": model(sample).loss.item()})
        return rows

    def before_evaluation(self, model, dataset, **kwargs):
        CALLS.append("before")

    def after_evaluation(self, val_result, split_name, epoch, **kwargs):
        CALLS.append((split_name, len(val_result)))
        return {"agg_metrics": -sum(row["loss"] for row in val_result)}


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-path", required=True)
    parser.add_argument("--options", nargs="+")
    return parser.parse_args(arguments[:-2])


@main_process
def tell(result):
    print(json.dumps(result))


def main():
    job_id = now()
    cfg = Config(parse_args())
    init_distributed_mode(cfg.run_cfg)
    torch.manual_seed(cfg.run_cfg.seed + get_rank())
    setup_logger()
    cfg.pretty_print()
    task = tasks.setup_task(cfg)
    datasets = task.build_datasets(cfg)
    model = task.build_model(cfg)
    model.head.bias.data.fill_(7.0)
    runner_cls = registry.get_runner_class(cfg.run_cfg.get("runner", "runner_base"))
    runner = runner_cls(cfg=cfg, job_id=job_id, task=task, model=model, datasets=datasets)
    runner.train()
    again = runner.evaluate(skip_reload=True)
    tell(
        {
            "again": again["val"]["agg_metrics"],
            "calls": CALLS,
            "beams": task.num_beams,
            "bias": model.head.bias.mean().item(),
            "same": runner.model is model,
            "device": str(cfg.run_cfg.device),
        }
    )


if __name__ == "__main__":
    main()
