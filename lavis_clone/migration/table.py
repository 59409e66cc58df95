"""What each module path of LAVIS 1.0.2 holds here, and what to use in place of what is not here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_MODELS = "lavis_clone.models"
_KINDS = "lavis_clone.datasets.kinds"
_BUILDERS = "lavis_clone.datasets.builders"
_COMMON = "lavis_clone.common"
_HERE = "lavis_clone.migration"


class Place(NamedTuple):
    """What a module of LAVIS's stands for."""

    home: str | None = None
    """A module of ours, whose names are found in it, too."""
    names: Mapping[str, str] = {}  # noqa: RUF012  # a default of a NamedTuple, which is not changed
    """Name -> ``module:attribute``."""


def _from(module: str, *names: str, **renamed: str) -> dict[str, str]:
    """Names that a module has, or has under another name."""
    own = {name: f"{module}:{name}" for name in names}
    return own | {theirs: f"{module}:{ours}" for theirs, ours in renamed.items()}


def _outputs(family: str) -> dict[str, str]:
    """LAVIS's outputs of a family: ours are one set for all."""
    ours = {
        "Similarity": "Similarities",
        "IntermediateOutput": "IntermediateOutput",
        "Output": "ModelOutput",
        "OutputWithLogits": "ModelOutput",
        "OutputFeatures": "FeatureOutput",
    }
    renamed = {f"{family}{theirs}": name for theirs, name in ours.items()}
    return _from(f"{_MODELS}.outputs", **renamed)


_IMAGES = _from(
    "lavis_clone.processors.image",
    *("BlipImageTrainProcessor", "BlipImageEvalProcessor", "Blip2ImageTrainProcessor"),
)
_TEXTS = _from("lavis_clone.processors.text", "BlipCaptionProcessor", "BlipQuestionProcessor")
_CLIP_IMAGES = _from(
    "lavis_clone.processors.image", "ClipImageTrainProcessor", "ClipImageEvalProcessor"
)
_VIDEOS = _from(
    "lavis_clone.processors.video",
    *("AlproVideoBaseProcessor", "AlproVideoTrainProcessor", "AlproVideoEvalProcessor"),
)
_DIALOGUES = _from(
    "lavis_clone.processors.dialogue", "GPTDialogueProcessor", "GPTVideoFeatureProcessor"
)
_PROCESSOR_BASES = _from(f"{_HERE}.processors", "BaseProcessor")
_IMAGE_BASES = _from(f"{_HERE}.processors", "BlipImageBaseProcessor")
_TASKS = _from(
    f"{_HERE}.tasks",
    *("BaseTask", "CaptionTask", "DialogueTask", "ImageTextPretrainTask"),
    *("MultimodalClassificationTask", "RetrievalTask", "VQATask", "AOKVQATask", "GQATask"),
)
_DATASET_BASES = _from(f"{_HERE}.datasets", "BaseDataset") | _from(
    "lavis_clone.datasets.base", "ConcatDataset"
)
_BUILDER_BASE = _from(f"{_BUILDERS}.base", "BaseDatasetBuilder", "load_dataset_config")
_REGISTRY = {"registry": f"{_HERE}.registry:registry"}

