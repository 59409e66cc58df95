"""BLIP for questions: the answers that it writes, and what it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lavis_clone.models.blip.vqa import BlipVQA
from lavis_clone.models.outputs import AnswerOutput
from tests.models import tiny
from tests.models.heads.test_answering import model_of, questions
from tests.models.starts import assert_is_a_start, public_file
from tests.models.test_checkpoints import full_size
from tests.parity import synthetic

CASES = Path(__file__).parents[2] / "parity" / "cases"
WRITE: dict[str, Any] = {"inference_method": "generate", "max_len": 8}


def write(model: BlipVQA, *rows: int, **options: Any) -> AnswerOutput:
    return model.predict_answers_with_confidence(questions(*rows), **WRITE, **options)


def recomputed(model: BlipVQA, row: int, tokens: Tensor) -> tuple[Tensor, int]:
    """Log-probability and number of written tokens, by one pass over question and answer."""
    asked = model.forward_encoder(questions(row))
    decoder = model.text_decoder
    states = decoder.bert(tokens[None], context=decoder.bert.see(asked.states), causal=True)
    found = decoder.cls.predictions(states)[0].log_softmax(dim=1)[:-1]
    ends = (tokens == model.tokenizer.sep_id).nonzero()[:, 0].tolist()
    length = ends[0] if ends else len(tokens) - 1
    return found.gather(1, tokens[1:, None])[:length, 0].sum(), length


@pytest.mark.parametrize("num_beams", [1, 3])
@torch.no_grad()
def test_confidence_of_a_written_answer_is_the_models_own(num_beams: int, vocabulary: Path) -> None:
    model = model_of("blip_vqa", vocabulary, mask_question_padding=True)
    output = write(model, 0, 1, 2, num_beams=num_beams)
    assert output.token_ids is not None
    assert output.log_prob is not None
    assert (output.token_ids[:, 0] == model.start_id).all()
    assert model.tokenizer.decode_all(output.token_ids) == output.text
    for row, tokens in enumerate(output.token_ids):
        log_prob, length = recomputed(model, row, tokens)
        torch.testing.assert_close(output.log_prob[row], log_prob)
        torch.testing.assert_close(output.confidence[row], (log_prob / length).exp())


def test_padding_is_looked_at_only_as_in_v1_0_2(vocabulary: Path) -> None:
    """Without the repair, a short question's answer depends on the longest of the batch."""
    for repaired in (False, True):
        model = model_of("blip_vqa", vocabulary, mask_question_padding=repaired)
        together, alone = write(model, 1, 2), write(model, 1)
        assert alone.log_prob is not None
        assert together.log_prob is not None
        assert torch.allclose(together.log_prob[0], alone.log_prob[0]) == repaired
        longest = write(model, 2)
        assert longest.text == together.text[1:]


def test_lengths_and_options_are_those_of_generation(vocabulary: Path) -> None:
    model = model_of("blip_vqa", vocabulary)
    output = write(model, 0, 1, 2, min_len=6, num_beams=2, repetition_penalty=2.0)
    assert output.token_ids is not None
    assert output.token_ids.shape[1] <= 8
    assert not (output.token_ids[:, :6] == model.tokenizer.sep_id).any()
    assert output.text != write(model, 0, 1, 2, min_len=6, num_beams=2).text
    with pytest.raises(ValueError, match=r"max_length \(33\) must be at most the model's 32"):
        model.predict_answers(questions(0), inference_method="generate", max_len=33)
    with pytest.raises(ValueError, match="num_beams must be at least 1"):
        model.predict_answers(questions(0), 0, "generate")


def test_a_list_is_not_needed_to_write(vocabulary: Path) -> None:
    model = model_of("blip_vqa", vocabulary)
    assert write(model, 0, answer_list=["dog"]).text == write(model, 0).text


@pytest.mark.parametrize("model_type", ["vqav2", "okvqa", "aokvqa"])
def test_the_public_pretrained_models_are_starts(model_type: str) -> None:
    model = full_size("blip_vqa", model_type)
    assert not assert_is_a_start(model, public_file("blip_pretrain", "base"))
    assert not assert_is_a_start(model, public_file("blip_vqa", "vqav2"))


def test_a_start_brings_the_towers(tmp_path: Path) -> None:
    """In this case images are wider than texts, so the decoder has to learn anew how to look."""
    case, _ = synthetic.load(CASES, "blip_pretrain")
    state = synthetic.state_dict(case)
    torch.save({"model": state}, tmp_path / "pretrained.pth")
    block = {"vit": case["config"]["vit"], "med": case["config"]["med"]}
    model = BlipVQA.from_config(block | {"pretrained": str(tmp_path / "pretrained.pth")})
    fresh = []
    for name, value in model.state_dict().items():
        if name.startswith("text_decoder") and state[name].shape != value.shape:
            fresh.append(name)
        else:
            assert value.equal(state[name]), name
    layers = case["config"]["med"]["num_hidden_layers"]
    assert len(fresh) == 2 * layers
    assert all("crossattention.self" in name for name in fresh)


def test_position_embeddings_are_fitted_to_the_image_size(vocabulary: Path, tmp_path: Path) -> None:
    small = model_of("blip_vqa", vocabulary)
    large = model_of("blip_vqa", vocabulary, seed=1, image_size=24)
    small.save_pretrained(tmp_path)
    large.load_checkpoint(tmp_path / "model.safetensors")
    assert large.visual_encoder.pos_embed.shape == (1, 1 + 9, 8)
    assert large.text_decoder.cls.predictions.bias.equal(small.text_decoder.cls.predictions.bias)
    asked = {"image": tiny.images(1, size=24), "text_input": "the cat"}
    assert large.predict_answers(asked, answer_list=["dog", "bird"])[0] in ("dog", "bird")
