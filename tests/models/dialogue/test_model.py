"""The model for dialogues: what it reads, what it learns, and which weights it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from lavis_clone.common.dialogue import DialogueTokenizer
from lavis_clone.common.files import FileError
from lavis_clone.common.reading import ConfigError
from lavis_clone.models import load_model_and_preprocess
from lavis_clone.models.dialogue.config import GPTDialogueConfig, GPTSizes
from lavis_clone.models.dialogue.model import GPTDialogue
from lavis_clone.models.weights import WeightError
from tests.models import tiny
from tests.models.dialogue.making import ANSWERS, NUM_FRAMES, batch, made, sample, text_only


def test_on_text_alone_it_is_transformers_gpt2(model: GPTDialogue, words: Any) -> None:
    samples = text_only(sample(words, 2))
    reference = GPT2LMHeadModel(model.transformer.config).eval()
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("video_ff")}
    reference.load_state_dict(state)
    labels = samples["labels"].masked_fill(samples["labels"] < 0, -100)
    expected = reference(
        samples["input_ids"], token_type_ids=samples["token_type_ids"], labels=labels
    ).loss
    torch.testing.assert_close(model(samples).loss, expected)
    assert model(samples).loss_video is None


def test_frames_stand_before_the_text(model: GPTDialogue, words: Any) -> None:
    samples = sample(words, 0)
    told = model.tell(samples)
    expected = model.video_ff(samples["video_fts"])
    torch.testing.assert_close(told.embeds[:, :3], expected)
    reference = GPT2Model(model.transformer.config).eval()
    reference.load_state_dict(model.transformer.state_dict())
    embeds = torch.cat([expected, reference.wte(samples["input_ids"])], dim=1)
    states = reference(
        inputs_embeds=embeds, token_type_ids=samples["token_type_ids"]
    ).last_hidden_state
    torch.testing.assert_close(model.states(told), states)


def test_only_the_answer_is_learned(model: GPTDialogue, words: Any) -> None:
    samples = batch(words)
    loss = model(samples).loss.detach()
    alone = [model.score_replies(sample(words, row)) for row in range(3)]
    total = -sum(float(scores.log_prob) for scores in alone)
    count = sum(int(scores.num_tokens) for scores in alone)
    assert count == sum(len(words.encode(answer)) + 1 for answer in ANSWERS)
    assert float(loss) == pytest.approx(total / count, rel=1e-5)
    for ignored in (-1, -100):
        masked = samples["labels"].masked_fill(samples["labels"] < 0, ignored)
        assert model({**samples, "labels": masked}).loss.equal(loss)


def test_what_is_said_before_counts_and_padding_does_not(model: GPTDialogue, words: Any) -> None:
    samples = batch(words)
    loss = model(samples).loss
    padding = ~samples["attn_mask"][:, 4:]
    other = samples["input_ids"].masked_fill(padding, 3)
    assert model({**samples, "input_ids": other}).loss.equal(loss)
    asked = samples["input_ids"].clone()
    asked[1, 0] = 3
    assert not model({**samples, "input_ids": asked}).loss.equal(loss)
    frames = samples["video_fts"].clone()
    frames[0, 0] += 1
    assert not model({**samples, "video_fts": frames}).loss.equal(loss)


@pytest.mark.parametrize("left_video", [False, True])
@pytest.mark.parametrize("left_text", [False, True])
def test_padding_may_stand_anywhere(
    model: GPTDialogue, words: Any, left_video: bool, left_text: bool
) -> None:
    samples = batch(words, left_video=left_video, left_text=left_text)
    scores = model.score_replies(samples)
    for row in range(3):
        alone = model.score_replies(sample(words, row))
        torch.testing.assert_close(scores.log_prob[row : row + 1], alone.log_prob)
        assert scores.num_tokens[row] == alone.num_tokens[0]


def test_without_an_answer_there_is_nothing_to_learn(model: GPTDialogue, words: Any) -> None:
    samples = batch(words)
    samples["labels"] = torch.full_like(samples["labels"], -1)
    with pytest.raises(ValueError, match="no dialogue of the batch has an answer"):
        model(samples)
    samples["labels"][1] = batch(words)["labels"][1]
    scores = model.score_replies(samples)
    assert scores.num_tokens.tolist() == [0, len(words.encode("he drinks")) + 1, 0]
    assert scores.log_prob[0] == 0 and scores.log_prob[1] < 0
    assert float(model(samples).loss.detach()) == pytest.approx(
        float(-scores.log_prob[1] / scores.num_tokens[1]), rel=1e-5
    )


def test_the_next_frame_is_foretold_when_asked(folder: Path, words: Any, tmp_path: Path) -> None:
    model = made(folder, video_loss_weight=0.5)
    assert model.video_ff_out is not None
    samples = batch(words, left_video=True)
    output = model(samples)
    errors: list[float] = []
    for row in range(3):
        alone = sample(words, row)
        states = model.states(model.tell(alone))
        for frame in range(NUM_FRAMES[row] - 1):
            guess = model.video_ff_out(states[0, frame])
            errors.append((guess - alone["video_fts"][0, frame + 1]).square().mean().item())
    assert output.loss_video.item() == pytest.approx(0.5 * sum(errors) / len(errors), rel=1e-4)
    assert output.loss.equal(output.loss_lm + output.loss_video)
    assert model(sample(words, 1)).loss_video is None  # of a single frame
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    plain = made(folder)
    assert "video_ff_out.weight" not in plain.state_dict()
    assert plain.load_checkpoint(tmp_path / "weights.pth").ignored == (
        "video_ff_out.weight",
        "video_ff_out.bias",
    )


# --- what is refused ----------------------------------------------------------------------------


def test_what_does_not_fit_is_told(model: GPTDialogue, words: Any) -> None:
    good = batch(words)
    cut = {k: v[:, :-1] for k, v in good.items()}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"video_fts": torch.zeros(3, 4, 4)}, r"video_fts has 4 features .* takes 5 \(model.len_v"),
        ({"labels": cut["labels"]}, "labels must have the shape"),
        ({"token_type_ids": cut["token_type_ids"]}, "token_type_ids must have the shape"),
        ({"attn_mask": cut["attn_mask"]}, "attn_mask must have the shape"),
        ({"video_fts": good["video_fts"][:2]}, "2 videos but 3 dialogues"),
        ({"attn_mask": torch.zeros_like(good["attn_mask"])}, "neither frames nor tokens"),
        ({"input_ids": good["input_ids"] + 400}, "holds the token .* but the model has .* words"),
    ]
    for changes, message in wrong:
        with pytest.raises(ValueError, match=message):
            model({**good, **changes})
    for key in ("input_ids", "token_type_ids"):
        with pytest.raises(ValueError, match=f"needs samples\\['{key}'\\]"):
            model({k: v for k, v in good.items() if k != key})


def test_more_than_the_positions_is_told(model: GPTDialogue, words: Any) -> None:
    ids = torch.full((1, 65), 3)
    samples = {"input_ids": ids, "token_type_ids": ids, "labels": ids}
    with pytest.raises(ValueError, match=r"has 65 frames and tokens, but the model takes 64"):
        model(samples)
    short = {"input_ids": ids[:, :60], "token_type_ids": ids[:, :60]}
    assert len(model.generate_replies(short, max_length=5, num_beams=1).text) == 1
    with pytest.raises(ValueError, match=r"has 65 frames and tokens"):
        model.generate_replies(short, max_length=6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpt": {"n_embd": 10, "n_head": 3}}, r"gpt: n_embd \(10\) must be a multiple of n_head"),
        ({"gpt": {"n_embed": 12}}, "gpt.n_embed: unknown key; did you mean 'n_embd'"),
        ({"gpt": {"attn_pdrop": 1.0}}, r"attn_pdrop \(1.0\) must lie in \[0, 1\)"),
        ({"gpt": {"n_layer": 0}}, r"n_layer \(0\) must be at least 1"),
        ({"len_video_ft": 0}, r"len_video_ft \(0\) must be at least 1"),
        ({"video_loss_weight": -1}, "must be at least 0"),
    ],
)
def test_impossible_sizes_are_told(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GPTDialogue.from_config(tiny.dialogue_block(folder, **changes))


# --- weights ------------------------------------------------------------------------------------


def plain_gpt2(words: DialogueTokenizer, **sizes: Any) -> GPT2LMHeadModel:
    torch.manual_seed(3)
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(words) - 7, **tiny.gpt_block(**sizes)))


@pytest.mark.parametrize("is_prefixed", [False, True])
def test_it_starts_from_a_plain_gpt2(
    folder: Path, words: Any, tmp_path: Path, is_prefixed: bool
) -> None:
    source = plain_gpt2(words, n_positions=80)
    state = source.state_dict() if is_prefixed else source.transformer.state_dict()
    state = {name: value.contiguous().clone() for name, value in state.items()}
    prefix = "transformer." if is_prefixed else ""
    state[f"{prefix}h.0.attn.bias"] = torch.ones(1, 1, 4, 4)  # which old files carry
    save_file(state, tmp_path / "model.safetensors")
    for location in (tmp_path, tmp_path / "model.safetensors"):
        model = GPTDialogue.from_config(tiny.dialogue_block(folder, pretrained=str(location)))
        own, given = model.state_dict(), source.transformer.state_dict()
        count = len(words) - 7
        assert own["transformer.wte.weight"][:count].equal(given["wte.weight"])
        assert own["transformer.wte.weight"][count:].abs().sum() > 0
        assert own["lm_head.weight"].equal(own["transformer.wte.weight"])
        assert own["transformer.wpe.weight"].equal(given["wpe.weight"][:64])
        same = "transformer.h.1.mlp.c_fc.weight"
        assert own[same].equal(given[same.removeprefix("transformer.")])


def test_a_start_of_another_size_is_refused(folder: Path, words: Any, tmp_path: Path) -> None:
    state = plain_gpt2(words, n_layer=3).transformer.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "model.safetensors")
    with pytest.raises(WeightError, match=r"12 left over: transformer.h.2.attn"):
        GPTDialogue.from_config(tiny.dialogue_block(folder, pretrained=str(tmp_path)))


def test_gpt2_that_cannot_be_had_is_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAVIS_CLONE_OFFLINE", "1")
    block = tiny.dialogue_block(folder, pretrained="gpt2")
    with pytest.raises(FileError, match=r"^cannot get hf://openai-community/gpt2/model.safetensor"):
        GPTDialogue.from_config(block)
    with pytest.raises(FileError, match=r"^tokenizer 'gpt2': cannot get .* it may also be a fold"):
        GPTDialogue.from_config({**block, "tokenizer": "gpt2"})


def test_the_base_type_has_gpt2s_sizes(words: Any) -> None:
    config = GPTDialogueConfig(len_tokenizer=50264)
    with torch.device("meta"):
        sizes = GPT2Config(vocab_size=50264, **vars(config.gpt))
        model = GPTDialogue(GPT2Model(sizes), tokenizer=words, config=config)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["transformer.wte.weight"] == shapes["lm_head.weight"] == (50264, 768)
    assert shapes["transformer.wpe.weight"] == (1024, 768)
    assert shapes["video_ff.weight"] == (768, 4224)
    num_weights = sum(parameter.numel() for parameter in model.parameters())
    assert num_weights == 124_439_808 + 7 * 768 + 4224 * 768 + 768  # GPT-2, words, video
    assert GPTSizes() == config.gpt


def test_a_table_may_be_larger_than_the_words_but_not_smaller(folder: Path, words: Any) -> None:
    model = made(folder, len_tokenizer=len(words) + 5)
    assert model.lm_head.weight.shape[0] == len(words) + 5
    assert len(model.generate_replies(batch(words), max_length=4).text) == 3
    with pytest.raises(ValueError, match=r"len_tokenizer \(10\) is smaller than the tokenizer"):
        GPTDialogue.from_config(tiny.dialogue_block(folder, len_tokenizer=10))


def test_a_saved_folder_brings_its_words(folder: Path, words: Any, tmp_path: Path) -> None:
    model = made(folder, seed=4)
    text = {"name": "gpt_dialogue", "tokenizer": model.config.tokenizer, "max_turns": 1}
    saved = model.save_pretrained(tmp_path / "saved", preprocess={"text_processor": {"eval": text}})
    assert sorted(p.name for p in saved.iterdir()) == [
        "config.yaml",
        "model.safetensors",
        "tokenizer.json",
    ]
    moved = saved.rename(tmp_path / "moved")
    again: Any
    again, _, texts = load_model_and_preprocess("gpt_dialogue", str(moved), is_eval=True)
    assert again.tokenizer.location == texts["eval"].tokenizer == f"{moved}/tokenizer.json"
    samples = batch(words)
    expected = model.generate_replies(samples, max_length=5)
    assert again.generate_replies(samples, max_length=5).token_ids.equal(expected.token_ids)
    assert texts["eval"]({"question": "why ?"})["input_ids"].tolist() == [
        *words.encode("why ?"),
        words.id("<eos>"),
    ]
