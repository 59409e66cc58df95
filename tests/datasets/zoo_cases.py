"""Small files in the published form of each data set, and what a batch of them must hold.

``files`` are written below the cache: JSON, or text if it is a str. ``media`` are drawn there.
In what is expected a shape stands for a tensor of more than two axes, a list for all else.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

PICTURES = (2, 3, 4, 4)
VIDEOS = (2, 3, 2, 16, 16)


class Case(NamedTuple):
    """One data set."""

    files: dict[str, Any]
    media: list[str]
    batches: dict[str, dict[str, Any]]
    """By split: what a batch of the first two samples holds."""


def lines(*records: dict[str, Any]) -> str:
    """A file of JSON lines."""
    return "".join(json.dumps(record) + "\n" for record in records)


def captions(place: str, files: tuple[str, str], *splits: str) -> dict[str, Any]:
    """Records as LAVIS publishes captions: single ones to train on, five to evaluate with."""
    train = [
        {"caption": f"A {word}.", "image": file, "image_id": f"i_{number}"}
        for number, (word, file) in enumerate(zip(("cat", "dog"), files, strict=True))
    ]
    others = [{"image": file, "caption": ["One.", "Two.", "3.", "4.", "5."]} for file in files]
    names = {"train": train, "val": others, "test": others}
    return {place.format(split): names[split] for split in splits}


EVAL_IDS = {"instance_id": ["0", "1"]}
TRAIN_CAPTIONS = {"image": PICTURES, "text_input": ["a cat", "a dog"], "image_id": [0, 1]}
COCO_FILES = (
    "val2014/COCO_val2014_000000522418.jpg",
    "train2014/COCO_train2014_000000318219.jpg",
)
COCO_MEDIA = [f"coco/images/{file}" for file in COCO_FILES]
COCO_EVAL = {"image": PICTURES, "image_id": ["000000522418", "000000318219"], **EVAL_IDS}
PAIRS = {"image": PICTURES, "text_input": ["a cat", "a dog"]}


def pairs(annotations: str, images: str) -> Case:
    """Pictures with a caption each, to pre-train on."""
    records = [{"image": "a.jpg", "caption": "A cat."}, {"image": "b/c.jpg", "caption": "A dog!"}]
    media = [f"{images}/a.jpg", f"{images}/b/c.jpg"]
    return Case({annotations: records}, media, {"train": PAIRS})


def asked(*files: str, **more: list[Any]) -> list[dict[str, Any]]:
    """A question about each file; other fields have a value for each."""
    return [
        {"image": file, "question": f"What is {number}?", "question_id": 70 + number}
        | {key: values[number] for key, values in more.items()}
        for number, file in enumerate(files)
    ]


QUESTIONS = {"image": PICTURES, "text_input": ["what is 0?", "what is 1?"]}
QUESTION_IDS = {"question_id": [70, 71], **EVAL_IDS}
TEN = ["yes"] * 6 + ["no"] * 4
TRAIN_ANSWERS = {
    **QUESTIONS,
    "answer": ["yes", "no", "two"],
    "weight": [0.6, 0.4, 1.0],
    "n_answers": [2, 1],
}
EVAL_QUESTIONS = {**QUESTIONS, **QUESTION_IDS}
ONE_ANSWER = {**QUESTIONS, "answer": ["yes", "two"], "weight": [1.0, 1.0], "n_answers": [1, 1]}
KNOWN_ANSWER = {**EVAL_QUESTIONS, "answer": ["yes", "two"]}


def vqa_v2(folder: str, *names: str) -> dict[str, Any]:
    """Files to evaluate with as VQAv2 and OK-VQA come: records, answers, questions, annotations."""
    numbers = [{"question_id": 70 + n, "image_id": n} for n in (0, 1)]
    contents = [
        asked(*COCO_FILES),
        ["yes", "no", "two"],
        {"questions": [{**n, "question": "What?"} for n in numbers]},
        {
            "annotations": [
                {**n, "answers": [{"answer": a} for a in TEN], "answer_type": "yes/no"}
                for n in numbers
            ]
        },
    ]
    return {f"{folder}/{n}.json": c for n, c in zip(names, contents, strict=False)}


def video_captions(folder: str, media: str) -> Case:
    """MSR-VTT, MSVD, VATEX."""
    train = [{"video": "a.mp4", "caption": "A cat.", "image_id": 0}]
    train += [{"video": "b.mp4", "caption": "A dog.", "image_id": 1}]
    others = [{"video": f"{n}.mp4", "caption": ["One.", "Two."], "image_id": n} for n in "ab"]
    files = {f"{folder}/cap_{s}.json": others for s in ("val", "test")}
    files[f"{folder}/cap_train.json"] = train
    seen = {"video": VIDEOS, "num_frames": [2, 2]}
    evaluated = {**seen, "image_id": ["a", "b"], **EVAL_IDS}
    batches = {
        "train": {**seen, "text_input": ["a cat", "a dog"], "image_id": [0, 1]},
        **{"val": evaluated, "test": evaluated},
    }
    return Case(files, [f"{media}/a.mp4", f"{media}/b.mp4"], batches)


def video_retrieval(folder: str, media: str) -> Case:
    """MSR-VTT, DiDeMo."""
    train = [{"video": "a.mp4", "caption": "A cat."}, {"video": "b.mp4", "caption": "A dog."}]
    others = [{"video": f"{n}.mp4", "caption": ["One."]} for n in "ab"]
    files = {f"{folder}/retrieval_{s}.json": others for s in ("val", "test")}
    files[f"{folder}/retrieval_train.json"] = train
    seen = {"video": VIDEOS, "num_frames": [2, 2]}
    batches = {
        "train": {**seen, "text_input": ["a cat", "a dog"], "image_id": [0, 1]},
        **{split: {**seen, "index": [0, 1]} for split in ("val", "test")},
    }
    return Case(files, [f"{media}/a.mp4", f"{media}/b.mp4"], batches)


def video_qa(folder: str, media: str) -> Case:
    """MSRVTT-QA, MSVD-QA."""
    records = [
        {"video": "a.mp4", "question": "What is 0?", "answer": "cat", "question_id": 70},
        {"video": "b.mp4", "question": "What is 1?", "answer": "gnu", "question_id": 71},
    ]
    files: dict[str, Any] = {f"{folder}/qa_{s}.json": records for s in ("train", "val", "test")}
    files[f"{folder}/qa_ans2label.json"] = {"cat": 0, "dog": 1}
    train = {"video": VIDEOS, "num_frames": [2, 2], "text_input": QUESTIONS["text_input"]}
    train |= {"answers": [0, 2], **QUESTION_IDS}  # one more than the last is no class
    evaluated = {**train, "answer": ["cat", "gnu"]}
    batches = {"train": train, "val": evaluated, "test": evaluated}
    return Case(files, [f"{media}/a.mp4", f"{media}/b.mp4"], batches)


def dialogue(image_id: str) -> dict[str, Any]:
    """One of AVSD's, with two turns."""
    turns = [{"question": f"q{n} ?", "answer": f"a{n}"} for n in (0, 1)]
    return {"image_id": image_id, "caption": "a man", "summary": "he eats", "dialog": turns}


