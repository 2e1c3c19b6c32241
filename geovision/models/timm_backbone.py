"""Any timm network as the backbone of an image task."""

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
    """What a weights file does not say of itself: the input and padding it was trained with."""

    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    source: str = ""


TIMM_OPTIONS = frozenset({"act_layer", "drop_path_rate", "drop_rate", "global_pool", "img_size", "pad_type"})
"""Keywords of timm's constructors that a registry entry or a stored configuration may set. Others
can name files and addresses to load from, and a configuration may come from a stranger."""

_TF_PADDING = {"pad_type": "same"}

PRETRAINED_CONFIGS: Mapping[str, PretrainedConfig] = {
    "8e6df333e0de0b3b31d1831d364f461179c504e6806524eec0b562ba8f096bb5": PretrainedConfig(
        "mobilenetv2_100", _TF_PADDING, source="ImageNet, Apache-2.0, de-quantised from int8"
    ),
    "796697654014bcec587959f764ced2ded6bd08c16c3fee06fdadc26f5b206c70": PretrainedConfig(
        "mobilenetv2_035", _TF_PADDING, source="ImageNet, Apache-2.0, Keras weights"
    ),
}
"""By sha256: files whose padding and input range differ from timm's own weights."""


class TimmBackbone(nn.Module):
    """A timm network without its classifier, over the first input.

    Args:
        architecture: timm's name, without a tag.
        in_channels: Number of channels of the input.
        colors: For each channel the colours of a photo that it stands for, as in
            `geovision.spec.Channel`; empty: the network's own adaptation is left to training.
        size: (height, width), for networks that are built for one size.
        options: Further keywords of timm's constructor, e.g. ``pad_type="same"``.

    Shape:
        image ``(batch, channel, y, x)``, normalised -> features ``(batch, num_features)``.
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
            raise OptionError(f"timm's {architecture} takes no such option: {error}") from error
        self.architecture = architecture
        self.model: nn.Module = model
        config = model.pretrained_cfg
        self.colors = tuple(colors) if all(colors) else ()
        knows_photos = in_channels == 3 or bool(self.colors)
        self.mean: tuple[float, ...] = config.get("mean", ()) if knows_photos else ()
        self.std: tuple[float, ...] = config.get("std", ()) if knows_photos else ()
        # A convolutional network takes any size, so the task's stands; a transformer has its own.
        self.size = size or (tuple(config["input_size"][-2:]) if fixed else None)
        self.num_features: int = getattr(model, "head_hidden_size", None) or model.num_features
        self.removed_keys: frozenset[str] = frozenset()

    def truncate_after(self, stage: int) -> None:
        """Drop everything behind a stage; it is remembered as `cut_off`, so that weights of the whole
        network still fit.

        Args:
            stage: From 0, as in timm's `feature_info`.
        """
        model: Any = self.model
        whole = set(model.state_dict())
        model.prune_intermediate_layers([stage], prune_norm=True, prune_head=True)
        self.removed_keys = frozenset(whole - set(model.state_dict()))
        self.num_features = model.feature_info[stage]["num_chs"]

    @property
    def explained_layer(self) -> str:
        """The layer whose maps tell best where a class is: the last stage. Of a transformer, what the
        attention of its last block reads, for behind it the class token alone may count."""
        model: Any = self.model
        last = self.stage_name(-1)
        norm = f"{last}.norm1"
        is_transformer = hasattr(model, "num_prefix_tokens") and norm in dict(model.named_modules())
        return f"model.{norm if is_transformer else last}"

    def stage_name(self, stage: int) -> str:
        """Name within timm's model of a stage, counted as in timm's `feature_info`."""
        info: Any = self.model.feature_info
        return info[stage]["module"]

    def as_maps(self, values: Tensor) -> Tensor | None:
        """What one of the layers gave as ``(batch, channel, y, x)``: of tokens those of patches, and
        channels that come last brought to the front. None where it is no map."""
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
        return self.model(inputs[self.input_name])


def build(
    model_args: Mapping[str, Any], *, inputs: tuple[InputSpec, ...], size: tuple[int, int] | None
) -> TimmBackbone:
    """The backbone that `arch` describes: ``backbone``, and any option of timm's constructor."""
    options = {key: value for key, value in model_args.items() if key not in ("backbone", "imagenet")}
    unknown = sorted(set(options) - TIMM_OPTIONS)
    if unknown:
        raise OptionError(f"a timm backbone takes no option {unknown}; known: {sorted(TIMM_OPTIONS)}")
    if not timm.is_model(model_args["backbone"]):
        # timm would take "hf-hub:…" and "local-dir:…" for the address of a network to fetch.
        raise OptionError(f"timm registers no network called {model_args['backbone']!r}")
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
    """Fill a backbone with weights trained elsewhere, its classifier left out.

    Args:
        weights: ``"imagenet"`` for the tag that the registry pins, any other timm tag, or the path
            of a ``.safetensors`` file.

    Raises:
        WeightsNotAvailableError: No such weights, or no network to fetch them.
        WeightsCorruptError: The file does not fit the network.
    """
    path = Path(weights)
    if path.suffix == ".safetensors" or path.exists():
        _load_file(backbone, model_args["backbone"], path)
    else:
        _load_tag(backbone, model_args, str(weights))


