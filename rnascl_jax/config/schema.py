"""All fields that a config may hold, with their types, bounds and defaults.

The defaults are the paper's values for CIFAR-10, but for the factor of eq. (1):
`reduction` is the sum of the authors' code.
"""

import dataclasses
from collections.abc import Mapping

from rnascl_jax.config import fields

# Layers or blocks, channels of a layer and pixels of a step, at most.
_DEEPEST, _WIDEST, _STRIDE = 256, 65536, 64
# More images than any data set has.
_MOST_IMAGES = 1_000_000_000
# Adversarial training methods that learn from a teacher's predictions.
_FROM_TEACHER = ('ard', 'rslad', 'iad', 'adaad')
# Norms of perturbations, and the longest of them, in L1, of any image.
_NORMS, _LONGEST = ('Linf', 'L2', 'L1'), 1e8


@dataclasses.dataclass(frozen=True)
class Data:
  """Images and their augmentation.

  Attributes:
    name: of the data set: 'digits', 'cifar10', 'imagenet', 'tfds:NAME',
      'folder:PATH', 'npz:PATH', 'cifar:PATH' of an archive, or a name that was
      registered, see `datasets`.
    data_dir: of TensorFlow Datasets; empty means TFDS_DATA_DIR or its default.
    validation_size: images held out of the training set to choose checkpoints,
      or, where the data have validation images, the most of them that are
      used; 0 where all stages take their last one, -1 for the data set's own
      number, see `datasets.load`.
    max_train: most images to train on; 0 means all.
    max_test: most images to test on; 0 means all.
    padding: pixels added on every side before a random crop; 0 beside
      random-resized crops, see `min_crop`.
    flip: whether images are mirrored at random.
    erasing: probability with which a random rectangle of a training image is
      filled with noise, see `batches.erase`.
    image_size: side in pixels to which images are resized; 0 is 224 of
      'imagenet', and of others their own size, or 32 where they differ in size.
      Not of 'digits' and 'cifar10', as are the next six.
    classes: names of the classes to tell apart, in the order of their labels;
      empty for all.
    min_crop: of images that are resized: least area of a random-resized crop of
      a training image, a share of the image's; 0 for no such crops: training
      images are cut and resized as test images are.
    workers: processes that decode streamed images: 0 for threads of the main
      one, -1 for one for each core but one.
    test_share: share of the images held out for testing where there are no test
      images. Not of 'imagenet', as is the next.
    memory_limit: MiB up to which the images of a split, decoded, are kept in
      memory (training images on every device); others are streamed.
    train_split: of 'tfds:': splits to train on, such as 'train+extra'; empty
      for 'train'.
    test_split: of 'tfds:': splits to test on; empty for 'test', else
      'validation', else images that are held out.
    extra: further images to train on, such as generated ones: 'npz:PATH',
      'folder:PATH' or another name with a place, with labels of the same
      classes; empty for none. They are kept in memory within memory_limit,
      which all data sets have then.
    extra_share: of each training batch that they fill; published is 0.7 for
      generated images (see `extra_images`).
  """

  name: str = 'cifar10'
  data_dir: str = ''
  validation_size: int = fields.bounded(1000, -1, _MOST_IMAGES)
  max_train: int = fields.bounded(0, 0, _MOST_IMAGES)
  max_test: int = fields.bounded(0, 0, _MOST_IMAGES)
  padding: int = fields.bounded(4, 0, 1024)
  flip: bool = True
  erasing: float = fields.bounded(0.0, 0, 1)
  image_size: int = fields.bounded(0, 0, 4096)
  classes: tuple[str, ...] = ()
  min_crop: float = fields.bounded(0.08, 0, 1)
  workers: int = fields.bounded(-1, -1, 1024)
  test_share: float = fields.bounded(0.2, 0.001, 0.999)
  memory_limit: int = fields.bounded(2048, 0, 2**24)
  train_split: str = ''
  test_split: str = ''
  extra: str = ''
  extra_share: float = fields.bounded(0.7, 0, 1)


