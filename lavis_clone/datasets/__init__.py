"""Data sets: annotations and media on disk, turned into batches.

``lavis_clone.datasets.builders`` has ``load_dataset`` and ``dataset_zoo``. Importing this package
imports no torch.
"""