MODULES: Mapping[str, Place] = {
    "": Place("lavis_clone", _REGISTRY | {"setup_task": f"{_HERE}.tasks:setup_task"}),
    # --- models -----------------------------------------------------------------------------
    "models": Place(_MODELS, _from(f"{_HERE}.models", "BaseModel")),
    "models.base_model": Place(None, _from(f"{_HERE}.models", "BaseModel", "tile")),
    "models.blip_models": Place(_MODELS),
    "models.blip_models.blip": Place(
        None, _from(f"{_MODELS}.vision_text", BlipBase="VisionTextModel")
    ),
    "models.blip_models.blip_caption": Place(f"{_MODELS}.blip.caption"),
    "models.blip_models.blip_classification": Place(f"{_MODELS}.blip.classification"),
    "models.blip_models.blip_feature_extractor": Place(f"{_MODELS}.blip.features"),
    "models.blip_models.blip_image_text_matching": Place(
        f"{_MODELS}.blip.matching", _from(f"{_HERE}.gradcam", "compute_gradcam")
    ),
    "models.blip_models.blip_nlvr": Place(f"{_MODELS}.blip.nlvr"),
    "models.blip_models.blip_outputs": Place(None, _outputs("Blip")),
    "models.blip_models.blip_pretrain": Place(f"{_MODELS}.blip.pretrain"),
    "models.blip_models.blip_retrieval": Place(f"{_MODELS}.blip.retrieval"),
    "models.blip_models.blip_vqa": Place(f"{_MODELS}.blip.vqa"),
    "models.albef_models": Place(
        _MODELS, _from(f"{_MODELS}.vision_text", AlbefBase="VisionTextModel")
    ),
    "models.albef_models.albef_classification": Place(f"{_MODELS}.albef.classification"),
    "models.albef_models.albef_feature_extractor": Place(f"{_MODELS}.albef.features"),
    "models.albef_models.albef_nlvr": Place(f"{_MODELS}.albef.nlvr"),
    "models.albef_models.albef_outputs": Place(None, _outputs("Albef")),
    "models.albef_models.albef_pretrain": Place(f"{_MODELS}.albef.pretrain"),
    "models.albef_models.albef_retrieval": Place(f"{_MODELS}.albef.retrieval"),
    "models.albef_models.albef_vqa": Place(f"{_MODELS}.albef.vqa"),
    "models.alpro_models": Place(_MODELS),
    "models.alpro_models.alpro_outputs": Place(None, _outputs("Alpro")),
    "models.alpro_models.alpro_qa": Place(f"{_MODELS}.alpro.qa"),
    "models.alpro_models.alpro_retrieval": Place(f"{_MODELS}.alpro.retrieval"),
    "models.clip_models": Place(_MODELS),
    "models.clip_models.clip_outputs": Place(None, _outputs("Clip")),
    "models.clip_models.loss": Place(
        None, _from(f"{_MODELS}.clip.loss", "Contrast", ClipLoss="Contrast")
    ),
    "models.clip_models.model": Place(None, _from(f"{_MODELS}.clip.model", "CLIP")),
    "models.gpt_models": Place(_MODELS),
    "models.gpt_models.gpt_dialogue": Place(f"{_MODELS}.dialogue.model"),
    # --- processors -------------------------------------------------------------------------
    "processors": Place("lavis_clone.processors", _PROCESSOR_BASES | _IMAGE_BASES),
    "processors.alpro_processors": Place(None, _VIDEOS),
    "processors.base_processor": Place(None, _PROCESSOR_BASES),
    "processors.blip_processors": Place(None, _IMAGES | _TEXTS | _PROCESSOR_BASES | _IMAGE_BASES),
    "processors.clip_processors": Place(None, _CLIP_IMAGES | _IMAGE_BASES),
    "processors.gpt_processors": Place(None, _DIALOGUES),
    "processors.randaugment": Place(
        None, _from("lavis_clone.processors.augment", "RandomAugment", "VideoRandomAugment")
    ),
    # --- data sets --------------------------------------------------------------------------
    "datasets": Place(),
    "datasets.builders": Place(_BUILDERS, _BUILDER_BASE | {"registry": _REGISTRY["registry"]}),
    "datasets.builders.base_dataset_builder": Place(None, _BUILDER_BASE),
    "datasets.data_utils": Place(
        None,
        _from("lavis_clone.processors.video", "load_video")
        | _from(
            f"{_HERE}.datasets",
            "apply_to_sample",
            "concat_datasets",
            "move_to_cuda",
            "prepare_sample",
        ),
    ),
    "datasets.datasets": Place(),
    "datasets.datasets.base_dataset": Place(None, _DATASET_BASES),
    "datasets.datasets.caption_datasets": Place(
        None, _from(f"{_KINDS}.caption", "CaptionDataset", "CaptionEvalDataset")
    ),
    "datasets.datasets.coco_caption_datasets": Place(
        None,
        _from(
            f"{_KINDS}.caption",
            *("CaptionDataset", "CaptionEvalDataset"),
            COCOCapDataset="CaptionDataset",
            COCOCapEvalDataset="CaptionEvalDataset",
            NoCapsEvalDataset="CaptionEvalDataset",
        ),
    ),
    "datasets.datasets.vqa_datasets": Place(
        None, _from(f"{_KINDS}.vqa", VQADataset="VqaDataset", VQAEvalDataset="VqaEvalDataset")
    ),
    "datasets.datasets.coco_vqa_datasets": Place(
        None,
        _from(f"{_KINDS}.vqa", COCOVQADataset="VqaDataset", COCOVQAEvalDataset="VqaEvalDataset"),
    ),
    "datasets.datasets.aok_vqa_datasets": Place(
        None,
        _from(
            f"{_KINDS}.vqa", AOKVQADataset="AokVqaDataset", AOKVQAEvalDataset="AokVqaEvalDataset"
        ),
    ),
    "datasets.datasets.gqa_datasets": Place(
        None, _from(f"{_KINDS}.vqa", GQADataset="GqaDataset", GQAEvalDataset="GqaEvalDataset")
    ),
    "datasets.datasets.vg_vqa_datasets": Place(
        None, _from(f"{_KINDS}.vqa", VGVQADataset="VgVqaDataset")
    ),
    "datasets.datasets.retrieval_datasets": Place(
        None,
        _from(f"{_KINDS}.retrieval", "RetrievalDataset", "RetrievalEvalDataset")
        | _from(f"{_KINDS}.video", "VideoRetrievalDataset", "VideoRetrievalEvalDataset"),
    ),
    "datasets.datasets.nlvr_datasets": Place(
        None, _from(f"{_KINDS}.nlvr", NLVRDataset="NlvrDataset", NLVREvalDataset="NlvrEvalDataset")
    ),
    "datasets.datasets.snli_ve_datasets": Place(
        None,
        _from(
            f"{_KINDS}.classification",
            SNLIVisualEntialmentDataset="EntailmentDataset",
            SNLIVisualEntailmentDataset="EntailmentDataset",
        ),
    ),
    "datasets.datasets.imagefolder_dataset": Place(
        None, _from(f"{_KINDS}.image_folder", "ImageFolderDataset")
    ),
    "datasets.datasets.image_text_pair_datasets": Place(
        None, _from(f"{_KINDS}.pairs", ImageTextPairDataset="PairDataset")
    ),
    "datasets.datasets.dialogue_datasets": Place(
        None, _from(f"{_KINDS}.dialogue", "DialogueDataset", DialogueEvalDataset="AvsdEvalDataset")
    ),
    "datasets.datasets.video_caption_datasets": Place(
        None, _from(f"{_KINDS}.video", "VideoCaptionDataset", "VideoCaptionEvalDataset")
    ),
    "datasets.datasets.video_vqa_datasets": Place(
        None, _from(f"{_KINDS}.video", "VideoQADataset", "VideoQAEvalDataset")
    ),
    # --- tasks and runners ------------------------------------------------------------------
    "tasks": Place(None, _TASKS | _from(f"{_HERE}.tasks", "setup_task")),
    "tasks.base_task": Place(None, _from(f"{_HERE}.tasks", "BaseTask")),
    "tasks.captioning": Place(None, _from(f"{_HERE}.tasks", "CaptionTask", "BaseTask")),
    "tasks.dialogue": Place(None, _from(f"{_HERE}.tasks", "DialogueTask", "BaseTask")),
    "tasks.image_text_pretrain": Place(
        None, _from(f"{_HERE}.tasks", "ImageTextPretrainTask", "BaseTask")
    ),
    "tasks.multimodal_classification": Place(
        None, _from(f"{_HERE}.tasks", "MultimodalClassificationTask", "BaseTask")
    ),
    "tasks.retrieval": Place(None, _from(f"{_HERE}.tasks", "RetrievalTask", "BaseTask")),
    "tasks.vqa": Place(
        None, _from(f"{_HERE}.tasks", "VQATask", "AOKVQATask", "GQATask", "BaseTask")
    ),
    "runners": Place(None, _from(f"{_HERE}.runners", "RunnerBase", "RunnerIter")),
    "runners.runner_base": Place(None, _from(f"{_HERE}.runners", "RunnerBase")),
    "runners.runner_iter": Place(None, _from(f"{_HERE}.runners", "RunnerIter")),
    # --- common -----------------------------------------------------------------------------
    "common": Place(),
    "common.config": Place(None, _from(f"{_HERE}.config", "Config")),
    "common.dist_utils": Place(
        None,
        _from(
            f"{_HERE}.utils",
            *("download_cached_file", "get_dist_info", "get_rank", "get_world_size"),
            *("init_distributed_mode", "is_dist_avail_and_initialized", "is_main_process"),
            "main_process",
        ),
    ),
    "common.gradcam": Place(None, _from(f"{_HERE}.gradcam", "getAttMap")),
    "common.logger": Place(
        None,
        _from(f"{_COMMON}.meters", "MetricLogger", "SmoothedValue")
        | _from(f"{_HERE}.utils", "setup_logger"),
    ),
    "common.optims": Place(
        None,
        _from(
            f"{_COMMON}.schedules",
            LinearWarmupCosineLRScheduler="linear_warmup_cosine_lr",
            LinearWarmupStepLRScheduler="linear_warmup_step_lr",
            ConstantLRScheduler="constant_lr",
        ),
    ),
    "common.registry": Place(None, _REGISTRY),
    "common.utils": Place(
        None,
        _from(
            f"{_HERE}.utils",
            *("get_abs_path", "get_cache_path", "is_convertible_to_int", "is_url", "load_json"),
            *("makedir", "now"),
        ),
    ),
}
"""LAVIS's path, without ``lavis.``, and what it stands for."""

