"""The data sets that the library knows by name, as data.

To add one of a known kind: write its YAML file, then add a line here. Your own needs neither:
``own`` takes the kind, the folder and the annotations from the block itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Benchmark(NamedTuple):
    """A data set by name."""

    kind: str
    """What its samples are: a name of ``datasets.kinds.KINDS``; empty if the block says it."""
    files: Mapping[str, str]
    """The YAML file of each ``type``."""


BENCHMARKS: dict[str, Benchmark] = {
    "aok_vqa": Benchmark("aok_vqa", {"default": "configs/datasets/aokvqa/defaults.yaml"}),
    "avsd_dialogue": Benchmark("avsd", {"default": "configs/datasets/avsd/defaults_dial.yaml"}),
    "chartqa": Benchmark("gqa", {"default": "configs/datasets/chartqa/defaults.yaml"}),
    "clevr": Benchmark("gqa", {"default": "configs/datasets/clevr/defaults.yaml"}),
    "coco_caption": Benchmark("caption", {"default": "configs/datasets/coco/defaults_cap.yaml"}),
    "coco_retrieval": Benchmark(
        "retrieval", {"default": "configs/datasets/coco/defaults_ret.yaml"}
    ),
    "coco_vqa": Benchmark(
        "vqa",
        {
            "default": "configs/datasets/coco/defaults_vqa.yaml",
            "eval": "configs/datasets/coco/eval_vqa.yaml",
        },
    ),
    "conceptual_caption_12m": Benchmark(
        "pairs", {"default": "configs/datasets/conceptual_caption/defaults_12m.yaml"}
    ),
    "conceptual_caption_3m": Benchmark(
        "pairs", {"default": "configs/datasets/conceptual_caption/defaults_3m.yaml"}
    ),
    "didemo_retrieval": Benchmark(
        "video_retrieval", {"default": "configs/datasets/didemo/defaults_ret.yaml"}
    ),
    "easy_vqa": Benchmark("gqa", {"default": "configs/datasets/easy_vqa/defaults.yaml"}),
    "emoji_caption": Benchmark(
        "caption", {"default": "configs/datasets/emoji_caption/defaults.yaml"}
    ),
    "emoji_classification": Benchmark(
        "classification", {"default": "configs/datasets/emoji_classification/defaults.yaml"}
    ),
    "emoji_nlvr": Benchmark("nlvr", {"default": "configs/datasets/emoji_nlvr/defaults.yaml"}),
    "emoji_pretrain": Benchmark(
        "pairs", {"default": "configs/datasets/emoji_pretrain/defaults.yaml"}
    ),
    "emoji_retrieval": Benchmark(
        "retrieval", {"default": "configs/datasets/emoji_retrieval/defaults.yaml"}
    ),
    "emoji_video_qa": Benchmark(
        "video_qa", {"default": "configs/datasets/emoji_videos/defaults_qa.yaml"}
    ),
    "emoji_video_retrieval": Benchmark(
        "video_retrieval", {"default": "configs/datasets/emoji_videos/defaults_ret.yaml"}
    ),
    "emoji_vqa": Benchmark("gqa", {"default": "configs/datasets/emoji_vqa/defaults.yaml"}),
    "flickr30k": Benchmark("retrieval", {"default": "configs/datasets/flickr30k/defaults.yaml"}),
    "flickr30k_caption": Benchmark(
        "caption", {"default": "configs/datasets/flickr30k/defaults_cap.yaml"}
    ),
    "gqa": Benchmark(
        "gqa",
        {
            "default": "configs/datasets/gqa/defaults.yaml",
            "balanced_val": "configs/datasets/gqa/balanced_val.yaml",
            "balanced_testdev": "configs/datasets/gqa/balanced_testdev.yaml",
        },
    ),
    "hateful_memes": Benchmark(
        "classification", {"default": "configs/datasets/hateful_memes/defaults.yaml"}
    ),
    "imagenet": Benchmark("imagenet", {"default": "configs/datasets/imagenet/defaults.yaml"}),
    "laion2B_multi": Benchmark(
        "pairs", {"default": "configs/datasets/laion/defaults_2B_multi.yaml"}
    ),
    "msrvtt_caption": Benchmark(
        "video_caption", {"default": "configs/datasets/msrvtt/defaults_cap.yaml"}
    ),
    "msrvtt_qa": Benchmark("video_qa", {"default": "configs/datasets/msrvtt/defaults_qa.yaml"}),
    "msrvtt_retrieval": Benchmark(
        "video_retrieval", {"default": "configs/datasets/msrvtt/defaults_ret.yaml"}
    ),
    "msvd_caption": Benchmark(
        "video_caption", {"default": "configs/datasets/msvd/defaults_cap.yaml"}
    ),
    "msvd_qa": Benchmark("video_qa", {"default": "configs/datasets/msvd/defaults_qa.yaml"}),
    "nlvr": Benchmark("nlvr", {"default": "configs/datasets/nlvr/defaults.yaml"}),
    "nocaps": Benchmark("caption", {"default": "configs/datasets/nocaps/defaults.yaml"}),
    "ok_vqa": Benchmark("vqa", {"default": "configs/datasets/okvqa/defaults.yaml"}),
    "own": Benchmark("", {}),
    "pope": Benchmark("gqa", {"default": "configs/datasets/pope/defaults.yaml"}),
    "sbu_caption": Benchmark("pairs", {"default": "configs/datasets/sbu_caption/defaults.yaml"}),
    "slake": Benchmark("gqa", {"default": "configs/datasets/slake/defaults.yaml"}),
    "snli_ve": Benchmark("entailment", {"default": "configs/datasets/snli_ve/defaults.yaml"}),
    "textcaps": Benchmark("caption", {"default": "configs/datasets/textcaps/defaults.yaml"}),
    "textvqa": Benchmark("vqa", {"default": "configs/datasets/textvqa/defaults.yaml"}),
    "vatex_caption": Benchmark(
        "video_caption", {"default": "configs/datasets/vatex/defaults_cap.yaml"}
    ),
    "vg_caption": Benchmark("pairs", {"default": "configs/datasets/vg/defaults_caption.yaml"}),
    "vg_vqa": Benchmark("vg_vqa", {"default": "configs/datasets/vg/defaults_vqa.yaml"}),
    "visdial": Benchmark("visdial", {"default": "configs/datasets/visdial/defaults_dial.yaml"}),
    "vizwiz_caption": Benchmark(
        "caption", {"default": "configs/datasets/vizwiz/defaults_cap.yaml"}
    ),
    "vizwiz_vqa": Benchmark("vqa", {"default": "configs/datasets/vizwiz/defaults_vqa.yaml"}),
    "vsr": Benchmark(
        "classification",
        {
            "default": "configs/datasets/vsr/defaults.yaml",
            "zeroshot": "configs/datasets/vsr/zeroshot.yaml",
        },
    ),
    "winoground": Benchmark("winoground", {"default": "configs/datasets/winoground/defaults.yaml"}),
}
