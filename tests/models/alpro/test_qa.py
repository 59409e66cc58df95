"""Answers to questions about videos, as classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lavis_clone.common.reading import ConfigError
from tests.models import tiny
from tests.models.alpro.toys import QUESTIONS, model_of, sizes


def samples(answers: Any, *, frames: int = 2) -> dict[str, Any]:
    videos = tiny.videos(len(answers), frames=frames)
    return {"video": videos, "text_input": QUESTIONS[: len(answers)], "answers": answers}


def test_a_question_is_judged_by_its_first_token(vocabulary: Path) -> None:
    model, batch = model_of("alpro_qa", vocabulary, num_classes=4), samples([3, 1])
    output = model.predict(batch)
    inner = model(batch).intermediate_output
    states = inner.encoder_output.last_hidden_state
    assert states.shape == (2, 12 + 5, 12)
    torch.testing.assert_close(output.predictions, model.classifier(states[:, 0]))
    assert output.targets.tolist() == [3, 1]
    assert model.predict({k: v for k, v in batch.items() if k != "answers"}).targets is None
    assert [tuple(p.shape) for p in model.classifier.parameters()] == [
        (24, 12),
        (24,),
        (4, 24),
        (4,),
    ]
    text = model.tokenize(batch["text_input"], padded=True)
    torch.testing.assert_close(inner.text_embeds, model.read(model.bert, text))


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_a_row_of_a_batch_is_the_sample_alone(frames: int, vocabulary: Path) -> None:
    model, batch = model_of("alpro_qa", vocabulary, num_classes=4), samples([3, 1], frames=frames)
    together = model.predict(batch)
    for row in range(2):
        alone = model.predict({key: value[row : row + 1] for key, value in batch.items()})
        torch.testing.assert_close(alone.predictions[0], together.predictions[row])


def test_an_answer_that_is_no_class_is_never_right_and_teaches_nothing(vocabulary: Path) -> None:
    model = model_of("alpro_qa", vocabulary, num_classes=4)
    batch = samples(torch.tensor([2, 4]))
    output = model(batch)
    expected = F.cross_entropy(output.logits[:1], torch.tensor([2]))
    torch.testing.assert_close(output.loss, expected)
    assert model.predict(batch).targets.tolist() == [2, 4]
    nothing = model(samples(torch.tensor([4, 4]))).loss
    assert not nothing.detach().any()
    nothing.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_answers_are_learned(vocabulary: Path) -> None:
    model, batch = model_of("alpro_qa", vocabulary, num_classes=4), samples([3, 1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        model(batch).loss.backward()
        optimizer.step()
    assert model.predict(batch).predictions.argmax(dim=1).tolist() == [3, 1]


def test_features_have_no_common_space(vocabulary: Path) -> None:
    model, batch = model_of("alpro_qa", vocabulary, num_classes=4), samples([3, 1])
    found = model.extract_features(batch)
    assert set(found.keys()) == {"image_embeds", "text_embeds", "multimodal_embeds"}
    logits = model.classifier(found.multimodal_embeds[:, 0])
    torch.testing.assert_close(logits, model.predict(batch).predictions)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([3, 5], "answers 5 is not in 0 to 4"),
        ([3], "answers must be a class number for each of the 2 samples"),
        ([0.5, 1.0], "answers must be a class number"),
        (None, r"training needs samples\['answers'\]"),
    ],
)
def test_answers_that_are_no_classes_are_refused(
    answers: Any, message: str, vocabulary: Path
) -> None:
    model = model_of("alpro_qa", vocabulary, num_classes=4)
    with pytest.raises(ValueError, match=message):
        model(samples([3, 1]) | {"answers": answers})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 24}, r"hidden_size \(24\) must be med.hidden_size \(12\)"),
        ({"num_classes": 1}, r"num_classes \(1\) must be at least 2"),
        (
            {"med": tiny.text_block(hidden_size=24)},
            r"med.hidden_size \(24\) must be timesformer.embed_dim \(12\)",
        ),
        (
            {"med": tiny.text_block(add_cross_attention=True)},
            "ALPRO's text tower has no cross-attention",
        ),
        ({"timesformer": sizes(img_size=20)}, "must be a multiple of patch_size"),
        ({"timesformer": sizes(n_frames=3)}, "n_frames: unknown key"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(
    changes: dict[str, Any], message: str, vocabulary: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        model_of("alpro_qa", vocabulary, **{"num_classes": 4} | changes)
