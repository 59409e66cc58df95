"""The same as ``zoo_cases`` for data sets that LAVIS 1.0.2 does not have."""

from __future__ import annotations

from typing import Any

from tests.datasets.zoo_cases import (
    COCO_FILES,
    EVAL_IDS,
    EVAL_QUESTIONS,
    FLICKR,
    KNOWN_ANSWER,
    ONE_ANSWER,
    PICTURES,
    TEN,
    TRAIN_ANSWERS,
    TRAIN_CAPTIONS,
    Case,
    captions,
    lines,
)

STATEMENTS = {"image": PICTURES, "text_input": ["two cats", "a dog"], "label": [1, 0]}


def text_vqa(split: str, *, is_answered: bool = True) -> dict[str, Any]:
    """TextVQA's: pictures by id, ten answers."""
    rows = [
        {
            "question": f"What is {n}?",
            "image_id": f"00{n}",
            "question_id": 70 + n,
            "set_name": split,
        }
        for n in (0, 1)
    ]
    answers = [TEN, ["two"] * 10]
    told = [
        row | ({"answers": a} if is_answered else {}) for row, a in zip(rows, answers, strict=True)
    ]
    return {
        "dataset_type": split,
        "dataset_name": "textvqa",
        "dataset_version": "0.5.1",
        "data": told,
    }


def text_caps(split: str) -> dict[str, Any]:
    """TextCaps': a record for each caption, none in ``test``."""
    words = {"train": ["A cat.", "A dog."], "val": ["One.", "Two.", "Three."], "test": [None, None]}
    ids = {"train": ["000", "001"], "val": ["000", "000", "001"], "test": ["000", "001"]}
    rows = [
        {"image_id": image, "image_name": image, "set_name": split, "caption_id": number}
        | ({"caption_str": word, "reference_strs": [word]} if word else {})
        for number, (image, word) in enumerate(zip(ids[split], words[split], strict=True))
    ]
    return {"dataset_name": "textcaps", "dataset_type": split, "data": rows}


def vizwiz_captions(split: str) -> dict[str, Any]:
    """VizWiz-Captions': COCO's format, with captions that do not count."""
    images = [
        {
            "file_name": f"VizWiz_{split}_0000000{n}.jpg",
            "vizwiz_url": "",
            "id": n,
            "text_detected": n,
        }
        for n in (0, 1)
    ]
    words = [
        ("A cat.", 0, False),
        ("Quality issues are too severe.", 1, True),
        ("A dog.", 1, False),
    ]
    annotations = [
        {"caption": text, "image_id": n, "is_precanned": canned, "is_rejected": False, "id": number}
        for number, (text, n, canned) in enumerate(words)
    ]
    told = {} if split == "test" else {"annotations": annotations}
    return {"info": {"year": 2019}, "images": images, **told}


def vizwiz_questions(split: str) -> list[dict[str, Any]]:
    """VizWiz-VQA's: no ids; answers with the answerer's confidence."""
    answers = [TEN, ["two"] * 10]
    return [
        {"image": f"VizWiz_{split}_0000000{n}.jpg", "question": f"What is {n}?"}
        | (
            {}
            if split == "test"
            else {
                "answers": [{"answer": a, "answer_confidence": "yes"} for a in answers[n]],
                **{"answer_type": "other", "answerable": 1},
            }
        )
        for n in (0, 1)
    ]


def chart_questions(number: int) -> list[dict[str, Any]]:
    """ChartQA's."""
    return [
        {"imgname": f"{number}.png", "query": f"What is {number}?", "label": ["yes", "two"][number]}
    ]


TEXT_MEDIA = [f"textvqa/images/{s}_images/00{n}.jpg" for s in ("train", "test") for n in (0, 1)]
VIZWIZ_MEDIA = [
    f"vizwiz/images/{s}/VizWiz_{s}_0000000{n}.jpg" for s in ("train", "val", "test") for n in (0, 1)
]
NUMBERED = {**EVAL_QUESTIONS, "question_id": [0, 1]}
VSR = lines(
    {"image": "1.jpg", "caption": "Two cats.", "label": 1, "relation": "on", "annotator_id": 3},
    {"image": "2.jpg", "caption": "A dog.", "label": 0, "relation": "on", "annotator_id": 3},
)
POPE = lines(
    *(
        {"question_id": 70 + n, "image": COCO_FILES[n].split("/")[1], "text": f"What is {n}?"}
        | {"label": ["yes", "two"][n]}
        for n in (0, 1)
    )
)
CLEVR = [
    {
        "image_filename": f"c{n}.png",
        "question": f"What is {n}?",
        "question_index": 70 + n,
        "split": "x",
    }
    for n in (0, 1)
]
SLAKE = [
    {"img_name": f"xmlab{n}/source.jpg", "question": f"What is {n}?", "qid": 70 + n, "q_lang": "en"}
    | {"answer": ["yes", "two"][n], "img_id": n}
    for n in (0, 1)
]
MEMES = lines(
    {"id": 8291, "img": "img/08291.png", "label": 1, "text": "Two cats."},
    {"id": 46971, "img": "img/46971.png", "label": 0, "text": "A dog."},
)
TURNS = [{"question": n, "answer": n, "answer_options": [0, 1]} for n in (0, 1)]

