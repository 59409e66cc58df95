"""Classes by their names: weights by hand, kept as long as they hold."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from lavis_clone.common.files import resolve
from lavis_clone.datasets.kinds.image_folder import IMAGENET_NAMES
from lavis_clone.models.clip.zero_shot import IMAGENET_TEMPLATES, class_weights
from tests.models.clip.toys import CLASSIC, MAKES, build, images, reference

NAMES = ["cat", "fire truck", "cat"]
TEMPLATES = ["a photo of a {}.", "the {}"]


def test_a_class_is_the_mean_of_its_texts() -> None:
    model = build(CLASSIC)
    found = model.zero_shot_classifier(NAMES, TEMPLATES)
    texts = [t.replace("{}", name) for name in NAMES for t in TEMPLATES]
    each = F.normalize(torch.cat([model.encode_text([t]) for t in texts]), dim=-1).detach()
    expected = F.normalize(each.view(3, 2, -1).mean(dim=1), dim=-1).t()
    torch.testing.assert_close(found, expected)
    functions = [lambda name: f"a photo of a {name}.", lambda name: f"the {name}"]
    assert model.zero_shot_classifier(NAMES, functions).equal(found)
    tokens = open_clip.SimpleTokenizer(context_length=20)
    twin = open_clip.build_zero_shot_classifier(reference(CLASSIC, model), tokens, NAMES, TEMPLATES)
    torch.testing.assert_close(found, twin)


def test_pictures_are_sorted_into_named_classes() -> None:
    model, pictures = build(CLASSIC), images(3)
    model.set_classes(NAMES[:2], TEMPLATES)
    label = torch.tensor([1, 0, 1])
    found = model.predict({"image": pictures, "label": label})
    features = model.extract_features({"image": pictures}).image_embeds_proj
    logits = features @ model.zero_shot_classifier(NAMES[:2], TEMPLATES) * model.logit_scale.exp()
    torch.testing.assert_close(found.predictions, logits.detach())
    torch.testing.assert_close(found.confidence, logits.detach().softmax(dim=1).amax(dim=1))
    assert found.targets.equal(label)
    assert model.predict({"image": pictures}).targets is None


def test_weights_of_classes_are_kept_as_long_as_they_hold() -> None:
    model, calls = build(CLASSIC), []
    model.get_submodule("transformer").register_forward_pre_hook(lambda *_: calls.append(1))
    samples = {"image": images(2)}
    model.set_classes(NAMES, TEMPLATES)
    first = model.predict(samples).predictions
    model.predict(samples)
    model.set_classes(NAMES, TEMPLATES)  # the same ones
    model.predict(samples)
    assert len(calls) == 1
    model.set_classes(NAMES[:2], TEMPLATES)
    assert model.predict(samples).predictions.shape == (2, 2)
    assert len(calls) == 2
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model({"image": images(2), "text_input": ["a", "b"]}).loss.backward()
    optimizer.step()
    model.set_classes(NAMES, TEMPLATES)
    calls.clear()
    second = model.predict(samples).predictions
    assert len(calls) == 1
    assert not second.equal(first)


def test_templates_are_the_configs_or_imagenets() -> None:
    model = build(CLASSIC, templates=["one {}"])
    model.set_classes(["cat", "dog"])
    assert model._classes == (("cat", "dog"), ("one {}",))
    plain = build(CLASSIC)
    plain.set_classes(["cat", "dog"])
    assert plain._classes is not None
    assert len(plain._classes[1]) == 80
    assert plain._classes[1][0]("cat") == "a bad photo of a cat."


def test_imagenet_is_named_as_openai_named_it() -> None:
    names = resolve(IMAGENET_NAMES).read_text().splitlines()
    assert names == list(open_clip.IMAGENET_CLASSNAMES)
    assert len(IMAGENET_TEMPLATES) == 80


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        ([], ["{}"], "no class names given"),
        (["a"], [], "no templates given"),
        (["a", " "], ["{}"], "the name of class 1 is empty"),
        (["a"], ["a photo"], "templates: must hold {} where the class goes, got 'a photo'"),
    ],
)
def test_nothing_to_sort_by_is_refused(
    names: list[str], templates: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        class_weights(lambda texts: torch.ones(len(texts), 2), names, templates)


def test_classes_must_be_named_first() -> None:
    with pytest.raises(ValueError, match="has no classes yet; name them with set_classes"):
        build(CLASSIC).predict({"image": images(1)})


@pytest.mark.parametrize("make", ["classic", "siglip"])
def test_one_picture_among_some_things(make: str, tmp_path: Path) -> None:
    model = build(MAKES[make])
    Image.new("L", (50, 40), 90).save(tmp_path / "grey.png")
    names = ["cat", "dog", "bird"]
    found = model.zero_shot_predict(tmp_path / "grey.png", names, ["a {}"])
    assert sorted(found) == sorted(names)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert sum(found.values()) == pytest.approx(1)
    ready = model._processor()(Image.open(tmp_path / "grey.png"))
    again = model.zero_shot_predict(ready, names, ["a {}"])
    assert again == pytest.approx(found)
