"""Cloud genus from a photo: ten WMO genera and the contrail.

The question, the architectures and the published scores are those of Ji et al. 2025,
doi:10.13878/j.cnki.dqkxxb.20250306001. The data set of that paper is unknown; ours is CCSN
(Zhang et al. 2018, doi:10.7910/DVN/CADDPD). Levels, base heights and weather of each genus follow
the WMO International Cloud Atlas.
"""

from typing import Any

from geovision.spec import (
    AS_PUBLISHED,
    Augment,
    Capability,
    Channel,
    ClassCard,
    ClassTarget,
    DemoConfig,
    Fact,
    ImageFileSpec,
    InputSpec,
    ModelSpec,
    Recipe,
    Reference,
    Stage,
    Task,
    Text,
    UnitHint,
    WeightSpec,
)

_UNIT_HINTS = (
    UnitHint(1.0, 255.0, "looks like 0-255; expects 0-1, so divide by 255 or pass integers"),
    UnitHint(255.0, 65535.0, "looks like 16-bit counts; expects 0-1, so divide by 65535"),
)


def _color(name: str, mean: float, std: float) -> Channel:
    # Statistics of ImageNet; a backbone that was trained with other statistics replaces them.
    return Channel(name, "1", (0.0, 1.0), mean=mean, std=std, unit_hints=_UNIT_HINTS)


PHOTO = InputSpec(
    "image",
    (_color("red", 0.485, 0.229), _color("green", 0.456, 0.224), _color("blue", 0.406, 0.225)),
    size=(224, 224),
    # Squashed instead of cropped, because the horizon and halos are at the edges.
    resize="squash",
    reader="geovision.readers.images:read_rgb",
    integers="fraction",
    picture=ImageFileSpec(Text("photo", "图片"), shows=Text("a sky", "天空"), camera=True),
)

# The authors name these as future inputs; weather stations report them in addition to camera images.
SCALARS = (
    Channel(
        "cloud_base_height",
        "km",
        (0.0, 25.0),
        mean=3.0,
        std=3.0,
        unit_hints=(UnitHint(25.0, 25000.0, "looks like meters; expects km"),),
    ),
    Channel(
        "cloud_thickness",
        "km",
        (0.0, 20.0),
        mean=2.0,
        std=2.5,
        unit_hints=(UnitHint(20.0, 20000.0, "looks like meters; expects km"),),
    ),
    Channel(
        "air_temperature",
        "degC",
        (-90.0, 60.0),
        mean=12.0,
        std=12.0,
        unit_hints=(UnitHint(60.0, 340.0, "looks like kelvin; expects degrees Celsius"),),
    ),
)

_BASES = {
    "high": Text("3–8 km polar, 5–13 km temperate, 6–18 km tropical",
                 "极地3–8公里，温带5–13公里，热带6–18公里"),
    "middle": Text("2–4 km polar, 2–7 km temperate, 2–8 km tropical",
                   "极地2–4公里，温带2–7公里，热带2–8公里"),
    "low": Text("from the ground to 2 km", "地面至2公里"),
}  # fmt: skip
_LEVELS = {"high": Text("high", "高云"), "middle": Text("middle", "中云"), "low": Text("low", "低云")}

NO_HEIGHT = Text("A single photo gives no height.", "单张照片无法判断云的高度。")


def _genus(
    code: str, name: tuple[str, str], level: str, weather: tuple[str, str], phase: tuple[str, str],
    *, extent: tuple[str, str] | None = None, base: tuple[str, str] | None = None,
    look: tuple[str, str] | None = None,
) -> ClassCard:  # fmt: skip
    facts = [
        Fact(Text("level", "云族"), Text(*extent) if extent else _LEVELS[level]),
        Fact(Text("base", "云底高度"), Text(*base) if base else _BASES[level]),
        Fact(Text("at the ground", "地面天气"), Text(*weather)),
        Fact(Text("phase", "相态"), Text(*phase)),
    ]
    if look:
        facts.append(Fact(Text("distinguishing marks", "辨识要点"), Text(*look)))
    return ClassCard(code, Text(*name), level, tuple(facts), NO_HEIGHT)