BEYOND = {
    "visdial": Case(
        {
            f"visdial/annotations/visdial_1.0_{split}.json": {
                "split": split,
                "data": {
                    "questions": ["q0", "q1"],
                    "answers": ["a0", "a1"],
                    "dialogs": [{"image_id": 318219, "caption": "a man", "dialog": TURNS}],
                },
            }
            for split in ("train", "val")
        },
        [
            "visdial/images/train2014/COCO_train2014_000000318219.jpg",
            "visdial/images/VisualDialog_val2018/VisualDialog_val2018_000000318219.jpg",
        ],
        {
            split: {
                "image": PICTURES,
                "text_input": ["a man q0", "a man q0 a0 q1"],
                **{"answer": ["a0", "a1"], "image_id": ["318219"] * 2, **EVAL_IDS},
            }
            for split in ("train", "val")
        },
    ),
    "textvqa": Case(
        {
            f"textvqa/annotations/TextVQA_0.5.1_{s}.json": text_vqa(s, is_answered=s != "test")
            for s in ("train", "val", "test")
        },
        TEXT_MEDIA,
        {"train": TRAIN_ANSWERS, "val": EVAL_QUESTIONS, "test": EVAL_QUESTIONS},
    ),
    "textcaps": Case(
        {
            f"textcaps/annotations/TextCaps_0.1_{s}.json": text_caps(s)
            for s in ("train", "val", "test")
        },
        TEXT_MEDIA,
        {
            "train": TRAIN_CAPTIONS,
            **{
                s: {"image": PICTURES, "image_id": ["000", "001"], **EVAL_IDS}
                for s in ("val", "test")
            },
        },
    ),
    "vizwiz_vqa": Case(
        {f"vizwiz_vqa/annotations/{s}.json": vizwiz_questions(s) for s in ("train", "val", "test")},
        VIZWIZ_MEDIA,
        {"train": TRAIN_ANSWERS, "val": NUMBERED, "test": NUMBERED},
    ),
    "vizwiz_caption": Case(
        {
            f"vizwiz_caption/annotations/{s}.json": vizwiz_captions(s)
            for s in ("train", "val", "test")
        },
        VIZWIZ_MEDIA,
        {
            "train": TRAIN_CAPTIONS,
            **{s: {"image": PICTURES, "image_id": ["0", "1"], **EVAL_IDS} for s in ("val", "test")},
        },
    ),
    "hateful_memes": Case(
        {
            f"hateful_memes/{split}.jsonl": MEMES
            for split in ("train", "dev_seen", "dev_unseen", "test_seen", "test_unseen")
        },
        ["hateful_memes/img/08291.png", "hateful_memes/img/46971.png"],
        {
            split: {**STATEMENTS, "image_id": ["img/08291.png", "img/46971.png"], **EVAL_IDS}
            for split in ("train", "dev_seen", "dev_unseen", "test_seen", "test_unseen")
        },
    ),
    "winoground": Case(
        {
            "winoground/examples.jsonl": lines(
                *(
                    {"id": n, "image_0": f"ex_{n}_img_0", "image_1": f"ex_{n}_img_1", "tag": "Noun"}
                    | {"caption_0": "A cat.", "caption_1": "A dog."}
                    for n in (0, 1)
                )
            )
        },
        [f"winoground/images/ex_{n}_img_{side}.png" for n in (0, 1) for side in (0, 1)],
        {
            "test": {
                **{"image0": PICTURES, "image1": PICTURES},
                **{"text_input0": ["a cat"] * 2, "text_input1": ["a dog"] * 2, **EVAL_IDS},
            }
        },
    ),
    "vsr": Case(
        {f"vsr/annotations/random/{name}.jsonl": VSR for name in ("train", "dev", "test")},
        ["vsr/images/1.jpg", "vsr/images/2.jpg"],
        {
            split: {**STATEMENTS, "image_id": ["1.jpg", "2.jpg"], **EVAL_IDS}
            for split in ("train", "val", "test")
        },
    ),
    "pope": Case(
        {
            f"pope/annotations/coco_pope_{split}.jsonl": POPE
            for split in ("random", "popular", "adversarial")
        },
        [f"coco/images/val2014/{file.split('/')[1]}" for file in COCO_FILES],
        {split: KNOWN_ANSWER for split in ("random", "popular", "adversarial")},
    ),
    "clevr": Case(
        {
            f"clevr/CLEVR_v1.0/questions/CLEVR_{split}_questions.json": {
                "info": {"split": split},
                "questions": [
                    {**row} | ({} if split == "test" else {"answer": answer})
                    for row, answer in zip(CLEVR, ("yes", "two"), strict=True)
                ],
            }
            for split in ("train", "val", "test")
        },
        [f"clevr/CLEVR_v1.0/images/{s}/c{n}.png" for s in ("train", "val", "test") for n in (0, 1)],
        {"train": ONE_ANSWER, "val": KNOWN_ANSWER, "test": EVAL_QUESTIONS},
    ),
    "chartqa": Case(
        {
            f"chartqa/{split}/{split}_{part}.json": chart_questions(number)
            for split in ("train", "val", "test")
            for number, part in enumerate(("human", "augmented"))
        },
        [f"chartqa/{split}/png/{n}.png" for split in ("train", "val", "test") for n in (0, 1)],
        {
            "train": ONE_ANSWER,
            **{split: {**KNOWN_ANSWER, "question_id": [0, 1]} for split in ("val", "test")},
        },
    ),
    "slake": Case(
        {f"slake/{name}.json": SLAKE for name in ("train", "validate", "test")},
        [f"slake/imgs/xmlab{n}/source.jpg" for n in (0, 1)],
        {"train": ONE_ANSWER, "val": KNOWN_ANSWER, "test": KNOWN_ANSWER},
    ),
    "flickr30k_caption": Case(
        captions("flickr30k/annotations/{}.json", FLICKR, "train", "val", "test"),
        [f"flickr30k/images/{file}" for file in FLICKR],
        {
            "train": TRAIN_CAPTIONS,
            **{
                split: {"image": PICTURES, "image_id": ["1", "2"], **EVAL_IDS}
                for split in ("val", "test")
            },
        },
    ),
}
