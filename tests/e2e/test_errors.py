"""Which errors are told in a line, and how a process ends."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch._utils import ExceptionWrapper

from lavis_clone.cli import purpose_of, told_in_one_line
from lavis_clone.common.reading import ConfigError
from lavis_clone.common.registry import registry
from lavis_clone.processors.base import BaseProcessor
from lavis_clone.processors.text import BlipCaptionProcessor
from tests.e2e import toys
from tests.e2e.toys import invoke


def raised(work):
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("it raised nothing")


def in_a_worker(work):
    """The error that a process which loads data passes on."""
    try:
        work()
    except Exception:
        wrapper = ExceptionWrapper(where="in DataLoader worker process 0")
    return raised(wrapper.reraise)


def on_purpose():
    BlipCaptionProcessor()(5)


def config_error_of_a_project():
    raise ConfigError.of(raised(lambda: registry.models.get("x")).args)


def bug_in_our_code():
    registry.models.register(["a list is no key"])(object)


def bug_elsewhere():
    raise ValueError("raised in a file that is not the library's")


def key_error_of_ours():
    from lavis_clone.models.outputs import ModelOutput

    ModelOutput(loss=torch.zeros(()))["loss_itc"]


@pytest.mark.parametrize("passed_on", [raised, in_a_worker])
def test_what_the_library_raises_on_purpose_is_told(passed_on):
    assert purpose_of(passed_on(on_purpose)) == "a caption must be text, got int: 5"


@pytest.mark.parametrize("passed_on", [raised, in_a_worker])
@pytest.mark.parametrize("bug", [bug_in_our_code, bug_elsewhere, config_error_of_a_project])
def test_bugs_keep_their_traceback(passed_on, bug):
    error = passed_on(bug)
    assert purpose_of(error) is None
    with pytest.raises(type(error)), told_in_one_line():
        raise error


def test_a_key_error_is_told_without_quotes():
    assert purpose_of(raised(key_error_of_ours)) == "loss_itc"


def test_what_is_not_implemented_keeps_its_traceback():
    from lavis_clone.models.base import BaseModel

    assert purpose_of(raised(lambda: BaseModel.build(None))) is None


def test_an_error_that_our_code_passes_on_belongs_to_who_raised_it(tmp_path, monkeypatch):
    """read_checkpoint lets errors of the file system through."""
    from lavis_clone.models.weights import read_checkpoint

    assert purpose_of(raised(lambda: read_checkpoint(tmp_path / "none.pth"))) is not None
    (tmp_path / "good.pth").touch()
    monkeypatch.setattr("torch.load", lambda path, **_: os.listdir(path))  # not a folder: OSError
    assert purpose_of(raised(lambda: read_checkpoint(tmp_path / "good.pth"))) is None


def test_every_line_of_a_message_is_marked(capsys):
    with pytest.raises(SystemExit) as ended, told_in_one_line():
        from lavis_clone.common.config import load_config

        load_config(toys.ROOT / "setup.py")
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith("error: ") for line in lines)


class BrokenProcessor(BaseProcessor):
    """Has a bug."""

    def transform(self, item):
        return item.no_such_attribute


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bug_of_a_project_keeps_its_traceback_in_any_process(recipe, num_workers, monkeypatch):
    monkeypatch.setitem(registry.processors._items, "broken", BrokenProcessor)
    content = yaml.safe_load(recipe.read_text())
    content["datasets"]["emoji_caption"]["text_processor"] = {"train": {"name": "broken"}}
    content["run"]["num_workers"] = num_workers
    done = invoke("train", toys.write_recipe(recipe, content))
    assert done.exit_code == 1
    assert isinstance(done.exception, AttributeError)
    assert "no_such_attribute" in str(done.exception)


# --- as a process -------------------------------------------------------------------------------


def test_script_tells_errors_in_one_line_and_ends_with_2(tmp_path):
    done = toys.start(str(toys.ROOT / "train.py"), "--cfg-path", "no.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: no such config file: no.yaml\n"
    assert done.stdout == ""


def test_module_tells_its_own_errors_too(recipe):
    """Run as ``__main__``, where the module is not called by its name."""
    arguments = ("-m", "lavis_clone.cli", "evaluate", str(recipe), "run.test_splits=[]")
    done = toys.start(*arguments, cwd=recipe.parent, PYTHONPATH=str(toys.ROOT))
    assert (done.returncode, done.stderr) == (
        2,
        "error: run.test_splits: names no split to evaluate\n",
    )


def test_a_reader_that_leaves_is_no_error(tmp_path):
    code = "import sys; sys.argv[0] = 'lavis-clone'; from lavis_clone.cli import main; main()"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} models"
    done = subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; {command} | true; echo ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(toys.ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout.strip() in ("0", "1")  # 0 when it was faster than the reader


def test_a_closed_pipe_ends_with_1_and_no_word():
    code = (
        "import os, sys, time\n"
        "from lavis_clone.cli import ends_quietly\n"
        "with ends_quietly():\n"
        "    sys.stdin.read()\n"  # until the reader is gone
        "    print('x')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(toys.ROOT)},
    ) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == b""


@contextlib.contextmanager
def training(recipe: Path):
    """A long run of train.py that has begun its first epoch."""
    arguments = ("--cfg-path", str(recipe), "--options", "run.max_epoch=100000", "run.log_freq=1")
    # A suite that a shell runs in the background ignores Ctrl-C, and its children would, too.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        [sys.executable, str(toys.ROOT / "train.py"), *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        signal.signal(signal.SIGINT, before)
        try:
            while "epoch 0" not in process.stderr.readline():
                assert process.poll() is None
            yield process
        finally:
            process.kill()


def test_ctrl_c_saves_training_and_says_how_to_go_on(recipe):
    with training(recipe) as process:
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 130
    told = [line for line in rest.splitlines() if "SIGINT" in line]
    assert len(told) <= 2 and "go on with run.resume=auto" in told[-1]
    assert "Traceback" not in rest
