"""ALBEF for questions: its momentum copies, and what it starts from."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lavis_clone.common.progress import Progress
from lavis_clone.models.albef.vqa import AlbefVQA
from lavis_clone.models.foreign import with_answer_decoder
from tests.models import tiny
from tests.models.heads.test_answering import ANSWERS, batch, model_of, questions
from tests.models.starts import assert_is_a_start, public_file
from tests.models.test_checkpoints import full_size
from tests.parity import synthetic

CASES = Path(__file__).parents[2] / "parity" / "cases"
LOOKS = ("crossattention.self.key.weight", "crossattention.self.value.weight")


def opinion(model: Any, given: dict[str, Any]) -> list[Tensor]:
    """Of the copies after their update, ``(T, V)`` probabilities for each answer, one by one."""
    model = copy.deepcopy(model)
    model.update_momentum()
    found = []
    for row, answer in zip([0, 0, 2, 2, 2], given["answer"], strict=True):
        text = model.tokenize([given["text_input"][row]])
        seen = model.text_encoder_m.see(model.visual_encoder_m(given["image"][row : row + 1]))
        states = model.fuse(model.text_encoder_m, text, seen)
        ids = model.tokenizer([answer]).input_ids
        decoder = model.text_decoder_m
        hidden = decoder.bert(ids, context=decoder.bert.see(states), causal=True)
        found.append(decoder.cls.predictions(hidden)[0, :-1].softmax(dim=1))
    return found


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (5, 0.2), (10, 0.4), (25, 0.4)])
def test_the_copies_weight_rises_over_one_epoch(step: int, weight: float, vocabulary: Path) -> None:
    model, given = model_of("albef_vqa", vocabulary), batch()
    without = model_of("albef_vqa", vocabulary, use_distill=False)
    without.load_state_dict({k: v for k, v in model.state_dict().items() if "_m." not in k})
    hard = without(given).intermediate_output.decoder_output.loss
    expected = opinion(model, given)
    written = {"epoch": step // 10, "iters": step % 10, "num_iters_per_epoch": 10}
    told = Progress(step=step, steps_per_epoch=10, total_steps=40)
    for progress, more in ((told, {}), (None, written)):
        output = copy.deepcopy(model)(given | more, progress=progress)
        decoded = output.intermediate_output.decoder_output
        for row, probs in enumerate(expected):
            logs = decoded.logits[row, : len(probs)].log_softmax(dim=1)
            soft = -(probs * logs).sum()
            loss = (1 - weight) * hard[row] + weight * soft
            torch.testing.assert_close(decoded.loss[row], loss, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(output.loss, (decoded.loss * given["weight"]).sum() / 3)


def test_copies_move_in_training_alone(vocabulary: Path) -> None:
    model = model_of("albef_vqa", vocabulary, momentum=0.9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    called: list[str] = []
    for name in model.copied:
        part = model.get_submodule(f"{name}_m")
        part.register_forward_hook(lambda *_, name=name: called.append(name))
    model.predict_answers(questions(0, 1), ANSWERS)
    assert not called
    for name, value in model.state_dict().items():
        assert value.equal(before[name]), name
    model(batch()).loss.backward()
    assert set(called) == {"visual_encoder", "text_encoder", "text_decoder"}
    for name, twin in model.named_parameters():
        part, _, rest = name.partition(".")
        if part.endswith("_m"):
            own = before[f"{part.removesuffix('_m')}.{rest}"]
            torch.testing.assert_close(twin, 0.9 * before[name] + 0.1 * own)
            assert twin.grad is None


def test_it_does_without_copies(vocabulary: Path, tmp_path: Path) -> None:
    taught, plain = model_of("albef_vqa", vocabulary), tmp_path / "model.pth"
    torch.save({"model": taught.state_dict()}, plain)
    model = model_of("albef_vqa", vocabulary, seed=1, use_distill=False)
    assert not [name for name in model.state_dict() if "_m." in name]
    model.load_checkpoint(plain)
    asked = questions(0, 1, 2)
    assert model.predict_answers(asked, ANSWERS) == taught.predict_answers(asked, ANSWERS)
    output = model(batch())
    output.loss.backward()
    assert output.intermediate_output.encoder_output_m is None


def test_it_takes_the_list_second_as_in_v1_0_2(vocabulary: Path) -> None:
    model, asked = model_of("albef_vqa", vocabulary), questions(0, 1, 2)
    named = model.predict_answers(asked, answer_list=ANSWERS, num_ans_candidates=2, num_beams=3)
    assert model.predict_answers(asked, ANSWERS, 2) == named
    output = model.predict_answers_with_confidence(
        asked, inference_method="rank", answer_list=ANSWERS, num_ans_candidates=2
    )
    assert output.text == named


def test_it_does_not_write(vocabulary: Path) -> None:
    message = "AlbefVQA has inference_method rank, not 'generate'"
    with pytest.raises(ValueError, match=message):
        model_of("albef_vqa", vocabulary).predict_answers(
            questions(0), answer_list=ANSWERS, inference_method="generate"
        )


def test_its_decoder_is_half_as_deep(vocabulary: Path) -> None:
    model = model_of("albef_vqa", vocabulary, med=tiny.text_block(num_hidden_layers=5))
    encoder, decoder = model.text_encoder.config, model.text_decoder.bert.config
    assert (encoder.fusion_layer, decoder.num_hidden_layers, decoder.fusion_layer) == (2, 2, 0)
    assert decoder.encoder_width == encoder.hidden_size
    assert full_size("albef_vqa", "vqav2").text_decoder.bert.config.num_hidden_layers == 6


def test_the_public_pretrained_model_is_a_start() -> None:
    model, file = full_size("albef_vqa", "vqav2"), public_file("albef_pretrain", "base")
    assert not assert_is_a_start(model, file)
    found = with_answer_decoder(file, first=6)
    assert not [
        name for name in found if name.startswith(("text_encoder.bert", "text_encoder.cls"))
    ]
    for kind in ("", "_m"):
        for n in range(6):
            own = f"text_decoder{kind}.bert.encoder.layer.{n}.crossattention.self.key.weight"
            source = f"text_encoder{kind}.bert.encoder.layer.{n + 6}.crossattention.self.key.weight"
            assert found[own] is file[source]
        assert f"text_decoder{kind}.bert.encoder.layer.6.output.dense.bias" not in found


@pytest.mark.parametrize("use_distill", [True, False])
def test_a_start_brings_towers_decoder_and_copies(use_distill: bool, tmp_path: Path) -> None:
    """In this case images are wider than texts, so the decoder has to learn anew how to look."""
    case, _ = synthetic.load(CASES, "albef_pretrain")
    state = synthetic.state_dict(case)
    torch.save({"model": state}, tmp_path / "pretrained.pth")
    med, vit = case["config"]["med"], case["config"]["vit"]
    block = {"vit": vit | {"img_size": 96}, "med": med, "use_distill": use_distill}
    model = AlbefVQA.from_config(block | {"pretrained": str(tmp_path / "pretrained.pth")})
    own, first = model.state_dict(), med["fusion_layer"]
    assert len(model.text_decoder.bert.encoder.layer) == med["num_hidden_layers"] - first
    for name, value in model.text_encoder.state_dict().items():
        assert value.equal(state[f"text_encoder.bert.{name}"]), name
    for name, value in model.text_decoder.state_dict().items():
        layer = re.search(r"layer\.(\d+)", name)
        old = name.replace(layer[0], f"layer.{int(layer[1]) + first}") if layer else name
        if not name.endswith(LOOKS):
            assert value.equal(state[f"text_encoder.{old}"]), name
    copies = [name for name in own if name.partition(".")[0].endswith("_m")]
    assert bool(copies) == use_distill
    for name in copies:
        if name.startswith("text_decoder_m."):  # as the decoder's, since it looks anew
            assert own[name].equal(own[name.replace("_m.", ".", 1)]), name
        elif name.startswith("text_encoder_m."):
            assert own[name].equal(state[name.replace("_m.", "_m.bert.", 1)]), name
    for name in ("visual_encoder", "visual_encoder_m")[: 1 + use_distill]:
        positions = own[f"{name}.pos_embed"]
        assert positions.shape[1] == 1 + 36
        assert positions[:, 0].equal(state[f"{name}.pos_embed"][:, 0])


def test_a_fine_tuned_model_is_a_start_too() -> None:
    assert not assert_is_a_start(full_size("albef_vqa", "vqav2"), public_file("albef_vqa", "vqav2"))
