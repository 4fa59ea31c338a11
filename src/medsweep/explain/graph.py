"""What a loaded Keras model is made of, nested models unfolded: its members, their logits and last convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from medsweep.errors import ArtifactError

if TYPE_CHECKING:
    import keras

Link = Literal["softmax", "sigmoid"]

Tensor = Any
"""A symbolic Keras tensor."""


@dataclass(frozen=True)
class Step:
    """One layer applied once: the tensors that go in, and the one that comes out."""

    layer: Any
    inputs: tuple[Tensor, ...]
    output: Tensor


@dataclass(frozen=True)
class MemberGraph:
    """One member of a model (the model itself where it is no ensemble), as tensors of one symbolic graph.

    Args:
        pixels: (B, H, W, C) raw, the model's input.
        entry: the same after the fixed layers in front (scaling, standardization): what the network sees.
        features: (B, h, w, F) the feature maps at its last convolution, after normalization, shortcut and activation.
        layer: the name of that convolution.
        logits: (B, K) what goes into softmax or sigmoid.
        link: which of the two.
    """

    pixels: Tensor
    entry: Tensor
    features: Tensor
    layer: str
    logits: Tensor
    link: Link


def members_of(model: keras.Model) -> list[MemberGraph]:
    """The members of a model, however deeply it nests them.

    A member ends in the first softmax or sigmoid over the classes that its pixels come to: what follows (averaging the
    members, calibration) has no say in where a member looks. Its last convolution is the last one on the way there.

    Raises:
        ArtifactError: the model is not made of layers (a subclass of keras.Model), or has no convolution or no softmax
            or sigmoid at its end.
    """
    pixels, steps = _unfolded(model)
    classes = model.output_shape[-1]
    made = {id(step.output): index for index, step in enumerate(steps)}
    found = []
    for index, step in enumerate(steps):
        link = _link(step, classes)
        before = _ancestors(steps, made, index)
        later = [each for each in range(index + 1, len(steps)) if index in _ancestors(steps, made, each)]
        if link is None or any(_learns(steps[each].layer) for each in later):
            continue
        if any(_link(steps[each], classes) for each in before if not _learned_after(steps, made, each, index)):
            continue  # a calibration of members that were found already
        found += [
            _member(pixels, steps, sorted(own), step, link, logits)
            for own, logits in _branches(steps, made, before, step)
        ]
    if not found:
        raise _unfit(model, "has no softmax or sigmoid over its classes at its end")
    return found


def _branches(
    steps: Sequence[Step], made: dict[int, int], before: set[int], last: Step
) -> list[tuple[set[int], Tensor]]:
    """What leads to the classes, and the logits.

    Where several networks' features stand side by side before one last layer (train's ensembles), each network by
    itself with its own share of the logits, which add up to the whole: what the others say depends on other layers.
    """
    import keras

    for each in sorted(before, reverse=True):
        step = steps[each]
        if isinstance(step.layer, keras.layers.Concatenate) and len(step.output.shape) == 2:
            shares = _shares(steps, step, last)
            ends = [made[id(tensor)] for tensor in step.inputs]
            return [({end, *_ancestors(steps, made, end)}, share) for end, share in zip(ends, shares, strict=True)]
    return [(before, _logits(last))]


def _shares(steps: Sequence[Step], side_by_side: Step, last: Step) -> list[Tensor]:
    """Each network's share of the logits: its part of the last layer's kernel, and what follows up to `last`."""
    import keras

    n = len(side_by_side.inputs)
    tensor, found, start = side_by_side.output, list(side_by_side.inputs), 0
    while tensor is not last.output:
        (step,) = [each for each in steps if any(given is tensor for given in each.inputs)]
        layer = step.layer
        if isinstance(layer, keras.layers.Dense):
            for place, share in enumerate(found):
                width = share.shape[-1]
                found[place] = keras.ops.matmul(share, layer.kernel[start : start + width])
                if layer.bias is not None:
                    found[place] = keras.ops.add(found[place], layer.bias / n)
                start += width
        elif isinstance(layer, keras.layers.Rescaling):
            found = [layer(share) for share in found]
        tensor = step.output
    return found


def _member(
    pixels: Tensor, steps: Sequence[Step], before: Sequence[int], last: Step, link: Link, logits: Tensor
) -> MemberGraph:
    own = [steps[each] for each in before]
    convolutions = [place for place, step in enumerate(own) if _convolves(step)]
    if not convolutions:
        raise _unfit(last.layer, "has no convolution before its classes")
    place = convolutions[-1]
    shape = own[place].output.shape
    # Normalization, shortcut and activation belong to the convolution, and keep its shape.
    features = [step.output for step in own[place:] if step.output.shape == shape][-1]
    return MemberGraph(
        pixels=pixels,
        entry=_entry(pixels, own),
        features=features,
        layer=own[place].layer.name,
        logits=logits,
        link=link,
    )


def _entry(pixels: Tensor, own: Sequence[Step]) -> Tensor:
    """Past the layers in front that are fixed and work on the whole image."""
    entry = pixels
    while True:
        users = [step for step in own if any(each is entry for each in step.inputs)]
        if len(users) != 1 or not _standardizes(users[0].layer):
            return entry
        entry = users[0].output


def _unfolded(model: keras.Model) -> tuple[Tensor, list[Step]]:
    """A model's layers in the order of their application, with those of nested models in their places."""
    import keras

    steps: list[Step] = []

    def apply(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Sequential):
            tensor = args[0]
            for each in layer.layers:
                tensor = apply(each, tensor)
            return tensor
        if isinstance(layer, keras.Model):
            return replay(layer, args[0])
        output = layer(*args, **kwargs)
        inputs = tuple(each for each in keras.tree.flatten((args, kwargs)) if isinstance(each, keras.KerasTensor))
        steps.append(Step(layer, inputs, output))
        return output

    def replay(nested: keras.Model, tensor: Tensor) -> Tensor:
        # Keras walks a graph only from inputs of its own: that walk is written down, and repeated on this tensor.
        calls: list[tuple[Any, Any, Any, Tensor]] = []

        def note(layer: Any, *args: Any, **kwargs: Any) -> Any:
            output = layer(*args, **kwargs)
            calls.append((layer, args, kwargs, output))
            return output

        try:
            twin = keras.models.clone_model(
                nested, clone_function=lambda layer: layer, call_function=note, recursive=False
            )
        except ValueError:
            raise _unfit(nested, "is a model of its own kind, not made of layers") from None
        if len(twin.inputs) != 1 or len(twin.outputs) != 1:
            raise _unfit(nested, "has several inputs or outputs")
        known = {id(twin.inputs[0]): tensor}
        for layer, args, kwargs, output in calls:
            there = keras.tree.map_structure(lambda each: known.get(id(each), each), (args, kwargs))
            known[id(output)] = apply(layer, *there[0], **there[1])
        return known[id(twin.outputs[0])]

    pixels = keras.Input(model.input_shape[1:], dtype="float32")
    apply(model, pixels)
    return pixels, steps


