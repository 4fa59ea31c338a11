"""PreparedSplit: one split's arrays, as prepare writes them and every later stage reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsweep.artifacts import files
from medsweep.artifacts.record import TASKS, Task
from medsweep.errors import ArtifactError

_MADE_BY = "prepare"
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class Standardization:
    """The training split's intensity statistics on the scale 0 to 1, one value a channel."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True)
class PreparedSplit:
    """One split, ready for training or evaluation.

    Args:
        name: 'train', 'val' or 'test'.
        images: (N, H, W, C), uint8 or uint16; memory-mapped when loaded.
        labels: (N,) int64 class indices, or (N, L) uint8 zeros and ones (multi-label).
        record_ids: (N,) str, unique; each is a digest of the image's content.
        patient_ids: (N,) str pseudonyms; an empty string where the source names no patient.
        class_names: (K,); for a binary task the second class is the positive one.
        task: binary, multiclass, multilabel or ordinal.
        value_range: the largest value that the intensities were scaled to (255 or 65535).
        columns: kept subgroup columns, each (N,) str.
        masks: (N, H, W) uint8 lesion masks where the source knows them (phantoms), else None.
        standardization: mean and deviation of the training split (train only).
        synthetic: True where the images are made, not acquired: every page and figure then says so.
        digest: one SHA-256 for the whole split; empty until it is written.

    Raises:
        ArtifactError: the arrays disagree in length, type or range.
    """

    name: str
    images: NDArray[Any]
    labels: NDArray[Any]
    record_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    task: Task
    value_range: int
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    masks: NDArray[np.uint8] | None = None
    standardization: Standardization | None = None
    synthetic: bool = False
    digest: str = ""

    def __post_init__(self) -> None:
        n, k = len(self.images), len(self.class_names)
        rules = [
            (self.images.ndim == 4, "images must have the shape (N, H, W, C)"),
            (self.images.dtype in (np.dtype(np.uint8), np.dtype(np.uint16)), "images must be uint8 or uint16"),
            (self.task in TASKS, f"the task must be one of {', '.join(TASKS)}"),
            (all(len(each) == n for each in (self.labels, self.record_ids, self.patient_ids)), "lengths differ"),
            (all(len(each) == n for each in self.columns.values()), "a kept column has another length"),
            (self.masks is None or self.masks.shape == self.images.shape[:3], "masks must have the shape (N, H, W)"),
            (len(set(self.record_ids.tolist())) == n, "record ids must be unique"),
            (k >= 1 if self.task == "multilabel" else k >= 2, "too few classes"),
            (self.task != "binary" or k == 2, "a binary task has two classes"),
        ]
        if self.task == "multilabel":
            rules.append((self.labels.shape == (n, k) and self.labels.dtype == np.uint8, "labels must be (N, L) uint8"))
            rules.append((bool((self.labels <= 1).all()), "multi-label labels must be 0 or 1"))
        else:
            rules.append((self.labels.shape == (n,) and self.labels.dtype == np.int64, "labels must be (N,) int64"))
            rules.append((bool(((self.labels >= 0) & (self.labels < k)).all()), "a label is outside the classes"))
        for holds, why in rules:
            if not holds:
                raise ArtifactError(f"{why}.", where=f"prepared split '{self.name}'")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def groups(self) -> NDArray[np.str_]:
        """(N,) what belongs together in resampling: the patient, or the image itself where no patient is known."""
        return np.where(self.patient_ids == "", self.record_ids, self.patient_ids)

    @property
    def has_patients(self) -> bool:
        return bool((self.patient_ids != "").any())

    @property
    def n_patients(self) -> int | None:
        """How many patients, or None where the source names none."""
        return len(set(self.patient_ids.tolist()) - {""}) if self.has_patients else None

    def save(self, folder: Path) -> PreparedSplit:
        """Write this split and return it as it was read back."""
        step = max(1, _BLOCK_BYTES // max(1, int(np.prod(self.images.shape[1:])) * self.images.itemsize))
        blocks = (np.asarray(self.images[start : start + step]) for start in range(0, len(self), step))
        masks = None
        if self.masks is not None:
            known = self.masks
            masks = (np.asarray(known[start : start + step]) for start in range(0, len(self), step))
        return write_split(folder, self, image_blocks=blocks, mask_blocks=masks)

    @classmethod
    def load(cls, folder: Path, *, verify: bool = True) -> PreparedSplit:
        """Read a split, its images memory-mapped.

        Args:
            folder: where `save` wrote it.
            verify: compare every file with its recorded digest (a driver does; its workers need not again).

        Raises:
            ArtifactError: a file is missing, was changed since it was written, or breaks the rules above.
        """
        head = files.read_head(folder / "split.json", made_by=_MADE_BY)
        if verify:
            files.check_digests(folder, head["files"], made_by=_MADE_BY)

        def array(name: str, *, memory_map: bool = False) -> NDArray[Any]:
            return files.read_npy(folder / f"{name}.npy", made_by=_MADE_BY, memory_map=memory_map)

        known = head["standardization"]
        return cls(
            name=head["name"],
            images=array("images", memory_map=True),
            labels=array("labels"),
            record_ids=array("record_ids"),
            patient_ids=array("patient_ids"),
            class_names=tuple(head["class_names"]),
            task=head["task"],
            value_range=head["value_range"],
            columns={name: array(f"column_{index}") for index, name in enumerate(head["columns"])},
            masks=array("masks", memory_map=True) if head["has_masks"] else None,
            standardization=Standardization(tuple(known["mean"]), tuple(known["deviation"])) if known else None,
            synthetic=head["synthetic"],
            digest=head["digest"],
        )


@dataclass(frozen=True)
class PreparedImage:
    """One image as a model takes it.

    Args:
        name: how it is called in what is printed.
        pixels: (H, W, C) uint8 or uint16.
        mask: (H, W) the known lesion, or None.
        value_range: the largest value that its intensities were scaled to.
        synthetic: True where it is made, not acquired.
    """

    name: str
    pixels: NDArray[Any]
    mask: NDArray[np.uint8] | None
    value_range: int
    synthetic: bool


def write_split(
    folder: Path,
    split: PreparedSplit,
    *,
    image_blocks: Iterable[NDArray[Any]],
    mask_blocks: Iterable[NDArray[np.uint8]] | None,
) -> PreparedSplit:
    """Write `split` with its pixels taken from blocks along the first axis: memory does not grow with the split."""
    with files.replacing_folder(folder) as target:
        written = {
            "images.npy": files.write_npy_blocks(
                target / "images.npy", image_blocks, shape=split.images.shape, dtype=split.images.dtype
            )
        }
        if mask_blocks is not None:
            written["masks.npy"] = files.write_npy_blocks(
                target / "masks.npy", mask_blocks, shape=split.images.shape[:3], dtype=np.dtype(np.uint8)
            )
        arrays = {"labels": split.labels, "record_ids": split.record_ids, "patient_ids": split.patient_ids}
        arrays |= {f"column_{index}": values for index, values in enumerate(split.columns.values())}
        for name, values in arrays.items():
            written[f"{name}.npy"] = files.write_npy(target / f"{name}.npy", values)
        known = split.standardization
        head = {
            "name": split.name,
            "n_images": len(split),
            "n_patients": split.n_patients,
            "class_names": list(split.class_names),
            "task": split.task,
            "value_range": split.value_range,
            "columns": list(split.columns),
            "has_masks": mask_blocks is not None,
            "standardization": {"mean": list(known.mean), "deviation": list(known.deviation)} if known else None,
            "synthetic": split.synthetic,
            "files": written,
        }
        files.write_head(target / "split.json", head)
    return PreparedSplit.load(folder, verify=False)
