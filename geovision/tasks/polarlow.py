"""Polar low or none in a radar picture of the sea: Sentinel-1, two polarisations.

The question, the network, the recipe and the published scores are those of Grahn and Bianchi 2022,
arXiv:2203.16401; pictures and labels are their data set, doi:10.18710/FV5T9U. The published pictures
have three channels that hold two measurements: red equals green. An input here is the two
measurements, for every model, every data set and every scene; the network as published is given the
first of them twice inside (`arch`), so that its arithmetic and its number of parameters are those of
the paper, and nobody can hand it two different "copies".
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
    UnitHint(1.0, 255.0, "counts of 0-255 are to be divided by 255, or given as integers; decibels need a "
                     "declared mapping to the 8-bit scale, which is not guessed"),
)  # fmt: skip


def _polarization_channel(name: str, *colours: str) -> Channel:
    # Mean 0 and deviation 1: the published network takes the scale as it is. So what is missing enters as
    # 0, the scale's own word for no data, with a mask and without one. A network that knows photos keeps
    # its own statistics, and sees the measurements in the colours of the published pictures.
    return Channel(name, "scaled_1", (0.0, 1.0), unit_hints=_UNIT_HINTS, colours=colours, encodes="dB")


SAR = InputSpec(
    "image",
    (_polarization_channel("cross_pol", "red", "green"), _polarization_channel("co_pol", "blue")),
    # The middle 256 km of a picture that is 400 km wide.
    size=(512, 512),
    resize="window",
    reader="geovision.readers.sar_png:read_counts",
    integers="fraction",
    pixel_size=500.0,
    picture=ImageFileSpec(
        Text("radar picture", "雷达图像"), shows=Text("a radar picture of the sea", "海面雷达图像"),
        hint=Text(
            "An 8-bit PNG as published: cross-polarised in red and green, co-polarised in blue, 0 where "
            "there is no data; pixels of 500 m, or as its text entry pixel_size says.",
            "请选择与公开数据集相同的8位PNG：红、绿通道为交叉极化，蓝通道为同极化，0表示无数据；像素为500米，"
            "或由文件中的文本项 pixel_size 给出。",
        ),
        pixel_size=500.0,
    ),
)

_CAVEAT = Text(
    "One radar picture shows the wind at the sea surface at one moment; look at infrared pictures too.",
    "单幅雷达图像只反映某一时刻的海面风场，请同时参考红外云图。",
)
_LOOK, _SIZE, _LIFE, _MISTAKEN = (
    Text("look", "形态"), Text("size", "尺度"), Text("life", "生命史"), Text("mistaken for one", "易混淆"),
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
          (_SIZE, "200 to 1000 km across; the eye some tens of km", "直径200至1000公里，眼区数十公里"),
          (_LIFE, "forms within hours over open water in cold air from the ice, lasts a day or less",
           "冷空气自冰区流至开阔水面时数小时内形成，持续不超过一天左右")),
)  # fmt: skip

_PAPER = "Grahn and Bianchi 2022, arXiv:2203.16401"


def _augment(center_fraction: float) -> Augment:
    """As published, with the middle `kept` of a picture's width and height. A polar low has no up and no
    left, and the other hemisphere's turns the other way."""
    area = center_fraction**2
    return Augment(crop_area=(area, area), translate=0.10, zoom=0.15, rotate=144.0, flip_x=True,
                   flip_y=True, fill="zero")  # fmt: skip


# One move of the picture instead of the authors' four in a row, so that it is interpolated once. Whether
# their decay spares biases and normalisation, as ours does, is not known.
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
    question="Does this radar picture of the sea show a polar low?",
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
                  "on the published test split; 6 or 7 errors in 435 pictures by our count"),
        Reference("positive_f1", 0.938, "polarlow-xception", AS_PUBLISHED, "a port to torch by others",
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

# As much ground in finer pixels: 1024 of 250 m are 256 km too, and 1536 are 384 of 400 km.
SAR_250M = SAR.with_pixel_size(250.0)
SAR_2KM = SAR.with_pixel_size(2000.0)

MODELS = (
    ModelSpec("polarlow-xception", "polarlow", _BUILDER, {"channels": _PUBLISHED_CHANNELS}, head=_HEAD,
              capabilities=_ANY, drop_rate=0.5, tiny_args=_TINY_ARGS,
              num_parameters=1_254_194, evidence=AS_PUBLISHED,
              note="the authors' small Xception; 1,260,322 with the statistics of its normalisations"),
    ModelSpec("polarlow-xception-2ch", "polarlow", _BUILDER, {}, head=_HEAD,
              capabilities=_ANY, drop_rate=0.5, tiny_args=_TINY_ARGS,
              num_parameters=1_254_122, evidence=OUR_CHOICE,
              note="the same without the second copy of the cross-polarised channel"),
    ModelSpec("polarlow-xception-1024", "polarlow", _BUILDER, {"channels": _PUBLISHED_CHANNELS}, head=_HEAD,
              inputs=(SAR_250M,), recipe=PUBLISHED_LARGE, capabilities=_ANY, drop_rate=0.5,
              tiny_args=_TINY_ARGS,
              num_parameters=1_254_194, evidence=OUR_RECONSTRUCTION,
              note="the authors' larger variant, 1024 of 1536 pixels; that a pixel is 250 m is our reading, "
                   "and the published files are too coarse for it"),
    ModelSpec("polarlow-tiny", "polarlow", _BUILDER, _TINY_ARGS, head=_HEAD, inputs=(SAR_2KM,),
              capabilities=_ANY, drop_rate=0.2, tiny_args=_TINY_ARGS, num_parameters=6_762,
              note="for tests and demonstrations, not for use; pixels of 2 km"),
)  # fmt: skip
