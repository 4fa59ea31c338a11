"""Policies: chains of transforms as params.yaml names them, and what is drawn for each view."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.random import PCG64, Generator
from pydantic import ValidationError

from medsweep import params
from medsweep.artifacts import files
from medsweep.artifacts.augmented import AugmentedViews
from medsweep.errors import ParamsError, unknown_name
from medsweep.imaging.transforms import TRANSFORMS, Chance


@dataclass(frozen=True)
class Link:
    """One transform of a chain, with its checked settings."""

    transform: str
    settings: Chance


Chain = tuple[Link, ...]


def check_policies(augment: params.Augment) -> dict[str, Chain]:
    """Each policy's chain, sorted by name; transforms follow in the order of their table.

    DVC does not see the order in which keys are written, so no result may depend on it.

    Raises:
        ParamsError: a policy is empty, a transform is unknown, or a setting is unknown, missing or out of range; the
            message names the key's dotted path.
    """
    return {policy: _check_chain(policy, chain) for policy, chain in sorted(augment.policies.items())}


def _check_chain(policy: str, chain: dict[str, dict[str, object]]) -> Chain:
    where = f"augment.policies.{policy}"
    if not chain:
        raise ParamsError("has no transforms.", where=where, fix="Name at least one, or search the policy 'none'.")
    for name in chain:
        if name not in TRANSFORMS:
            raise unknown_name("transform", name, list(TRANSFORMS), where=where)
    links = []
    for name, row in TRANSFORMS.items():
        if name not in chain:
            continue
        try:
            links.append(Link(name, row.settings.model_validate(chain[name])))
        except ValidationError as error:
            raise params.explain(error, where="params.yaml", prefix=f"{where}.{name}") from None
    return tuple(links)


def draw_views(
    policy: str, chain: Chain, *, seed: int, n_images: int, n_views: int, prepared_digest: str
) -> AugmentedViews:
    """Draw `n_views` views of each of `n_images` images; nothing is rendered yet.

    Every (seed, policy, view, transform) has a random stream of its own, in which image follows image. So more views
    leave the earlier ones as they are, and neither another policy nor another transform of the chain changes what
    is drawn.
    """
    draws = {
        link.transform: np.concatenate(
            [link.settings.draw(_stream(seed, policy, view, link.transform), n_images) for view in range(n_views)]
        )
        for link in chain
    }
    return AugmentedViews(
        policy=policy,
        n_images=n_images,
        n_views=n_views,
        transforms=tuple(link.transform for link in chain),
        settings={link.transform: link.settings.model_dump(mode="json") for link in chain},
        draws=draws,
        shards=(),
        prepared_digest=prepared_digest,
    )


def _stream(seed: int, policy: str, view: int, transform: str) -> Generator:
    name = files.canonical_json([seed, policy, view, transform])
    return Generator(PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")))
