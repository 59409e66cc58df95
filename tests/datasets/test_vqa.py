"""Questions about pictures: files of several sorts, weights, batches."""

from __future__ import annotations

import pytest
import torch

from lavis_clone.datasets.annotations import AnnotationError
from lavis_clone.datasets.base import ConcatDataset
from lavis_clone.datasets.builders import load_dataset
from lavis_clone.datasets.kinds import dataset_classes
from lavis_clone.datasets.kinds.vqa import (
    AokVqaDataset,
    AokVqaEvalDataset,
    GqaDataset,
    GqaEvalDataset,
    QuestionTruth,
    VgVqaDataset,
    VqaDataset,
    VqaEvalDataset,
)
from lavis_clone.processors.text import BlipQuestionProcessor
from tests.datasets.making import draw, own_file, red, small, write


def asked(number: int, **more):
    names = "abc"
    return {"image": f"{names[number]}.png", "question": f"What is {number}?"} | more


def made(cls, folder, *, vis=None, **contents):
    draw(folder, "a.png", "b.png", "c.png")
    return cls(vis, BlipQuestionProcessor(), folder, write(folder, **contents))


def test_an_answer_weighs_as_much_as_people_gave_it(tmp_path):
    given = ["no", "yes", "no", "maybe"]
    dataset = made(VqaDataset, tmp_path, a=[asked(1, answer=given), asked(0, answer="one")])
    sample = dataset[0]
    assert sample["text_input"] == "what is 1?" and red(sample["image"]) == 20
    assert sample["answers"] == ["no", "yes", "maybe"] and sample["weights"] == [0.5, 0.25, 0.25]
    assert dataset[1]["answers"] == ["one"] and dataset[1]["weights"] == [1.0]


def test_train_batches_have_flat_answers(tmp_path):
    records = [asked(1, answer=["no", "yes", "no", "no"]), asked(0, answers=[{"answer": "one"}])]
    dataset = made(VqaDataset, tmp_path, vis=small(), a=records)
    batch = dataset.collater([dataset[0], dataset[1]])
    assert set(batch) == {"image", "text_input", "answer", "weight", "n_answers"}
    assert batch["image"].shape == (2, 3, 4, 4)
    assert batch["text_input"] == ["what is 1?", "what is 0?"]
    assert batch["answer"] == ["no", "yes", "one"]
    assert batch["weight"].equal(torch.tensor([0.75, 0.25, 1.0]))
    assert batch["n_answers"].equal(torch.tensor([2, 1]))


def test_visual_genome_weighs_less_beside_others(tmp_path):
    processors = {"vis": small()}
    records = [asked(0, answer=["a", "b"])]
    vqa = made(VqaDataset, tmp_path, **processors, a=records)
    vg = made(VgVqaDataset, tmp_path, **processors, b=[asked(1, answer="c")])
    both = ConcatDataset([vqa, vg])
    assert both.collater([both[1], both[0]])["weight"].tolist() == pytest.approx([0.2, 0.5, 0.5])


def test_eval_samples_and_ids(tmp_path):
    records = [asked(0, question_id="q7"), asked(1), asked(2, question_id=9)]
    dataset = made(VqaEvalDataset, tmp_path, vis=small(), a=records)
    batch = dataset.collater([dataset[i] for i in range(3)])
    assert set(batch) == {"image", "text_input", "question_id", "instance_id"}
    assert batch["question_id"] == ["q7", 1, 9] and batch["instance_id"] == ["0", "1", "2"]
    assert batch["image"].shape == (3, 3, 4, 4)
    assert dataset.answer_list is None and dataset.references() == {}


def test_several_sets_are_chosen_answers_for_from_all_lists(tmp_path):
    sets = [
        made(VqaEvalDataset, tmp_path, **{name: [asked(0)], f"{name}_list": answers})
        for name, answers in {"p": ["yes", "no"], "q": ["no", "two"]}.items()
    ]
    assert ConcatDataset(sets).answer_list == ["yes", "no", "two"]
    alone = made(VqaEvalDataset, tmp_path, r=[asked(1)])
    assert ConcatDataset([*sets, alone]).answer_list is None