COCO_CAPTION = captions(
    "coco/annotations/coco_karpathy_{}.json", COCO_FILES, "train", "val", "test"
)
RETRIEVED = {"image": PICTURES, "index": [0, 1]}
FLICKR = ("flickr30k-images/1.jpg", "flickr30k-images/2.jpg")
GQA = {
    f"gqa/annotations/{name}_balanced_questions.json": asked(
        "1.jpg", "2.jpg", answer=["yes", "two"]
    )
    for name in ("train", "val", "testdev")
} | {"gqa/annotations/test_balanced_questions.json": asked("1.jpg", "2.jpg")}
NLVR = [
    {"images": ["dev/a-img0.png", "dev/a-img1.png"], "sentence": "Two cats.", "label": "True"},
    {"images": ["dev/b-img0.png", "dev/b-img1.png"], "sentence": "A dog!", "label": "False"},
]
NLVR_BATCH = {"image0": PICTURES, "image1": PICTURES, "text_input": ["two cats", "a dog"]}
NLVR_BATCH |= {"label": [1, 0], **EVAL_IDS}
ENTAILED = [
    {"image": "1", "sentence": "Two cats.", "label": "entailment"},
    {"image": "2", "sentence": "A dog.", "label": "contradiction"},
]
ENTAILMENT = {"image": PICTURES, "text_input": ["two cats", "a dog"], "label": [2, 0]}
ENTAILMENT |= {"image_id": ["1", "2"], **EVAL_IDS}
AOK = {"choices": [["a", "b"], ["c", "d"]], "correct_choice_idx": [1, 0]}
DIRECT = {"direct_answers": [TEN, ["two"]]}