def _ancestors(steps: Sequence[Step], made: dict[int, int], index: int) -> set[int]:
    """Which steps the inputs of a step come from."""
    found: set[int] = set()
    waiting = [index]
    while waiting:
        for tensor in steps[waiting.pop()].inputs:
            each = made.get(id(tensor))
            if each is not None and each not in found:
                found.add(each)
                waiting.append(each)
    return found


def _learned_after(steps: Sequence[Step], made: dict[int, int], first: int, last: int) -> bool:
    """Whether a layer with learnt weights lies between two steps, or is the last one itself."""
    before = _ancestors(steps, made, last) | {last}
    return any(_learns(steps[each].layer) and first in _ancestors(steps, made, each) for each in before)


def _learns(layer: Any) -> bool:
    return bool(getattr(layer, "weights", ())) and not _standardizes(layer)


def _standardizes(layer: Any) -> bool:
    from keras import layers

    if isinstance(layer, layers.LayerNormalization):
        return not layer.weights
    return isinstance(layer, layers.Rescaling | layers.Normalization | layers.Identity)


def _convolves(step: Step) -> bool:
    from keras import layers

    kinds = layers.Conv2D | layers.SeparableConv2D | layers.DepthwiseConv2D | layers.Conv2DTranspose
    return isinstance(step.layer, kinds) and len(step.output.shape) == 4


def _link(step: Step, classes: int) -> Link | None:
    """'softmax' or 'sigmoid' where a step ends in one over the classes."""
    import keras

    if tuple(step.output.shape[1:]) != (classes,):
        return None
    if isinstance(step.layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(step.layer, "activation", None)
    if activation is keras.activations.softmax:
        return "softmax"
    return "sigmoid" if activation is keras.activations.sigmoid else None


def _logits(last: Step) -> Tensor:
    import keras

    if not isinstance(last.layer, keras.layers.Dense):
        return last.inputs[0]
    product = keras.ops.matmul(last.inputs[0], last.layer.kernel)
    return product if last.layer.bias is None else keras.ops.add(product, last.layer.bias)


def _unfit(layer: Any, why: str) -> ArtifactError:
    return ArtifactError(f"{why}, so it cannot be explained.", where=f"model '{layer.name}'")
