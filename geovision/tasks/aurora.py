"""Auroral form of an all-sky frame.

The frames are color images from Kiruna with seven classes.

The question, the classes and the published score are those of Kvammen et al. 2020,
doi:10.1029/2020JA027808; frames and labels are their data set, doi:10.18710/SSA38J. The authors name only
ResNet-50 among the networks that they compare; the others here are our selection. The descriptions of the
classes are our interpretation of their names: the record does not contain the authors' criteria, and the
authors emphasize that there is no consensus.
"""

import dataclasses
from typing import Any

from geovision.spec import (
    AS_PUBLISHED,
    OUR_CHOICE,
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
    UnitHint(1.0, 255.0, "looks like 0-255; expects 0-1, so divide by 255 or pass integers"),
    UnitHint(255.0, 65535.0, "looks like 16-bit counts; expects 0-1, scaled as declared for the camera"),
)  # fmt: skip


def _color(name: str, mean: float, std: float) -> Channel:
    # Statistics of ImageNet; a backbone that was trained with other statistics replaces them.
    return Channel(name, "1", (0.0, 1.0), mean=mean, std=std, unit_hints=_UNIT_HINTS)


FRAME = InputSpec(
    "image",
    (_color("red", 0.485, 0.229), _color("green", 0.456, 0.224), _color("blue", 0.406, 0.225)),
    # Inferred, not documented: third-party programs that read the data set use this size.
    size=(128, 128),
    # The sky is a circle in the center; the parts that are cut off are black.
    resize="crop",
    reader="geovision.readers.images:read_rgb",
    integers="fraction",
    picture=ImageFileSpec(
        Text("photo", "图片"), shows=Text("the night sky of an all-sky camera", "全天相机的夜空图像"),
        camera=True,
    ),
)

CAVEAT = Text(
    "One frame shows no motion, and the forms have no agreed criteria.",
    "单帧图像不显示运动，各形态尚无公认判据。",
)

_FORM, _HEIGHT, _LIGHT = Text("form", "形态"), Text("height", "高度"), Text("light", "发光")
_ORIGIN, _TIME, _DISTANCE = Text("origin", "成因"), Text("time", "时段"), Text("distance", "距离")


def _form(code: str, name: tuple[str, str], *facts: tuple[Text, str, str]) -> ClassCard:
    lines = tuple(Fact(heading, Text(en, zh)) for heading, en, zh in facts)
    return ClassCard(code, Text(*name), facts=lines, caution=CAVEAT)


FORMS = (
    _form("arcs-bands", ("Arcs and bands", "极光弧与极光带"),
          (_FORM, "narrow curtains across the sky, mostly along magnetic east and west",
           "横贯天空的窄光带，大多沿地磁东西方向"),
          (_HEIGHT, "lower border mostly at 100 to 110 km", "下边界多在100至110公里")),
    _form("breakup", ("Breakup", "极光爆发"),
          (_FORM, "bright, folded curtains over much of the sky", "明亮而褶皱的光幕，布满大部分天空"),
          (_ORIGIN, "sudden brightening and poleward expansion at the onset of a substorm",
           "亚暴起始时突然增亮并向极扩展")),
    _form("colored", ("Colored aurora", "彩色极光"),
          (_FORM, "any form with much light other than the common green", "任何形态，绿色以外的光明显"),
          (_LIGHT, "red 630.0 nm of atomic oxygen, mostly above 200 km; blue-violet 427.8 nm of ionized "
                   "nitrogen molecules; the green is 557.7 nm of atomic oxygen",
           "红光630.0纳米来自氧原子，多在200公里以上；蓝紫光427.8纳米来自氮分子离子；"
           "绿光557.7纳米来自氧原子")),
    _form("discrete", ("Discrete forms", "分立极光"),
          (_FORM, "separate structures with sharp edges, not long arcs: rays, curls, parts of bands",
           "边缘清晰的分立结构，非长弧：射线、卷曲、断裂的光带"),
          (_ORIGIN, "rays follow the lines of the magnetic field", "射线沿磁力线方向")),
    _form("edge", ("Aurora at the edge", "视场边缘极光"),
          (_FORM, "aurora only near the horizon, at the edge of the frame",
           "极光仅见于图像边缘、地平线附近"),
          (_DISTANCE, "about 500 km at 110 km height and 10° elevation",
           "高度110公里、仰角10°处距离约500公里")),
    _form("clear-faint", ("Clear sky, faint aurora", "晴空与微弱极光"),
          (_FORM, "stars in a clear sky; aurora faint or not visible", "晴空有星，极光微弱或不可见")),
    _form("patchy", ("Patchy aurora", "斑块状极光"),
          (_FORM, "irregular patches with diffuse edges", "边缘弥散的不规则斑块"),
          (_TIME, "mostly after magnetic midnight; many pulsate with periods of seconds to tens of seconds",
           "多见于磁午夜之后，常以数秒至数十秒的周期脉动")),
)  # fmt: skip

