"""Classes by their names: each is the mean of texts that name it.

Shapes: C classes, K templates, F width of the common space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

Template = str | Callable[[str], str]
"""A text with ``{}`` where the class goes, or a function that makes one of its name."""

SLOT = "{}"
IMAGENET_TEMPLATES: Sequence[Template] = open_clip.OPENAI_IMAGENET_TEMPLATES
"""The 80 that OpenAI chose: Radford et al., https://arxiv.org/abs/2103.00020, section 3.1.4."""
TEXTS_AT_ONCE = 256


def name_class(template: Template, name: str) -> str:
    """A text about a class.

    Raises:
        ValueError: a template without ``{}``.
    """
    if not isinstance(template, str):
        return template(name)
    if SLOT not in template:
        raise ValueError(f"templates: must hold {SLOT} where the class goes, got {template!r}")
    return template.replace(SLOT, name)


@torch.no_grad()
def class_weights(
    embed: Callable[[list[str]], Tensor], names: Sequence[str], templates: Sequence[Template]
) -> Tensor:
    """``(F, C)``: of each class the mean over all templates, of length 1.

    Args:
        embed: Texts to ``(R, F)`` of length 1.

    Raises:
        ValueError: there are no names or no templates, or a name is empty.
    """
    if not names or not templates:
        raise ValueError(f"no {'class names' if not names else 'templates'} given")
    if empty := [number for number, name in enumerate(names) if not name.strip()]:
        raise ValueError(f"the name of class {empty[0]} is empty")
    texts = [name_class(template, name) for name in names for template in templates]
    parts = range(0, len(texts), TEXTS_AT_ONCE)
    embedded = torch.cat([embed(texts[i : i + TEXTS_AT_ONCE]) for i in parts])  # (C K, F)
    means = embedded.unflatten(0, (len(names), len(templates))).mean(dim=1)
    return F.normalize(means, dim=-1).t()
