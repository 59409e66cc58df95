"""What LAVIS's documentation shows first: load, preprocess, generate, answer, extract, match."""

import json
import sys

import lavis
import numpy as np
import torch
from lavis.common.gradcam import getAttMap
from lavis.common.registry import registry
from lavis.common.utils import get_cache_path, is_url
from lavis.datasets.builders import dataset_zoo, load_dataset
from lavis.datasets.data_utils import prepare_sample
from lavis.models import load_model, load_model_and_preprocess, model_zoo
from lavis.models.blip_models.blip_caption import BlipCaption
from lavis.models.blip_models.blip_image_text_matching import compute_gradcam
from lavis.models.blip_models.blip_outputs import BlipOutput, BlipOutputFeatures
from lavis.processors import load_processor
from lavis.processors.blip_processors import BlipCaptionProcessor, BlipImageEvalProcessor

vqa_folder, features_folder, itm_folder = sys.argv[1:]
device = torch.device("cuda") if torch.cuda.is_available() else "cpu"

emoji = load_dataset("emoji_caption")
raw_image = emoji["val"][0]["image"]

model, vis_processors, _ = load_model_and_preprocess(
    name="blip_caption", model_type="tiny_emoji", is_eval=True, device=device
)
image = vis_processors["eval"](raw_image).unsqueeze(0).to(device)
captions = model.generate({"image": image})
nucleus = model.generate({"image": image}, use_nucleus_sampling=True, num_captions=3)
assert isinstance(model, BlipCaption)
out = model(prepare_sample({"image": image, "text_input": ["a dog"]}))
assert isinstance(out, BlipOutput)
assert out.loss == out["loss"]

model, vis_processors, txt_processors = load_model_and_preprocess(
    name="blip_vqa", model_type=vqa_folder, is_eval=True, device=device
)
image = vis_processors["eval"](raw_image).unsqueeze(0).to(device)
question = txt_processors["eval"]("What animal is this?")
samples = {"image": image, "text_input": question}
answers = model.predict_answers(samples=samples, inference_method="generate", max_len=4)
ranked = model.predict_answers(
    samples, answer_list=["cat", "dog", "bird"], num_ans_candidates=3, inference_method="rank"
)

model, vis_processors, txt_processors = load_model_and_preprocess(
    name="blip_feature_extractor", model_type=features_folder, is_eval=True, device=device
)
image = vis_processors["eval"](raw_image).unsqueeze(0).to(device)
sample = {"image": image, "text_input": [txt_processors["eval"]("a red cat")]}
features_multimodal = model.extract_features(sample)
features_image = model.extract_features(sample, mode="image")
features_text = model.extract_features(sample, mode="text")
assert isinstance(features_image, BlipOutputFeatures)
similarity = features_image.image_embeds_proj[:, 0, :] @ features_text.text_embeds_proj[:, 0, :].t()

model, vis_processors, txt_processors = load_model_and_preprocess(
    "blip_image_text_matching", itm_folder, device=device, is_eval=True
)
img = vis_processors["eval"](raw_image).unsqueeze(0).to(device)
txt = txt_processors["eval"]("a red cat")
itm_output = model({"image": img, "text_input": txt}, match_head="itm")
itm_scores = torch.nn.functional.softmax(itm_output, dim=1)
norm_img = np.float32(raw_image.convert("RGB").resize((96, 64))) / 255
txt_tokens = model.tokenizer(txt, return_tensors="pt").to(device)
gradcam, _ = compute_gradcam(model, img, txt, txt_tokens, block_num=0)
avg_gradcam = getAttMap(norm_img, gradcam[0][1], blur=True)
words = [model.tokenizer.decode([token_id]) for token_id in txt_tokens.input_ids[0][1:-1]]
maps = [getAttMap(norm_img, one.numpy(), overlap=False) for one in gradcam[0][2:-1]]

processor = load_processor("blip_image_eval").build(image_size=32)
assert isinstance(processor, BlipImageEvalProcessor)
assert BlipCaptionProcessor(prompt="a picture of ")("A Dog!") == "a picture of a dog"
assert "blip_caption" in registry.list_models()
assert registry.get_model_class("blip_caption") is BlipCaption
assert load_model("blip_caption", "tiny_emoji").training
assert "coco_caption" in dataset_zoo.get_names()
assert get_cache_path("coco").endswith("coco")
assert is_url("https://example.com")

print(
    json.dumps(
        {
            "captions": captions,
            "sampled": len(nucleus),
            "answers": answers,
            "ranked": ranked,
            "shapes": [list(features_multimodal.multimodal_embeds.shape), list(avg_gradcam.shape)],
            "similarity": similarity.item(),
            "match": itm_scores[:, 1].item(),
            "words": words,
            "maps": len(maps),
            "coloured": float(np.abs(avg_gradcam - norm_img).max()),
            "models": str(model_zoo).count("\n") > 10,
            "package": lavis.__name__,
        }
    )
)