_NONE = ("no precipitation", "地面无降水")
_ICE, _WATER, _MIXED = ("ice", "冰晶"), ("water", "水滴"), ("water and ice", "水滴与冰晶")

GENERA = (
    _genus("Ac", ("Altocumulus", "高积云"), "middle",
           ("usually none; virga", "通常无降水，可有雨幡"),
           ("water, or water and ice", "水滴，或水滴与冰晶"),
           look=("elements 1° to 5° wide", "云块视宽1°至5°")),
    _genus("As", ("Altostratus", "高层云"), "middle",
           ("light to moderate continuous rain or snow possible", "可有连续性小到中雨或雪"), _MIXED,
           extent=("middle; may reach high", "中云，可伸展至高云族"),
           look=("the sun as through ground glass; no halo", "太阳如隔毛玻璃，无晕")),
    _genus("Cb", ("Cumulonimbus", "积雨云"), "low",
           ("heavy showers, hail, thunder", "强阵雨、冰雹、雷暴"),
           ("water below, ice above", "下部水滴，上部冰晶"),
           extent=("low base; the top may reach the tropopause", "云底低，云顶可达对流层顶")),
    _genus("Cc", ("Cirrocumulus", "卷积云"), "high", _NONE,
           ("ice, supercooled water", "冰晶、过冷水滴"),
           look=("elements less than 1° wide, without shading", "云块视宽小于1°，无暗影")),
    _genus("Ci", ("Cirrus", "卷云"), "high",
           ("no precipitation; fall streaks do not reach the ground", "地面无降水，雪幡不及地"), _ICE,
           look=("separate fibres, hooks, tufts", "分离的丝缕、钩、簇")),
    _genus("Cs", ("Cirrostratus", "卷层云"), "high", _NONE, _ICE,
           look=("a veil; a halo round sun or moon", "薄幕状，日月周围常有晕")),
    _genus("Ct", ("Contrail", "航迹云"), "high", _NONE, _ICE,
           base=("at cruising height, 8–13 km", "巡航高度，8–13公里"),
           look=("if it persists for ten minutes or more, it is Cirrus homogenitus (WMO); "
                 "a photo does not show its age",
                 "持续十分钟以上者，世界气象组织称之为人为卷云（Cirrus homogenitus）；"
                 "照片不能显示其持续时间")),
    _genus("Cu", ("Cumulus", "积云"), "low",
           ("none (humilis) to showers (congestus)", "淡积云无降水，浓积云可有阵雨"), _WATER,
           extent=("low base, vertical growth", "云底低，向上发展")),
    _genus("Ns", ("Nimbostratus", "雨层云"), "middle",
           ("continuous rain, snow or ice pellets", "连续性雨、雪或冰粒"), _MIXED,
           extent=("middle; spans from low to high", "中云，可自低云族伸展至高云族"),
           look=("dark and featureless; hides the sun", "灰暗无结构，完全遮蔽太阳")),
    _genus("Sc", ("Stratocumulus", "层积云"), "low",
           ("occasional light rain or snow", "偶有小雨或小雪"), _WATER,
           look=("elements more than 5° wide", "云块视宽大于5°")),
    _genus("St", ("Stratus", "层云"), "low",
           ("drizzle, snow grains", "毛毛雨、米雪"), _WATER,
           look=("gray and uniform, like fog that does not reach the ground", "灰而均匀，如不及地的雾")),
)  # fmt: skip

_PAPER = "Ji et al. 2025, doi:10.13878/j.cnki.dqkxxb.20250306001"
_UNKNOWN_SPLIT_NOTE = "data set, split and training of the authors are unknown"

# Small changes of brightness, because the gray level separates Ns, As and St. Large crops, because the size
# of the elements separates Cc, Ac and Sc. No vertical flip, because photos of the sky are upright.
_AUGMENT = Augment(crop_area=(0.6, 1.0), flip_x=True, brightness=0.1, contrast=0.1, saturation=0.1)

