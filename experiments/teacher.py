r"""Trains a teacher, or any network, with any method; robustly or not.

The robust teacher of a config, and its control if the config has one:

  rnascl teacher --config=digits --workdir=/tmp/digits

One network alone (ResNet-18 and -50, WRN-34-10, wrn-DEPTH-WIDTH, small ones),
with the published schedule of its method (pgd, fast, free, trades, standard):

  rnascl teacher --workdir=DIR \
    --config=teachers:network=resnet18,method=fast
  rnascl teacher --workdir=DIR \
    --config=teachers:network=wrn-28-10,method=trades
  rnascl evaluate --workdir=DIR --config=(the same)

The vulnerable teacher of Table 11 is one that never sees an attack:

  rnascl teacher --workdir=DIR \
    --config=teachers:network=resnet18,method=standard

A student is taught by it with --config.teacher.checkpoint=DIR/teacher and the
same network in its own config. What may be changed on the command line:

  --config.teacher.network.name=resnet50
  --config.teacher.adversarial_training.name=trades
  --config.teacher.adversarial_training.epsilon_255=8   radius, in 1/255
  --config.teacher.adversarial_training.norm=L2, and .epsilon=0.5, of pixels in
    [0, 1]
  --config.teacher.adversarial_training.num_steps=10
  --config.teacher.optimization.epochs=30
  --config.teacher.optimization.select=best    not the last checkpoint
  --config.teacher.checkpoint=OTHER/teacher    use that one, train none

FastAT and Free can overfit to their single step from one epoch to the next: the
network then withstands that step and nothing else. So the accuracy under PGD on
held-out images is measured with every checkpoint, and where it falls by more
than method.max_drop (a share, 0.2; 0 for no guard) below its best so far,
training ends and the best checkpoint is used; stage.json and the report say so.
The guard looks every optimization.checkpoint_every epochs: 5 by default, 1 in
configs/teachers.py. It cannot look between them, and never acts at the first.
"""

from rnascl_jax.stages import launcher, teachers

if __name__ == '__main__':
  launcher.stage(teachers.train)