LAVIS = {
    "coco_caption": Case(
        COCO_CAPTION, COCO_MEDIA, {"train": TRAIN_CAPTIONS, "val": COCO_EVAL, "test": COCO_EVAL}
    ),
    "coco_retrieval": Case(
        COCO_CAPTION,
        COCO_MEDIA,
        {"train": {**TRAIN_CAPTIONS, **EVAL_IDS}, "val": RETRIEVED, "test": RETRIEVED},
    ),
    "coco_vqa": Case(
        {
            "coco/annotations/vqa_train.json": asked(COCO_FILES[0], answer=[TEN]),
            "coco/annotations/vqa_val.json": [{**asked(*COCO_FILES)[1], "answer": ["two"]}],
            "coco/annotations/vqa_test.json": asked(*COCO_FILES),
            **vqa_v2(
                "coco/annotations",
                *("vqa_val_eval", "answer_list", "v2_OpenEnded_mscoco_val2014_questions"),
                "v2_mscoco_val2014_annotations",
            ),
        },
        COCO_MEDIA,
        {"train": TRAIN_ANSWERS, "val": EVAL_QUESTIONS, "test": EVAL_QUESTIONS},
    ),
    "ok_vqa": Case(
        {
            "okvqa/annotations/okvqa_train.json": asked(*COCO_FILES, answer=[TEN, ["two"]]),
            **vqa_v2(
                "okvqa/annotations",
                *("vqa_val_eval", "answer_list", "OpenEnded_mscoco_val2014_questions"),
                "mscoco_val2014_annotations",
            ),
        },
        COCO_MEDIA,
        {"train": TRAIN_ANSWERS, "test": EVAL_QUESTIONS},
    ),
    "aok_vqa": Case(
        {
            "aokvqa/annotations/aokvqa_v1p0_train.json": asked(*COCO_FILES, **AOK, **DIRECT),
            "aokvqa/annotations/aokvqa_v1p0_val.json": asked(*COCO_FILES, **AOK, **DIRECT),
            "aokvqa/annotations/aokvqa_v1p0_test.json": asked(*COCO_FILES, choices=AOK["choices"]),
            "aokvqa/annotations/specialized_vocab_train_lavis.json": ["yes", "no", "two"],
        },
        COCO_MEDIA,
        {
            "train": TRAIN_ANSWERS,
            "val": {**EVAL_QUESTIONS, **AOK, **DIRECT},
            "test": {
                **EVAL_QUESTIONS,
                **{"choices": AOK["choices"], "correct_choice_idx": [None, None]},
                "direct_answers": [None, None],
            },
        },
    ),
    "gqa": Case(
        GQA,
        ["gqa/images/1.jpg", "gqa/images/2.jpg"],
        {"train": ONE_ANSWER, "val": KNOWN_ANSWER, "test": EVAL_QUESTIONS},
    ),
    "vg_caption": pairs("vg/annotations/vg_caption.json", "vg/images"),
    "vg_vqa": Case(
        {
            "vg/annotations/vg_qa.json": asked(
                "VG_100K/1.jpg", "VG_100K_2/2.jpg", answer=["yes", "two"]
            )
        },
        ["vg/images/VG_100K/1.jpg", "vg/images/VG_100K_2/2.jpg"],
        {"train": {**ONE_ANSWER, "weight": [0.2, 0.2]}},
    ),
    "flickr30k": Case(
        captions("flickr30k/annotations/{}.json", FLICKR, "train", "val", "test"),
        [f"flickr30k/images/{file}" for file in FLICKR],
        {"train": {**TRAIN_CAPTIONS, **EVAL_IDS}, "val": RETRIEVED, "test": RETRIEVED},
    ),
    "nocaps": Case(
        {
            f"nocaps/annotations/nocaps_{split}.json": [
                {"image": f"{split}/0{n}.jpg", "img_id": n, "domain": "out-domain"} for n in (3, 4)
            ]
            for split in ("val", "test")
        },
        [f"nocaps/images/{split}/0{n}.jpg" for split in ("val", "test") for n in (3, 4)],
        {s: {"image": PICTURES, "image_id": ["3", "4"], **EVAL_IDS} for s in ("val", "test")},
    ),
    "nlvr": Case(
        {f"nlvr/annotations/{name}.json": NLVR for name in ("train", "dev", "nlvr_test")},
        [f"nlvr/images/dev/{n}-img{side}.png" for n in "ab" for side in (0, 1)],
        {split: NLVR_BATCH for split in ("train", "val", "test")},
    ),
    "snli_ve": Case(
        {f"snli/annotations/ve_{name}.json": ENTAILED for name in ("train", "dev", "test")},
        [f"flickr30k/images/flickr30k-images/{n}.jpg" for n in (1, 2)],
        {split: ENTAILMENT for split in ("train", "val", "test")},
    ),
    "msrvtt_caption": video_captions("msrvtt/annotations", "msrvtt/videos"),
    "msvd_caption": video_captions("msvd/annotations", "msvd/videos"),
    "vatex_caption": video_captions("vatex/annotations", "vatex/videos"),
    "msrvtt_retrieval": video_retrieval("msrvtt/annotations", "msrvtt/videos"),
    "didemo_retrieval": video_retrieval("didemo/annotations", "didemo/videos"),
    "msrvtt_qa": video_qa("msrvtt/annotations", "msrvtt/videos"),
    "msvd_qa": video_qa("msvd/annotations", "msvd/videos"),
    "conceptual_caption_3m": pairs(
        "conceptual_caption/annotations/cc3m.json", "conceptual_caption/images"
    ),
    "conceptual_caption_12m": pairs(
        "conceptual_caption/annotations/cc12m.json", "conceptual_caption/images_12m"
    ),
    "sbu_caption": pairs("sbu_captions/annotations/sbu.json", "sbu_captions/images"),
    "avsd_dialogue": Case(
        {
            f"avsd/annotations/{split}.json": {"dialogs": [dialogue("v1"), dialogue("v2")]}
            for split in ("train", "val", "test")
        },
        [f"avsd/features/{kind}/v{n}.npy" for kind in ("i3d_rgb", "vggish") for n in (1, 2)],
        {
            "train": {
                "video_fts": (2, 3, 4),
                "text_input": ["a man q0 ?", "a man q0 ? a0 q1 ?"],
                **{"answer": ["a0", "a1"], "image_id": ["v1", "v1"], **EVAL_IDS},
            },
            **{
                split: {
                    "video_fts": (2, 3, 4),
                    "text_input": ["a man q0 ? a0 q1 ?"] * 2,
                    **{"answer": ["a1", "a1"], "image_id": ["v1", "v2"], **EVAL_IDS},
                }
                for split in ("val", "test")
            },
        },
    ),
}
"""The builders of LAVIS 1.0.2 but ``imagenet`` and ``laion2B_multi``, which have no such files."""
