"""The text processors and the identity."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from lavis_clone.common.config import ConfigError
from lavis_clone.processors import load_processor
from lavis_clone.processors.base import BaseProcessor
from lavis_clone.processors.text import BlipCaptionProcessor, BlipQuestionProcessor


def test_caption_by_hand():
    processor = BlipCaptionProcessor("A picture of ", 3)
    assert processor(" A Dog!and (two)  cats\n") == "A picture of a dog and"
    assert processor.pre_caption("Hi") == "hi"
    assert processor("") == "A picture of "


def test_question_by_hand():
    assert BlipQuestionProcessor(3)(" Is it (a) dog? ") == " is it"
    assert BlipQuestionProcessor()("What's this?~ ") == "what's this?"


@pytest.mark.parametrize("name", ["blip_caption", "blip_question", "base_processor"])
def test_text_processors_pickle_and_keep_to_their_keys(name):
    processor = load_processor(name, {"name": name})
    assert pickle.loads(pickle.dumps(processor))("a dog") == "a dog" == processor("a dog")
    with pytest.raises(ConfigError, match="max_word"):
        load_processor(name, {"max_word": 3})


@pytest.mark.parametrize("cls", [BlipCaptionProcessor, BlipQuestionProcessor])
def test_wrong_values_are_named(cls):
    with pytest.raises(ConfigError, match=r"max_words \(0\)"):
        cls.build(max_words=0)
    with pytest.raises(TypeError, match="must be text, got list"):
        cls()(["a", "b"])


def test_base_processor_is_the_identity():
    item = object()
    assert BaseProcessor()(item) is item
    assert BaseProcessor.from_config()(item) is item


def test_own_class_gets_its_keys_as_arguments():
    class Shout(BaseProcessor):
        def __init__(self, mark: str = "!") -> None:
            self.mark = mark

        def transform(self, item):
            return item + self.mark

    assert Shout.from_config({"name": "shout", "mark": "?"})("what") == "what?"
    with pytest.raises(ConfigError, match="shout: got an unexpected keyword argument 'marks'"):
        Shout.from_config({"name": "shout", "marks": "?"})


def test_listing_imports_no_torch():
    code = (
        "import sys\n"
        "import lavis_clone.processors, lavis_clone.datasets\n"
        "from lavis_clone.datasets.builders import dataset_zoo\n"
        "from lavis_clone.common.registry import registry\n"
        "assert 'blip_caption' in registry.list_processors()\n"
        "assert 'coco_caption' in str(dataset_zoo)\n"
        "assert registry.get_builder_class('coco_caption').DATASET_CONFIG_DICT\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