@dataclasses.dataclass(frozen=True)
class Space:
  """The search space.

  Attributes:
    name: a space of Table 13 ('s3', 's5', 's7', 'm', 'm2', 'l') or of Table 14
      ('is', 'im', 'i', 'il'; 'is_se', 'im_se', 'i_se'), see `space_tables`, or
      'custom'.
    depths: blocks of each stage (custom only, as are the next eight).
    choices: filter choices of each stage.
    strides: stride of each stage.
    stem_features: filters of the stem.
    stem_stride: stride of the stem.
    expansion: inner over input width of a block, and of the head.
    expansions: that of the blocks of each stage, where they differ; 1 has no
      convolution that expands.
    squeeze_excite: hidden units of every block's squeeze-excite as a share of
      its inside; 0 for none.
    head_features: of the pooled head before the classifier; 0 for none.
    shortcut: what a residual does where widths differ: 'pad', 'drop' or
      'project'.
    kernel_choices: kernel sizes that every block chooses from beside its width,
      odd, such as (3, 5), in any space; () for 3 everywhere.
    expansion_choices: expansions that every block that expands chooses from,
      above 1, such as (3, 6), in any space without squeeze-excite; () for its
      own.
    depth_choices: whether a block may be skipped, in any space: one after the
      first, of stride 1, whose filter choices are those of its input. The width
      that enters a skipped block leaves it.
    layers: which student layers are compared with tutors: every 'conv' or every
      'block'.
    bfloat16: whether students, those with a network of their own included, and
      supernet compute in bfloat16 where they are trained: 'never', 'always' or
      on 'accelerators' only. Parameters, logits and losses are float32; so is
      all evaluation.
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
  expansions: tuple[int, ...] = fields.bounded((), 1, 64)
  squeeze_excite: float = fields.bounded(0.0, 0, 1)
  head_features: int = fields.bounded(0, 0, _WIDEST)
  shortcut: str = 'pad'
  kernel_choices: tuple[int, ...] = fields.bounded((), 1, 31)
  expansion_choices: tuple[int, ...] = fields.bounded((), 2, 64)
  depth_choices: bool = False
  layers: str = fields.one_of('conv', 'block')
  bfloat16: str = fields.one_of('never', 'always', 'accelerators')
  remat: bool = False


@dataclasses.dataclass(frozen=True)
class NetworkShape:
  """A network; 0, '', False and () leave a field at the network's own.

  Attributes:
    name: see `fixed.NETWORKS`; of a student, empty for the one that the
      search finds.
    depth: of a 'wide_resnet' or a 'vit'; of 'darts' and the RobNets, how many
      cells.
    width: of a 'wide_resnet', its widening factor; of a 'vit', of its tokens;
      of a 'densenet121', its growth rate.
    features: of a 'small_resnet', a 'mobilenet_v2' or a 'vgg11', filters of
      each stage; of a 'densenet121', channels that enter each stage; of 'darts'
      and the RobNets, filters of a node in cells before, between and after the
      two reductions.
    stage_sizes: of a 'small_resnet', a 'mobilenet_v2', a 'vgg11' or a
      'densenet121', blocks of each stage.
    strides: of a 'small_resnet' or a 'mobilenet_v2', stride of each stage.
    shortcut_activated: of a 'preact_resnet18', see `preact_resnet`.
    final_norm: of a 'preact_resnet18', see `preact_resnet`.
    patch_size: of all transformers, side of a patch in pixels: 4 at 32x32
      pixels, 16 at 224x224.
    heads: of a 'vit'.
    mlp_ratio: of a 'vit', see there, as are the next two.
    attention_scale: of a 'vit' or a 'vit_small_8'.
    norm_epsilon: of a 'vit'.
    genotype: of 'darts', its cells: a name in `genotypes.GENOTYPES`, or the
      text "Genotype(normal=[...], ...)" that DARTS's code prints.
  """

  name: str = ''
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
  genotype: str = ''


@dataclasses.dataclass(frozen=True)
class NetworkSettings(NetworkShape):
  """A teacher network.

  Attributes:
    name: see `fixed.NETWORKS`.
    bfloat16: whether to compute in bfloat16 as a guide of students: 'never',
      'always' or on 'accelerators' only.
  """

  name: str = 'wide_resnet34_10'
  bfloat16: str = fields.one_of('accelerators', 'never', 'always')


@dataclasses.dataclass(frozen=True)
class Optimization:
  """The optimiser of a network's weights, and its schedule.

  Attributes:
    epochs: how long.
    batch_size: images of a step, over all devices.
    accumulate: parts of each device's share of a batch that go through the
      networks one after another, for want of memory; see `accumulation`.
    learning_rate: the highest.
    min_learning_rate: at which 'cosine' ends.
    schedule: 'piecewise', 'cosine', 'cyclic' (up, then down), 'one_cycle' (the
      same by half cosines, as in PyTorch) or 'constant'.
    milestones: 'piecewise' divides the rate by 10 after these shares of the
      training; the paper has 0.75 and 0.9.
    warmup: share of the training in which the rate rises linearly.
    optimizer: 'sgd', 'adam' or 'adamw', as in PyTorch.
    momentum: of 'sgd'.
    betas: of 'adam' and 'adamw'.
    weight_decay: added to the gradient by 'sgd' and 'adam'; 'adamw' takes it
      off the weights, times the learning rate.
    decayed: whether 'all' parameters decay, as in PyTorch, or 'kernels' alone:
      no biases, and no scales of BatchNorm and LayerNorm.
    gradient_clip: the greatest norm of the gradient of all parameters together;
      a longer one is scaled down to it. 0 never does.
    average_decay: of the moving average of weights and running statistics, of
      which validation, the choice of a checkpoint and the exported network are
      then: published is 0.995 (see `averaging`). 0 keeps none; the search has
      none.
    average_from: the first epoch at whose end the weights are averaged; those
      at the end of each later epoch join with the same share (SWA). That
      average takes the place of the moving one, and BatchNorm's statistics are
      computed anew for it, by a pass over the training images before each
      validation. 0 keeps none.
    label_smoothing: share of a label's probability that all classes divide
      among them in the cross-entropy; attacks climb that of the labels.
    mixup: alpha of mixup, which takes the weighted means of two images of a
      batch and of their labels: published is 1 on CIFAR-10, 0.2 on ImageNet. 0
      for none; the search has none, nor CutMix.
    cutmix: alpha of CutMix, which puts a rectangle of one image into another:
      published is 1. With both an image takes the one or the other.
    mix_probability: with which an image is mixed.
    checkpoint_every: epochs between checkpoints and validations.
    select: which checkpoint is used afterwards: the 'last' or the 'best' on the
      validation images.
  """

  epochs: int = fields.bounded(100, 1, 100_000)
  batch_size: int = fields.bounded(128, 1, 1_000_000)
  accumulate: int = fields.bounded(1, 1, 1_000_000)
  learning_rate: float = fields.bounded(0.1, 0, 1e3)
  min_learning_rate: float = fields.bounded(0.0, 0, 1e3)
  schedule: str = 'piecewise'
  milestones: tuple[float, ...] = fields.bounded((0.75, 0.9), 0, 1)
  warmup: float = fields.bounded(0.0, 0, 1)
  optimizer: str = 'sgd'
  momentum: float = fields.bounded(0.9, 0, 1)
  betas: tuple[float, ...] = fields.bounded((0.9, 0.999), 0, 1 - 1e-9)
  weight_decay: float = fields.bounded(2e-4, 0, 1e3)
  decayed: str = fields.one_of('all', 'kernels')
  gradient_clip: float = fields.bounded(0.0, 0, 1e9)
  average_decay: float = fields.bounded(0.0, 0, 1 - 1e-9)
  average_from: int = fields.bounded(0, 0, 100_000)
  label_smoothing: float = fields.bounded(0.0, 0, 1)
  mixup: float = fields.bounded(0.0, 0, 100)
  cutmix: float = fields.bounded(0.0, 0, 100)
  mix_probability: float = fields.bounded(1.0, 0, 1)
  checkpoint_every: int = fields.bounded(5, 1, 100_000)
  select: str = fields.one_of('last', 'best')

  @property
  def mixes(self) -> bool:
    """Whether images are mixed two by two."""
    return bool(self.mixup or self.cutmix)


@dataclasses.dataclass(frozen=True)
class AdversarialTraining:
  """On which images to train, see `adversarial`.

  Attributes:
    name: 'standard', 'pgd', 'fast', 'free', 'trades' or 'mart'; for students of
      a teacher also 'ard', 'rslad', 'iad' or 'adaad', whose loss takes the
      place of the cross-entropy: it stands alone with kl_weight=0 and gamma=0.
    norm: of the ball: 'Linf', 'L2' or 'L1'.
    epsilon_255: radius in 'Linf', in 1/255; not used in other norms.
    step_size_255: step of the attack there, in 1/255; 0 is the published share
      of the radius: 5/4 for 'fast', all of it for 'free', 0.0078/0.031 for
      'trades', 7/31 for 'mart', 1/4 for all others.
    epsilon: radius in 'L2' and 'L1', of pixels in [0, 1], such as 0.5 or 12.
    step_size: step of the attack there; 0 is a share of the radius: in 'L2'
      1/5 for 'trades', 'mart', 'rslad' and 'adaad', 15/128 for 'pgd', 'ard' and
      'iad', in 'L1' 0.255 for all of them, and for 'fast' and 'free' as in
      'Linf'.
    num_steps: of the attack, but of 'fast' and 'free'.
    attack_mode: of BatchNorm under the attack; 'published' is 'evaluation' for
      'trades', 'mart', 'rslad' and 'adaad', else 'training'. 'free' has no
      other.
    replays: of 'free', updates of the weights on each batch. An epoch has that
      many times the updates; the authors divide the epochs by it.
    beta: weight of the divergence of 'trades'.
    mart_beta: weight of the divergence of 'mart'.
    alpha: of 'ard', 'rslad', 'iad' and 'adaad', the share of the divergence on
      adversarial images; the rest is that on clean ones, or their
      cross-entropy. 0 is the published one: 5/6 for 'rslad', else 1.
    temperature: of 'ard' and 'iad', T that divides the logits of teacher and
      student; the divergence is multiplied by T^2. 0 is the published one: 30
      and 1.
    iad_beta: of 'iad', exponent of the trust in the teacher.
    iad_warmup: of 'iad', the share of the training before the student's own
      predictions count.
    awp_gamma: of adversarial weight perturbation, with any method but 'free':
      the length of a layer's perturbation over that of its weights. Published
      is 0.01 with 'pgd', whose attack_mode is 'evaluation' there, and 0.005
      with 'trades'. 0 leaves it out.
    awp_warmup: share of the training before the perturbation; published is 0
      with 'pgd' and 0.05 with 'trades'.
    cac_weight: of the consistency (eq. 5) in any method that attacks; eq. (6)
      is 'trades' with 1, Table 4's "CAC" has beta=0 besides.
    cac_temperature: tau of eq. (5).
    cac_threshold: gamma of eq. (5).
    cac_mean: over 'all' images (eq. 5), or over 'confident' ones alone; the
      authors' code has that and cac_weight=3.
    distill_on: the images whose predictions and maps are compared with a
      teacher's; 'published' is 'clean' for 'trades' (eq. 6), else
      'adversarial', as the cross-entropy.
    validation_steps: of PGD with steps of a quarter of the radius, under which
      checkpoints are compared on the validation images.
    max_drop: of 'fast' and 'free', which may overfit catastrophically: training
      ends, and its best checkpoint is used, where the accuracy under that PGD
      falls by more than this share below the best so far. Looked at with every
      checkpoint, never at the first. 0 never ends it.
  """

  name: str = 'standard'
  norm: str = fields.one_of(*_NORMS)
  epsilon_255: float = fields.bounded(8.0, 0, 255)
  step_size_255: float = fields.bounded(0.0, 0, 255)
  epsilon: float = fields.bounded(0.0, 0, _LONGEST)
  step_size: float = fields.bounded(0.0, 0, _LONGEST)
  num_steps: int = fields.bounded(10, 1, 10_000)
  attack_mode: str = fields.one_of('published', 'evaluation', 'training')
  replays: int = fields.bounded(8, 1, 10_000)
  beta: float = fields.bounded(6.0, 0, 1e6)
  mart_beta: float = fields.bounded(5.0, 0, 1e6)
  alpha: float = fields.bounded(0.0, 0, 1)
  temperature: float = fields.bounded(0.0, 0, 1e6)
  iad_beta: float = fields.bounded(0.1, 0, 1e3)
  iad_warmup: float = fields.bounded(0.3, 0, 1)
  awp_gamma: float = fields.bounded(0.0, 0, 1)
  awp_warmup: float = fields.bounded(0.0, 0, 1)
  cac_weight: float = fields.bounded(0.0, 0, 1e6)
  cac_temperature: float = fields.bounded(0.1, 1e-3, 1)
  cac_threshold: float = fields.bounded(0.2, 0, 1)
  cac_mean: str = fields.one_of('all', 'confident')
  distill_on: str = fields.one_of('published', 'clean', 'adversarial')
  validation_steps: int = fields.bounded(10, 1, 10_000)
  max_drop: float = fields.bounded(0.2, 0, 1)

  @property
  def radius(self) -> float:
    """Of the ball in its norm, of pixels in [0, 1]."""
    return self.epsilon_255 / 255 if self.norm == 'Linf' else self.epsilon

  @property
  def needs_teacher(self) -> bool:
    """Whether its loss is one of a teacher's predictions."""
    return self.name in _FROM_TEACHER

  @property
  def has_cross_entropy(self) -> bool:
    """Whether the cross-entropy itself is in its loss."""
    return not self.needs_teacher and self.name != 'mart'

  @property
  def needs_one_label(self) -> bool:
    """Whether its loss is published for images of one class alone."""
    return self.name in ('mart', 'iad')


