"""Train a model, and test its best weights.

python train.py --cfg-path FILE [--options run.batch_size_eval=8 ...]
"""

from __future__ import annotations

from lavis_clone.cli import script, train_file

if __name__ == "__main__":
    script(train_file, __doc__.splitlines()[0])