VQA_QUESTIONS = {
    "info": {},
    "license": {"name": "x"},
    "questions": [{"question_id": 5, "image_id": 1, "question": "What is 0?"}],
}
VQA_ANNOTATIONS = {
    "info": {},
    "annotations": [
        {
            "question_id": 5,
            "answers": [{"answer": "net", "answer_id": 1}, {"answer": "bat", "answer_id": 2}],
            "multiple_choice_answer": "net",
            "answer_type": "other",
            "question_type": "what is",
        }
    ],
}


@pytest.mark.parametrize("order", [("list", "asked", "told"), ("told", "list"), ("told",)])
def test_files_of_an_eval_split_are_told_by_content(tmp_path, order):
    files = {"list": ["bat", "net"], "asked": VQA_QUESTIONS, "told": VQA_ANNOTATIONS}
    records = [asked(0, question_id=5, answer="of the record")]
    dataset = made(VqaEvalDataset, tmp_path, records=records, **{n: files[n] for n in order})
    assert len(dataset) == 1
    assert dataset.answer_list == (["bat", "net"] if "list" in order else None)
    assert dataset.references() == {5: QuestionTruth(["net", "bat"], "other", "what is")}


def test_the_answers_to_choose_from_may_be_lines(tmp_path):
    (tmp_path / "l.txt").write_text("\ufeffnet\n\n a bat \n", encoding="utf-8")
    files = [*write(tmp_path, records=[asked(0)]), tmp_path / "l.txt"]
    assert VqaEvalDataset(ann_paths=files).answer_list == ["net", "a bat"]
    (tmp_path / "l.txt").write_text("\n")
    with pytest.raises(AnnotationError, match="l.txt: holds no answers"):
        VqaEvalDataset(ann_paths=files)
    (tmp_path / "l.txt").unlink()
    with pytest.raises(AnnotationError, match="l.txt: cannot be read"):
        VqaEvalDataset(ann_paths=files)


def test_an_empty_answer_of_a_csv_file_is_none(tmp_path):
    rows = [asked(0, answer="one"), asked(1, answer="")]
    assert made(VqaEvalDataset, tmp_path, a=rows).references() == {0: QuestionTruth(["one"])}
    dataset = made(GqaEvalDataset, tmp_path, a=rows)
    assert [dataset[0]["answer"], dataset[1]["answer"]] == ["one", None]
    assert "answer" not in made(GqaEvalDataset, tmp_path, a=[asked(0, answer="")])[0]


@pytest.mark.parametrize("kind", ["vqa", "gqa"])
def test_own_data_needs_a_yaml_file_only(tmp_path, kind):
    draw(tmp_path, "a.png")
    rows = "image,question,answer\na.png,What?,one\na.png,Why?,two\n"
    splits = load_dataset("own", own_file(tmp_path, kind, rows))
    assert splits["train"][1]["answers"] == ["two"] and splits["train"][1]["weights"] == [1.0]
    assert splits["val"].references() == {0: QuestionTruth(["one"]), 1: QuestionTruth(["two"])}
    assert splits["val"][0]["image"].shape == (3, 4, 4)
    assert splits["val"][0].get("answer") == ("one" if kind == "gqa" else None)


def test_the_questions_alone_are_no_truth(tmp_path):
    dataset = made(VqaEvalDataset, tmp_path, a=[asked(0, question_id=5)], b=VQA_QUESTIONS)
    assert len(dataset) == 1 and dataset.references() == {}


def test_the_truth_of_own_data_is_in_the_records(tmp_path):
    first = [asked(0, answer="one", question_type="number"), asked(1)]
    more = [asked(2, answers=["a", "b"], question_id="z", answer_type="other")]
    dataset = made(VqaEvalDataset, tmp_path, first=first, more=more)  # two files of records
    assert len(dataset) == 3
    assert dataset.references() == {
        0: QuestionTruth(["one"], None, "number"),
        "z": QuestionTruth(["a", "b"], "other", None),
    }


def test_annotations_of_other_questions_are_told(tmp_path):
    with pytest.raises(AnnotationError, match="b.json: the annotations have none of the records'"):
        made(VqaEvalDataset, tmp_path, a=[asked(0, question_id=6)], b=VQA_ANNOTATIONS)


