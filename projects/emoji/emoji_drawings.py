"""The drawings: SVG out of the icon packages, and pictures out of SVG."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

from emoji_concepts import BuildError, Concept, key_of, load_json

VENDORS = {  # our name -> the icon set
    "noto": "noto",
    "noto-v1": "noto-v1",
    "emojione": "emojione",
    "emojione-v1": "emojione-v1",
    "fxemoji": "fxemoji",
    "fluent-flat": "fluent-emoji-flat",
    "openmoji": "openmoji",
    "twemoji": "twemoji",
}

SIZE = 128  # pixels, both ways


class Drawings:
    """The drawings of one vendor, as SVG."""

    def __init__(self, modules: Path, vendor: str) -> None:
        folder = modules / "@iconify-json" / VENDORS[vendor]
        self._set = load_json(folder / "icons.json")
        self._icon_of_key = {
            key_of(code): name for code, name in load_json(folder / "chars.json").items()
        }
        self._gap = "" if vendor == "fxemoji" else "-"  # it runs words together: dogface
        icons = (*self._set["icons"], *self._set.get("aliases", {}))
        self._icon_of_name = {name.replace("-", self._gap): name for name in icons}

    def svg(self, concept: Concept) -> str | None:
        """The drawing of ``concept``, or None where the vendor made none.

        It is found by code point where the set has a table of them, else by the concept's name.
        """
        words = re.findall(r"[a-z0-9]+", re.sub("['\"]", "", concept.name))
        by_name = self._icon_of_name.get(self._gap.join(words))
        icon = self._icon_of_key.get(concept.key, by_name)
        return None if icon is None else self._wrapped(icon)

    def _wrapped(self, name: str) -> str:
        flipped = False
        while name not in self._set["icons"]:
            alias = self._set["aliases"][name]
            if {*alias} - {"parent", "hFlip"}:
                raise BuildError(f"icon {name} of {self._set['prefix']} is changed by {alias}")
            flipped ^= bool(alias.get("hFlip"))
            name = alias["parent"]
        icon = self._set["icons"][name]
        left, top, width, height = (
            icon.get(field, self._set.get(field, default))
            for field, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        body = icon["body"]
        if flipped:
            body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
            f' viewBox="{left} {top} {width} {height}" width="{SIZE}" height="{SIZE}">{body}</svg>'
        )


def render(job: tuple[str, Path]) -> None:
    """Draw ``(svg, path)`` as a ``SIZE`` x ``SIZE`` RGB PNG on white; never leaves half a file."""
    import resvg_py
    from PIL import Image

    svg, path = job
    data = bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg, width=SIZE, height=SIZE, background="#ffffff", skip_system_fonts=True
        )
    )
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    if picture.size != (SIZE, SIZE):
        raise BuildError(f"{path.name} came out as {picture.size}, not {(SIZE, SIZE)}")
    out = io.BytesIO()
    picture.save(out, "PNG")
    write_atomic(path, out.getvalue())


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``path`` and the folders it lies in; it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_bytes(data)
    os.replace(half, path)
