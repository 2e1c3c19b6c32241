"""Networks of timm as backbones of image tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from geovision.errors import OptionError, WeightsCorruptError, WeightsNotAvailableError
from geovision.spec import COLORS, InputSpec, SampleContext

__all__ = [
    "PRETRAINED_CONFIGS",
    "TIMM_OPTIONS",
    "PretrainedConfig",
    "TimmBackbone",
    "build",
    "load_backbone_weights",
    "pretrained_config_for",
]


@dataclass(frozen=True)
class PretrainedConfig:
    """Training settings of a weights file that the file does not contain.

    Args:
        architecture: Name of the network in timm.
        options: Options of timm's constructor, such as the padding. Default: none.
        mean: Mean per input channel that was subtracted. Default: 0.5 each.
        std: Standard deviation per input channel. Default: 0.5 each.
        source: Origin and license of the weights. Default: unknown.
    """

    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    source: str = ""


TIMM_OPTIONS = frozenset({"act_layer", "drop_path_rate", "drop_rate", "global_pool", "img_size", "pad_type"})
"""Keyword arguments of timm's constructors that a registry entry or a saved configuration may set.

Other arguments can contain paths and addresses to load from, and a configuration may be untrusted.
"""

_TF_PADDING = {"pad_type": "same"}

PRETRAINED_CONFIGS: Mapping[str, PretrainedConfig] = {
    "8e6df333e0de0b3b31d1831d364f461179c504e6806524eec0b562ba8f096bb5": PretrainedConfig(
        "mobilenetv2_100", _TF_PADDING, source="ImageNet, Apache-2.0, dequantized from int8"
    ),
    "796697654014bcec587959f764ced2ded6bd08c16c3fee06fdadc26f5b206c70": PretrainedConfig(
        "mobilenetv2_035", _TF_PADDING, source="ImageNet, Apache-2.0, Keras weights"
    ),
}
"""Settings of files whose padding and input range differ from timm's own weights, by SHA-256."""


