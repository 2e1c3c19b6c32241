"""Polar low detection in Sentinel-1 images of the sea with two polarizations.

The question, the network, the recipe and the published scores are those of Grahn and Bianchi 2022,
arXiv:2203.16401; images and labels are their data set, doi:10.18710/FV5T9U. The three channels of the
published images contain two measurements: red equals green. The input here is these two measurements for
every model, data set and scene. The published network repeats the first one internally (`model_args`). Its
arithmetic and its number of parameters are therefore those of the paper, and the two copies cannot differ.
"""

from geovision.spec import (
    AS_PUBLISHED,
    OUR_CHOICE,
    OUR_RECONSTRUCTION,
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
)

_UNIT_HINTS = (
    UnitHint(1.0, 255.0, "divide counts of 0-255 by 255, or pass integers; decibels need a declared mapping "
                     "to the 8-bit scale, which is not guessed"),
)  # fmt: skip


def _polarization_channel(name: str, *colors: str) -> Channel:
    # Mean 0 and standard deviation 1, because the published network uses the scale without normalization.
    # Missing values therefore enter as 0, the code for no data on this scale, with or without a mask. A
    # network pretrained on photos keeps its own statistics and receives the measurements in the colors of the
    # published images.
    return Channel(name, "scaled_1", (0.0, 1.0), unit_hints=_UNIT_HINTS, colours=colors, encodes="dB")


SAR = InputSpec(
    "image",
    (_polarization_channel("cross_pol", "red", "green"), _polarization_channel("co_pol", "blue")),
    # The central 256 km of an image that is 400 km wide.
    size=(512, 512),
    resize="window",
    reader="geovision.readers.sar_png:read_counts",
    integers="fraction",
    pixel_size=500.0,
    picture=ImageFileSpec(
        Text("radar image", "雷达图像"), shows=Text("a radar image of the sea", "海面雷达图像"),
        hint=Text(
            "8-bit PNG in the format of the published data set: cross-polarized in red and green, "
            "co-polarized in blue, 0 for no data; pixels of 500 m, unless its text entry pixel_size gives "
            "another size.",
            "请选择与公开数据集相同的8位PNG：红、绿通道为交叉极化，蓝通道为同极化，0表示无数据；像素为500米，"
            "或由文件中的文本项 pixel_size 给出。",
        ),
        pixel_size=500.0,
    ),
)

_CAVEAT = Text(
    "A radar image shows the wind at the sea surface at one time only; check infrared images too.",
    "单幅雷达图像只反映某一时刻的海面风场，请同时参考红外云图。",
)
_LOOK, _SIZE, _LIFE, _MISTAKEN = (
    Text("appearance", "形态"), Text("size", "尺度"), Text("life cycle", "生命史"),
    Text("often confused with", "易混淆"),
)  # fmt: skip


def _card(code: str, name: tuple[str, str], *facts: tuple[Text, str, str]) -> ClassCard:
    return ClassCard(code, Text(*name), facts=tuple(Fact(h, Text(en, zh)) for h, en, zh in facts),
                     caution=_CAVEAT)  # fmt: skip


CARDS = (
    _card("neg", ("No polar low", "无极地低压"),
          (_MISTAKEN, "fronts and shear lines without an eye, gust fronts of showers, calm water, slicks",
           "无眼的锋面与切变线、阵雨阵风锋、静风区或油膜水面")),
    _card("pos", ("Polar low", "极地低压"),
          (_LOOK, "a dark eye of weak wind and sharp fronts that spiral into it",
           "风弱而暗的眼，锋面呈螺旋状卷入其中"),
          (_SIZE, "200 to 1000 km in diameter; the eye some tens of km", "直径200至1000公里，眼区数十公里"),
          (_LIFE, "forms within hours over open water in cold air from the ice; lasts a day or less",
           "冷空气自冰区流至开阔水面时数小时内形成，持续不超过一天左右")),
)  # fmt: skip

_PAPER = "Grahn and Bianchi 2022, arXiv:2203.16401"


def _augment(center_fraction: float) -> Augment:
    """Return the published augmentation with crops of a given size.

    Rotations and flips are valid, because a polar low has no preferred orientation and rotates the other way
    in the other hemisphere.

    Args:
        center_fraction: Fraction of the width and height of the image that a crop contains, 0-1.
    """
    area = center_fraction**2
    return Augment(crop_area=(area, area), translate=0.10, zoom=0.15, rotate=144.0, flip_x=True,
                   flip_y=True, fill="zero")  # fmt: skip


# One geometric transform replaces the four successive ones of the authors, so that images are interpolated
# once. It is unknown whether their weight decay exempts biases and normalization layers, as ours does.
_PUBLISHED_STAGE = Stage(
    epochs=200, batch_size=16, sampling="balanced", optimizer="adamw", lr=1e-3, weight_decay=1e-4,
    decay_by="step", schedule="plateau", plateau=10,
)  # fmt: skip

