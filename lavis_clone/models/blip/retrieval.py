"""BLIP for image-text retrieval: a common space, and a head that judges pairs.

Li et al., https://arxiv.org/abs/2201.12086. Shapes: B samples, A of all processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lavis_clone.common import dist
from lavis_clone.common.registry import registry
from lavis_clone.models.blip.config import BlipConfig
from lavis_clone.models.encoders.bert import BertModel
from lavis_clone.models.heads.contrastive import Comparison, QueueFields
from lavis_clone.models.heads.matching import Candidates, PairTraining
from lavis_clone.models.tokenizers import TokenBatch
from lavis_clone.models.zoo import MODEL_TYPES


@dataclass(frozen=True, kw_only=True)
class BlipRetrievalConfig(QueueFields, BlipConfig):
    """Fields of BLIP for retrieval."""

    max_txt_len: int = 35
    negative_all_rank: bool = False
    """Draw wrong partners from the batches of all processes, not just from the own one."""


@registry.register_model("blip_retrieval")
class BlipRetrieval(PairTraining):
    """Finds images by text and texts by image."""

    Config = BlipRetrievalConfig
    PRETRAINED_MODEL_CONFIG_DICT = MODEL_TYPES["blip_retrieval"]
    WITH_IDS = True
    MAY_BE_IGNORED = (r"embeddings\.position_ids$", r"^ptr_queue$")
    PRETRAINED_MAY_BE_IGNORED = (r"^text_decoder(_m)?\.",)
    config: BlipRetrievalConfig

    @classmethod
    def build(cls, config: BlipRetrievalConfig) -> BlipRetrieval:
        encoder, text, tokenizer = cls.towers(config)
        return cls(encoder, BertModel(text), tokenizer=tokenizer, config=config)

    def candidates(self, step: Comparison) -> Candidates:
        """Compared anew, with the features of this step; those of the momentum copies are older."""
        assert step.ids is not None
        tokens, text, states, ids = step.tokens, step.text, step.states, step.ids
        images, words = step.image_features, step.text_features
        if self.config.negative_all_rank:
            images, words, ids = dist.gather(images), dist.gather(words), dist.gather(ids)
            tokens, states = dist.gather(tokens), dist.gather(states)
            text = TokenBatch(dist.gather(text.input_ids), dist.gather(text.mask))
        i2t, t2i = step.image_features @ words.t(), step.text_features @ images.t()
        step.sims.sim_i2t, step.sims.sim_t2i = i2t / self.temp, t2i / self.temp
        belongs = step.ids[:, None] == ids[None]
        return Candidates(step.sims.sim_i2t, step.sims.sim_t2i, belongs, tokens, text, states)

    def _text(self, texts: Sequence[str]) -> TokenBatch:
        """Of one length in all processes, when they exchange texts."""
        exchanged = self.config.negative_all_rank and dist.world_size() > 1
        return self.tokenize(texts, padded=not self.training or exchanged)
