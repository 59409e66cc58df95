"""Asks for what is not here, in every way."""

import sys

WAYS = [
    "from lavis.models import Blip2OPT",
    "from lavis.models.blip2_models.blip2_opt import Blip2OPT",
    "from lavis.models.blip_models.blip_captoin import BlipCaption",
    "import lavis.nonsense",
    "from lavis.models.base_model import MomentumDistilationMixin",
    "from lavis.models import BlipCaptoin",
    "import lavis.models\nlavis.models.BlipCaptoin",
    "from lavis.datasets.builders.nlvr_builder import NLVRBuilder",
]

for way in WAYS:
    try:
        exec(way)
    except (ImportError, AttributeError) as error:
        print(f"{type(error).__name__}: {error}")
    else:
        sys.exit(f"there is {way}")