PUBLISHED = Recipe(
    stages=(_PUBLISHED_STAGE,), augment=_augment(512 / 800), patience=20, monitor="train_loss",
    evidence=AS_PUBLISHED,
)  # fmt: skip

PUBLISHED_LARGE = Recipe(
    stages=(_PUBLISHED_STAGE,), augment=_augment(1024 / 1536), patience=20, monitor="train_loss",
    evidence=AS_PUBLISHED,
)  # fmt: skip

FINE_TUNE = Recipe(
    stages=(
        Stage(epochs=30, batch_size=16, sampling="balanced", lr=1e-4, head_lr=1e-3, weight_decay=0.05,
              warmup=1),
    ),
    augment=_augment(512 / 800), evidence=OUR_CHOICE,
)  # fmt: skip

TASK = Task(
    name="polarlow",
    title="Polar low",
    question="Does this radar image of the sea show a polar low?",
    chinese=("极地低压", "这幅海面雷达图像中有极地低压吗？"),
    inputs=(SAR,),
    target=ClassTarget(
        tuple(card.code for card in CARDS), CARDS, order_source="the authors' folders, sorted",
        outlier_flag="outside_training_domain", positive="pos",
    ),
    datasets={"polar-lows": "geovision.datasets.polar_lows:PolarLows"},
    head="geovision.heads.classification:ClassificationHead",
    loss="geovision.heads.classification:cross_entropy",
    metrics=("positive_f1", "positive_precision", "positive_recall", "pr_auc", "roc_auc", "errors", "missed",
             "false_alarms", "calibration_error"),
    backbones=("timm",),
    recipe=PUBLISHED,
    recipes={"published": PUBLISHED, "fine-tune": FINE_TUNE},
    published=(
        Reference("positive_f1", 0.95, "polarlow-xception", AS_PUBLISHED, _PAPER,
                  "on the published test split; 6 or 7 errors in 435 images by our count"),
        Reference("positive_f1", 0.938, "polarlow-xception", AS_PUBLISHED, "a third-party port to torch",
                  "the same split; precision 0.924, recall 0.953, PR-AUC 0.986"),
    ),
    demo=DemoConfig(
        "polarlow-tiny", samples=120,
        recipe=Recipe(
            stages=(Stage(epochs=24, batch_size=16, sampling="balanced", lr=3e-3, warmup=1),),
            augment=Augment(flip_x=True, flip_y=True),
        ),
    ),
    citation=_PAPER,
)  # fmt: skip


_BUILDER, _HEAD = "geovision.models.xception_small:build", "geovision.heads.glorot:GlorotHead"
_ANY: frozenset[Capability] = frozenset({"exportable", "differentiable", "any_size"})
_PUBLISHED_CHANNELS = ("cross_pol", "cross_pol", "co_pol")
_TINY_ARGS = {"filters": (8, 16, 32), "last": 64}

# The same area at other pixel sizes: 1024 pixels of 250 m are 256 km too; 1536 pixels are 384 of 400 km.
SAR_250M = SAR.with_pixel_size(250.0)
SAR_2KM = SAR.with_pixel_size(2000.0)

MODELS = (
    ModelSpec("polarlow-xception", "polarlow", _BUILDER, {"channels": _PUBLISHED_CHANNELS}, head=_HEAD,
              capabilities=_ANY, drop_rate=0.5, tiny_args=_TINY_ARGS,
              num_parameters=1_254_194, evidence=AS_PUBLISHED,
              note="the published small Xception; 1,260,322 with the statistics of batch normalization"),
    ModelSpec("polarlow-xception-2ch", "polarlow", _BUILDER, {}, head=_HEAD,
              capabilities=_ANY, drop_rate=0.5, tiny_args=_TINY_ARGS,
              num_parameters=1_254_122, evidence=OUR_CHOICE,
              note="the same without the second copy of the cross-polarized channel"),
    ModelSpec("polarlow-xception-1024", "polarlow", _BUILDER, {"channels": _PUBLISHED_CHANNELS}, head=_HEAD,
              inputs=(SAR_250M,), recipe=PUBLISHED_LARGE, capabilities=_ANY, drop_rate=0.5,
              tiny_args=_TINY_ARGS,
              num_parameters=1_254_194, evidence=OUR_RECONSTRUCTION,
              note="the published larger variant, 1024 of 1536 pixels; the pixel size of 250 m is our "
                   "interpretation, and the published files are too coarse for it"),
    ModelSpec("polarlow-tiny", "polarlow", _BUILDER, _TINY_ARGS, head=_HEAD, inputs=(SAR_2KM,),
              capabilities=_ANY, drop_rate=0.2, tiny_args=_TINY_ARGS, num_parameters=6_762,
              note="for tests and demonstrations, not for use; pixels of 2 km"),
)  # fmt: skip
