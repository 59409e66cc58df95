"""What LAVIS's tutorials add: a model, a processor and a data set of one's own, registered."""

import json
import sys

import torch
from lavis.common.registry import registry
from lavis.datasets.builders import load_dataset
from lavis.datasets.builders.base_dataset_builder import BaseDatasetBuilder
from lavis.datasets.datasets.base_dataset import BaseDataset
from lavis.models import load_model
from lavis.models.base_model import BaseModel
from lavis.models.blip_models.blip_outputs import BlipOutput
from lavis.processors import load_processor
from lavis.processors.base_processor import BaseProcessor
from lavis.processors.blip_processors import BlipImageBaseProcessor
from omegaconf import OmegaConf
from PIL import Image
from torch import nn
from torchvision import transforms

model_file, data_file = sys.argv[1:]


@registry.register_model("colour_model")
class ColourModel(BaseModel):
    PRETRAINED_MODEL_CONFIG_DICT = {"base": model_file}

    def __init__(self, width, num_classes=3):
        super().__init__()
        self.layer = nn.Linear(3, width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, samples):
        hidden = self.layer(samples["image"].mean(dim=(2, 3))).relu()
        logits = self.head(hidden)
        loss = nn.functional.cross_entropy(logits, samples["label"])
        return BlipOutput(loss=loss)

    @classmethod
    def from_config(cls, cfg=None):
        model = cls(width=cfg.width, num_classes=cfg.get("num_classes", 3))
        model.load_checkpoint_from_config(cfg)
        return model


@registry.register_processor("colour_words")
class ColourWords(BaseProcessor):
    def __init__(self, suffix=""):
        self.suffix = suffix

    def __call__(self, item):
        return item.lower() + self.suffix

    @classmethod
    def from_config(cls, cfg=None):
        if cfg is None:
            cfg = OmegaConf.create()
        return cls(suffix=cfg.get("suffix", ""))


@registry.register_processor("colour_image")
class ColourImage(BlipImageBaseProcessor):
    def __init__(self, image_size, mean=None, std=None):
        super().__init__(mean=mean, std=std)
        self.transform = transforms.Compose(
            [transforms.Resize((image_size, image_size)), transforms.ToTensor(), self.normalize]
        )

    def __call__(self, item):
        return self.transform(item)

    @classmethod
    def from_config(cls, cfg=None):
        if cfg is None:
            cfg = OmegaConf.create()
        return cls(image_size=cfg.get("image_size", 8))


class ColourDataset(BaseDataset):
    def __init__(self, vis_processor, text_processor, vis_root, ann_paths):
        super().__init__(vis_processor, text_processor, vis_root, ann_paths)
        for ann in self.annotation:
            ann["label"] = int(ann["label"])
        self._add_instance_ids()

    def __getitem__(self, index):
        ann = self.annotation[index]
        image = self.vis_processor(Image.new("RGB", (10, 6), ann["colour"]))
        return {
            "image": image,
            "label": ann["label"],
            "text_input": self.text_processor(ann["colour"]),
            "instance_id": ann["instance_id"],
        }


@registry.register_builder("colours")
class ColourBuilder(BaseDatasetBuilder):
    train_dataset_cls = ColourDataset
    eval_dataset_cls = ColourDataset
    DATASET_CONFIG_DICT = {"default": data_file}


if __name__ == "__main__":
    colours = load_dataset("colours")
    model = load_model("colour_model", "base", is_eval=True)
    words = load_processor("colour_words", OmegaConf.create({"suffix": "!"}))
    image = load_processor("colour_image", {"image_size": 4})
    dataset = colours["train"]
    dataset.set_processors(image, words)
    batch = dataset.collater([dataset[0], dataset[1]])
    output = model(batch)
    output.loss.backward()
    groups = model.get_optimizer_params(weight_decay=0.05)
    torch.optim.AdamW(groups, lr=1e-3).step()
    print(
        json.dumps(
            {
                "texts": batch["text_input"],
                "ids": batch["instance_id"],
                "shape": list(batch["image"].shape),
                "width": model.layer.out_features,
                "params": model.show_n_params(return_str=False),
                "path": model.default_config_path("base"),
                "groups": [len(group["params"]) for group in groups],
                "eval": model.training,
            }
        )
    )