def test_an_id_that_two_questions_have_is_told(tmp_path):
    with pytest.raises(AnnotationError, match="annotation 1: another has its question_id too, '1'"):
        made(VqaEvalDataset, tmp_path, a=[asked(0, question_id=1), asked(1)])


def test_gqa(tmp_path):
    train = made(GqaDataset, tmp_path, a=[asked(0, answer="blue")])
    assert train[0]["answers"] == ["blue"] and train[0]["weights"] == [1.0]
    records = [asked(0, answer="blue"), asked(1)]
    dataset = made(GqaEvalDataset, tmp_path, a=records, answers=["blue", "red"])
    assert dataset.collater([dataset[1], dataset[0]])["answer"] == [None, "blue"]
    assert dataset.answer_list == ["blue", "red"]
    test = made(GqaEvalDataset, tmp_path, a=[asked(0), asked(1)])
    assert "answer" not in test[0] and test.references() == {}


def test_aok_vqa(tmp_path):
    known = asked(0, direct_answers=["x", "y", "x"], choices=["x", "z"], correct_choice_idx=0)
    train = made(AokVqaDataset, tmp_path, a=[known])
    assert train[0]["answers"] == ["x", "y"]
    assert train[0]["weights"] == pytest.approx([2 / 3, 1 / 3])
    dataset = made(AokVqaEvalDataset, tmp_path, a=[known, asked(1, choices=["p", "q"])])
    batch = dataset.collater([dataset[0], dataset[1]])
    assert batch["choices"] == [["x", "z"], ["p", "q"]]
    assert batch["correct_choice_idx"] == [0, None]
    assert batch["direct_answers"] == [["x", "y", "x"], None]
    assert dataset.references() == {0: QuestionTruth(["x", "y", "x"])}


@pytest.mark.parametrize(
    "cls, fields, message",
    [
        (VqaDataset, {}, "has no 'answer' \\(it has image, question\\)"),
        (VqaDataset, {"answer": []}, "answer must be text or a list of texts, got \\[\\]"),
        (VqaDataset, {"answers": ["a", 3]}, "answers must be text or a list of texts"),
        (VqaDataset, {"question": 3}, "question must be text, got 3"),
        (VqaEvalDataset, {"question_id": 1.5}, "question_id must be a whole number or text"),
        (VqaEvalDataset, {"image": ""}, "image must be text, got ''"),
        (VqaDataset, {"answer": ""}, "answer is empty"),
        (GqaDataset, {}, "has no 'answer'"),
        (GqaDataset, {"answer": ""}, "answer is empty"),
        (GqaEvalDataset, {"answer": ["a"]}, "answer must be one text, got \\['a'\\]"),
        (AokVqaDataset, {"answer": "a"}, "has no 'direct_answers'"),
        (AokVqaEvalDataset, {"choices": "ab"}, "choices must be a list of texts"),
        (AokVqaEvalDataset, {"correct_choice_idx": 0}, "has a correct_choice_idx, but no choices"),
        (
            AokVqaEvalDataset,
            {"choices": ["a", "b"], "correct_choice_idx": 2},
            "correct_choice_idx must be one of 0 to 1, got 2",
        ),
    ],
)
def test_bad_records_are_told(tmp_path, cls, fields, message):
    with pytest.raises(AnnotationError, match=f"a.json, record 1: {message}"):
        made(cls, tmp_path, a=[asked(0, **fields)])


@pytest.mark.parametrize(
    "content, message",
    [
        (["a", 3], "b.json, entry 2: must be text, as the first one is, got 3"),
        ([{"question": "a"}], "b.json, record 1: has neither 'image'"),
        ([{"question_id": 3, "answers": [4]}], "b.json, record 1: answers must be text"),
        ([], "b.json: holds no records"),
    ],
)
def test_further_files_that_are_nothing_known(tmp_path, content, message):
    with pytest.raises(AnnotationError, match=message):
        made(VqaEvalDataset, tmp_path, a=[asked(0)], b=content)


def test_kinds():
    assert dataset_classes("vqa") == (VqaDataset, VqaEvalDataset)
    assert dataset_classes("vg_vqa") == (VgVqaDataset, VqaEvalDataset)
    assert dataset_classes("gqa") == (GqaDataset, GqaEvalDataset)
    assert dataset_classes("aok_vqa") == (AokVqaDataset, AokVqaEvalDataset)