@dataclasses.dataclass(frozen=True)
class DistillationSettings:
  """How maps are compared, and what a method needs besides.

  Attributes:
    map_size: side of the common attention maps.
    map_resize: how larger maps shrink: average-'pool' or 'bilinear', without
      antialiasing, as in the authors' code. Smaller maps grow by the latter.
    map_norm: over what a map of eq. (1) is normalised: an 'image', or the
      global 'batch', as in the authors' code; see `losses.attention_vectors`.
    crd_features: length of the embeddings that 'crd' compares.
    crd_negatives: images of other classes that 'crd' compares each image with,
      drawn with replacement; its authors have 16384. An image takes
      crd_negatives + min(training images, crd_negatives * crd_features) numbers
      of memory.
  """

  map_size: int = fields.bounded(8, 1, 1024)
  map_resize: str = fields.one_of('pool', 'bilinear')
  map_norm: str = fields.one_of('image', 'batch')
  crd_features: int = fields.bounded(128, 1, 65536)
  crd_negatives: int = fields.bounded(4096, 1, 1_000_000)


@dataclasses.dataclass(frozen=True)
class Teacher:
  """A teacher and how it is trained.

  Attributes:
    network: its architecture.
    adversarial_training: on which images it is trained.
    optimization: how long and how fast.
    label: what tables call it.
    bfloat16: whether it computes in bfloat16 while it is trained: 'never',
      'always' or on 'accelerators' only. Parameters, statistics of BatchNorm,
      logits and losses are float32; so is all evaluation.
    checkpoint: folder of a trained teacher (`teacher/` of another workdir, or
      what `rnascl import-teacher` wrote) to use instead of training one;
      empty to train.
    start: folder of such a teacher to train further, with the normalisation of
      the run's data; empty to train a new one. If it has other classes, its
      last layer is new. A transformer is fitted to images of another size and
      to smaller patches, see `vit.refit`.
    classes: of a checkpoint with more classes than the data set, the indices of
      the data set's classes in it, in their order; empty if they are the same.
  """

  network: NetworkSettings = NetworkSettings()
  adversarial_training: AdversarialTraining = AdversarialTraining('pgd')
  optimization: Optimization = Optimization(
    epochs=200,
    milestones=(0.5, 0.75),
    weight_decay=5e-4,
    select='best',
  )
  label: str = 'Robust teacher'
  bfloat16: str = fields.one_of('never', 'always', 'accelerators')
  checkpoint: str = ''
  start: str = ''
  classes: tuple[int, ...] = fields.bounded((), 0, 1_000_000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherWeights:
  """The terms of a loss that compare a network with a teacher.

  Attributes:
    kl_weight: weight of the divergence, 1 in eqs. (2) and (4); of another
      method it multiplies the method's published weight.
    kl_direction: of the divergence 'kl': 'student_teacher' is the paper's
      KL(p, q) with p the student, 'teacher_student' the usual distillation.
    kl_temperature: T that divides all logits in it; it is multiplied by T^2.
    gamma: weight of the layer losses, gamma_s of eq. (2), gamma_t of eq. (4).
    reduction: of the layer losses: their 'sum' over student layers, the 'mean',
      or 'literal', as eq. (1) prints it, divided by student and by teacher
      layers. The paper has gamma = 1, with which the latter hardly acts.
    tutors: of each student layer: the 'searched' ones, or a control: 'uniform'
      weights of all teacher layers; 'random', a draw of the seed; 'resampled',
      a draw at every step; 'depth', at the same relative depth; or names of
      teacher layers with commas between them, one for each student layer or
      one for all.
    method: what stands in the place of KL: 'kl' itself, or 'at', 'sp', 'vid',
      'rkd', 'pkt' or 'crd' (section 4.11, Table 9, Fig. 3).
    layer_loss: what compares a layer with its tutor: 'attention', the loss of
      eq. (1), or 'layerwise_kl' (section 4.10, Table 8).
  """

  kl_weight: float = fields.bounded(1.0, 0, 1e6)
  kl_direction: str = fields.one_of('student_teacher', 'teacher_student')
  kl_temperature: float = fields.bounded(1.0, 1e-6, 1e6)
  gamma: float = fields.bounded(1.0, 0, 1e6)
  reduction: str = fields.one_of('sum', 'mean', 'literal')
  tutors: str = 'searched'
  method: str = 'kl'
  layer_loss: str = 'attention'


@dataclasses.dataclass(frozen=True)
class SearchSettings(TeacherWeights):
  """The search of filters and tutors (section 4.1).

  Its `method` cannot be 'vid', which can be negative. If its `tutors` are a
  control, only filters are searched.

  Attributes:
    architecture: an `architecture.json` of another run to take instead of
      searching: of the same space, and of a teacher with the same layers. Empty
      to search.
    optimization: of the supernet's weights.
    adversarial_training: on which images the weights are trained.
    arch_optimizer: of the architecture parameters: 'adam', 'adamw' or 'sgd',
      which has no momentum.
    arch_learning_rate: of the architecture parameters.
    arch_betas: of 'adam' and 'adamw'.
    arch_weight_decay: of the architecture parameters, as `weight_decay` of
      `Optimization`.
    split: what is divided between weights and architecture parameters: the
      images of 'batches', each of which then moves both (section 4.1), or the
      steps of 'epochs', the first of which move weights and the last of which
      move architecture parameters (the authors' code).
    arch_share: share that moves the architecture parameters.
    arch_adversarial: whether they see adversarial images too, of the method of
      `adversarial_training`.
    arch_warmup_epochs: epochs before they move.
    temperature: of the Gumbel-Softmax at the start.
    temperature_decay: rate at which it falls per epoch.
    noise: 'gumbel' or 'normal'.
    hard: whether draws are one-hot, with the gradient of soft ones.
    cost: n_f(G): 'macs' of an image, 'parameters', 'latency:TABLE', which are
      microseconds of a table that `rnascl latency` measured (a path that ends
      in .json, or the name of one that is shipped), or a weighted sum,
      '0.5*macs+0.5*latency:TABLE', of costs that are each divided by their
      value at uniform logits.
    cost_batch: images at once in the times of a table.
    cost_device: the device that the table of the cost was measured on, by the
      name in the table; empty for the one that searches. So no search for one
      device takes the times of another unnoticed.
    penalty: how the cost enters: 'power' multiplies the loss by
      (n_f / n_ref)^exponent, 'log' by alpha log(n_f)^exponent (FBNet).
    flops_exponent: the exponent of the cost, whichever it is; FBNet's log
      penalty has 0.6.
    log_alpha: alpha of the 'log' penalty.
    weigh_cost: whether the weights' step has the cost as a constant factor.
  """

  architecture: str = ''
  optimization: Optimization = Optimization()
  adversarial_training: AdversarialTraining = AdversarialTraining()
  arch_optimizer: str = 'adam'
  arch_learning_rate: float = fields.bounded(0.01, 0, 1e3)
  arch_betas: tuple[float, ...] = fields.bounded((0.9, 0.999), 0, 1 - 1e-9)
  arch_weight_decay: float = fields.bounded(0.0, 0, 1e3)
  split: str = fields.one_of('batches', 'epochs')
  arch_share: float = fields.bounded(0.2, 0, 1)
  arch_adversarial: bool = False
  arch_warmup_epochs: int = fields.bounded(0, 0, 100_000)
  temperature: float = fields.bounded(5.0, 1e-6, 1e6)
  temperature_decay: float = fields.bounded(0.045, 0, 1e3)
  noise: str = 'gumbel'
  hard: bool = False
  cost: str = 'macs'
  cost_batch: int = fields.bounded(1, 1, 1_000_000)
  cost_device: str = ''
  penalty: str = 'power'
  flops_exponent: float = fields.bounded(1.0, -10, 10)
  log_alpha: float = fields.bounded(0.2, 0, 1e6)
  weigh_cost: bool = True

  @property
  def searches_tutors(self) -> bool:
    """Whether a search moves the tutor logits, which mean nothing otherwise."""
    return self.gamma > 0 and self.tutors == 'searched'


@dataclasses.dataclass(frozen=True)
class StudentSettings(TeacherWeights):
  """One training of the derived architecture, or of a fixed one.

  Attributes:
    label: what tables call it.
    teacher: 'teacher', 'vulnerable_teacher' or '' to learn from labels alone.
    network: a fixed architecture; without a name it is the one that the search
      finds. If all students have one, there is no search. Its `tutors` cannot
      be 'searched' where layers are compared.
  """

  label: str = 'RNAS-CL'
  teacher: str = 'teacher'
  network: NetworkShape = NetworkShape()

  @property
  def is_searched(self) -> bool:
    """Whether its architecture is that of the search."""
    return not self.network.name


@dataclasses.dataclass(frozen=True)
class Train:
  """Training of the derived architecture from scratch.

  Attributes:
    optimization: how long and how fast.
    adversarial_training: on which images.
  """

  optimization: Optimization = Optimization()
  adversarial_training: AdversarialTraining = AdversarialTraining()


@dataclasses.dataclass(frozen=True)
class FineTuning:
  """Further training of a student with an adversarial method.

  It learns from the same teacher as before, with the same weights of the terms.

  Attributes:
    label: what tables call it.
    student: the name of the trained student to start from.
    prune: whether weights of the student are set to 0 and stay so: 'magnitude'
      prunes the smallest of each layer before the training (LWM), 'hydra' those
      with the smallest scores, which are learnt before it, see
      `adversarial.pruning`; empty to prune none.
    sparsity: share of each layer's weights that are pruned, below 1; published
      are 0.9, 0.95 and 0.99.
    adversarial_training: on which images, also of the training of scores;
      eq. (6) by default, with the radius and the step of the authors' code.
  """

  label: str = 'RNAS-CL + eq. (6)'
  student: str = 'rnas_cl'
  prune: str = fields.one_of('', 'magnitude', 'hydra')
  sparsity: float = fields.bounded(0.0, 0, 1 - 1e-9)
  adversarial_training: AdversarialTraining = AdversarialTraining(
    'trades', epsilon_255=0.031 * 255, cac_weight=1.0
  )


@dataclasses.dataclass(frozen=True)
class Pruning:
  """Training of the scores by which 'hydra' prunes, see `pruning`.

  Attributes:
    optimization: of the scores, and of scales and shifts of norms; published by
      default. The network that is pruned has no average of weights.
  """

  optimization: Optimization = Optimization(
    epochs=20, schedule='cosine', weight_decay=1e-4
  )


@dataclasses.dataclass(frozen=True)
class AdversarialSettings:
  """Adversarial fine-tuning of trained students (section 3.5).

  Attributes:
    optimization: how long and how fast: 20 epochs (section 4.2) with the
      optimiser of the authors' code, Adam, and what belongs to it there: a
      cosine from 0.004 to 4e-5 and a weight decay of 4e-5. SGD needs a rate
      more than ten times as high.
    pruning: what comes before it for students with prune='hydra'.
    students: trainings of it, by name; none leaves the stage out.
  """

  optimization: Optimization = Optimization(
    epochs=20,
    learning_rate=0.004,
    min_learning_rate=4e-5,
    schedule='cosine',
    optimizer='adam',
    weight_decay=4e-5,
  )
  pruning: Pruning = Pruning()
  students: Mapping[str, FineTuning] = dataclasses.field(
    default_factory=lambda: {'rnas_cl_eq6': FineTuning()}
  )

  @property
  def learns_scores(self) -> bool:
    """Whether scores are learnt for some student."""
    return any(tuned.prune == 'hydra' for tuned in self.students.values())

  @property
  def trainings(self) -> dict[str, tuple[Optimization, dict[str, FineTuning]]]:
    """How long, and the students, by the place of the optimisation."""
    scored = {k: t for k, t in self.students.items() if t.prune == 'hydra'}
    made = {
      'adversarial': (self.optimization, dict(self.students)),
      'adversarial.pruning': (self.pruning.optimization, scored),
    }
    return {name: entry for name, entry in made.items() if entry[1]}


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
  """Attacks on trained models.

  Attributes:
    teachers: whether teachers are attacked too; several runs that take the same
      teacher need that once.
    norm: of all attacks: 'Linf', 'L2' or 'L1'. Each preset is of one norm.
    attacks: presets, see `attacks.PRESETS`.
    auto_attack: ensembles of AutoAttack, 'standard' or 'plus', or members of
      it, such as 'apgd_ce' (see `attacks.ensembles`); empty for none.
    auto_attack_models: which models it attacks: 'teacher',
      'vulnerable_teacher' and names of students; empty for all.
    auto_attack_images: most test images to attack with it; 0 means all.
    epsilon_255: radius in 'Linf', in 1/255, not used in other norms; each
      preset keeps the ratio of its step to its radius. 0 leaves presets as
      published, and AutoAttack at 8.
    epsilon: the same in 'L2' and 'L1', of pixels in [0, 1], such as 0.5 or 12.
      0 leaves presets as published, and AutoAttack at 0.5 in 'L2', 12 in 'L1'.
    curve_attacks: presets whose accuracy is drawn against epsilon.
    curve_epsilons_255: radii of the curves in 'Linf', in 1/255.
    curve_epsilons: radii of the curves in 'L2' and 'L1', of pixels in [0, 1].
    max_images: most test images to attack; 0 means all.
    curve_images: most test images for the curves; 0 means all.
    batch_size: images attacked at once, over all devices.
    save_images: whether adversarial images are kept, for each model and attack
      those that it broke, as float32: 12 kB an image of CIFAR-10. They are
      written and checked in any case.
    map_images: test images whose attention maps are saved.
    scored_images: test images over which the robustness scores of teacher
      layers are averaged.
  """

  teachers: bool = True
  norm: str = fields.one_of(*_NORMS)
  attacks: tuple[str, ...] = (
    'fgsm',
    'pgd20_rnascl',
    'mi_fgsm20_rnascl',
    'cw20_rnascl',
  )
  auto_attack: tuple[str, ...] = ('standard',)
  auto_attack_models: tuple[str, ...] = ()
  auto_attack_images: int = fields.bounded(0, 0, _MOST_IMAGES)
  epsilon_255: float = fields.bounded(0.0, 0, 255)
  epsilon: float = fields.bounded(0.0, 0, _LONGEST)
  curve_attacks: tuple[str, ...] = ('fgsm', 'pgd20_rnascl')
  curve_epsilons_255: tuple[float, ...] = fields.bounded(
    (1.0, 2.0, 4.0, 8.0, 16.0, 32.0), 0, 255
  )
  curve_epsilons: tuple[float, ...] = fields.bounded((), 0, _LONGEST)
  max_images: int = fields.bounded(0, 0, _MOST_IMAGES)
  curve_images: int = fields.bounded(1000, 0, _MOST_IMAGES)
  batch_size: int = fields.bounded(256, 1, 100_000)
  save_images: bool = True
  map_images: int = fields.bounded(6, 1, 10_000)
  scored_images: int = fields.bounded(128, 1, _MOST_IMAGES)

  @property
  def radius(self) -> float:
    """Of all attacks in the norm; 0 leaves them as published."""
    return self.epsilon_255 / 255 if self.norm == 'Linf' else self.epsilon

  @property
  def curve_radii(self) -> tuple[float, ...]:
    """Of the curves, in the norm."""
    if self.norm == 'Linf':
      return tuple(value / 255 for value in self.curve_epsilons_255)
    return self.curve_epsilons


@dataclasses.dataclass(frozen=True)
class Settings:
  """All settings of a run.

  Attributes:
    seed: decides every random draw.
    devices: how many to use of each process; 0 means all.
    steps_per_dispatch: training steps in one program; 0 picks 1 on a CPU and 10
      elsewhere, where starting a program costs as much as a small step.
    data: images.
    space: filter choices.
    distillation: what is taken from teachers.
    teacher: the robust one.
    vulnerable_teacher: a control, trained without attacks (Table 11).
    controls: whether the control is trained, with the students that learn from
      it.
    search: of filters and tutors.
    train: of the derived architecture.
    students: trainings of the derived architecture, by name.
    adversarial: further training of students on attacks.
    evaluation: attacks on the results.
  """

  seed: int = fields.bounded(0, 0, 2**32 - 1)
  devices: int = fields.bounded(0, 0, 65536)
  steps_per_dispatch: int = fields.bounded(0, 0, 10_000)
  data: Data = Data()
  space: Space = Space()
  distillation: DistillationSettings = DistillationSettings()
  teacher: Teacher = Teacher()
  vulnerable_teacher: Teacher = Teacher(
    adversarial_training=AdversarialTraining('standard'),
    label='Teacher without attacks',
  )
  controls: bool = False
  search: SearchSettings = SearchSettings()
  train: Train = Train()
  students: Mapping[str, StudentSettings] = dataclasses.field(
    default_factory=lambda: {
      'rnas_cl': StudentSettings(),
      'ce_kl': StudentSettings('CE + KL', gamma=0.0),
      'ce': StudentSettings('CE', '', kl_weight=0.0, gamma=0.0),
    }
  )
  adversarial: AdversarialSettings = AdversarialSettings()
  evaluation: EvaluationSettings = EvaluationSettings()

  @property
  def searches(self) -> bool:
    """Whether some student has the architecture of the search."""
    return any(student.is_searched for student in self.students.values())

  @property
  def distilled(self) -> dict[str, TeacherWeights]:
    """What is compared with a teacher, by its section."""
    students = {f'students.{name}': s for name, s in self.students.items()}
    search = {'search': self.search} if self.searches else {}
    return {**search, **students}
