"""Evaluate a model on the test splits of a run.

python evaluate.py --cfg-path FILE [--options run.batch_size_eval=8 ...]
"""

from __future__ import annotations

from lavis_clone.cli import evaluate_file, script

if __name__ == "__main__":
    script(evaluate_file, __doc__.splitlines()[0])
