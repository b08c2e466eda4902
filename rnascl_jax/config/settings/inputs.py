"""What a run starts from: images, a search space, a teacher's network."""

import dataclasses

from rnascl_jax.config import fields

# Layers or blocks, channels of a layer and pixels of a step, at most.
_DEEPEST, _WIDEST, _STRIDE = 256, 65536, 64
# More images than any data set has.
MOST_IMAGES = 1_000_000_000


@dataclasses.dataclass(frozen=True)
class Data:
  """Images and their augmentation.

  Attributes:
    name: of the data set, see `datasets.DATASETS`.
    data_dir: of TensorFlow Datasets; empty means TFDS_DATA_DIR or its default.
    validation_size: images held out of the training set to choose checkpoints.
    max_train: most images to train on; 0 means all.
    max_test: most images to test on; 0 means all.
    padding: pixels added on every side before a random crop; 0 of 'imagenet',
      which is cropped before it is resized.
    flip: whether images are mirrored at random.
    image_size: side in pixels of images that are resized ('imagenet'); 0 is the
      data set's own, 224.
    classes: names of the classes of 'imagenet' to tell apart, in the order of
      their labels; empty for all.
    min_crop: least area of a random-resized crop, a share of the image's
      ('imagenet').
    workers: processes that decode images ('imagenet'): 0 for threads of the
      main one, -1 for one for each core but one.
  """

  name: str = 'cifar10'
  data_dir: str = ''
  validation_size: int = fields.bounded(1000, 1, MOST_IMAGES)
  max_train: int = fields.bounded(0, 0, MOST_IMAGES)
  max_test: int = fields.bounded(0, 0, MOST_IMAGES)
  padding: int = fields.bounded(4, 0, 1024)
  flip: bool = True
  image_size: int = fields.bounded(0, 0, 4096)
  classes: tuple[str, ...] = ()
  min_crop: float = fields.bounded(0.08, 0.001, 1)
  workers: int = fields.bounded(-1, -1, 1024)


@dataclasses.dataclass(frozen=True)
class Space:
  """The search space.

  Attributes:
    name: a space of Table 13 ('s3', 's5', 's7', 'm', 'm2', 'l') or of Table 14
      ('is', 'im', 'i', 'il'), or 'custom'.
    depths: blocks of each stage (custom only, as are the next seven).
    choices: filter choices of each stage.
    strides: stride of each stage.
    stem_features: filters of the stem.
    stem_stride: stride of the stem.
    expansion: inner over input width of a block.
    squeeze_excite: hidden units of every block's squeeze-excite as a share of
      its inside; 0 for none.
    head_features: of the pooled head before the classifier; 0 for none.
    shortcut: what a residual does where widths differ: 'pad', 'drop' or
      'project'.
    layers: which student layers are taught: every 'conv' or every 'block'.
    bfloat16: whether students and supernet compute in bfloat16 where they are
      trained: 'never', 'always' or on 'accelerators' only. Parameters, logits
      and losses are float32; so is all evaluation.
    remat: whether gradients compute the insides of blocks anew instead of
      keeping them: less memory for more work, where they are trained.
  """

  name: str = 's3'
  depths: tuple[int, ...] = fields.bounded((), 1, _DEEPEST)
  choices: tuple[tuple[int, ...], ...] = fields.bounded((), 1, _WIDEST)
  strides: tuple[int, ...] = fields.bounded((), 1, _STRIDE)
  stem_features: int = fields.bounded(16, 1, _WIDEST)
  stem_stride: int = fields.bounded(2, 1, _STRIDE)
  expansion: int = fields.bounded(6, 1, 64)
  squeeze_excite: float = fields.bounded(0.0, 0, 1)
  head_features: int = fields.bounded(0, 0, _WIDEST)
  shortcut: str = 'pad'
  layers: str = fields.one_of('conv', 'block')
  bfloat16: str = fields.one_of('never', 'always', 'accelerators')
  remat: bool = False


@dataclasses.dataclass(frozen=True)
class Network:
  """A teacher network; 0, False and () leave a field at the network's own.

  Attributes:
    name: see `teachers.TEACHERS`.
    depth: of a 'wide_resnet' or a 'vit'.
    width: of a 'wide_resnet', its widening factor; of a 'vit', of its tokens.
    features: of a 'small_resnet', filters of each stage.
    stage_sizes: of a 'small_resnet', blocks of each stage.
    strides: of a 'small_resnet', stride of each stage.
    shortcut_activated: of a 'preact_resnet18', see `preact_resnet`.
    final_norm: of a 'preact_resnet18', see `preact_resnet`.
    patch_size: of all transformers, side of a patch in pixels: 4 at 32x32
      pixels, 16 at 224x224.
    heads: of a 'vit'.
    mlp_ratio: of a 'vit', see there, as are the next two.
    attention_scale: of a 'vit' or a 'vit_small_8'.
    norm_epsilon: of a 'vit'.
    bfloat16: whether to compute in bfloat16: 'never', 'always' or on
      'accelerators' only.
  """

  name: str = 'wide_resnet34_10'
  depth: int = fields.bounded(0, 0, _DEEPEST)
  width: int = fields.bounded(0, 0, _WIDEST)
  features: tuple[int, ...] = fields.bounded((), 1, _WIDEST)
  stage_sizes: tuple[int, ...] = fields.bounded((), 1, _DEEPEST)
  strides: tuple[int, ...] = fields.bounded((), 1, _STRIDE)
  shortcut_activated: bool = False
  final_norm: bool = False
  patch_size: int = fields.bounded(0, 0, 4096)
  heads: int = fields.bounded(0, 0, 1024)
  mlp_ratio: float = fields.bounded(0.0, 0, 64)
  attention_scale: float = fields.bounded(0.0, 0, 1e3)
  norm_epsilon: float = fields.bounded(0.0, 0, 1)
  bfloat16: str = fields.one_of('accelerators', 'never', 'always')