class TimmBackbone(nn.Module):
    """Network of timm without its classifier, applied to the first input.

    Args:
        architecture: Name of the network in timm, without a tag.
        input_name: Name of the input. Default: ``"image"``.
        in_channels: Number of channels of the input. Default: 3.
        colors: Colors of a photo that each channel represents, as in `geovision.spec.Channel`. Pre-trained
            kernels are converted accordingly. Default: none, so the first kernels are not converted.
        size: Height and width of the input, for networks with a fixed size. Default: that of timm.
        options: Further keyword arguments of timm's constructor, such as ``pad_type="same"``. Default: none.

    Attributes:
        model: Network of timm.
        mean: Mean per channel of the pre-training. Empty: unknown for these channels.
        std: Standard deviation per channel of the pre-training. Empty: unknown for these channels.
        num_features: Number of features.
        removed_keys: Names of the parameters that `truncate_after` has removed.

    Shape:
        Image ``(batch, channel, y, x)``, normalized -> features ``(batch, num_features)``.

    Raises:
        OptionError: The network has no such option.
    """

    def __init__(
        self,
        architecture: str,
        *,
        input_name: str = "image",
        in_channels: int = 3,
        colors: Sequence[Sequence[str]] = (),
        size: tuple[int, int] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.input_name = input_name
        keywords: dict[str, Any] = {"in_chans": in_channels, "num_classes": 0} | dict(options or {})
        fixed = timm.get_pretrained_cfg_value(architecture, "fixed_input_size")
        if fixed and size:
            keywords["img_size"] = size
        try:
            model: Any = timm.create_model(architecture, **keywords)
        except TypeError as error:
            raise OptionError(f"timm's {architecture} does not support an option: {error}") from error
        self.architecture = architecture
        self.model: nn.Module = model
        config = model.pretrained_cfg
        self.colors = tuple(colors) if all(colors) else ()
        has_statistics = in_channels == 3 or bool(self.colors)
        self.mean: tuple[float, ...] = config.get("mean", ()) if has_statistics else ()
        self.std: tuple[float, ...] = config.get("std", ()) if has_statistics else ()
        # A convolutional network accepts any size, so the task's size applies; a transformer has its own.
        self.size = size or (tuple(config["input_size"][-2:]) if fixed else None)
        self.num_features: int = getattr(model, "head_hidden_size", None) or model.num_features
        self.removed_keys: frozenset[str] = frozenset()

    def truncate_after(self, stage: int) -> None:
        """Remove all layers after a stage.

        The names of the removed parameters are stored in `removed_keys`, so that weights of the complete
        network can still be loaded.

        Args:
            stage: Index of the last stage that remains, from 0, as in timm's `feature_info`.
        """
        model: Any = self.model
        whole = set(model.state_dict())
        model.prune_intermediate_layers([stage], prune_norm=True, prune_head=True)
        self.removed_keys = frozenset(whole - set(model.state_dict()))
        self.num_features = model.feature_info[stage]["num_chs"]

    @property
    def explained_layer(self) -> str:
        """Preferred layer for class activation maps, the last stage.

        For a transformer, it is the input of the attention of the last block, because the layers after it may
        use the class token alone.
        """
        model: Any = self.model
        last = self.stage_name(-1)
        norm = f"{last}.norm1"
        is_transformer = hasattr(model, "num_prefix_tokens") and norm in dict(model.named_modules())
        return f"model.{norm if is_transformer else last}"

    def stage_name(self, stage: int) -> str:
        """Return the name of a stage within timm's model.

        Args:
            stage: Index of the stage, as in timm's `feature_info`.
        """
        info: Any = self.model.feature_info
        return info[stage]["module"]

    def as_maps(self, values: Tensor) -> Tensor | None:
        """Convert the output of a layer to maps.

        Patch tokens are arranged on their grid, other tokens are dropped, and channels are moved to the
        second axis.

        Args:
            values: Output of a layer.

        Returns:
            Maps, shape (batch, channel, y, x). None if the output cannot be arranged as maps.
        """
        model: Any = self.model
        grid = getattr(getattr(model, "patch_embed", getattr(model, "stem", None)), "grid_size", None)
        if values.ndim == 4:
            last = getattr(model, "output_fmt", "NCHW") == "NHWC" or values.shape[1:3] == grid
            return rearrange(values, "b y x c -> b c y x") if last else values
        if values.ndim != 3 or grid is None:
            return None
        patches = values[:, getattr(model, "num_prefix_tokens", 0) :]
        if patches.shape[1] != grid[0] * grid[1]:
            return None
        return rearrange(patches, "b (y x) c -> b c y x", y=grid[0], x=grid[1])

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        context: SampleContext | None = None,
    ) -> Tensor:
        """Compute the features of a batch.

        Args:
            inputs: Normalized inputs by name, each of shape ``(batch, *layout)``.
            valid: Valid values by input name, bool. Default: all values.
            context: Location and time of the samples; not used. Default: None.

        Returns:
            Features, shape (batch, num_features).
        """
        return self.model(inputs[self.input_name])


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> TimmBackbone:
    """Build a backbone.

    Args:
        model_args: ``backbone``, the name of the network in timm, and any of `TIMM_OPTIONS`.
        inputs: Input specifications. The first one is used.
        size: Height and width of the input. None: that of the network.

    Raises:
        OptionError: The network or an option is unknown.
    """
    options = {key: value for key, value in model_args.items() if key not in ("backbone", "imagenet")}
    unknown = sorted(set(options) - TIMM_OPTIONS)
    if unknown:
        raise OptionError(f"a timm backbone has no option {unknown}; known: {sorted(TIMM_OPTIONS)}")
    if not timm.is_model(model_args["backbone"]):
        # timm interprets "hf-hub:…" and "local-dir:…" as locations of a network to load.
        raise OptionError(f"timm has no network named {model_args['backbone']!r}")
    first = inputs[0]
    return TimmBackbone(
        model_args["backbone"],
        input_name=first.name,
        in_channels=len(first.channels),
        colors=[channel.colours for channel in first.channels],
        size=size,
        options=options,
    )