FROM_SCRATCH = Recipe(
    stages=(Stage(epochs=100, batch_size=64, lr=1e-3, weight_decay=0.05, warmup=5),),
    augment=_AUGMENT, label_smoothing=0.1, ema=0.999,
)  # fmt: skip

PROBE_THEN_FINE_TUNE = Recipe(
    stages=(
        Stage(epochs=5, train="head", batch_size=64, lr=1e-2, weight_decay=0.0),
        Stage(epochs=16, batch_size=32, lr=6e-4, weight_decay=0.05, warmup=1),
    ),
    augment=_AUGMENT, label_smoothing=0.1,
)  # fmt: skip

TASK = Task(
    name="cloud",
    title="Cloud genus",
    question="Which cloud genus does this photo of the sky show?",
    chinese=("云属识别", "这张天空照片中是哪一属的云？"),
    inputs=(PHOTO,),
    scalars=SCALARS,
    target=ClassTarget(
        tuple(card.code for card in GENERA), GENERA, order_source="alphabetical, as CCSN's folders",
        outlier_flag="not_a_sky",
    ),
    datasets={
        "ccsn": "geovision.datasets.ccsn:CCSN",
        "gcd": "geovision.datasets.gcd:GCD",
        "mgcd": "geovision.datasets.gcd:MGCD",
        "hbmcd": "geovision.datasets.hbmcd:HBMCD",
        "swimcat": "geovision.datasets.swimcat:SWIMCAT",
    },
    head="geovision.heads.classification:ClassificationHead",
    loss="geovision.heads.classification:cross_entropy",
    metrics=("macro_f1", "balanced_accuracy", "accuracy", "accuracy(top_k=2)", "accuracy(top_k=3)",
             "calibration_error", "level_accuracy"),
    default_for=("folder",),
    backbones=("timm",),
    recipe=PROBE_THEN_FINE_TUNE,
    recipes={"scratch": FROM_SCRATCH, "fine-tune": PROBE_THEN_FINE_TUNE},
    published=(
        Reference("macro_f1", 0.85, "cloud-resnet50", AS_PUBLISHED, _PAPER,
                  f"from scratch; {_UNKNOWN_SPLIT_NOTE}"),
        Reference("macro_f1", 0.87, "cloud-mobilenetv2_100", AS_PUBLISHED, _PAPER,
                  f"from scratch; {_UNKNOWN_SPLIT_NOTE}"),
        Reference("macro_f1", 0.79, "cloud-vit", AS_PUBLISHED, _PAPER,
                  f"from scratch (0.78 in the Chinese abstract); {_UNKNOWN_SPLIT_NOTE}"),
        Reference("macro_f1", 0.96, "cloud-vit", AS_PUBLISHED, _PAPER,
                  f"from ImageNet; {_UNKNOWN_SPLIT_NOTE}"),
    ),
    demo=DemoConfig(
        "cloud-tiny", samples=264, size=(64, 64), photos=True,
        recipe=Recipe(stages=(Stage(epochs=16, batch_size=32, lr=3e-3, warmup=1),),
                      augment=Augment(flip_x=True)),
    ),
    citation=_PAPER,
)  # fmt: skip


# Result of a search on two of five folds of CCSN, as committed. The texture of the middle stages is as
# informative as the features of the whole network. Crops are not scaled, because the size of the elements
# separates Cc, Ac and Sc. Mixup, CutMix, longer averages, softer labels and photos enlarged to 320 x 320
# gave no improvement.
BILINEAR_POOLING = Recipe(
    stages=(
        Stage(epochs=12, size=(224, 224), freeze=2, batch_size=32, lr=6e-4, head_lr=5e-4,
              weight_decay=0.05, warmup=1, max_grad_norm=5.0),
    ),
    augment=Augment(crop_area=(0.765625, 0.765625), flip_x=True,
                    brightness=0.1, contrast=0.1, saturation=0.1),
    # A strength of 0.5 was best for the training predictions of every fold; 1 and 0 lose 0.004 to 0.007.
    label_smoothing=0.1, conflict_labels="soft", logit_adjustment=0.5, ema=0.99,
)  # fmt: skip