_PAPER = "Kvammen et al. 2020, doi:10.1029/2020JA027808"

# The mounting of a camera determines the direction of north and the side of east in its frames, and no form
# depends on either. Areas that a rotation leaves empty are black, like those outside the circle. Brightness
# and contrast as in a reproduction on the same data.
_ALL_SKY = Augment(flip_x=True, flip_y=True, rotate=180.0, brightness=0.2, contrast=0.2)

FROM_SCRATCH = Recipe(
    stages=(Stage(epochs=100, batch_size=64, lr=1e-3, weight_decay=0.05, warmup=5),),
    augment=_ALL_SKY, label_smoothing=0.1, ema=0.999, evidence=OUR_CHOICE,
)  # fmt: skip

# From scratch at the learning rate of the others, Swin-T does not train: its prediction is constant.
FROM_SCRATCH_LOW_LR = dataclasses.replace(
    FROM_SCRATCH,
    stages=tuple(dataclasses.replace(s, lr=2e-4, max_grad_norm=1.0) for s in FROM_SCRATCH.stages),
)

# Optimizer, rate, decay, batch and length as in a reproduction with Swin-T from ImageNet
# (github.com/zhuby-sysu/aurora-classification-model); those of the authors are unknown.
FINE_TUNE = Recipe(
    stages=(Stage(epochs=30, batch_size=64, optimizer="adamw", lr=5e-5, head_lr=1e-3, weight_decay=1e-4),),
    augment=_ALL_SKY, evidence=OUR_CHOICE,
)  # fmt: skip

TASK = Task(
    name="aurora",
    title="Auroral form",
    question="Which of seven auroral forms does this all-sky frame show?",
    chinese=("极光形态", "这幅全天空图像显示的是七种极光形态中的哪一种？"),
    inputs=(FRAME,),
    target=ClassTarget(
        tuple(card.code for card in FORMS), FORMS,
        order_source="one third-party loader of the data set; class_order= of its adapter overrides it",
        outlier_flag="outside_training_domain",
        color_dependent=("colored",),
    ),
    datasets={
        "kvammen": "geovision.datasets.kvammen:KvammenAurora",
        "oath": "geovision.datasets.oath:OATH",
    },
    head="geovision.heads.classification:ClassificationHead",
    loss="geovision.heads.classification:cross_entropy",
    metrics=("macro_precision", "macro_recall", "macro_f1", "calibration_error"),
    backbones=("timm",),
    recipe=FINE_TUNE,
    recipes={"scratch": FROM_SCRATCH, "fine-tune": FINE_TUNE},
    published=(
        Reference("macro_precision", 0.92, "aurora-resnet50", AS_PUBLISHED, _PAPER,
                  "\"average classification precision\"; training, and a split by night or not, are unknown"),
    ),
    demo=DemoConfig(
        "aurora-tiny", samples=784, size=(64, 64),
        recipe=Recipe(stages=(Stage(epochs=18, batch_size=32, lr=3e-3, warmup=1),),
                      augment=Augment(flip_x=True, flip_y=True)),
    ),
    citation=_PAPER,
)  # fmt: skip


_BUILDER = "geovision.models.timm_backbone:build"
_CNN: frozenset[Capability] = frozenset({"exportable", "differentiable", "any_size"})
_FIXED: frozenset[Capability] = frozenset({"exportable", "differentiable"})