def pretrained_config_for(path: Path) -> PretrainedConfig | None:
    """What is known about a file by its digest."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        return PRETRAINED_CONFIGS.get(hashlib.file_digest(stream, "sha256").hexdigest())


def _load_file(backbone: TimmBackbone, architecture: str, path: Path) -> None:
    if not path.is_file():
        raise WeightsNotAvailableError(f"{path}: no such weights file")
    known = pretrained_config_for(path)
    if known and known.architecture != architecture:
        raise WeightsCorruptError(f"{path} holds weights of {known.architecture}, not of {architecture}")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsCorruptError(f"{path} is not a readable safetensors file: {error}") from error
    _load_state(backbone, state, str(path))


def _load_tag(backbone: TimmBackbone, arch: Mapping[str, Any], tag: str) -> None:
    name = arch["backbone"]
    if tag == "imagenet":
        tag = arch.get("imagenet", "")
    full = f"{name}.{tag}" if tag else name
    if tag and full not in timm.list_pretrained(f"{name}.*"):
        known = ", ".join(each.partition(".")[2] for each in timm.list_pretrained(f"{name}.*"))
        raise WeightsNotAvailableError(f"timm has no weights {tag!r} for {name}; its tags: {known or 'none'}")
    try:
        donor = timm.create_model(full, pretrained=True, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsNotAvailableError(
            f"the weights {full!r} could not be fetched ({type(error).__name__}: {error}); without "
            "network, pass the path of a .safetensors file as backbone_weights="
        ) from error
    _load_state(backbone, donor.state_dict(), full)


def _load_state(backbone: TimmBackbone, state: dict[str, Tensor], origin: str) -> None:
    own = backbone.model.state_dict()
    state = _convert_input_kernels(backbone, state)
    # The classifier of another label set, and head parameters that num_classes=0 removes.
    heads = ("classifier", "head", "fc", "last_linear")
    expected = own.keys() | backbone.removed_keys
    extra = [key for key in state if key not in expected and key.split(".")[0] not in heads]
    if extra:
        raise WeightsCorruptError(
            f"{origin} has parameters that {backbone.architecture} lacks, such as {extra[0]!r}"
        )
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    if missing:
        raise WeightsCorruptError(f"{origin} lacks {len(missing)} parameters, such as {missing[0]!r}")
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    if wrong:
        raise WeightsCorruptError(
            f"{origin}: {wrong[0]!r} has shape {tuple(state[wrong[0]].shape)}, the network has "
            f"{tuple(own[wrong[0]].shape)}"
        )
    with torch.no_grad():
        backbone.model.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)


def _convert_input_kernels(backbone: TimmBackbone, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Kernels over red, green and blue as kernels over the channels that stand for them.

    A channel that stands for two colours is given the sum of their kernels, so that the network
    answers as if it were given the channel twice.
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