_BUILDER = "geovision.models.timm_backbone:build"
_CNN: frozenset[Capability] = frozenset({"exportable", "differentiable", "any_size"})
_VIT: frozenset[Capability] = frozenset({"exportable", "differentiable"})


def _model(
    name: str, backbone: str, imagenet: str, *, parameters: int, note: str, **changes: Any
) -> ModelSpec:
    arch = {"backbone": backbone, "imagenet": imagenet}
    return ModelSpec(f"cloud-{name}", "cloud", _BUILDER, arch, num_parameters=parameters, note=note,
                     **{"capabilities": _CNN, "tiny_args": {"backbone": "test_resnet"},
                        **changes})  # fmt: skip


MODELS = (
    ModelSpec("cloud-mobilenetv2", "cloud", "geovision.models.bilinear_pooling:build",
              {"backbone": "mobilenetv2_100", "imagenet": "ra_in1k",
               "moments": 3, "stages": (2, 3), "whole": True, "mirrored": True},
              head="geovision.heads.classification:NormalizedHead",
              inputs=(PHOTO.with_size((256, 256)),), capabilities=_CNN, drop_rate=0.5,
              recipe=BILINEAR_POOLING,
              tiny_args={"backbone": "test_resnet", "moments": 2, "stages": (1, 2), "whole": False,
                    "mirrored": True},
              num_parameters=2_304_379,
              weights=(WeightSpec("ccsn", "package:cloud-mobilenetv2.ccsn", "Apache-2.0",
                                  "2034 photos of CCSN (doi:10.7910/DVN/CADDPD; terms in its record)",
                                  {"macro_f1": 0.553, "accuracy": 0.563, "accuracy(top_k=3)": 0.823}),),
              note="MobileNetV2 with second-order statistics of its middle feature maps, over a photo "
                   "and its mirror image; the network as published is cloud-mobilenetv2_100"),
    _model("mobilenetv2_100", "mobilenetv2_100", "ra_in1k", parameters=2_237_963, evidence=AS_PUBLISHED,
           note="the smallest of the three published networks, unmodified"),
    _model("resnet50", "resnet50", "a1_in1k", parameters=23_530_571, evidence=AS_PUBLISHED,
           note="one of the three published networks; the variant of ResNet-50 is unknown"),
    _model("vit", "vit_base_patch16_224", "augreg2_in21k_ft_in1k", parameters=85_807_115,
           evidence=AS_PUBLISHED, capabilities=_VIT, tiny_args={"backbone": "test_vit"},
           note="the published transformer, ViT-B/16 in our reading; needs pretraining"),
    _model("mobilenetv2-035", "mobilenetv2_035", "", parameters=410_219,
           note="about a third of the width, for the smallest devices"),
    _model("mobilenetv4", "mobilenetv4_conv_small", "e2400_r224_in1k", parameters=2_507_115,
           note="newer network, faster on a phone"),
    _model("resnet18", "resnet18", "a1_in1k", parameters=11_182_155, note="small baseline"),
    _model("efficientnet-b0", "efficientnet_b0", "ra_in1k", parameters=4_021_639,
           note="for devices between phone and server"),
    _model("convnext-tiny", "convnext_tiny", "in12k_ft_in1k", parameters=27_828_587,
           note="newer network, for servers"),
    _model("vit-small", "vit_small_patch16_224", "augreg_in21k_ft_in1k", parameters=21_669_899,
           capabilities=_VIT, tiny_args={"backbone": "test_vit"}, note="a quarter of the size of ViT-B"),
    _model("tiny", "test_resnet", "r160_in1k", parameters=373_755,
           note="for tests and demonstrations, not for use"),
)  # fmt: skip