def _model(
    name: str, backbone: str, imagenet: str, *, parameters: int, note: str, **changes: Any
) -> ModelSpec:
    arch = {"backbone": backbone, "imagenet": imagenet}
    return ModelSpec(f"aurora-{name}", "aurora", _BUILDER, arch, num_parameters=parameters, note=note,
                     **{"capabilities": _CNN, "tiny_args": {"backbone": "test_resnet"},
                        **changes})  # fmt: skip


def _baseline(
    name: str, head: str, builder: str, model_args: dict, tiny: dict, *, parameters: int, note: str
) -> ModelSpec:
    return ModelSpec(f"aurora-{name}", "aurora", builder, model_args, fit="closed_form", head=head,
                     tiny_args=tiny,
                     capabilities=frozenset({"any_size"}), num_parameters=parameters, note=note,
                     not_exportable_reason="its training samples are its parameters")  # fmt: skip


_PIXELS, _KNN, _SVM = (
    "geovision.models.pixel_features:build",
    "geovision.heads.knn:NearestNeighbors",
    "geovision.heads.svm:SupportVectors",
)
_RESNET50 = {"backbone": "resnet50", "imagenet": "a1_in1k"}
_MOBILENETV2 = {"backbone": "mobilenetv2_100", "imagenet": "ra_in1k"}

MODELS = (
    _model("resnet50", "resnet50", "a1_in1k", parameters=23_522_375, evidence=AS_PUBLISHED,
           note="the only network named by the authors, and their best"),
    _model("resnet18", "resnet18", "a1_in1k", parameters=11_180_103,
           note="our selection; small and plain"),
    _model("vgg16", "vgg16_bn", "tv_in1k", parameters=134_297_671,
           recipes={"scratch": FROM_SCRATCH_LOW_LR},
           note="our selection, with batch normalization; also replaces AlexNet, which timm lacks"),
    _model("inception", "inception_v3", "tv_in1k", parameters=21_799_911, capabilities=_FIXED,
           note="our selection; Inception-v3, pre-trained at 299 x 299"),
    _model("mobilenetv2", "mobilenetv2_100", "ra_in1k", parameters=2_232_839,
           note="our selection; for archives on a laptop"),
    _model("densenet121", "densenet121", "ra_in1k", parameters=6_961_031, note="our selection"),
    _model("swin-tiny", "swin_tiny_patch4_window7_224", "ms_in1k", parameters=27_524_737,
           capabilities=_FIXED, tiny_args={"backbone": "test_vit"}, inputs=(FRAME.with_size((224, 224)),),
           recipes={"scratch": FROM_SCRATCH_LOW_LR},
           note="our selection, as in a third-party reproduction; built for 224 x 224, "
                "theirs is size=(128, 128)"),
    # The baselines of the paper; their settings and training features are unknown.
    _baseline("knn", _KNN, _PIXELS, {"grid": 32}, {"grid": 4}, parameters=0,
              note="nearest neighbors on pixels, averaged to 32 x 32"),
    _baseline("svm", _SVM, _PIXELS, {"grid": 32}, {"grid": 4}, parameters=0,
              note="support-vector machine with a radial kernel on pixels, averaged to 32 x 32"),
    _baseline("knn-resnet50", _KNN, _BUILDER, _RESNET50, {"backbone": "test_resnet"}, parameters=23_508_032,
              note="nearest neighbors on the features of pretrained ResNet-50; needs backbone_weights"),
    _baseline("svm-resnet50", _SVM, _BUILDER, _RESNET50, {"backbone": "test_resnet"}, parameters=23_508_032,
              note="support-vector machine on the features of pretrained ResNet-50; needs backbone_weights"),
    _baseline("knn-mobilenetv2", _KNN, _BUILDER, _MOBILENETV2, {"backbone": "test_resnet"},
              parameters=2_223_872,
              note="nearest neighbors on the features of pretrained MobileNetV2; needs backbone_weights"),
    _baseline("svm-mobilenetv2", _SVM, _BUILDER, _MOBILENETV2, {"backbone": "test_resnet"},
              parameters=2_223_872,
              note="support-vector machine on features of pretrained MobileNetV2; needs backbone_weights"),
    _model("tiny", "test_resnet", "r160_in1k", parameters=373_367,
           note="for tests and demonstrations, not for use"),
)  # fmt: skip