_LATER = "BLIP-2 and what came with it are not here yet"
_TOWERS = "the one {} is {}; its sizes are fields of the model block ({})"

ABSENT: Mapping[str, str] = {
    "models.beats": _LATER,
    "models.blip2_models": _LATER,
    "models.blip_diffusion_models": _LATER,
    "models.img2prompt_models": "Img2LLM-VQA is not here yet",
    "models.pnp_vqa_models": "PnP-VQA is not here yet",
    "models.ulip_models": _LATER,
    "models.clip_vit": _LATER,
    "models.eva_vit": _LATER,
    "models.med": _TOWERS.format("BERT", "lavis_clone.models.encoders.bert", "med"),
    "models.vit": _TOWERS.format("ViT", "lavis_clone.models.encoders.vit", "vit"),
    "models.timesformer": _TOWERS.format(
        "TimeSformer", "lavis_clone.models.encoders.timesformer", "timesformer"
    ),
    "models.base_model.MomentumDistilationMixin": "use lavis_clone.models.heads.momentum",
    "models.base_model.SharedQueueMixin": "use lavis_clone.models.heads.contrastive",
    "models.base_model.all_gather_with_grad": "use lavis_clone.common.dist.gather",
    "models.base_model.concat_all_gather": "use lavis_clone.common.dist.gather",
    "models.clip_models.tokenizer": "use the model's tokenize(texts)",
    "models.clip_models.transform": "use the processors clip_image_train and clip_image_eval",
    "processors.audio_processors": _LATER,
    "processors.blip_diffusion_processors": _LATER,
    "processors.functional_video": "use torchvision.transforms.v2.functional",
    "processors.instruction_text_processors": _LATER,
    "processors.transforms_video": "use torchvision.transforms.v2",
    "processors.ulip_processors": _LATER,
    "datasets.data_utils.reorg_datasets_by_split": "lavis_clone.job.build_runner does it",
    "datasets.datasets.dataloader_utils": "use lavis_clone.datasets.loaders.build_loader",
    "datasets.datasets.laion_dataset": "laion2B_multi is not here",
    "datasets.download_scripts": "use the command lavis-clone download",
    "tasks.vqa_reading_comprehension": "PnP-VQA is not here yet",
    "common.annotator": _LATER,
    "common.config.ConfigValidator": "a run is checked by lavis_clone.common.config.load_config",
    "common.dist_utils.setup_for_distributed": "there is no need of it: logs come from one process",
    "common.vqa_tools": "use lavis_clone.tasks.metrics.vqa",
}
"""LAVIS's path of what is not here, and what to do about it."""

_ABSENT_STARTS = {
    "Blip2": _LATER,
    "BlipDiffusion": _LATER,
    "Img2Prompt": "Img2LLM-VQA is not here yet",
    "PNP": "PnP-VQA is not here yet",
}


def absent_name(name: str) -> str:
    """What to do about a name that LAVIS had in many places; "" for others."""
    if name == "Blip2ImageTrainProcessor":
        return ""
    if name.endswith("_builder"):
        return "use registry.get_builder_class(name)"
    for start, advice in _ABSENT_STARTS.items():
        if name.startswith(start):
            return advice
    return ""
