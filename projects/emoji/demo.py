"""Captions a dozen emoji drawings and puts them on a contact sheet: ``make demo``.

The drawings are Twemoji's, a vendor that training never saw. Eight show concepts that other
vendors' drawings taught the model, four show concepts that it never saw at all.

    python projects/emoji/demo.py [--type tiny_emoji] [--out output/demo]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from lavis_clone import load_dataset, load_model_and_preprocess

SEEN = ("1f415", "1f418", "1f427", "1f34e", "1f355", "1f335", "1f680", "1f3e0")
UNSEEN = ("1f436", "1f354", "1f6b2", "26f5")

SCALE = 2  # everything is drawn at twice these sizes, so that it stays sharp on a dense screen
COLUMNS = 4
MARGIN, GAP = 32, 16
CARD_WIDTH, CARD_HEIGHT, PADDING = 232, 268, 16
PICTURE = 144
TITLE, SECTION, CAPTION, SMALL = 26, 17, 18, 13
TITLE_HEIGHT, SECTION_HEIGHT = 84, 40
BAR_HEIGHT = 6

PAGE, CARD, EDGE, TRACK = "#f3f4f6", "#ffffff", "#dfe3e8", "#e5e8ec"
INK, GREY, RIGHT, WRONG = "#15202b", "#5b6875", "#17803d", "#b45309"


@dataclass(frozen=True)
class Described:
    """A drawing, what it is called and what the model says."""

    picture: Image.Image
    name: str
    is_seen: bool
    caption: str
    confidence: float
    """In (0, 1]."""
    is_right: bool
    """Whether the caption is the name or one of the other words that people use for it."""


def describe(model_type: str) -> list[Described]:
    """Caption the drawings of ``SEEN`` and ``UNSEEN`` with a type of blip_caption, or a folder."""
    dataset = load_dataset("emoji_caption")["test"]
    places = {record["concept"]: index for index, record in enumerate(dataset.annotation)}
    indices = [places[concept] for concept in (*SEEN, *UNSEEN)]
    pictures = [dataset[index]["image"] for index in indices]
    model: Any
    model, vis_processors, _ = load_model_and_preprocess("blip_caption", model_type, is_eval=True)
    images = torch.stack([vis_processors["eval"](picture) for picture in pictures])
    written = model.generate_with_confidence({"image": images}, max_length=24, min_length=1)
    records = [dataset.annotation[index] for index in indices]
    return [
        Described(
            picture=picture,
            name=record["name"],
            is_seen=record["seen"],
            caption=caption,
            confidence=confidence,
            is_right=caption in record["caption"],
        )
        for picture, record, caption, confidence in zip(
            pictures, records, written.text, written.confidence.tolist(), strict=True
        )
    ]


class Sheet:
    """A page of cards in titled sections, drawn from top to bottom."""

    def __init__(self, sections: Sequence[tuple[str, Sequence[Described]]]) -> None:
        rows = sum(-(-len(cards) // COLUMNS) for _, cards in sections)
        width = 2 * MARGIN + COLUMNS * CARD_WIDTH + (COLUMNS - 1) * GAP
        height = TITLE_HEIGHT + len(sections) * SECTION_HEIGHT + rows * (CARD_HEIGHT + GAP) + GAP
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), PAGE)
        self._draw = ImageDraw.Draw(self.image)
        self._width, self._top = width, TITLE_HEIGHT
        self._title()
        for title, cards in sections:
            self._text((MARGIN, self._top + 10), title, SECTION, INK)
            self._top += SECTION_HEIGHT
            for start in range(0, len(cards), COLUMNS):
                for column, card in enumerate(cards[start : start + COLUMNS]):
                    self._card(MARGIN + column * (CARD_WIDTH + GAP), self._top, card)
                self._top += CARD_HEIGHT + GAP

    def _title(self) -> None:
        self._text((MARGIN, 24), "What a tiny BLIP says about emoji drawings", TITLE, INK)
        note = "Twemoji by Twitter, Inc and other contributors, CC-BY 4.0; a style not trained on"
        self._text((MARGIN, 58), note, SMALL, GREY)
        legend = "green: its name, or a word that people use for it"
        self._text((self._width - MARGIN - _length(legend, SMALL), 58), legend, SMALL, RIGHT)

    def _card(self, left: float, top: float, card: Described) -> None:
        box = [left, top, left + CARD_WIDTH, top + CARD_HEIGHT]
        self._draw.rounded_rectangle(
            [side * SCALE for side in box], radius=12 * SCALE, fill=CARD, outline=EDGE, width=SCALE
        )
        picture = card.picture.resize((PICTURE * SCALE,) * 2, Image.Resampling.LANCZOS)
        place = (left + (CARD_WIDTH - PICTURE) / 2, top + PADDING)
        self.image.paste(picture, (round(place[0] * SCALE), round(place[1] * SCALE)))
        inner = left + PADDING, CARD_WIDTH - 2 * PADDING
        line = top + PADDING + PICTURE + 14
        self._text((inner[0], line), card.caption or "(nothing)", CAPTION, INK, width=inner[1])
        color = RIGHT if card.is_right else WRONG
        self._bar(inner[0], line + 32, inner[1], card.confidence, color)
        self._text((inner[0], line + 46), f"{card.confidence:.0%} sure", SMALL, color)
        self._text((inner[0], line + 64), f"it is: {card.name}", SMALL, GREY, width=inner[1])

    def _bar(self, left: float, top: float, width: float, share: float, color: str) -> None:
        for length, fill in ((width, TRACK), (max(width * share, BAR_HEIGHT), color)):
            box = [left, top, left + length, top + BAR_HEIGHT]
            self._draw.rounded_rectangle(
                [side * SCALE for side in box], radius=BAR_HEIGHT / 2 * SCALE, fill=fill
            )

    def _text(
        self,
        place: tuple[float, float],
        text: str,
        size: float,
        color: str,
        *,
        width: float | None = None,
    ) -> None:
        """Write one line; what is wider than ``width`` is set smaller, and then cut."""
        if width is not None:
            while size > SMALL and _length(text, size) > width:
                size -= 1
            if _length(text, size) > width:
                while text and _length(f"{text}...", size) > width:
                    text = text[:-1]
                text = f"{text.rstrip()}..."
        corner = place[0] * SCALE, place[1] * SCALE
        self._draw.text(corner, text, fill=color, font=_font(size))


def _font(size: float) -> Any:
    return ImageFont.load_default(size * SCALE)  # the typeface that Pillow carries


def _length(text: str, size: float) -> float:
    return _font(size).getlength(text) / SCALE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Caption emoji drawings.")
    parser.add_argument("--type", default="tiny_emoji", help="of blip_caption, or a saved folder")
    parser.add_argument("--out", type=Path, default=Path("output/demo"), metavar="DIR")
    options = parser.parse_args(arguments)
    described = describe(options.type)
    seen = [card for card in described if card.is_seen]
    unseen = [card for card in described if not card.is_seen]
    for title, cards in (("seen in training", seen), ("never seen in training", unseen)):
        sys.stdout.write(f"{title}:\n")
        for card in cards:
            sys.stdout.write(f"  {card.name:16} {card.confidence:5.0%}  {card.caption}\n")
    sheet = Sheet(
        [
            ("Concepts that other vendors' drawings taught it", seen),
            ("Concepts that it never saw", unseen),
        ]
    )
    options.out.mkdir(parents=True, exist_ok=True)
    path = (options.out / "captions.png").resolve()
    sheet.image.save(path)
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
