"""Package description. Recipes and configs travel inside the wheel, below ``lavis_clone``."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
SHIPPED = {"configs": ("*.yaml", "*.json"), "projects": ("*.yaml", "*.md")}
"""Folders of the checkout that become folders of the package, and what of them."""


class BuildWithConfigs(build_py):
    """Copies the YAML files beside the package into it."""

    def run(self) -> None:
        super().run()
        for folder, patterns in SHIPPED.items():
            for pattern in patterns:
                for source in (HERE / folder).rglob(pattern):
                    target = Path(self.build_lib, "lavis_clone", source.relative_to(HERE))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)


def requirements() -> list[str]:
    lines = (HERE / "requirements.txt").read_text().splitlines()
    required = [line.split("#")[0].strip() for line in lines]
    return [line for line in required if line and not line.startswith("fairscale")]


setup(
    name="lavis_clone",
    version="0.1.0",
    description="BLIP, ALBEF, CLIP and ALPRO with one interface: inference, training, evaluation",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["lavis_clone", "lavis_clone.*"]),
    package_data={"lavis_clone": ["py.typed", "assets/**"]},
    install_requires=requirements(),
    extras_require={
        "app": ["faiss-cpu>=1.10"],
        "data": ["pyarrow>=15", "datasets>=3"],
        "log": ["matplotlib>=3.8", "tensorboard>=2.16", "wandb>=0.19"],
        "train": ["fairscale>=0.4.13", "peft>=0.17"],
        "dev": [
            "datasets>=3",
            "faiss-cpu>=1.10",
            "hypothesis>=6",
            "matplotlib>=3.8",
            "peft>=0.17",
            "tensorboard>=2.16",
            "mypy>=1.15",
            "pytest>=8",
            "pyarrow>=15",
            "webdataset>=1",
            "pytest-xdist>=3",
            "ruff>=0.9",
            "resvg-py>=0.1",
            "types-PyYAML",
            "types-tqdm",
        ],
    },
    entry_points={"console_scripts": ["lavis-clone=lavis_clone.cli:main"]},
    cmdclass={"build_py": BuildWithConfigs},
)