def load_backbone_weights(backbone: TimmBackbone, model_args: Mapping[str, Any], weights: str | Path) -> None:
    """Load pre-trained weights into a backbone, without the classifier.

    Args:
        backbone: Backbone to load the weights into.
        model_args: Options of the registry entry, with ``backbone`` and the tag ``imagenet``.
        weights: ``"imagenet"`` for the tag of the registry entry, another timm tag, or the path of a
            ``.safetensors`` file.

    Raises:
        WeightsNotAvailableError: The weights do not exist or cannot be downloaded.
        WeightsCorruptError: The weights do not match the network.
    """
    path = Path(weights)
    if path.suffix == ".safetensors" or path.exists():
        _load_file(backbone, model_args["backbone"], path)
    else:
        _load_tag(backbone, model_args, str(weights))


def pretrained_config_for(path: Path) -> PretrainedConfig | None:
    """Return the training settings of a weights file, found by its SHA-256.

    Args:
        path: Path of the file.

    Returns:
        Settings. None if the file does not exist or is not one of `PRETRAINED_CONFIGS`.
    """
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return PRETRAINED_CONFIGS.get(hashlib.file_digest(stream, "sha256").hexdigest())


def _load_file(backbone: TimmBackbone, architecture: str, path: Path) -> None:
    if not path.is_file():
        raise WeightsNotAvailableError(f"{path}: no such file")
    known = pretrained_config_for(path)
    if known and known.architecture != architecture:
        raise WeightsCorruptError(f"{path} contains weights of {known.architecture}, not of {architecture}")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsCorruptError(f"{path} is not a readable safetensors file: {error}") from error
    _load_state(backbone, state, str(path))


def _load_tag(backbone: TimmBackbone, model_args: Mapping[str, Any], tag: str) -> None:
    name = model_args["backbone"]
    if tag == "imagenet":
        tag = model_args.get("imagenet", "")
    full = f"{name}.{tag}" if tag else name
    if tag and full not in timm.list_pretrained(f"{name}.*"):
        known = ", ".join(each.partition(".")[2] for each in timm.list_pretrained(f"{name}.*"))
        raise WeightsNotAvailableError(f"timm has no weights {tag!r} for {name}; known: {known or 'none'}")
    try:
        pretrained = timm.create_model(full, pretrained=True, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsNotAvailableError(
            f"the weights {full!r} could not be downloaded ({type(error).__name__}: {error}); without an "
            "internet connection, pass the path of a .safetensors file as `backbone_weights`"
        ) from error
    _load_state(backbone, pretrained.state_dict(), full)


def _load_state(backbone: TimmBackbone, state: dict[str, Tensor], origin: str) -> None:
    own = backbone.model.state_dict()
    state = _convert_input_kernels(backbone, state)
    # Parameters of the classifier of another dataset, and of heads that num_classes=0 removes.
    heads = ("classifier", "head", "fc", "last_linear")
    expected = own.keys() | backbone.removed_keys
    extra = [key for key in state if key not in expected and key.split(".")[0] not in heads]
    if extra:
        raise WeightsCorruptError(
            f"{origin} has parameters that {backbone.architecture} does not have, such as {extra[0]!r}"
        )
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise WeightsCorruptError(
            f"{len(missing)} parameters are missing in {origin}, such as {missing[0]!r}"
        )
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    if wrong:
        raise WeightsCorruptError(
            f"{origin}: {wrong[0]!r} has shape {tuple(state[wrong[0]].shape)}, expected "
            f"{tuple(own[wrong[0]].shape)}"
        )
    with torch.no_grad():
        backbone.model.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)


def _convert_input_kernels(backbone: TimmBackbone, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert kernels of colors to kernels of the channels.

    Each channel represents one or more of red, green and blue. The kernel of a channel that represents two
    colors is the sum of their kernels. The result is that of a photo that contains the channel twice.
    """
    if not backbone.colors:
        return state
    config: Any = backbone.model.pretrained_cfg
    first = config.get("first_conv", ())
    found = dict(state)
    for layer in (first,) if isinstance(first, str) else first:
        kernel = state.get(f"{layer}.weight")
        if kernel is not None and kernel.ndim == 4 and kernel.shape[1] == len(COLORS):
            of = dict(zip(COLORS, kernel.unbind(1), strict=True))
            summed = [torch.stack([of[c] for c in own]).sum(0) for own in backbone.colors]
            found[f"{layer}.weight"] = torch.stack(summed, 1)
    return found
