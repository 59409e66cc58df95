"""Take the next turn of dialogues about videos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lavis_clone.common.registry import registry
from lavis_clone.common.task_options import DialogueOptions
from lavis_clone.models.capabilities import Replies
from lavis_clone.tasks.base import AGGREGATE, BaseTask, Row
from lavis_clone.tasks.captioning import text_scores
from lavis_clone.tasks.checks import require_one


@registry.register_task("dialogue")
class DialogueTask(BaseTask):
    """Asks how likely people's answers are, and for answers of the model's own.

    Rows: ``instance_id``, ``image_id``, ``answer``, ``confidence``, and of the first answer that
    people gave ``loss``, the mean over its tokens, and ``num_tokens`` (None and 0 where nobody's
    is known). ``agg_metrics`` is the loss, the mean over all tokens of the split: lower is better.
    """

    name = "dialogue"
    evaluates_with = Replies
    higher_is_better = False
    key = "instance_id"
    options: DialogueOptions

    def check_data(self, dataset: Any) -> None:
        require_one(dataset, task=self.name)  # each counts its instance_id from 0

    def valid_step(self, model: Replies, samples: Mapping[str, Any]) -> list[Row]:
        given = model.score_replies(samples)
        output = model.generate_replies(
            samples,
            num_beams=self.options.num_beams,
            max_length=self.options.max_len,
            min_length=self.options.min_len,
            length_penalty=self.options.length_penalty,
        )
        ids = zip(samples["instance_id"], samples["image_id"], strict=True)
        written = zip(output.text, output.confidence.tolist(), strict=True)
        scored = zip(given.log_prob.tolist(), given.num_tokens.tolist(), strict=True)
        return [
            {
                "instance_id": instance_id,
                "image_id": image_id,
                "answer": text,
                "confidence": round(confidence, 6),
                "loss": round(-log_prob / count, 6) if count else None,
                "num_tokens": count,
            }
            for (instance_id, image_id), (text, confidence), (log_prob, count) in zip(
                ids, written, scored, strict=True
            )
        ]

    def score(self, rows: Sequence[Row], dataset: Any) -> dict[str, float]:
        """``loss``, ``perplexity``, COCO's metrics of captions and ``exact_match``.

        Only turns that people have answered count; without any, or without ``report_metric``,
        nothing is scored.
        """
        known = [row for row in rows if row["num_tokens"]]
        if not known or not self.options.report_metric:
            return {}
        num_tokens = sum(row["num_tokens"] for row in known)
        loss = sum(row["loss"] * row["num_tokens"] for row in known) / num_tokens
        references = dataset.references()
        answers = {row["instance_id"]: row["answer"] for row in known}
        truths = {instance_id: references[instance_id] for instance_id in answers}
        scores = {AGGREGATE: loss, "loss": loss, "perplexity": math.exp(min(loss, 700.0))}
        return scores | text_scores(answers, truths)
